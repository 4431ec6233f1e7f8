//! The reader of SQL: any text, with any parse tree that claims to be its own, is described without a panic.
#![no_main]

use googlesql::{Catalog, Defaults, NoParser, ParseFailure, Parser, Schemas, Type};

/// A parser that answers what it is told: a parse tree, and a resolved one.
struct Told<'a>(&'a [u8], &'a [u8]);

impl Parser for Told<'_> {
    fn parse(&mut self, _: &str) -> Result<Vec<u8>, ParseFailure> {
        Ok(self.0.to_vec())
    }

    fn table_names(&mut self, _: &str) -> Result<Vec<Vec<String>>, ParseFailure> {
        Ok(vec![vec!["t".to_owned()]])
    }

    fn analyze(&mut self, _: &str, _: &Catalog) -> Result<Vec<u8>, ParseFailure> {
        Ok(self.1.to_vec())
    }
}

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8], &[u8])| {
    let (sql, tree, resolved) = input;
    let defaults = Defaults { project: "p".to_owned(), dataset: "d".to_owned(), ..Defaults::default() };
    let by_words = googlesql::describe(sql, &defaults, None, &mut NoParser);
    assert!(!by_words.is_certain());
    let mut schemas = Schemas::default();
    let columns = Type::plain("STRING").map(|kind| vec![("c".to_owned(), kind)]).unwrap_or_default();
    schemas.tables.insert("p.d.t".to_owned(), columns);
    let _ = googlesql::describe(sql, &defaults, Some(&schemas), &mut Told(tree, resolved));
    let _ = googlesql::normal_form(sql);
});
