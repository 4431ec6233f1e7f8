//! The reader of SQL: any text, with any parse tree that claims to be its own, is described without a panic.
#![no_main]

use googlesql::{Defaults, NoParser, ParseFailure, Parser};

/// A parser that answers what it is told.
struct Told<'a>(&'a [u8]);

impl Parser for Told<'_> {
    fn parse(&mut self, _: &str) -> Result<Vec<u8>, ParseFailure> {
        Ok(self.0.to_vec())
    }

    fn table_names(&mut self, _: &str) -> Result<Vec<Vec<String>>, ParseFailure> {
        Ok(Vec::new())
    }
}

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8])| {
    let (sql, tree) = input;
    let defaults = Defaults { project: "p".to_owned(), dataset: "d".to_owned(), ..Defaults::default() };
    let by_words = googlesql::describe(sql, &defaults, &mut NoParser);
    assert!(!by_words.is_certain());
    let _ = googlesql::describe(sql, &defaults, &mut Told(tree));
    let _ = googlesql::normal_form(sql);
});
