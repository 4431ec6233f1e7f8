//! Approvals by Slack, Teams and Standard Webhooks: messages in the formats that those document, and answers that
//! count only if they are signed, fresh and by somebody whom the configuration names.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use registry::{HmacKey, Secret};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::{Answer, Gateway, Scripted, ScriptedReply, World, ask, send};

use crate::{binary, block_on};

const SIGNING_SECRET: &str = "8f742231b10e8888abcd99ababab85a5";
const RULE: &str = "[[rule]]\nname = \"changes\"\nwhen = \"statement.kind == 'DELETE'\"\naction = \"approve\"\n\
     approvers = \"'leads' in approver.groups\"\n";

/// One webhook, the service that it speaks to, and a gateway that holds deletions.
struct Set {
    world: World,
    gateway: Gateway,
    upstream: Scripted,
    service: Scripted,
}

impl Set {
    async fn new(kind: &str, secret: &str) -> Self {
        let upstream = Scripted::start(Arc::new(|_: &str, request: &Request<Bytes>| {
            if request.uri().path().contains("/jobs/") {
                return ScriptedReply::json(json!({"error": {"code": 404}}).to_string()).status(404);
            }
            let mut job: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            if job["configuration"]["dryRun"] == true {
                let statistics =
                    json!({"totalBytesProcessed": "5000000", "query": {"statementType": "DELETE"}});
                return ScriptedReply::json(json!({"statistics": statistics}).to_string());
            }
            job["status"] = json!({"state": "DONE"});
            ScriptedReply::json(job.to_string())
        }))
        .await;
        let service =
            Scripted::start_open(Arc::new(|_: &str, _: &Request<Bytes>| ScriptedReply::json("ok"))).await;
        let hook = format!(
            "[[approvals.webhook]]\nname = \"leads\"\nkind = \"{kind}\"\nurl = {{ file = \"hook-url\" }}\nsecret = {{ file = \
             \"hook-secret\" }}\n[[approvals.webhook.approver]]\nuser = \"U2CERLKJA\"\nemail = \"lead@example.com\"\ngroups = \
             [\"leads\"]\n[[approvals.webhook.approver]]\nuser = \"U0000ALICE\"\nemail = \"alice@example.com\"\ngroups = \
             [\"leads\"]\n{RULE}"
        );
        let world = World::new(binary(), &upstream.url, &hook).await;
        std::fs::write(world.folder.join("hook-url"), format!("{}/services/T000/B000/abcd\n", service.url))
            .unwrap();
        std::fs::write(world.folder.join("hook-secret"), secret).unwrap();
        let gateway = world.gateway();
        Self { world, gateway, upstream, service }
    }

    /// Holds a deletion by Alice; its approval's id and the message that was sent.
    async fn hold(&self, job: &str) -> (String, Request<Bytes>) {
        let before = self.service.asked().len();
        let alice = self.world.issuer.token("alice@example.com", &["data"]);
        let sql = "DELETE FROM crm.orders WHERE name < 'b' AND (id & 3) > 1";
        let body = json!({"jobReference": {"jobId": job}, "configuration": {"query": {"query": sql, "useLegacySql": false}}});
        let jobs = format!("{}/bigquery/v2/projects/proj/jobs", self.gateway.url);
        let held = ask("POST", &jobs, &alice, body.to_string()).await;
        assert_eq!(held.json()["status"]["state"], "PENDING", "{held:?}");
        let until = Instant::now() + Duration::from_secs(10);
        while self.service.asked().len() == before {
            assert!(Instant::now() < until, "no message: {}", self.gateway.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (held.record(), self.service.asked().pop().expect("a message"))
    }

    async fn post(&self, headers: &[(&str, String)], body: &str) -> Answer {
        let mut request = Request::post(format!("{}/api/v1/hooks/leads", self.gateway.url));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        send(request.body(Bytes::from(body.to_owned())).unwrap()).await
    }

    fn ran(&self) -> usize {
        let asked = self.upstream.asked();
        let jobs = asked.iter().filter(|one| one.method() == "POST");
        jobs.filter(|one| !String::from_utf8_lossy(one.body()).contains("dryRun")).count()
    }

    fn stands(&self, id: &str) -> Value {
        let shown = self.gateway.hansard(&["approvals", "show", id, "--json"]);
        serde_json::from_str::<Value>(&shown.stdout).expect("JSON")["stand"].clone()
    }

    async fn until_it_stands(&self, id: &str, stand: &str) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.stands(id) != stand {
            assert!(Instant::now() < until, "{} {}", self.stands(id), self.gateway.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn now() -> u64 {
    record::Clock::now(&record::SystemClock).secs() as u64
}

fn only(value: &Value, keys: &[&str]) {
    for key in value.as_object().expect("an object").keys() {
        assert!(keys.contains(&key.as_str()), "Slack knows no '{key}' there: {value}");
    }
}

fn text_of(value: &Value, kinds: &[&str], most: usize) {
    only(value, &["type", "text", "emoji", "verbatim"]);
    let text = value["text"].as_str().expect("a text");
    assert!(
        kinds.contains(&value["type"].as_str().unwrap()) && (1..=most).contains(&text.chars().count()),
        "{value}"
    );
}

/// What Block Kit's reference says of the blocks that are used.
fn is_block_kit(message: &Value) {
    only(message, &["text", "blocks"]);
    let blocks = message["blocks"].as_array().expect("blocks");
    assert!((1..=50).contains(&blocks.len()));
    for block in blocks {
        match block["type"].as_str().expect("a type") {
            "header" => text_of(&block["text"], &["plain_text"], 150),
            "section" => {
                only(block, &["type", "text", "fields"]);
                assert!(block["text"].is_object() || block["fields"].is_array(), "{block}");
                if block["text"].is_object() {
                    text_of(&block["text"], &["plain_text", "mrkdwn"], 3_000);
                }
                let fields = block["fields"].as_array().into_iter().flatten();
                assert!(fields.clone().count() <= 10);
                fields.for_each(|field| text_of(field, &["plain_text", "mrkdwn"], 2_000));
            }
            "context" => {
                let elements = block["elements"].as_array().expect("elements");
                assert!((1..=10).contains(&elements.len()));
                elements.iter().for_each(|one| text_of(one, &["plain_text", "mrkdwn"], 3_000));
            }
            "actions" => {
                only(block, &["type", "block_id", "elements"]);
                for button in block["elements"].as_array().expect("elements") {
                    only(button, &["type", "text", "action_id", "value", "style", "url"]);
                    assert_eq!(button["type"], "button");
                    text_of(&button["text"], &["plain_text"], 75);
                    assert!(button["value"].as_str().unwrap().len() <= 2_000);
                    assert!(matches!(button["style"].as_str(), None | Some("primary" | "danger")));
                }
            }
            other => panic!("no block of Slack's that is used: {other}"),
        }
    }
}

#[test]
fn slack_shows_buttons_and_a_signed_press_counts() {
    block_on(async {
        let set = Set::new("slack", SIGNING_SECRET).await;
        let (id, message) = set.hold("j1").await;
        assert_eq!(message.uri().path(), "/services/T000/B000/abcd");
        let message: Value = serde_json::from_slice(message.body()).expect("JSON");
        is_block_kit(&message);
        let text = message.to_string();
        assert!(text.contains("name < 'b' AND (id & 3) > 1"), "as plain text, which holds no markup: {text}");
        assert!(
            text.contains("alice@example.com") && text.contains("proj.crm.orders") && text.contains("5 MiB"),
            "{text}"
        );
        let buttons = message["blocks"].as_array().unwrap().last().unwrap()["elements"].clone();
        assert_eq!(buttons[0]["value"], id);

        let press = |user: &str, button: &Value| {
            let payload = json!({
                "type": "block_actions", "user": {"id": user, "username": "lead", "team_id": "T000"},
                "api_app_id": "A000", "token": "ignored", "container": {"type": "message"},
                "response_url": format!("{}/actions/T000/1/x", set.service.url),
                "actions": [{"type": "button", "block_id": "hansard", "action_id": button["action_id"], "value": button["value"]}],
            });
            form_urlencoded::Serializer::new(String::new())
                .append_pair("payload", &payload.to_string())
                .finish()
        };
        let signed = |body: &str, at: u64, secret: &str| {
            let tag = HmacKey::new(&Secret::new(secret.as_bytes().to_vec()))
                .sign(format!("v0:{at}:{body}").as_bytes());
            let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
            vec![
                ("x-slack-request-timestamp", at.to_string()),
                ("x-slack-signature", format!("v0={tag}")),
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
            ]
        };
        let body = press("U2CERLKJA", &buttons[0]);
        // Not signed, signed by others, signed long ago, or something else than what was signed.
        assert_eq!(set.post(&[], &body).await.status, 401);
        assert_eq!(set.post(&signed(&body, now(), "another secret of somebody"), &body).await.status, 401);
        assert_eq!(set.post(&signed(&body, now() - 301, SIGNING_SECRET), &body).await.status, 401);
        let other = body.replace("approve", "deny");
        assert_eq!(set.post(&signed(&body, now(), SIGNING_SECRET), &other).await.status, 401);
        assert_eq!((set.stands(&id), set.ran()), (json!("pending"), 0));
        // Signed, by somebody unknown, and by whoever asked for it.
        for user in ["U9STRANGER", "U0000ALICE"] {
            let body = press(user, &buttons[0]);
            let before = set.service.asked().len();
            assert_eq!(set.post(&signed(&body, now(), SIGNING_SECRET), &body).await.status, 200);
            let until = Instant::now() + Duration::from_secs(10);
            while set.service.asked().len() == before {
                assert!(Instant::now() < until, "what came of it is told");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let told: Value = serde_json::from_slice(set.service.asked().pop().unwrap().body()).unwrap();
            assert!(told["text"].as_str().unwrap().contains("nothing was done"), "{told}");
        }
        assert_eq!((set.stands(&id), set.ran()), (json!("pending"), 0));
        assert_eq!(set.post(&signed(&body, now(), SIGNING_SECRET), &body).await.status, 200);
        set.until_it_stands(&id, "released").await;
        assert_eq!(set.ran(), 1);
        let vote = set.gateway.records(&["--contains", "approval.approve"]);
        let votes = if vote.is_empty() { set.gateway.records(&[]) } else { vote };
        let vote = votes.iter().find(|one| one["event"]["action"] == "approval.approve").expect("recorded");
        assert_eq!(
            (&vote["actor"]["idp"], &vote["actor"]["email"]["proof"]),
            (&json!("webhook/leads"), &json!("asserted"))
        );

        let (id, message) = set.hold("j2").await;
        let message: Value = serde_json::from_slice(message.body()).unwrap();
        let buttons = message["blocks"].as_array().unwrap().last().unwrap()["elements"].clone();
        let body = press("U2CERLKJA", &buttons[1]);
        assert_eq!(set.post(&signed(&body, now(), SIGNING_SECRET), &body).await.status, 200);
        set.until_it_stands(&id, "denied").await;
        assert_eq!(set.ran(), 1);
        // The addresses and secrets of webhooks are told to nobody.
        let shown = format!("{} {}", set.gateway.log(), set.gateway.hansard(&["records", "--json"]).stdout);
        assert!(!shown.contains(SIGNING_SECRET) && !shown.contains("services/T000"));
    });
}

#[test]
fn teams_shows_a_card_and_a_signed_message_counts() {
    block_on(async {
        let token = STANDARD.encode(b"a security token of thirty-two b");
        let set = Set::new("teams", &token).await;
        let (id, message) = set.hold("j1").await;
        let message: Value = serde_json::from_slice(message.body()).expect("JSON");
        // "Create incoming webhooks with Workflows" and the schema of Adaptive Cards.
        assert_eq!(message["type"], "message");
        let attachment = &message["attachments"][0];
        assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
        let card = &attachment["content"];
        assert_eq!((&card["type"], &card["version"]), (&json!("AdaptiveCard"), &json!("1.4")));
        for element in card["body"].as_array().expect("a body") {
            match element["type"].as_str().expect("a type") {
                "TextBlock" => assert!(element["text"].as_str().is_some_and(|text| !text.is_empty())),
                "FactSet" => {
                    let facts = element["facts"].as_array().expect("facts");
                    assert!(facts.iter().all(|fact| fact["title"].is_string() && fact["value"].is_string()));
                }
                other => panic!("no element that is used: {other}"),
            }
        }
        let button = &card["actions"][0];
        assert_eq!(button["type"], "Action.OpenUrl");
        assert!(button["url"].as_str().unwrap().ends_with(&format!("/api/v1/approvals/{id}")));

        let write = |user: &str, text: &str, at: &str| {
            json!({
                "type": "message", "id": "1700000000000", "timestamp": at, "serviceUrl": "https://smba.example/", "channelId":
                "msteams", "from": {"id": "29:1x", "name": "Lead", "aadObjectId": user}, "text": text, "textFormat": "plain",
            })
            .to_string()
        };
        let signed = |body: &str, token: &str| {
            let key = HmacKey::new(&Secret::new(STANDARD.decode(token).unwrap()));
            vec![("authorization", format!("HMAC {}", STANDARD.encode(key.sign(body.as_bytes()))))]
        };
        let at = set.gateway.hansard(&["approvals", "show", &id, "--json"]).objects()[0]["asked_at"].clone();
        let at = at.as_str().unwrap().to_owned();
        let approve = format!("<at>hansard</at>&nbsp;approve {id}");
        let body = write("U2CERLKJA", &approve, &at);
        assert_eq!(set.post(&[], &body).await.status, 401);
        let other = STANDARD.encode(b"another token of somebody's own!");
        assert_eq!(set.post(&signed(&body, &other), &body).await.status, 401);
        let old = write("U2CERLKJA", &approve, "2026-01-01T00:00:00Z");
        assert_eq!(set.post(&signed(&old, &token), &old).await.status, 401);
        let stranger = write("U9STRANGER", &approve, &at);
        let answer = set.post(&signed(&stranger, &token), &stranger).await;
        assert!(answer.json()["text"].as_str().unwrap().contains("names nobody"), "{answer:?}");
        let chatter = write("U2CERLKJA", "<at>hansard</at> good morning", &at);
        assert_eq!(set.post(&signed(&chatter, &token), &chatter).await.status, 400);
        assert_eq!(set.ran(), 0);
        let answer = set.post(&signed(&body, &token), &body).await;
        assert_eq!((answer.status, &answer.json()["type"]), (200, &json!("message")));
        assert!(answer.json()["text"].as_str().unwrap().contains("approved, and runs"), "{answer:?}");
        assert_eq!((set.stands(&id), set.ran()), (json!("released"), 1));
    });
}

#[test]
fn standard_webhooks_are_signed_both_ways() {
    block_on(async {
        let secret = format!("whsec_{}", STANDARD.encode(b"a secret of some twenty-four byt"));
        let set = Set::new("json", &secret).await;
        let key = || HmacKey::new(&Secret::new(b"a secret of some twenty-four byt".to_vec()));
        let (id, message) = set.hold("j1").await;
        let header = |name: &str| message.headers()[name].to_str().unwrap().to_owned();
        let signed = [header("webhook-id"), header("webhook-timestamp")].join(".");
        let signed = [signed.as_bytes(), b".", message.body()].concat();
        let tag = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
        assert!(key().is_signed(&signed, &tag));
        let message: Value = serde_json::from_slice(message.body()).unwrap();
        assert_eq!(
            (&message["type"], &message["data"]["approval"]["id"]),
            (&json!("approval.requested"), &json!(id))
        );

        let post = async |body: String, at: u64| {
            let tag = STANDARD.encode(key().sign(format!("msg_1.{at}.{body}").as_bytes()));
            let headers = [
                ("webhook-id", "msg_1".to_owned()),
                ("webhook-timestamp", at.to_string()),
                ("webhook-signature", format!("v1,AAAA v1,{tag}")),
            ];
            set.post(&headers, &body).await
        };
        let answer = |word: &str| {
            json!({"type": "approval.answered", "timestamp": "x", "data": {"approval": id, "answer": word, "by": "U2CERLKJA",
                "reason": "not today"}})
            .to_string()
        };
        assert_eq!(post(answer("deny"), now() - 400).await.status, 401);
        assert_eq!(post(answer("shrug"), now()).await.status, 400);
        assert_eq!(post(answer("deny"), now()).await.status, 200);
        assert_eq!((set.stands(&id), set.ran()), (json!("denied"), 0));
        assert_eq!(post(answer("approve"), now()).await.status, 409, "it was answered");
        assert_eq!(set.ran(), 0);
    });
}
