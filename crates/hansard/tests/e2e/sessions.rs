//! Sessions: whose they are, whatever others do in them.

use serde_json::{Value, json};

use crate::approvals::{DELETE, RULE, Set};
use crate::block_on;

/// Attack 52: whoever answered was shown as the one who ran the session.
#[test]
fn a_session_is_its_owners_whoever_answers_and_ends_it() {
    block_on(async {
        let set = Set::new(RULE).await;
        let (alice, lead) = (set.alice(), set.lead());
        for name in ["denied", "approved"] {
            assert_eq!(set.insert(&alice, name, DELETE).await.status, 200);
        }
        for pending in set.pending(&lead).await {
            let id = pending["id"].as_str().unwrap();
            let answered = match pending["job"]["id"] == "denied" {
                true => set.deny(id, &lead, "no").await,
                false => set.approve(id, &lead, &Value::Null).await,
            };
            assert_eq!(answered.status, 200, "{answered:?}");
        }
        let hers = |records: u64| {
            let sessions = set.gateway.hansard(&["sessions", "--json"]).objects();
            let of = |who: &str| {
                sessions.iter().filter(|one| one["principal"] == who).cloned().collect::<Vec<_>>()
            };
            assert_eq!(
                (of("alice@example.com").len(), of("lead@example.com").len()),
                (1, 0),
                "{sessions:#?}"
            );
            let session = of("alice@example.com").remove(0);
            assert_eq!(session["actor_kind"], "person");
            assert!(session["records"].as_u64().unwrap() >= records, "{session:#}");
            session["id"].as_str().unwrap().to_owned()
        };
        let session = hers(4);
        assert_eq!(set.gateway.hansard(&["session", "end", &session]).code, 0);
        assert_eq!(hers(5), session);
        let shown = set.gateway.hansard(&["session", "show", &session]).stdout;
        assert!(shown.contains("alice@example.com (person)"), "{shown}");
        let sums = "SELECT principal FROM sessions WHERE records > 3 AND actor_kind = 'person'";
        let rows = set.gateway.hansard(&["query", sums, "--format", "json"]).objects();
        assert_eq!(rows, [json!({"principal": "alice@example.com"})]);
        // Each record says who acted in it.
        let records = set.gateway.records(&["--session", &session]);
        let answers = records.iter().filter(|one| one["kind"] == "approval");
        let answered: Vec<_> = answers.map(|one| &one["actor"]["email"]["value"]).collect();
        assert_eq!(answered, ["lead@example.com", "lead@example.com"], "{records:#?}");
    });
}
