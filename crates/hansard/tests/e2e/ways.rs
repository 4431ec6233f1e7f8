//! More clients, and the other ways in: what docs/clients.md says of each.

use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use testkit::{Emulator, Gateway, Output, Scripted, ScriptedReply, Tap, UPSTREAM_TOKEN, World, ask, run};

use crate::clients::{node, one_session_has_it_all, script};
use crate::{HANSARD, block_on};

/// The emulator, a tap before its REST API, and a gateway before both.
struct Set {
    emulator: Emulator,
    upstream: Tap,
    world: World,
    gateway: Gateway,
}

impl Set {
    async fn new(name: &str) -> Self {
        let log = std::env::temp_dir().join(format!("hansard-emulator-{name}-{}.log", std::process::id()));
        let emulator = Emulator::start(&log);
        let upstream = Tap::start(&emulator.url).await;
        let world = World::with_storage(HANSARD, &upstream.url, Some(&emulator.storage), "").await;
        let gateway = world.gateway();
        Self { emulator, upstream, world, gateway }
    }

    fn key(&self) -> PathBuf {
        let file = self.world.folder.join("key.json");
        if !file.exists() {
            let issue = [
                "key",
                "issue",
                "--principal",
                "agent@example.com",
                "--connection",
                "main",
                "--group",
                "data",
            ];
            let issued = self.gateway.hansard(&[&issue[..], &["--out", "key.json"]].concat());
            assert_eq!(issued.code, 0, "{}", issued.stderr);
        }
        file
    }

    /// Straight at the emulator.
    fn direct(&self, mut program: Command) -> Output {
        program.env("BIGQUERY_URL", &self.emulator.url).env("BIGQUERY_STORAGE", &self.emulator.storage);
        run(program.env("BIGQUERY_DATASET", "set_a").env("BIGQUERY_PROJECT", "proj"))
    }

    /// As a command of `hansard exec`, told nothing.
    fn exec(&self, program: &Command) -> Output {
        let mut command = Command::new(HANSARD);
        command.args(["exec", "--task", "T-1", "--gateway", &self.gateway.url, "--key"]).arg(self.key());
        command.arg("--").arg(program.get_program()).args(program.get_args());
        command.env_remove("BIGQUERY_URL").env("BIGQUERY_DATASET", "set_b").env("BIGQUERY_PROJECT", "proj");
        command.env("HOME", &self.world.folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_RUNTIME_DIR");
        run(&mut command)
    }

    /// The same answers, exit code included, and one session; its steps.
    async fn same_under_exec(&self, program: Command) -> Vec<Value> {
        let through = self.exec(&program);
        let direct = self.direct(program);
        assert_same(&direct, &through);
        self.gateway.until_jobs_are_recorded().await;
        one_session_has_it_all(&self.gateway);
        self.all_is_recorded();
        direct.objects()
    }

    /// A file of workload identity federation whose token the provider signed, from a source of Google's three.
    async fn credential(&self, source: &str) -> PathBuf {
        let folder = &self.world.folder;
        let token = self.world.issuer.token("alice@example.com", &["data"]);
        let kind = "urn:ietf:params:oauth:token-type:jwt";
        let answer = json!({
            "version": 1, "success": true, "token_type": kind, "id_token": token, "expiration_time": 4_000_000_000_u64,
        });
        std::fs::write(folder.join("subject"), &token).unwrap();
        std::fs::write(folder.join("answer.json"), answer.to_string()).unwrap();
        let source = match source {
            "file" => json!({"file": folder.join("subject")}),
            "url" => {
                let answer = answer.to_string();
                let server = Scripted::start(Arc::new(move |_, _| ScriptedReply::json(answer.clone()))).await;
                // It answers nobody without this header.
                json!({
                    "url": server.url, "headers": {"Authorization": format!("Bearer {UPSTREAM_TOKEN}")},
                    "format": {"type": "json", "subject_token_field_name": "id_token"},
                })
            }
            _ => json!({"executable": {
                "command": format!("/bin/cat {}", folder.join("answer.json").display()), "timeout_millis": 5000,
            }}),
        };
        let file = json!({
            "type": "external_account", "subject_token_type": kind, "credential_source": source,
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
            "token_url": format!("{}/v1/token", self.gateway.url),
        });
        let path = folder.join("federated.json");
        std::fs::write(&path, file.to_string()).unwrap();
        path
    }

    /// What the upstream saw has a record each, and came by the gateway's credential alone.
    fn all_is_recorded(&self) {
        let records = self.gateway.records(&[]);
        let seen = self.upstream.seen();
        assert!(!seen.is_empty(), "nothing came through");
        for seen in &seen {
            let given = seen.headers.get("authorization").and_then(|value| value.to_str().ok());
            assert_eq!(
                given,
                Some(format!("Bearer {UPSTREAM_TOKEN}").as_str()),
                "{} {}",
                seen.method,
                seen.uri
            );
            let id = seen.record().unwrap_or_default();
            let record = records.iter().find(|record| record["id"] == id.as_str());
            let record = record.unwrap_or_else(|| panic!("no record of {} {}", seen.method, seen.uri));
            assert_ne!(record["outcome"], "refused", "{record:#}");
        }
    }
}

fn assert_same(direct: &Output, through: &Output) {
    let (left, right) = (direct.objects(), through.objects());
    for (direct, through) in left.iter().zip(&right) {
        assert_eq!(direct, through);
    }
    assert_eq!(left.len(), right.len(), "{}\n{}", direct.stderr, through.stderr);
    assert_eq!(direct.code, through.code, "{}\n{}", direct.stderr, through.stderr);
}

/// A step that must have a value; it is what `direct` and `through` both said.
fn value<'a>(steps: &'a [Value], name: &str) -> &'a Value {
    let step = steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("no step {name}"));
    step.get("value").unwrap_or_else(|| panic!("{step}"))
}

/// Steps that failed, straight at the emulator too.
fn failed(steps: &[Value]) -> Vec<&str> {
    steps.iter().filter(|step| step.get("error").is_some()).filter_map(|step| step["step"].as_str()).collect()
}

fn rows_read(gateway: &Gateway) -> u64 {
    let records = gateway.records(&[]);
    let reads = records.iter().filter(|record| record["target"]["method"] == "BigQueryRead.ReadRows");
    reads.filter_map(|read| read["result"]["rows"].as_u64()).sum()
}

#[test]
fn dbt_under_exec() {
    block_on(async {
        let set = Set::new("dbt").await;
        let steps = set.same_under_exec(script("analytics/bin/python", "python/dbt_scenario.py")).await;
        assert_eq!(steps.len(), 14);
        assert_eq!(value(&steps, "show"), &json!([["Ada", "4.0"], ["Bo", "3.5"]]));
        // The emulator's gap: the statement that reads a catalog from INFORMATION_SCHEMA.
        assert_eq!(value(&steps, "docs_generate"), false);
        assert_eq!(failed(&steps), ["dataset_is_gone"]);
    });
}

#[test]
fn ibis_under_exec() {
    block_on(async {
        let set = Set::new("ibis").await;
        let steps = set.same_under_exec(script("analytics/bin/python", "python/ibis_scenario.py")).await;
        assert_eq!(value(&steps, "many"), 72_006_000);
        let gaps: Vec<_> = failed(&steps).into_iter().filter(|name| !name.starts_with("error_")).collect();
        // Storage reads of anonymous results; parts of type */*.
        let known = ["execute", "to_pyarrow", "to_pyarrow_batches", "memtable", "insert_rows"];
        assert_eq!(gaps, known, "{steps:#?}");
        assert!(rows_read(&set.gateway) >= 12_000);
    });
}

#[test]
fn bigframes_under_exec() {
    block_on(async {
        let set = Set::new("bigframes").await;
        let steps = set.same_under_exec(script("analytics/bin/python", "python/bigframes_scenario.py")).await;
        assert_eq!(value(&steps, "group"), &json!([["Ada", 1], ["Bo", 2]]));
        let gaps: Vec<_> = failed(&steps).into_iter().filter(|name| !name.starts_with("error_")).collect();
        let known = [
            "session_and_its_clock",
            "read_table",
            "to_gbq",
            "upload_bigquery_load",
            "upload_bigquery_streaming",
            "upload_bigquery_write",
        ];
        assert_eq!(gaps, known, "{steps:#?}");
    });
}

#[test]
fn node_storage_under_exec() {
    block_on(async {
        let set = Set::new("node-storage").await;
        let steps = set.same_under_exec(node("storage_scenario.mjs")).await;
        assert_eq!(value(&steps, "read_rows"), &json!({"rows": 20_000, "total": 200_010_000}));
        assert_eq!(failed(&steps), ["read_missing_table"]);
        assert_eq!(rows_read(&set.gateway), 40_000);
    });
}

/// Google's Go client takes no address, so there is no run without the gateway to compare with.
#[test]
fn adbc_under_exec() {
    block_on(async {
        let set = Set::new("adbc").await;
        let through = set.exec(&script("storage/bin/python", "python/adbc_scenario.py"));
        let steps = through.objects();
        assert_eq!(through.code, 0, "{}", through.stderr);
        assert_eq!(value(&steps, "rows_by_python"), &json!([["Ada", 1.5], ["Bo", 2.5], [null, null]]));
        assert_eq!(failed(&steps), ["anonymous_result", "error_syntax", "error_missing_table"], "{steps:#?}");
        set.gateway.until_jobs_are_recorded().await;
        one_session_has_it_all(&set.gateway);
        set.all_is_recorded();
        let read = |record: &&Value| record["target"]["method"] == "BigQueryRead.CreateReadSession";
        let records = set.gateway.records(&[]);
        let sessions: Vec<_> = records.iter().filter(read).map(|record| &record["status"]["grpc"]).collect();
        assert_eq!(sessions, [0, 5, 5, 0], "{records:#?}");
        // Both gaps are the emulator's: it said so itself, and says so without the gateway.
        assert_eq!(set.gateway.records(&["--outcome", "refused"]).len(), 0);
        let jobs = format!("{}/bigquery/v2/projects/proj/jobs", set.emulator.url);
        let job = r#"{"jobReference":{"jobId":"bad"},"configuration":{"query":{"query":"SELEC 1"}}}"#;
        assert_eq!(ask("POST", &jobs, "", job).await.status, 200);
        let results = format!("{}/bigquery/v2/projects/proj/queries/bad", set.emulator.url);
        assert_eq!(ask("GET", &results, "", "").await.status, 404);
    });
}

fn python_ways() -> Command {
    script("storage/bin/python", "python/ways_scenario.py")
}

/// Nothing here may leave the machine: what is meant for Google ends at a closed port.
fn at_home(mut program: Command) -> Command {
    for name in ["HTTPS_PROXY", "https_proxy"] {
        program.env(name, "http://127.0.0.1:9");
    }
    for name in ["NO_PROXY", "no_proxy"] {
        program.env(name, "127.0.0.1,localhost");
    }
    program.env_remove("BIGQUERY_URL").env_remove("BIGQUERY_STORAGE").env("BIGQUERY_DATASET", "set_b");
    program.env("BIGQUERY_PROJECT", "proj").env("GOOGLE_CLOUD_PROJECT", "proj");
    program
}

const VARIABLE: &str = "BIGQUERY_EMULATOR_HOST";

#[test]
fn the_emulators_variable_leads_to_the_gateway_in_both_forms() {
    block_on(async {
        let set = Set::new("variable").await;
        let (root, path) = (set.gateway.url.clone(), format!("{}/bigquery/v2", set.gateway.url));
        let credential = set.credential("file").await;
        let run_at = |mut program: Command, address: &str| {
            program.env(VARIABLE, address).env("GOOGLE_APPLICATION_CREDENTIALS", &credential);
            run(&mut program)
        };
        let direct = set.direct(node("ways_scenario.mjs"));
        for address in [&root, &path] {
            assert_same(&direct, &run_at(at_home(node("ways_scenario.mjs")), address));
        }
        let direct = set.direct(python_ways());
        assert_same(&direct, &run_at(at_home(python_ways()), &root));
        set.all_is_recorded();
        // Python puts its own path behind: no method of BigQuery's, and refused as such.
        let doubled = run_at(at_home(python_ways()), &path);
        let query = doubled.objects().into_iter().find(|step| step["step"] == "query").unwrap();
        assert_eq!(query["error"]["code"], 404, "{}", doubled.stdout);
    });
}

#[test]
fn a_federated_credential_file_is_exchanged_at_the_gateway() {
    block_on(async {
        let set = Set::new("federated").await;
        let direct = set.direct(python_ways());
        for source in ["file", "url", "executable"] {
            let mut program = at_home(python_ways());
            program
                .env(VARIABLE, &set.gateway.url)
                .env("GOOGLE_APPLICATION_CREDENTIALS", set.credential(source).await);
            assert_same(&direct, &run(program.env("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")));
        }
        let direct = set.direct(node("ways_scenario.mjs"));
        for source in ["file", "url", "executable"] {
            let mut program = at_home(node("ways_scenario.mjs"));
            program
                .env(VARIABLE, &set.gateway.url)
                .env("GOOGLE_APPLICATION_CREDENTIALS", set.credential(source).await);
            assert_same(&direct, &run(program.env("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")));
        }
        set.all_is_recorded();
        let records = set.gateway.records(&[]);
        let exchanges = records.iter().filter(|record| record["kind"] == "exchange");
        for exchange in exchanges.filter(|record| record["actor"]["kind"] != "gateway") {
            assert_eq!(exchange["actor"]["id"]["value"], "alice@example.com", "{exchange:#}");
        }
    });
}
