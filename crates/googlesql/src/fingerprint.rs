//! A text without what differs from one run to the next.

use crate::lex::{TokenKind, lex};

/// The text's tokens with single spaces between, words in upper case, and `?` for every literal: two texts of
/// one form differ in nothing but comments, white space, case and literals. None if it can't be read.
pub fn normal_form(sql: &str) -> Option<String> {
    let tokens = lex(sql).ok()?;
    let mut form = String::with_capacity(sql.len());
    for token in &tokens {
        if !form.is_empty() {
            form.push(' ');
        }
        let text = &sql[token.span.clone()];
        match token.kind {
            TokenKind::Word | TokenKind::SystemVariable => form.push_str(&text.to_ascii_uppercase()),
            TokenKind::Text | TokenKind::Number => form.push('?'),
            TokenKind::Quoted | TokenKind::Parameter | TokenKind::Symbol => form.push_str(text),
        }
    }
    Some(form)
}

/// Where the text's tokens stand, in order; what lies between is white space and comments. None if it can't be read.
pub fn spans(sql: &str) -> Option<Vec<std::ops::Range<usize>>> {
    Some(lex(sql).ok()?.into_iter().map(|token| token.span).collect())
}
