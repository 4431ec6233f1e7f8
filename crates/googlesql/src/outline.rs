//! The second opinion: which kinds of statements a text holds, by its tokens alone.
//!
//! It knows no grammar but that of blocks and of how statements begin, so it reads what no parser reads; it is
//! all there is where no parser is.

use crate::built_in::{Origin, origin};
use std::collections::BTreeSet;

use crate::description::{Description, Knowledge, Statement};
use crate::lex::{Token, TokenKind, lex};

/// What the tokens say.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    kinds: BTreeSet<String>,
    /// Statements at the top.
    top: Vec<String>,
    /// Names before a parenthesis, in upper case if they have no dot.
    functions: BTreeSet<String>,
    /// Those of them that are a dataset's own.
    routines: BTreeSet<String>,
    /// Views of the catalogue.
    catalogue: BTreeSet<String>,
    system_variables: BTreeSet<String>,
    /// A name is spelt with escapes: what it is can't be told.
    hides_names: bool,
    /// It runs texts, or procedures.
    is_dynamic: bool,
    is_readable: bool,
}

/// Reads a text's tokens.
pub(crate) fn read(sql: &str) -> Outline {
    let Ok(tokens) = lex(sql) else { return Outline::default() };
    let mut reader = Reader { sql, tokens: &tokens, at: 0, blocks: 0, out: Outline::default() };
    reader.out.is_readable = true;
    while reader.at < tokens.len() {
        reader.statement();
    }
    reader.names();
    reader.out
}

impl Outline {
    /// Where the parser's reading differs, if it does. Queries are everywhere, and are not compared.
    pub(crate) fn disagreement(&self, statements: &[Statement]) -> Option<String> {
        if !self.is_readable {
            return Some("the lexer finds no end to one of its strings or comments".to_owned());
        }
        let parsed: BTreeSet<&str> = statements.iter().map(|statement| statement.kind.as_str()).collect();
        let own: BTreeSet<&str> = self.kinds.iter().map(String::as_str).collect();
        let differ = |one: &BTreeSet<&str>, other: &BTreeSet<&str>| {
            one.difference(other).find(|kind| !matches!(**kind, "SELECT" | "")).map(|kind| (*kind).to_owned())
        };
        let missing = differ(&parsed, &own).map(|kind| format!("the lexer sees no {kind}"));
        missing.or_else(|| differ(&own, &parsed).map(|kind| format!("the parser sees no {kind}")))
    }

    fn is_script(&self) -> bool {
        self.top.len() > 1 || self.top.first().is_some_and(|kind| is_only_in_scripts(kind))
    }

    fn kind(&self) -> String {
        match (self.is_script(), &self.top[..]) {
            (true, _) => "SCRIPT".to_owned(),
            (false, [only]) => only.clone(),
            (false, _) => String::new(),
        }
    }

    /// Nothing is known of what the parser refuses, but for what the whole seems to be.
    pub(crate) fn guess(&self, why: &str) -> Description {
        let (kind, is_script) = (self.kind(), self.is_script());
        let guessed = if self.is_readable && !self.hides_names { self.statements(why) } else { Vec::new() };
        Description { kind, is_script, guessed, ..Description::unknown(why) }
    }

    /// All that is known where there is no parser.
    pub(crate) fn into_description(self, why: &str) -> Description {
        if !self.is_readable {
            return Description::unknown("one of its strings or comments has no end");
        }
        let mut statements = self.statements(why);
        if self.is_dynamic || self.hides_names || self.kinds.is_empty() {
            statements.push(Statement::unknown_kind(why.to_owned(), 0..0));
        }
        Description {
            kind: self.kind(),
            statements,
            is_script: self.is_script(),
            is_dynamic: self.is_dynamic,
            unsure: vec![why.to_owned()],
            is_cut: false,
            guessed: Vec::new(),
        }
    }

    fn connections(&self) -> BTreeSet<String> {
        let external = self.functions.iter().filter(|name| *name == "EXTERNAL_QUERY");
        external.map(|name| format!("of {name}")).collect()
    }

    /// One for each kind; which does what is not told apart.
    fn statements(&self, why: &str) -> Vec<Statement> {
        let statement = |kind: &String| Statement {
            kind: kind.clone(),
            functions: self.functions.clone(),
            routines: self.routines.clone(),
            connections: self.connections(),
            system_variables: self.system_variables.clone(),
            read: self.catalogue.clone(),
            unknown: vec![(Knowledge::Tables, why.to_owned())],
            ..Statement::default()
        };
        match self.kinds.is_empty() {
            true => vec![statement(&String::new())],
            false => self.kinds.iter().map(statement).collect(),
        }
    }
}

fn is_only_in_scripts(kind: &str) -> bool {
    matches!(kind, "" | "DECLARE" | "SET" | "EXECUTE_IMMEDIATE" | "RAISE" | "RETURN")
}

struct Reader<'a> {
    sql: &'a str,
    tokens: &'a [Token],
    at: usize,
    /// Blocks that are open.
    blocks: u32,
    out: Outline,
}

impl Reader<'_> {
    /// The word at a place, in upper case; empty if it is none.
    fn word(&self, at: usize) -> String {
        match self.tokens.get(at) {
            Some(token) if token.kind == TokenKind::Word => self.sql[token.span.clone()].to_ascii_uppercase(),
            _ => String::new(),
        }
    }

    fn symbol(&self, at: usize) -> &str {
        match self.tokens.get(at) {
            Some(token) if token.kind == TokenKind::Symbol => &self.sql[token.span.clone()],
            _ => "",
        }
    }

    /// One statement, or what opens, divides or closes a block; whatever it is, at least one token is taken.
    fn statement(&mut self) {
        if self.symbol(self.at) == ";" {
            self.at += 1;
            return;
        }
        self.skip_hint();
        self.skip_label();
        let depth = self.tokens.get(self.at).map_or(0, |token| token.depth);
        match self.word(self.at).as_str() {
            "BEGIN" if !self.begins_a_transaction() => {
                self.at += 1;
                self.open();
            }
            "LOOP" | "REPEAT" => {
                self.at += 1;
                self.open();
            }
            "IF" | "WHILE" | "FOR" | "CASE" => {
                let case_of_value = self.word(self.at) == "CASE";
                self.at += 1;
                self.open();
                if !case_of_value {
                    self.condition(depth);
                } else if self.word(self.at) != "WHEN" {
                    // Its value, before the first WHEN.
                    self.up_to(&["WHEN"], false, depth);
                }
            }
            "ELSEIF" | "WHEN" | "UNTIL" if self.blocks > 0 => {
                let is_until = self.word(self.at) == "UNTIL";
                self.at += 1;
                // `UNTIL condition END REPEAT`
                if is_until { self.up_to(&["END"], false, depth) } else { self.condition(depth) }
            }
            "ELSE" if self.blocks > 0 => self.at += 1,
            "EXCEPTION" if self.blocks > 0 => self.at += 1,
            "END" if self.blocks > 0 => self.close(),
            _ => self.plain(depth),
        }
    }

    fn open(&mut self) {
        if self.blocks == 0 {
            self.out.top.push(String::new());
        }
        self.blocks += 1;
    }

    /// `END`, the word of what ends, and a label.
    fn close(&mut self) {
        self.blocks -= 1;
        self.at += 1;
        while self.at < self.tokens.len()
            && self.symbol(self.at).is_empty()
            && self.tokens[self.at].kind == TokenKind::Word
        {
            let ends =
                matches!(self.word(self.at).as_str(), "IF" | "LOOP" | "WHILE" | "FOR" | "CASE" | "REPEAT");
            let is_label = matches!(self.symbol(self.at + 1), ";") || self.at + 1 == self.tokens.len();
            if !ends && !is_label {
                break;
            }
            self.at += 1;
        }
    }

    fn begins_a_transaction(&self) -> bool {
        let next = self.at + 1;
        matches!(self.word(next).as_str(), "TRANSACTION" | "TRAN")
            || self.symbol(next) == ";"
            || next == self.tokens.len()
    }

    /// `@{...}` or `@5` before a statement.
    fn skip_hint(&mut self) {
        if self.symbol(self.at) != "@" {
            return;
        }
        let depth = self.tokens[self.at].depth;
        self.at += 1;
        if self.symbol(self.at) == "{" {
            while self.at < self.tokens.len()
                && !(self.symbol(self.at) == "}" && self.tokens[self.at].depth == depth)
            {
                self.at += 1;
            }
        }
        self.at += 1;
    }

    /// `name:` before a block.
    fn skip_label(&mut self) {
        let opens = matches!(self.word(self.at + 2).as_str(), "BEGIN" | "LOOP" | "REPEAT" | "WHILE" | "FOR");
        if self.symbol(self.at + 1) == ":" && opens {
            self.at += 2;
        }
    }

    /// Up to one of these words, or to the semicolon where the statement ends. A CASE on the way has words of its own.
    fn up_to(&mut self, ends: &[&str], stops_at_semicolon: bool, depth: u32) {
        let mut cases = 0;
        while let Some(token) = self.tokens.get(self.at) {
            if token.depth == depth {
                let word = self.word(self.at);
                match word.as_str() {
                    word if cases == 0 && ends.contains(&word) => return,
                    "CASE" => cases += 1,
                    "END" if cases > 0 => cases -= 1,
                    _ if stops_at_semicolon && self.symbol(self.at) == ";" => return,
                    _ => {}
                }
            }
            self.at += 1;
        }
    }

    /// A condition, and its THEN or DO.
    fn condition(&mut self, depth: u32) {
        self.up_to(&["THEN", "DO"], true, depth);
        if matches!(self.word(self.at).as_str(), "THEN" | "DO") {
            self.at += 1;
        }
    }

    /// A statement that holds no other, up to its semicolon.
    fn plain(&mut self, depth: u32) {
        let start = self.at;
        let mut end = start;
        let is_procedure = self.creates_a_procedure(start);
        let mut begins_body = None;
        while let Some(token) = self.tokens.get(end) {
            let is_here = token.depth <= depth;
            if self.symbol(end) == ";" && is_here {
                break;
            }
            if is_procedure && is_here && self.word(end) == "BEGIN" {
                begins_body = Some(end);
                break;
            }
            end += 1;
        }
        let kind = self.kind(start, end, depth);
        if self.blocks == 0 {
            self.out.top.push(kind.clone());
        }
        self.pipe_writes(start, end);
        if !kind.is_empty() {
            self.out.is_dynamic |= matches!(kind.as_str(), "EXECUTE_IMMEDIATE" | "CALL");
            self.out.kinds.insert(kind);
        }
        self.at = match begins_body {
            Some(body) => {
                // Its body's statements are not at the top.
                self.blocks += 1;
                body + 1
            }
            None => end.max(start + 1),
        };
    }

    fn creates_a_procedure(&self, start: usize) -> bool {
        self.word(start) == "CREATE" && (start..start + 5).any(|at| self.word(at) == "PROCEDURE")
    }

    /// A query that ends in a pipe operator that writes is not a SELECT.
    fn pipe_writes(&mut self, start: usize, end: usize) {
        for at in start..end {
            if self.symbol(at) != "|>" {
                continue;
            }
            let kind = match (self.word(at + 1).as_str(), self.word(at + 2).as_str()) {
                ("INSERT", _) => "INSERT",
                ("EXPORT", _) => "EXPORT_DATA",
                ("CREATE", _) => "CREATE_TABLE_AS_SELECT",
                _ => continue,
            };
            self.out.kinds.insert(kind.to_owned());
        }
    }

    fn kind(&self, start: usize, end: usize, depth: u32) -> String {
        let first = self.word(start);
        let second = self.word(start + 1);
        match first.as_str() {
            "SELECT" | "WITH" | "FROM" | "VALUES" | "GRAPH" | "TABLE" => "SELECT".to_owned(),
            "" if self.symbol(start) == "(" => "SELECT".to_owned(),
            "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "CALL" | "ASSERT" | "GRANT" | "REVOKE" | "DECLARE"
            | "SET" | "RAISE" | "RETURN" => match (first.as_str(), second.as_str()) {
                ("SET", "TRANSACTION") => "SET_TRANSACTION".to_owned(),
                _ => first,
            },
            "TRUNCATE" => "TRUNCATE_TABLE".to_owned(),
            "EXPORT" | "LOAD" => format!("{first}_{second}"),
            "EXECUTE" => "EXECUTE_IMMEDIATE".to_owned(),
            "BEGIN" | "START" if second != "BATCH" => "BEGIN_TRANSACTION".to_owned(),
            "COMMIT" | "ROLLBACK" => format!("{first}_TRANSACTION"),
            "CREATE" | "DROP" | "ALTER" | "UNDROP" => self.definition(&first, start + 1, end, depth),
            "BREAK" | "CONTINUE" | "LEAVE" | "ITERATE" => String::new(),
            "DESCRIBE" | "DESC" => "DESCRIBE".to_owned(),
            "DEFINE" | "CLONE" | "START" | "RUN" | "ABORT" => format!("{first}_{second}"),
            "ANALYZE" | "EXPLAIN" | "IMPORT" | "MODULE" | "RENAME" | "SHOW" => first,
            // No statement begins so.
            _ => String::new(),
        }
    }

    /// CREATE, DROP, ALTER and UNDROP: the words that name the object.
    fn definition(&self, verb: &str, mut at: usize, end: usize, depth: u32) -> String {
        let mut special = "";
        let object = loop {
            let word = self.word(at);
            match word.as_str() {
                "OR" | "REPLACE" | "TEMP" | "TEMPORARY" | "PUBLIC" | "PRIVATE" | "UNIQUE"
                | "NULL_FILTERED" | "AGGREGATE" | "APPROX"
                    if at < end && !(word == "APPROX" && verb.is_empty()) =>
                {
                    at += 1
                }
                "RECURSIVE" if at < end => at += 1,
                "ALL" if verb != "CREATE" => at += 1,
                "SEARCH" | "VECTOR" | "SNAPSHOT" | "EXTERNAL" | "MATERIALIZED" | "PROPERTY" | "ROW"
                | "PRIVILEGE" | "LOCALITY" => {
                    special = match word.as_str() {
                        "SEARCH" => "SEARCH_",
                        "VECTOR" => "VECTOR_",
                        "SNAPSHOT" => "SNAPSHOT_",
                        "EXTERNAL" => "EXTERNAL_",
                        "MATERIALIZED" => "MATERIALIZED_",
                        "PROPERTY" => "PROPERTY_",
                        "PRIVILEGE" => "PRIVILEGE_",
                        "LOCALITY" => "LOCALITY_",
                        _ => return format!("{verb}_ROW_ACCESS_POLICY"),
                    };
                    at += 1;
                }
                _ => break word,
            }
        };
        if object == "TABLE" && self.word(at + 1) == "FUNCTION" {
            return format!("{verb}_TABLE_FUNCTION");
        }
        let is_query =
            verb == "CREATE" && object == "TABLE" && special.is_empty() && self.has_query(at, end, depth);
        let suffix = if is_query { "_AS_SELECT" } else { "" };
        format!("{verb}_{special}{object}{suffix}")
    }

    /// Names of functions, and of the catalogue's views: all that is known of them where there is no parser.
    fn names(&mut self) {
        for token in self.tokens {
            let text = &self.sql[token.span.clone()];
            match token.kind {
                TokenKind::SystemVariable => {
                    self.out.system_variables.insert(text.replace('`', "").to_lowercase());
                }
                TokenKind::Quoted => self.out.hides_names |= text.contains('\\'),
                _ => {}
            }
        }
        let mut at = 0;
        while at < self.tokens.len() {
            let start = at;
            let mut path = Vec::new();
            while let Some(token) = self.tokens.get(at) {
                let text = &self.sql[token.span.clone()];
                match token.kind {
                    TokenKind::Word | TokenKind::Quoted => path.extend(text.trim_matches('`').split('.')),
                    _ => break,
                }
                at += 1;
                if self.symbol(at) != "." {
                    break;
                }
                at += 1;
            }
            if path.is_empty() {
                at = start + 1;
                continue;
            }
            if let Some(place) = path.iter().position(|part| part.eq_ignore_ascii_case("INFORMATION_SCHEMA"))
            {
                let view = path[place + 1..].join(".").to_ascii_uppercase();
                self.out.catalogue.insert(format!("{}.INFORMATION_SCHEMA.{view}", path[..place].join(".")));
            }
            if self.symbol(at) == "(" {
                let owned: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
                let name = path.join(".");
                match origin(&owned) {
                    Origin::BuiltIn | Origin::Either => {
                        self.out.functions.insert(name.to_ascii_uppercase());
                    }
                    Origin::Dataset => {
                        self.out.functions.insert(name.clone());
                        self.out.routines.insert(name);
                    }
                }
            }
        }
    }

    /// `AS` and a query, outside of parentheses.
    fn has_query(&self, start: usize, end: usize, depth: u32) -> bool {
        (start..end).any(|at| {
            self.tokens[at].depth == depth
                && self.word(at) == "AS"
                && (self.symbol(at + 1) == "("
                    || matches!(
                        self.word(at + 1).as_str(),
                        "SELECT" | "WITH" | "FROM" | "TABLE" | "VALUES" | "GRAPH"
                    ))
        })
    }
}
