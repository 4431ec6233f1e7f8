//! Where the members of an object stand in its text.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// Why a body is not JSON that every parser reads in one way.
#[derive(Debug)]
pub(crate) struct NotPlainJson(pub(crate) String);

/// The members of one object: decoded key, and the span of its value.
pub(crate) type Members = Vec<(String, Range<usize>)>;

/// Checks that the whole text is one JSON value in UTF-8 whose objects name no key twice: two parsers could
/// choose different ones.
pub(crate) fn check_plain(text: &[u8]) -> Result<(), NotPlainJson> {
    let text = std::str::from_utf8(text).map_err(|_| NotPlainJson("it is not UTF-8".to_owned()))?;
    let mut parser = serde_json::Deserializer::from_str(text);
    OneReading
        .deserialize(&mut parser)
        .and_then(|()| parser.end())
        .map_err(|error| NotPlainJson(error.to_string()))
}

struct OneReading;

impl<'de> DeserializeSeed<'de> for OneReading {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OneReading {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(OneReading)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = members.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(serde::de::Error::custom(format!("the key '{key}' stands twice in one object")));
            }
            seen.insert(key);
            members.next_value_seed(OneReading)?;
        }
        Ok(())
    }
}

/// The members of the object that begins at `start` of a text that `check_plain` passed; none if it is no
/// object.
pub(crate) fn members(text: &[u8], start: usize) -> Option<Members> {
    let mut at = skip_space(text, start);
    if text.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(text, at + 1);
    let mut found = Members::new();
    while text.get(at) != Some(&b'}') {
        let key_end = string_end(text, at)?;
        let key: String = serde_json::from_slice(&text[at..key_end]).ok()?;
        at = skip_space(text, key_end);
        at = skip_space(text, at + 1); // the colon
        let end = value_end(text, at)?;
        found.push((key, at..end));
        at = skip_space(text, end);
        if text.get(at) == Some(&b',') {
            at = skip_space(text, at + 1);
        }
    }
    Some(found)
}

fn skip_space(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// Just past the string that begins at `at`.
fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut next = at + 1;
    loop {
        match text.get(next)? {
            b'"' => return Some(next + 1),
            b'\\' => next += 2,
            _ => next += 1,
        }
    }
}

/// Just past the value that begins at `at`.
fn value_end(text: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut next = at;
    loop {
        match text.get(next)? {
            b'"' => {
                next = string_end(text, next)?;
                if depth == 0 {
                    return Some(next);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return Some(if depth == 1 { next + 1 } else { next }),
            b'}' | b']' => depth -= 1,
            b',' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => return Some(next),
            _ => {}
        }
        next += 1;
        if depth == 0 && next == text.len() {
            return Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_where_they_stand() {
        let text = br#" { "a" : 1 , "b":{"c":[1,"}"]},"q\u0075ery":"x\"y" , "z":null}"#;
        let found: Vec<_> = members(text, 0)
            .unwrap()
            .into_iter()
            .map(|(key, span)| format!("{key}={}", std::str::from_utf8(&text[span]).unwrap()))
            .collect();
        assert_eq!(found, ["a=1", r#"b={"c":[1,"}"]}"#, r#"query="x\"y""#, "z=null"]);
    }

    #[test]
    fn texts_that_two_parsers_read_differently_are_no_plain_json() {
        for text in [
            r#"{"query":"a","query":"b"}"#,
            r#"{"query":"a","qu\u0065ry":"b"}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            "{} {}",
            "{",
            "\u{feff}{}",
            "{'a':1}",
            r#"{"a":NaN}"#,
        ] {
            assert!(check_plain(text.as_bytes()).is_err(), "{text}");
        }
        assert!(check_plain(b"{\"a\":\xff}").is_err());
        assert!(check_plain("[".repeat(100_000).as_bytes()).is_err());
        assert!(check_plain(br#"{"a":[1,2.5e3,true,null,{"a":"\ud83d\ude00"}]}"#).is_ok());
    }
}
