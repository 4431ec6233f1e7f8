//! The doors of the fuzz targets in `fuzz/`: each takes hostile bytes and checks what must hold for all of them.

use crate::RowColumns;
use crate::json::{Edit, Editor, Mask, Packer, Splice, Watcher, check_plain, members};
use crate::understand::OUR_LABELS;

/// Narrows, unlabels and watches an answer, whole and cut in two.
pub fn answer(fields: &str, body: &[u8], cut: usize) {
    let cut = cut % (body.len() + 1);
    let unlabel =
        Edit::Unlabel { paths: &[&["configuration"], &["jobs", "*", "configuration"]], keys: OUR_LABELS };
    let narrow = Mask::parse(fields).map(Edit::Narrow);
    for edit in narrow.into_iter().chain([unlabel]) {
        let whole = edited(&edit, &[body]);
        assert_eq!(whole, edited(&edit, &[&body[..cut], &body[cut..]]), "a cut makes no difference");
        if let (Some(out), Ok(())) = (whole, check_plain(body)) {
            assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok(), "what was JSON stays JSON");
        }
    }
    let (mut one, mut two) = (Watcher::default(), Watcher::default());
    one.push(body);
    two.push(&body[..cut]);
    two.push(&body[cut..]);
    assert_eq!((one.rows(), one.skeleton()), (two.rows(), two.skeleton()));
}

fn edited(edit: &Edit, parts: &[&[u8]]) -> Option<Vec<u8>> {
    let mut editor = Editor::new(edit.clone());
    let mut out = Vec::new();
    for part in parts {
        editor.push(part, &mut out).ok()?;
    }
    editor.is_done().then_some(out)
}

/// Routes a path, and splices a member into a body.
pub fn request(path: &str, body: &[u8]) {
    if let Ok(request) = http::Request::builder().method("POST").uri(path).body(()) {
        let _ = crate::route::route(&request.into_parts().0);
    }
    if check_plain(body).is_err() {
        return;
    }
    let Some(found) = members(body, 0) else { return };
    let start = body.iter().position(|byte| *byte == b'{').expect("it has members");
    let mut splice = Splice::default();
    splice.add_member(&(start..body.len()), found.len(), "\u{1}ours", "1");
    let out = splice.apply(body);
    let text = String::from_utf8_lossy(&out).replace('\u{1}', "");
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "what was JSON stays JSON");
}

/// Finds the statement of a query: what is recorded is what BigQuery will read in what is forwarded.
pub fn statement(is_job: bool, body: &[u8]) {
    let path = if is_job { "/bigquery/v2/projects/p/jobs" } else { "/bigquery/v2/projects/p/queries" };
    let head = http::Request::builder().method("POST").uri(path).body(()).expect("a request").into_parts().0;
    let route = crate::route::route(&head).expect("a door of BigQuery");
    let at = record::Timestamp::from_secs(1_800_000_000);
    let (_present, presence) = gateway::Presence::pair();
    let client = gateway::ClientAddress { ip: [127, 0, 0, 1].into(), tls: false };
    let body = bytes::Bytes::copy_from_slice(body);
    let request = gateway::Request {
        head,
        body: gateway::RequestBody::whole(body.clone()),
        client,
        received: at,
        presence,
    };
    let (record, session) = (record::RecordId::new(at), record::SessionId::new(at));
    let marks =
        gateway::Marks { label_jobs: true, ..gateway::Marks::new(record, session, "ada@example.com") };
    let Ok(action) = crate::understand::understand(route, &request, &marks) else { return };
    let forwarded = action.plan.body.unwrap_or(body);
    if forwarded.is_empty() {
        return;
    }
    let read: serde_json::Value = serde_json::from_slice(&forwarded).expect("what is forwarded is JSON");
    let query = if is_job { &read["configuration"]["query"]["query"] } else { &read["query"] };
    assert_eq!(action.text.sql.as_deref(), query.as_str(), "one statement, whoever reads it");
}

/// Packs what looks like rows by column, and takes it apart again; also takes apart what may be anything. The first byte
/// says where the rows are cut.
pub fn rows(payload: &[u8]) {
    use ledger::Unpacking;
    let _ = RowColumns.unpack(payload);
    let Some((&cut, text)) = payload.split_first() else { return };
    let (body, part) = ([br#"{"rows":["#.as_slice(), text].concat(), 1 + usize::from(cut) * 8);
    let (mut packer, mut watcher) = (Packer::eager(), Watcher::default());
    for window in body.chunks(part * 3) {
        packer.read(&window[..window.len().min(part)]);
        packer.read(&window[..window.len().min(part * 2)]);
        if let Some(packed) = packer.finish(window) {
            assert!(RowColumns.unpack(&packed).as_deref() == Some(window), "rows come back as they were");
        }
    }
    watcher.push(&body);
    assert_eq!(packer.watcher().rows(), watcher.rows(), "as many rows, whether packed or watched");
    assert_eq!(packer.watcher().skeleton(), watcher.skeleton());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// Texts that look like JSON often enough.
    fn nearly_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("1".to_owned()),
            Just("-1.5e3".to_owned()),
            Just("true".to_owned()),
            Just("null".to_owned()),
            Just("\"a\\\"b\\\\\"".to_owned()),
            Just("\"}]{[\"".to_owned()),
            Just(" ".to_owned()),
            Just("\"\\u00e9\"".to_owned()),
            // Rows as BigQuery writes them.
            Just(r#"{"v":"]}\"{"}"#.to_owned()),
            Just(r#"{"f":[{"v":"a"},{"v":null},{"v":{"v":"b"}}]}"#.to_owned()),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            let key = prop_oneof![
                Just("labels"),
                Just("configuration"),
                Just("jobs"),
                Just("rows"),
                Just("hansard_record"),
                Just("a"),
                Just("b c"),
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5)
                    .prop_map(|items| format!("[{}]", items.join(" , "))),
                prop::collection::vec((key, inner), 0..5).prop_map(|members| {
                    let members: Vec<_> =
                        members.into_iter().map(|(key, value)| format!("\"{key}\" : {value}")).collect();
                    format!(" {{{}}}\n", members.join(","))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn answers_of_any_shape(fields in "[a-c*,/()]{0,12}", body in nearly_json(), cut in any::<usize>()) {
            super::answer(&fields, body.as_bytes(), cut);
        }

        #[test]
        fn broken_answers(body in nearly_json(), drop in any::<prop::sample::Index>(), cut in any::<usize>()) {
            let mut bytes = body.into_bytes();
            if !bytes.is_empty() {
                bytes.remove(drop.index(bytes.len()));
            }
            super::answer("a/b,configuration", &bytes, cut);
        }

        #[test]
        fn statements_of_any_shape(is_job in any::<bool>(), body in nearly_json()) {
            super::statement(is_job, body.as_bytes());
            super::statement(is_job, format!(r#"{{"query":"a","configuration":{body},"query":{body}}}"#).as_bytes());
        }

        #[test]
        fn requests_of_any_shape(path in "/[a-zA-Z0-9/%{}:?=&.$-]{0,60}", body in nearly_json()) {
            super::request(&path, body.as_bytes());
        }
    }
}
