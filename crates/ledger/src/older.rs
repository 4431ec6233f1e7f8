//! A folder that an older build wrote is opened, shown as before, and gone on with.

use bytes::Bytes;
use record::*;
use serde_json::json;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::sealing::leaf_hash;
use crate::{Durability, Filter, Layout, Ledger, LedgerConfig, NoPacking, Verdict, frame, leaves, sha256};

/// The leaves of one exchange and one event as `hansard.leaf/1` had them.
fn leaves_before(session: SessionId, id: RecordId, event: RecordId) -> Vec<Vec<u8>> {
    let actor = json!({"kind": "person", "id": {"value": "a", "proof": "verified"}});
    let bodies = [
        json!({"intent": {
            "id": id, "seq": 0, "kind": "exchange", "received": "2027-01-15T08:00:00.000000Z", "actor": actor, "client": {},
            "task": {}, "target": {}, "request": {}, "statement": {"tables": ["p.d.t"]}, "job": {},
            "decision": {"effect": "allow"}
        }}),
        json!({"outcome": {
            "id": id, "outcome": "ok", "done": "2027-01-15T08:00:01.000000Z",
            "uploaded": {"bytes": 2, "sha256": sha256(b"up")}, "statement": {}, "job": {},
            "result": {"bytes": 4, "pages": 1, "sha256": sha256(b"rows"), "retained": "hash"}, "status": {"http": 200}
        }}),
        json!({"event": {
            "id": event, "seq": 1, "kind": "admin", "actor": actor, "client": {}, "status": {}, "outcome": "ok",
            // The longest leaf that this version could have.
            "event": {"action": "test", "text": "x".repeat(65_000)}
        }}),
    ];
    let mut last: Option<Digest> = None;
    let mut written = Vec::new();
    for (n, body) in bodies.into_iter().enumerate() {
        let leaf = Leaf {
            v: "hansard.leaf/1".into(),
            n: n as u64,
            session,
            leaf_seq: n as u64,
            prev: last,
            chain: last,
            at: Timestamp::from_secs(1_800_000_000),
            seq: None,
            refs: Refs::default(),
            more: None,
            body,
        };
        let bytes = serde_json::to_vec(&leaf).unwrap();
        last = Some(leaf_hash(&bytes));
        written.push(bytes);
    }
    written
}

#[test]
fn a_folder_with_leaves_of_the_version_before_goes_on() {
    let root = std::env::temp_dir().join(format!("hansard-older-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    let layout = Layout::new(&root);
    layout.create().unwrap();
    // An older build knew no long bodies.
    std::fs::remove_dir(layout.class(BlobClass::Records)).unwrap();
    let at = Timestamp::from_secs(1_800_000_000);
    let (session, id, event) = (SessionId::new(at), RecordId::new(at), RecordId::new(at));
    let mut segment = Vec::new();
    frame::push(&mut segment, &leaves::pack(&leaves_before(session, id, event)));
    std::fs::write(layout.leaves().join("0000000000000000.leaves"), segment).unwrap();
    let ledger = Ledger::open(LedgerConfig {
        layout,
        vault: Arc::new(registry::Vault::from_text(&registry::Vault::new_key_text()).unwrap()),
        clock: Arc::new(SystemClock),
        durability: Durability::Strict,
        disk_floor: None,
        unpacking: Arc::new(NoPacking),
    })
    .unwrap();
    assert_eq!(ledger.interrupted, 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let next = runtime.block_on(async {
        let actor = Ledger::gateway_actor();
        let draft = crate::IntentDraft::new(session, RecordKind::Exchange, at, actor);
        let kept = crate::Recording { results: Retained::Hash, uploads: Retained::Hash, is_excluded: false };
        let record = ledger.open_record(draft, kept).await.unwrap();
        let closing = crate::Closing::new(Outcome::Ok, Status::default());
        let closed = record.close(closing, Bytes::from_static(b"more").into()).await.unwrap();
        ledger.readable().await.unwrap();
        closed.id()
    });
    let mut records = Vec::new();
    ledger
        .records(&Filter { from: Some(0), ..Filter::default() }, |_, record| {
            records.push(record);
            ControlFlow::Continue(())
        })
        .unwrap();
    let shown: Vec<_> = records.iter().map(|record| (record.id, record.seq, record.result.sha256)).collect();
    let expected = [(id, 0, Some(sha256(b"rows"))), (event, 1, None), (next, 2, Some(sha256(b"more")))];
    assert_eq!(shown, expected);
    assert_eq!(records[0].request.sha256, Some(sha256(b"up")));
    assert_eq!(records[0].statement.tables, ["p.d.t"]);
    assert!(matches!(ledger.verify(|_| ()), Verdict::Clean { leaves: 5, .. }));
    ledger.stop();
    let _ = std::fs::remove_dir_all(&root);
}
