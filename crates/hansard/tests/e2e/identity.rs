//! Who gets in, and who does not.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::sync::Arc;
use testkit::{Answer, Gateway, Scripted, ScriptedReply, World, ask, free_port, root, run, send, tools};

use crate::{binary, block_on, queries, record_of};

async fn world(extra: &str) -> (World, Scripted) {
    let upstream = Scripted::start(Arc::new(|_, _| ScriptedReply::json(r#"{"jobComplete":true}"#))).await;
    let world = World::new(binary(), &upstream.url, extra).await;
    (world, upstream)
}

async fn query(gateway: &Gateway, token: &str) -> Answer {
    ask("POST", &queries(&gateway.url), token, r#"{"query":"SELECT 1"}"#).await
}

#[test]
fn tokens_of_the_provider_are_checked_in_every_claim() {
    block_on(async {
        let (world, upstream) = world("").await;
        let gateway = world.gateway();
        let issuer = &world.issuer;
        let with = |changes: Value| {
            let mut claims = issuer.claims("alice@example.com", &["data"]);
            for (key, value) in changes.as_object().unwrap() {
                match value {
                    Value::Null => claims.as_object_mut().unwrap().remove(key),
                    value => claims.as_object_mut().unwrap().insert(key.clone(), value.clone()),
                };
            }
            issuer.sign(claims)
        };
        let now = issuer.claims("x", &[])["iat"].as_i64().unwrap();
        assert_eq!(query(&gateway, &with(json!({}))).await.status, 200);
        assert_eq!(
            query(&gateway, &with(json!({"aud": ["hansard", "other"], "azp": "hansard"}))).await.status,
            200
        );
        let asked = upstream.asked().len();
        let refused = [
            ("expired", with(json!({"exp": now - 120}))),
            ("not_yet_valid", with(json!({"nbf": now + 600}))),
            ("missing_claim", with(json!({"exp": null}))),
            ("missing_claim", with(json!({"sub": null}))),
            ("missing_claim", with(json!({"iss": null}))),
            ("audience", with(json!({"aud": "other"}))),
            ("audience", with(json!({"aud": null}))),
            ("authorized_party", with(json!({"aud": ["hansard", "other"]}))),
            ("authorized_party", with(json!({"aud": ["hansard", "other"], "azp": "other"}))),
            ("unknown_issuer", with(json!({"iss": format!("{}/", issuer.url)}))),
            (
                "logout_token",
                with(json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}})),
            ),
            ("opaque_token", "ya29.a0AfH6-opaque".to_owned()),
            ("signature", {
                let token = with(json!({}));
                let other = with(json!({"sub": "mallory"}));
                let parts: Vec<_> = token.split('.').collect();
                format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2])
            }),
            ("algorithm", {
                let token = with(json!({}));
                format!("eyJhbGciOiJub25lIn0.{}.", token.split('.').nth(1).unwrap())
            }),
            ("algorithm", {
                // HS256 "signed" with the public key is no signature of the provider.
                let token = with(json!({}));
                format!("eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0.{}.AAAA", token.split('.').nth(1).unwrap())
            }),
        ];
        for (reason, token) in &refused {
            let answer = query(&gateway, token).await;
            assert_eq!(answer.status, 401, "{reason}");
            assert_eq!(answer.json()["error"]["status"], "UNAUTHENTICATED");
            let record = record_of(&gateway, &answer);
            assert_eq!((&record["kind"], &record["status"]["reason"]), (&json!("auth"), &json!(reason)));
        }
        assert_eq!(upstream.asked().len(), asked, "nothing of a stranger went upstream");
        let none = send(Request::post(queries(&gateway.url)).body(Bytes::new()).unwrap()).await;
        assert!(
            none.status == 401
                && none.json()["error"]["message"].as_str().unwrap().contains("identity provider")
        );
        let two = Request::post(queries(&gateway.url))
            .header("authorization", format!("Bearer {}", with(json!({}))))
            .header("authorization", "Bearer x");
        assert_eq!(send(two.body(Bytes::new()).unwrap()).await.status, 401);
        let stranger = issuer.token("bob@example.com", &["finance"]);
        let denied = query(&gateway, &stranger).await;
        let record = record_of(&gateway, &denied);
        assert_eq!((denied.status, &record["decision"]["effect"]), (404, &json!("deny")));
        assert_eq!(record["statement"]["sql"], "SELECT 1", "what a denied principal tried is recorded");
    });
}

#[test]
fn keys_of_the_provider_rotate_and_are_not_fetched_for_every_stranger() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        let old = world.issuer.token("alice@example.com", &["data"]);
        assert_eq!(query(&gateway, &old).await.status, 200);
        world.issuer.rotate();
        let fresh = world.issuer.token("alice@example.com", &["data"]);
        // An unknown key id is looked up at most once in ten seconds.
        let mut status = 0;
        for _ in 0..24 {
            status = query(&gateway, &fresh).await.status;
            if status == 200 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        assert_eq!(status, 200, "the new key was found");
        let fetches = world.issuer.key_fetches();
        let foreign = testkit::Issuer::start().await;
        for n in 0..30 {
            let mut claims = world.issuer.claims("mallory@example.com", &["data"]);
            claims["jti"] = json!(n);
            assert_eq!(query(&gateway, &foreign.sign(claims)).await.status, 401);
        }
        assert!(world.issuer.key_fetches() <= fetches + 1, "strangers can't make the gateway fetch");
    });
}

#[test]
fn a_burst_of_strangers_is_counted_not_stored() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        for _ in 0..200 {
            let answer = query(&gateway, "opaque").await;
            assert!(answer.status == 401 && !answer.record().is_empty());
        }
        tokio::time::sleep(std::time::Duration::from_millis(2200)).await;
        let records = gateway
            .hansard(&["query", "SELECT record FROM records WHERE kind = 'auth'", "--format", "json"])
            .objects();
        let count: u64 = records
            .iter()
            .map(|row| {
                serde_json::from_str::<Value>(row["record"].as_str().unwrap()).unwrap()["event"]["count"]
                    .as_u64()
                    .unwrap()
            })
            .sum();
        assert_eq!(count, 200, "every one of them is counted");
        assert!(records.len() < 150, "{} records", records.len());
    });
}

#[test]
fn virtual_keys_work_at_the_token_endpoint_and_by_themselves_until_revoked() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let gateway = world.gateway();
        let file = world.folder.join("key.json");
        let issued = gateway.hansard(&[
            "key",
            "issue",
            "--principal",
            "devin@agents.example.com",
            "--connection",
            "main",
            "--agent",
            "Devin",
            "--task",
            "T-1",
            "--group",
            "data",
            "--out",
            file.to_str().unwrap(),
            "--json",
        ]);
        assert_eq!(issued.code, 0, "{}", issued.stderr);
        let key = issued.objects()[0].clone();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap()) & 0o777;
        assert_eq!(mode, 0o600);
        let script = r#"
import sys, google.auth.transport.requests, google.auth.jwt
from google.oauth2 import service_account
c = service_account.Credentials.from_service_account_file(sys.argv[1], scopes=["https://www.googleapis.com/auth/bigquery"])
c.refresh(google.auth.transport.requests.Request())
print(c.token)
print(google.auth.jwt.Credentials.from_service_account_file(sys.argv[1], audience="https://bigquery.googleapis.com/")._make_jwt()[0].decode())
"#;
        let made = run(Command::new(tools().join("clients/bin/python")).args([
            "-c",
            script,
            file.to_str().unwrap(),
        ]));
        assert_eq!(made.code, 0, "{}", made.stderr);
        let tokens: Vec<&str> = made.stdout.lines().collect();
        assert!(tokens[0].starts_with("hsd_"), "a token of ours, worthless at Google");
        for token in &tokens {
            let answer = query(&gateway, token).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let record = record_of(&gateway, &answer);
            assert_eq!(
                (&record["actor"]["kind"], &record["actor"]["agent"]["name"], &record["task"]["id"]),
                (&json!("agent"), &json!("Devin"), &json!("T-1"))
            );
            assert_eq!(record["actor"]["groups"]["proof"], "asserted");
        }
        let sessions = gateway.hansard(&["sessions", "--json"]).objects();
        let of_key: Vec<_> = sessions.iter().filter(|session| session["agent"] == "Devin").collect();
        assert_eq!((of_key.len(), &of_key[0]["records"]), (1, &json!(2)), "one key, one session");

        // It survives a restart, and the session goes on with the token that carries it.
        assert_eq!(gateway.stop(), 0);
        let gateway = world.gateway();
        let again = query(&gateway, tokens[0]).await;
        let record = record_of(&gateway, &again);
        assert_eq!((&record["session"], &record["seq"]), (&of_key[0]["id"], &json!(2)));

        let id = key["id"].as_str().unwrap();
        assert_eq!(gateway.hansard(&["key", "revoke", id]).code, 0);
        for token in &tokens {
            assert_eq!(query(&gateway, token).await.status, 401, "revoked at once");
        }
        assert_eq!(gateway.hansard(&["key", "revoke", id]).code, 1);
        assert!(gateway.hansard(&["key", "list"]).stdout.contains("revoked"));
        assert_eq!(gateway.hansard(&["verify"]).code, 0);
    });
}

#[test]
fn who_counts_as_an_agent_is_configured() {
    block_on(async {
        let (world, _upstream) =
            world("[identity]\nagents = \"principal.email.endsWith('@agents.example.com')\"\n").await;
        let path = world.folder.join("hansard.toml");
        // [identity] must stand before its providers.
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, tail) = text.split_once("[identity]").unwrap();
        std::fs::write(&path, format!("[identity]{tail}{head}")).unwrap();
        let gateway = world.gateway();
        for (email, kind) in [("devin@agents.example.com", "agent"), ("alice@example.com", "person")] {
            let answer = query(&gateway, &world.issuer.token(email, &["data"])).await;
            assert_eq!(record_of(&gateway, &answer)["actor"]["kind"], kind);
        }
    });
}

#[test]
fn a_certified_provider_is_accepted() {
    block_on(async {
        let port = free_port();
        let folder = tools().join("idp");
        let script = folder.join(format!("op-{}.mjs", std::process::id()));
        std::fs::copy(root().join("tests/idp/op.mjs"), &script).unwrap();
        let mut provider = Command::new("node")
            .arg(&script)
            .arg(port.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(provider.stdout.as_mut().unwrap()),
            &mut line,
        )
        .unwrap();
        let (world, _upstream) = world(&format!(
            "[[identity.oidc]]\nname = \"certified\"\nissuer = \"http://127.0.0.1:{port}\"\nclient_id = \"hansard\"\naudiences = [\"hansard\"]\n"
        ))
        .await;
        let gateway = world.gateway();
        let form =
            "grant_type=client_credentials&client_id=nightly-report&client_secret=test-secret&scope=bigquery";
        let request = Request::post(format!("http://127.0.0.1:{port}/token"))
            .header("content-type", "application/x-www-form-urlencoded");
        let granted = send(request.body(Bytes::from_static(form.as_bytes())).unwrap()).await;
        let token =
            granted.json()["access_token"].as_str().unwrap_or_else(|| panic!("{granted:?}")).to_owned();
        let answer = query(&gateway, &token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let record = record_of(&gateway, &answer);
        assert_eq!(
            (&record["actor"]["idp"], &record["actor"]["kind"], &record["actor"]["id"]["value"]),
            (&json!("certified"), &json!("service"), &json!("nightly-report"))
        );
        let _ = provider.kill();
        let _ = provider.wait();
        let _ = std::fs::remove_file(script);
    });
}

#[test]
fn the_api_is_for_those_whose_role_allows_it() {
    block_on(async {
        let roles = "[roles]\nauditor = \"'security' in principal.groups\"\nadmin = \"'platform' in principal.groups\"\n";
        let (world, _upstream) = world(roles).await;
        let gateway = world.gateway();
        let api = |path: &str| format!("{}/api/v1/{path}", gateway.url);
        let [auditor, admin, other] =
            [["security"], ["platform"], ["data"]].map(|groups| world.issuer.token("x@example.com", &groups));
        assert_eq!(ask("GET", &api("records"), &auditor, "").await.status, 200);
        assert_eq!(ask("GET", &api("records"), &other, "").await.status, 403);
        assert_eq!(ask("GET", &api("keys"), &auditor, "").await.status, 403);
        assert_eq!(ask("GET", &api("keys"), &admin, "").await.status, 200);
        assert_eq!(ask("GET", &api("records"), "nobody", "").await.status, 401);
    });
}

#[test]
fn everybody_acts_upstream_as_an_account_of_their_own() {
    block_on(async {
        let (world, _upstream) = world("").await;
        let path = world.folder.join("hansard.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let acting = format!(
            "impersonate = \"who-{{principal.email}}@proj.iam.gserviceaccount.com\"\niam_credentials = \"{}\"\n",
            world.issuer.url
        );
        std::fs::write(&path, format!("{text}{acting}")).unwrap();
        let gateway = world.gateway();
        let ask_as = |email: &str| {
            let token = world.issuer.token(email, &["data"]);
            let gateway = &gateway;
            async move { query(gateway, &token).await }
        };
        for email in ["alice@example.com", "bob@example.com", "alice@example.com"] {
            let answer = ask_as(email).await;
            assert_eq!(answer.status, 200);
            let local = email.split('@').next().unwrap();
            let expected = format!("who-{local}@proj.iam.gserviceaccount.com");
            assert_eq!(record_of(&gateway, &answer)["target"]["upstream_principal"], expected.as_str());
        }
        let acted: Vec<String> = world.issuer.acted_as();
        assert_eq!(acted.len(), 2, "each once, then kept: {acted:?}");
        // Whoever has no account of their own does not get somebody else's.
        let refused = ask_as("alice.smith@example.com").await;
        assert_eq!((refused.status, refused.reason().as_str()), (403, "accessDenied"));
        assert!(refused.json()["error"]["message"].as_str().unwrap().contains("principal.email"));
    });
}

#[test]
fn a_connections_credential_is_tried_and_what_is_too_much_is_said() {
    block_on(async {
        let (world, upstream) = world("").await;
        let path = world.folder.join("hansard.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}resource_manager = \"{}\"\n", world.issuer.url)).unwrap();
        let offline =
            run(Command::new(binary()).args(["connection", "test", "main"]).current_dir(&world.folder));
        assert_ne!(offline.code, 0);
        let gateway = world.gateway();
        let tested = gateway.hansard(&["connection", "test", "main", "--json"]);
        assert_eq!(tested.code, 0, "{}", tested.stderr);
        let told = &tested.objects()[0];
        assert_eq!(
            (&told["works"], &told["beyond"]),
            (&json!(true), &json!(["iam.serviceAccountKeys.create"]))
        );
        assert_eq!(told["checks"].as_array().unwrap().len(), 3);
        let dry =
            upstream.asked().into_iter().find(|request| request.uri().path().ends_with("/queries")).unwrap();
        let dry: Value = serde_json::from_slice(dry.body()).unwrap();
        assert_eq!(dry["dryRun"], true, "nothing is run for it");
        let records = gateway.records(&[]);
        assert!(records.iter().any(|record| record["event"]["action"] == "connection.test"));
        assert_eq!(gateway.hansard(&["connection", "test", "nowhere"]).code, 1);
        let people = gateway.hansard(&["connection", "test", "main"]);
        assert!(people.stdout.contains("take it away: iam.serviceAccountKeys.create"), "{}", people.stdout);
    });
}
