//! Puts bounds of cost and time into what is forwarded.

use bytes::Bytes;
use gateway::Bounds;
use serde_json::Value;
use std::ops::Range;

use crate::json::{Splice, members};
use crate::understand::Plan;

/// Bounds a job, where the request makes one. The client's own bounds stay where they are tighter.
pub(crate) fn clamp(plan: &mut Plan, read: &Bytes, bounds: &Bounds) {
    let Some(json) = plan.job_json.clone() else { return };
    let body = plan.body.clone().unwrap_or_else(|| read.clone());
    let Some(edited) = body.get(json.clone()).and_then(|text| edit(text, plan.is_query_door, bounds)) else {
        return;
    };
    let end = json.start + edited.len();
    plan.body = Some([&body[..json.start], &edited, &body[json.end..]].concat().into());
    plan.job_json = Some(json.start..end);
}

fn edit(text: &[u8], is_query_door: bool, bounds: &Bounds) -> Option<Vec<u8>> {
    let start = text.iter().position(|byte| *byte == b'{')?;
    let outer = (start..text.len(), members(text, start)?);
    let mut splice = Splice::default();
    if is_query_door {
        at_most(&mut splice, text, &outer, "maximumBytesBilled", bounds.bytes_billed);
        at_most(&mut splice, text, &outer, "jobTimeoutMs", bounds.job_timeout_ms);
    } else {
        let configuration = below(text, &outer, "configuration")?;
        at_most(&mut splice, text, &configuration, "jobTimeoutMs", bounds.job_timeout_ms);
        if let Some(query) = below(text, &configuration, "query") {
            at_most(&mut splice, text, &query, "maximumBytesBilled", bounds.bytes_billed);
        }
    }
    (!splice.is_empty()).then(|| splice.apply(text))
}

/// An object's span, and its members.
type Object = (Range<usize>, Vec<(String, Range<usize>)>);

fn below(text: &[u8], object: &Object, name: &str) -> Option<Object> {
    let (_, span) = object.1.iter().find(|(key, _)| key == name)?;
    Some((span.clone(), members(text, span.start)?))
}

/// Lowers a number that is higher, or is not there.
fn at_most(splice: &mut Splice, text: &[u8], (span, found): &Object, name: &str, bound: Option<u64>) {
    let Some(bound) = bound else { return };
    match found.iter().find(|(key, _)| key == name) {
        None => splice.add_member(span, found.len(), name, &format!("\"{bound}\"")),
        Some((_, value)) => {
            let own: Option<Value> = serde_json::from_slice(&text[value.clone()]).ok();
            // Zero and less are BigQuery's "none".
            let own = own
                .and_then(|own| own.as_u64().or_else(|| own.as_str()?.parse().ok()))
                .filter(|own| *own > 0);
            if own.is_none_or(|own| own > bound) {
                splice.replace(value, format!("\"{bound}\""));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes_billed: Some(1_000), job_timeout_ms: Some(60_000) };

    #[test]
    fn bounds_are_added_where_there_are_none() {
        check(
            true,
            r#"{"query":"q"}"#,
            r#"{"jobTimeoutMs":"60000","maximumBytesBilled":"1000","query":"q"}"#,
        );
        check(
            false,
            r#"{"configuration":{"query":{"query":"q"}}}"#,
            r#"{"configuration":{"jobTimeoutMs":"60000","query":{"maximumBytesBilled":"1000","query":"q"}}}"#,
        );
        check(
            false,
            r#"{"configuration":{"load":{}}}"#,
            r#"{"configuration":{"jobTimeoutMs":"60000","load":{}}}"#,
        );
    }

    #[test]
    fn the_tighter_bound_stays() {
        check(
            true,
            r#"{"maximumBytesBilled":"10","jobTimeoutMs":5}"#,
            r#"{"maximumBytesBilled":"10","jobTimeoutMs":5}"#,
        );
        check(
            true,
            r#"{"maximumBytesBilled":"9999","jobTimeoutMs":"0"}"#,
            r#"{"maximumBytesBilled":"1000","jobTimeoutMs":"60000"}"#,
        );
        check(
            true,
            r#"{"maximumBytesBilled":null,"jobTimeoutMs":-1}"#,
            r#"{"maximumBytesBilled":"1000","jobTimeoutMs":"60000"}"#,
        );
    }

    fn check(is_query_door: bool, text: &str, expected: &str) {
        let found = edit(text.as_bytes(), is_query_door, &BOUNDS);
        let found = found.map_or_else(|| text.to_owned(), |bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(found, expected);
    }
}
