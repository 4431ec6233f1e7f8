//! The judge: three logs must agree. What the client sent and got, what the upstream saw, what the record says.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

use crate::issuer::UPSTREAM_TOKEN;
use crate::tap::Seen;

/// What the judge found.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Exchanges of the client.
    pub exchanges: usize,
    /// Statements among them.
    pub statements: usize,
    /// Exchanges, of the client or the upstream, without a record.
    pub unrecorded: usize,
    /// Records without an exchange of the client.
    pub phantom: usize,
    /// Bytes that the record does not account for.
    pub bytes_unaccounted: u64,
    /// Everything that does not agree, in words.
    pub disagreements: Vec<String>,
}

impl Judgement {
    /// Whether all three agree.
    pub fn agrees(&self) -> bool {
        self.unrecorded == 0
            && self.phantom == 0
            && self.bytes_unaccounted == 0
            && self.disagreements.is_empty()
    }
}

/// Judges. `records` are those of the exchanges, with their rows.
pub fn judge(client: &[Seen], upstream: &[Seen], records: &[Value]) -> Judgement {
    let mut found = Judgement { exchanges: client.len(), ..Judgement::default() };
    let by_id: BTreeMap<&str, &Value> =
        records.iter().filter_map(|record| Some((record["id"].as_str()?, record))).collect();
    let mut answered = BTreeSet::new();
    for seen in client {
        let Some(id) = seen.record() else {
            found.unrecorded += 1;
            found.disagreements.push(format!("no record: {} {}", seen.method, seen.uri));
            continue;
        };
        match by_id.get(id.as_str()) {
            Some(record) => the_client_and_the_record(&mut found, seen, record),
            None => {
                found.unrecorded += 1;
                found.disagreements.push(format!("record {id} is not in the ledger"));
            }
        }
        answered.insert(id);
    }
    // The gateway's own questions have no client; the upstream saw them.
    let is_own = |record: &Value| record["actor"]["kind"] == "gateway";
    let asked: BTreeSet<String> = upstream.iter().filter_map(Seen::record).collect();
    found.phantom = by_id
        .iter()
        .filter(|(id, record)| if is_own(record) { !asked.contains(**id) } else { !answered.contains(**id) })
        .count();
    for seen in upstream {
        the_upstream(&mut found, seen, client, &by_id);
    }
    found
}

fn the_client_and_the_record(found: &mut Judgement, seen: &Seen, record: &Value) {
    let mut same = |what: &str, client: Value, recorded: Value| {
        if client != recorded {
            found
                .disagreements
                .push(format!("{what} of {}: client {client}, record {recorded}", record["id"]));
        }
    };
    same("method", seen.method.as_str().into(), record["request"]["method"].clone());
    same("path", seen.uri.path().into(), record["request"]["path"].clone());
    same("status", seen.status.as_u16().into(), record["status"]["http"].clone());
    let asked: Option<Value> = serde_json::from_slice(&seen.asked()).ok();
    let sql = asked.as_ref().and_then(|asked| {
        asked
            .get("query")
            .filter(|sql| sql.is_string())
            .or_else(|| asked.pointer("/configuration/query/query"))
            .cloned()
    });
    if let Some(sql) = sql {
        same("sql", sql, record["statement"]["sql"].clone());
        found.statements += 1;
    }
    let refused = record["outcome"] == "refused";
    if refused {
        return;
    }
    let body = seen.decoded();
    let recorded = record["result"]["bytes"].as_u64().unwrap_or(0);
    found.bytes_unaccounted += recorded.abs_diff(body.len() as u64);
    if !body.is_empty() {
        let hash = ledger::sha256(&body).to_string();
        if record["result"]["sha256"] != hash.as_str() {
            found.disagreements.push(format!("hash of {}: client got {hash}", record["id"]));
        }
        let got: Option<Value> = serde_json::from_slice(&body).ok();
        let data = record["result"].get("data").cloned().unwrap_or(Value::Null);
        if record["result"]["retained"] == "rows" && got.as_ref() != Some(&data) {
            found.disagreements.push(format!("data of {} is not what the client got", record["id"]));
        }
        let rows = got.as_ref().and_then(|got| got["rows"].as_array()).map(Vec::len);
        if let Some(rows) = rows
            && record["result"]["rows"] != rows
        {
            found.disagreements.push(format!("rows of {}: client got {rows}", record["id"]));
        }
    }
}

fn the_upstream(found: &mut Judgement, seen: &Seen, client: &[Seen], by_id: &BTreeMap<&str, &Value>) {
    let token = seen.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if token != format!("Bearer {UPSTREAM_TOKEN}") {
        found.disagreements.push(format!("the upstream saw another credential at {}", seen.uri));
    }
    let record =
        seen.record().and_then(|id| by_id.get_key_value(id.as_str()).map(|(id, record)| (*id, *record)));
    let Some((id, record)) = record else {
        found.unrecorded += 1;
        found
            .disagreements
            .push(format!("the upstream saw what no record says: {} {}", seen.method, seen.uri));
        return;
    };
    if record["outcome"] == "refused" {
        found.disagreements.push(format!("record {id} is refused, but the upstream saw it"));
    }
    let Some(asked) = client.iter().find(|seen| seen.record().as_deref() == Some(id)) else { return };
    let rows = |body: Vec<u8>| {
        serde_json::from_slice::<Value>(&body).ok().and_then(|body| body.get("rows").cloned())
    };
    if rows(seen.decoded()) != rows(asked.decoded()) {
        found.disagreements.push(format!("rows of {id}: the client got others than the upstream gave"));
    }
    let sql = |body: Vec<u8>| {
        let body: Option<Value> = serde_json::from_slice(&body).ok();
        body.and_then(|body| {
            body.get("query").or_else(|| body.pointer("/configuration/query/query")).cloned()
        })
    };
    if sql(seen.asked()) != sql(asked.asked()) {
        found.disagreements.push(format!("statement of {id}: the upstream saw another than the client sent"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::json;

    const BODY: &str = r#"{"rows":[{"f":[{"v":"1"}]},{"f":[{"v":"2"}]}],"totalRows":"2"}"#;

    #[test]
    fn three_logs_that_agree_are_passed() {
        let judgement = judge(&[client(BODY)], &[upstream(BODY)], &[record(BODY)]);
        assert!(judgement.agrees(), "{judgement:?}");
        assert_eq!(judgement.statements, 1);
    }

    #[test]
    fn one_row_less_is_found() {
        let less = r#"{"rows":[{"f":[{"v":"1"}]}],"totalRows":"2"}"#;
        assert!(!judge(&[client(less)], &[upstream(BODY)], &[record(BODY)]).agrees());
        assert!(!judge(&[client(BODY)], &[upstream(BODY)], &[record(less)]).agrees());
        assert!(!judge(&[client(BODY)], &[upstream(less)], &[record(BODY)]).agrees());
    }

    #[test]
    fn one_altered_byte_is_found() {
        let other = BODY.replace("\"2\"}]}", "\"3\"}]}");
        assert!(!judge(&[client(&other)], &[upstream(&other)], &[record(BODY)]).agrees());
        let mut altered = record(BODY);
        altered["statement"]["sql"] = "SELECT 2".into();
        assert!(!judge(&[client(BODY)], &[upstream(BODY)], &[altered]).agrees());
    }

    #[test]
    fn what_is_missing_on_any_side_is_found() {
        assert_eq!(judge(&[client(BODY)], &[], &[]).unrecorded, 1);
        assert_eq!(judge(&[], &[upstream(BODY)], &[]).unrecorded, 1);
        assert_eq!(judge(&[], &[], &[record(BODY)]).phantom, 1);
        let mut own = record(BODY);
        own["actor"] = json!({"kind": "gateway"});
        assert_eq!(judge(&[], &[], std::slice::from_ref(&own)).phantom, 1, "it asked nobody");
        assert!(judge(&[], &[upstream(BODY)], &[own]).agrees());
        let mut stranger = upstream(BODY);
        stranger.headers.insert("authorization", "Bearer of-the-client".parse().unwrap());
        assert!(!judge(&[client(BODY)], &[stranger], &[record(BODY)]).agrees());
    }

    fn client(body: &str) -> Seen {
        let mut seen = seen(body);
        seen.reply_headers.insert("x-hansard-record", "r1".parse().unwrap());
        seen
    }

    fn upstream(body: &str) -> Seen {
        let mut seen = seen(body);
        seen.headers.insert("x-hansard-record", "r1".parse().unwrap());
        seen.headers.insert("authorization", format!("Bearer {UPSTREAM_TOKEN}").parse().unwrap());
        seen
    }

    fn seen(body: &str) -> Seen {
        Seen {
            method: http::Method::POST,
            uri: "/bigquery/v2/projects/p/queries".parse().unwrap(),
            headers: Default::default(),
            body: Bytes::from_static(br#"{"query":"SELECT 1"}"#),
            status: http::StatusCode::OK,
            reply_headers: Default::default(),
            reply_body: Bytes::copy_from_slice(body.as_bytes()),
            whole: true,
        }
    }

    fn record(body: &str) -> Value {
        let data: Value = serde_json::from_str(body).unwrap();
        json!({
            "id": "r1", "outcome": "ok", "status": {"http": 200}, "statement": {"sql": "SELECT 1"},
            "request": {"method": "POST", "path": "/bigquery/v2/projects/p/queries"},
            "result": {
                "rows": data["rows"].as_array().unwrap().len(), "bytes": body.len(), "retained": "rows",
                "sha256": ledger::sha256(body.as_bytes()).to_string(), "data": data,
            },
        })
    }
}
