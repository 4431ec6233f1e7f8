//! Inserts members into an object, and replaces values, at the byte; nothing else of the text changes.

use std::ops::Range;

/// Changes of one text, applied together.
#[derive(Default)]
pub(crate) struct Splice {
    /// Where, how many bytes make way, and what takes their place.
    inserts: Vec<(usize, usize, String)>,
}

impl Splice {
    /// Adds a member, given as text, to the object whose span is given. `count` is how many it has already.
    pub(crate) fn add_member(&mut self, object: &Range<usize>, count: usize, key: &str, value: &str) {
        let comma =
            if count > 0 || self.inserts.iter().any(|(at, ..)| *at == object.start + 1) { "," } else { "" };
        self.inserts.push((object.start + 1, 0, format!("\"{key}\":{value}{comma}")));
    }

    /// Puts another value, given as text, in the place of one.
    pub(crate) fn replace(&mut self, span: &Range<usize>, value: String) {
        self.inserts.push((span.start, span.len(), value));
    }

    /// Whether anything is to be changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.inserts.is_empty()
    }

    /// The text with everything changed.
    pub(crate) fn apply(mut self, text: &[u8]) -> Vec<u8> {
        // Later insertions at one place go first: each brought the comma for what follows it.
        self.inserts.reverse();
        self.inserts.sort_by_key(|(at, ..)| *at);
        let added: usize = self.inserts.iter().map(|(.., text)| text.len()).sum();
        let mut out = Vec::with_capacity(text.len() + added);
        let mut copied = 0;
        for (at, replaced, insert) in self.inserts {
            out.extend_from_slice(&text[copied..at]);
            out.extend_from_slice(insert.as_bytes());
            copied = at + replaced;
        }
        out.extend_from_slice(&text[copied..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::members;

    #[test]
    fn members_are_added_and_nothing_else_changes() {
        let text = br#" { "query" : "SELECT 1" , "labels": { } }"#;
        let found = members(text, 0).unwrap();
        let object = 1..text.len();
        let labels = found.iter().find(|(key, _)| key == "labels").unwrap();
        let mut splice = Splice::default();
        splice.add_member(&labels.1, 0, "a", "\"1\"");
        splice.add_member(&labels.1, 0, "b", "\"2\"");
        splice.add_member(&object, found.len(), "requestId", "\"r\"");
        let out = String::from_utf8(splice.apply(text)).unwrap();
        assert_eq!(out, r#" {"requestId":"r", "query" : "SELECT 1" , "labels": {"b":"2","a":"1" } }"#);
        assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok());
    }
}
