//! Tokens of GoogleSQL, by its lexical rules (Google's "Lexical structure and syntax").

use std::ops::Range;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Range<usize>,
    /// Brackets and parentheses around it.
    pub(crate) depth: u32,
}

/// What kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in backquotes.
    Quoted,
    /// A string or bytes, in any of their forms.
    Text,
    Number,
    /// `@name` or `?`
    Parameter,
    /// `@@name`
    SystemVariable,
    /// One character, or `|>`.
    Symbol,
}

/// The text ends inside a string, a quoted name or a comment, or holds a character that begins nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LexError;

/// All tokens of a text; comments and white space are gone.
pub(crate) fn lex(sql: &str) -> Result<Vec<Token>, LexError> {
    let mut lexer = Lexer { sql, at: 0, depth: 0, tokens: Vec::new() };
    while lexer.at < sql.len() {
        lexer.step()?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    sql: &'a str,
    at: usize,
    depth: u32,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.sql[self.at..]
    }

    fn step(&mut self) -> Result<(), LexError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(()) };
        if first.is_whitespace() {
            self.at += first.len_utf8();
            return Ok(());
        }
        if rest.starts_with("--") || first == '#' {
            self.at += rest.find(['\n', '\r']).unwrap_or(rest.len());
            return Ok(());
        }
        if let Some(comment) = rest.strip_prefix("/*") {
            self.at += comment.find("*/").ok_or(LexError)? + 4;
            return Ok(());
        }
        if let Some(prefix) = string_prefix(rest) {
            let len = prefix + string(&rest[prefix..])?;
            return self.push(TokenKind::Text, len);
        }
        match first {
            '`' => {
                let len = string(rest)?;
                self.push(TokenKind::Quoted, len)
            }
            'a'..='z' | 'A'..='Z' | '_' => self.push(TokenKind::Word, word(rest)),
            '0'..='9' => self.push(TokenKind::Number, number(rest)),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) && !self.follows_a_name() => {
                self.push(TokenKind::Number, number(rest))
            }
            '?' => self.push(TokenKind::Parameter, 1),
            '@' => self.at_sign(),
            '(' | '[' | '{' => {
                self.push(TokenKind::Symbol, 1)?;
                self.depth += 1;
                Ok(())
            }
            ')' | ']' | '}' => {
                self.depth = self.depth.saturating_sub(1);
                self.push(TokenKind::Symbol, 1)
            }
            '|' if rest.starts_with("|>") => self.push(TokenKind::Symbol, 2),
            first if first.is_ascii_punctuation() => self.push(TokenKind::Symbol, 1),
            // A name of other letters stands in backquotes.
            _ => Err(LexError),
        }
    }

    fn at_sign(&mut self) -> Result<(), LexError> {
        let rest = self.rest();
        let (sign, kind) = match rest.starts_with("@@") {
            true => (2, TokenKind::SystemVariable),
            false => (1, TokenKind::Parameter),
        };
        let named = word(&rest[sign..]);
        if named > 0 {
            return self.push(kind, sign + named);
        }
        if rest[sign..].starts_with('`') {
            let quoted = string(&rest[sign..])?;
            return self.push(kind, sign + quoted);
        }
        // A hint: @{...} or @5.
        self.push(TokenKind::Symbol, sign)
    }

    fn push(&mut self, kind: TokenKind, len: usize) -> Result<(), LexError> {
        self.tokens.push(Token { kind, span: self.at..self.at + len, depth: self.depth });
        self.at += len;
        Ok(())
    }

    /// `t.1` is a path, `.1` a number.
    fn follows_a_name(&self) -> bool {
        self.tokens.last().is_some_and(|last| {
            last.span.end == self.at && matches!(last.kind, TokenKind::Word | TokenKind::Quoted)
        })
    }
}

/// The length of `r`, `b`, `rb` or nothing before a quote.
fn string_prefix(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let letters = bytes.iter().take_while(|byte| matches!(byte, b'r' | b'R' | b'b' | b'B')).count();
    if letters > 2 || !matches!(bytes.get(letters), Some(b'\'' | b'"')) {
        return None;
    }
    let is_twice = letters == 2 && bytes[0].eq_ignore_ascii_case(&bytes[1]);
    (!is_twice).then_some(letters)
}

/// The length of what a quote begins, the quotes included. A backslash keeps the next character inside, in raw
/// strings too.
fn string(rest: &str) -> Result<usize, LexError> {
    let bytes = rest.as_bytes();
    let quote = bytes[0];
    let is_triple = quote != b'`' && bytes.starts_with(&[quote; 3]);
    let mut at = if is_triple { 3 } else { 1 };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\n' | b'\r' if !is_triple => return Err(LexError),
            byte if *byte == quote && !is_triple => return Ok(at + 1),
            byte if *byte == quote && bytes[at..].starts_with(&[quote; 3]) => return Ok(at + 3),
            _ => at += 1,
        }
    }
    Err(LexError)
}

fn word(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    if bytes.first().is_none_or(u8::is_ascii_digit) {
        return 0;
    }
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// Digits, letters and dots, and a sign after an exponent.
fn number(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let is_hex = bytes.len() > 1 && bytes[0] == b'0' && bytes[1].eq_ignore_ascii_case(&b'x');
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let is_sign = matches!(byte, b'+' | b'-')
            && !is_hex
            && at > 0
            && bytes[at - 1].eq_ignore_ascii_case(&b'e')
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if !(byte.is_ascii_alphanumeric() || *byte == b'.' || *byte == b'_' || is_sign) {
            break;
        }
        at += 1;
    }
    at
}
