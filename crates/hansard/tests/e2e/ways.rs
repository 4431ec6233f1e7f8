//! More clients, and the other ways in: what docs/clients.md says of each.

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::{
    Emulator, Gateway, Output, Scripted, ScriptedReply, Tap, UPSTREAM_TOKEN, World, ask, root, run, tools,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::clients::{node, one_session_has_it_all, scenario, script};
use crate::{binary, block_on};

/// The emulator, taps before its APIs, and a gateway before both.
struct Set {
    emulator: Emulator,
    upstream: Tap,
    storage: StorageTap,
    world: World,
    gateway: Gateway,
}

impl Set {
    async fn new(name: &str) -> Self {
        let log = std::env::temp_dir().join(format!("hansard-emulator-{name}-{}.log", std::process::id()));
        let emulator = Emulator::start(&log);
        let upstream = Tap::start(&emulator.url).await;
        let storage = StorageTap::start(&emulator.storage).await;
        let world =
            World::with_storage(binary(), &upstream.url, Some(&storage.address), crate::clients::EGRESS)
                .await;
        let gateway = world.gateway();
        Self { emulator, upstream, storage, world, gateway }
    }

    fn key(&self) -> PathBuf {
        let file = self.world.folder.join("key.json");
        if !file.exists() {
            self.gateway.issue_key("agent@example.com", "key.json");
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
        let mut command = Command::new(binary());
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
            "token_info_url": format!("{}/v1/introspect", self.gateway.url),
        });
        let path = folder.join("federated.json");
        std::fs::write(&path, file.to_string()).unwrap();
        path
    }

    /// What the upstream saw has a record each, and came by the gateway's credential alone.
    fn all_is_recorded(&self) {
        let credential = format!("Bearer {UPSTREAM_TOKEN}");
        let seen = self.upstream.seen();
        // A question of the follower's may be on its way still; its record is shown once it is answered.
        let until = Instant::now() + Duration::from_secs(10);
        let mut records = self.gateway.records(&[]);
        let is_shown = |records: &[Value]| {
            let known = |id: &str| records.iter().any(|record| record["id"] == id);
            seen.iter().all(|seen| known(&seen.record().unwrap_or_default()))
        };
        while !is_shown(&records) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
            records = self.gateway.records(&[]);
        }
        assert!(!seen.is_empty(), "nothing came through");
        for seen in &seen {
            let given = seen.headers.get("authorization").and_then(|value| value.to_str().ok());
            assert_eq!(given, Some(credential.as_str()), "{} {}", seen.method, seen.uri);
            let id = seen.record().unwrap_or_default();
            let record = records.iter().find(|record| record["id"] == id.as_str());
            let record = record.unwrap_or_else(|| panic!("no record of {} {}", seen.method, seen.uri));
            assert_ne!(record["outcome"], "refused", "{record:#}");
        }
        let calls = self.storage.calls.lock().unwrap();
        for (path, given) in calls.iter() {
            assert_eq!(*given, credential, "{path}");
        }
        for method in ["CreateReadSession", "ReadRows"] {
            let seen = calls.iter().filter(|(path, _)| path.ends_with(&format!("/{method}"))).count();
            let name = format!("BigQueryRead.{method}");
            let recorded = records.iter().filter(|record| record["target"]["method"] == name.as_str());
            assert_eq!(recorded.count(), seen, "{name}");
        }
    }
}

/// A tap before the Storage API: each call's path, and what it was authorised by.
struct StorageTap {
    address: String,
    calls: Arc<Mutex<Vec<(String, String)>>>,
}

impl StorageTap {
    async fn start(target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let calls: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let (kept, target) = (calls.clone(), target.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_calls(client, target.clone(), kept.clone()));
            }
        });
        Self { address, calls }
    }
}

async fn pass_calls(
    client: TcpStream,
    target: String,
    kept: Arc<Mutex<Vec<(String, String)>>>,
) -> Option<()> {
    let server = TokioIo::new(TcpStream::connect(target).await.ok()?);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), server);
    let (sender, connection) = handshake.await.ok()?;
    tokio::spawn(connection);
    let service = service_fn(move |request: Request<Incoming>| {
        let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let call = (request.uri().path().to_owned(), given.unwrap_or_default().to_owned());
        kept.lock().unwrap().push(call);
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server.serve_connection(TokioIo::new(client), service).await.ok()
}

fn assert_same(direct: &Output, through: &Output) {
    let (left, right) = (direct.objects(), through.objects());
    assert!(!left.is_empty(), "it did nothing: {}", direct.stderr);
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
fn dbt_under_exec_and_by_every_credential() {
    block_on(async {
        let set = Set::new("dbt").await;
        let dbt = || script("analytics/bin/python", "python/dbt_scenario.py");
        let steps = set.same_under_exec(dbt()).await;
        assert_eq!(steps.len(), 14);
        assert_eq!(value(&steps, "show"), &json!([["Ada", "4.0"], ["Bo", "3.5"]]));
        // The emulator's gap: the statement that reads a catalog from INFORMATION_SCHEMA.
        assert_eq!(value(&steps, "docs_generate"), false);
        assert_eq!(failed(&steps), ["dataset_is_gone"]);

        let mut by_key = at_home(dbt());
        let through = run(by_key.env("BIGQUERY_URL", &set.gateway.url).env("BIGQUERY_KEY_FILE", set.key()));
        assert_eq!(steps, through.objects(), "{}", through.stderr);
        set.gateway.until_jobs_are_recorded().await;
        set.all_is_recorded();

        // A connection alone: by a provider's token, and by a credential file that the environment names.
        let mut by_token = dbt_debug(&set, "token");
        by_token.env("BIGQUERY_TOKEN", set.world.issuer.token("bob@example.com", &["data"]));
        let mut by_file = dbt_debug(&set, "exec");
        by_file.env("GOOGLE_APPLICATION_CREDENTIALS", set.credential("file").await);
        for (who, mut command) in [("bob@example.com", by_token), ("alice@example.com", by_file)] {
            let debug = run(command.env(VARIABLE, &set.gateway.url));
            assert_eq!(debug.code, 0, "{}", debug.stdout);
            assert!(debug.stdout.contains("Connection test: [OK connection ok]"), "{}", debug.stdout);
            let records = set.gateway.records(&[]);
            assert!(records.iter().any(|record| record["actor"]["id"]["value"] == who), "{records:#?}");
        }
    });
}

fn dbt_debug(set: &Set, target: &str) -> Command {
    let project = root().join("tests/clients/dbt");
    let mut dbt = at_home(Command::new(tools().join("analytics/bin/dbt")));
    dbt.args(["--no-use-colors", "debug", "--project-dir"]).arg(&project).arg("--profiles-dir").arg(&project);
    dbt.env("DBT_TARGET", target).env("BIGQUERY_URL", &set.gateway.url);
    dbt.env("DBT_LOG_PATH", &set.world.folder).env("DBT_TARGET_PATH", &set.world.folder);
    dbt
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

/// Whether a program that the tests do not install is on this machine.
fn is_here(program: &str) -> bool {
    let here = Path::new("/usr/bin").join(program).exists();
    if !here {
        println!("skipped: {program}: it is not installed");
    }
    here
}

#[test]
fn gcloud_under_exec_and_by_key_and_by_token() {
    if !is_here("gcloud") {
        return;
    }
    block_on(async {
        let set = Set::new("gcloud").await;
        let through = set.exec(&scenario("bash", "gcloud/scenario.sh"));
        let direct = set.direct(scenario("bash", "gcloud/scenario.sh"));
        assert_same(&direct, &through);
        assert_eq!(failed(&through.objects()), ["table_missing", "dataset_is_gone"]);
        one_session_has_it_all(&set.gateway);

        let mut by_key = gcloud_list(&set);
        by_key.env("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", set.key());
        by_key.env("CLOUDSDK_AUTH_TOKEN_HOST", format!("{}/token", set.gateway.url));
        let token = set.world.folder.join("token");
        std::fs::write(&token, set.world.issuer.token("alice@example.com", &["data"])).unwrap();
        let mut by_token = gcloud_list(&set);
        by_token.env("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", token);
        for command in [&mut by_key, &mut by_token] {
            let answer = run(command);
            assert_eq!(answer.stdout.trim(), "[]", "{}", answer.stderr);
        }
        set.all_is_recorded();
        let records = set.gateway.records(&[]);
        let who = |record: &Value| record["actor"]["id"]["value"].as_str().unwrap_or_default().to_owned();
        let lists = records.iter().filter(|record| record["target"]["method"] == "datasets.list").map(who);
        let expected = ["agent@example.com", "agent@example.com", "alice@example.com"];
        assert_eq!(lists.collect::<Vec<_>>(), expected);
    });
}

/// One list of datasets by gcloud, with nothing of the person's own.
fn gcloud_list(set: &Set) -> Command {
    let mut gcloud = at_home(Command::new("gcloud"));
    gcloud.args(["alpha", "bq", "datasets", "list", "--project=proj", "--format=json"]);
    gcloud.env("CLOUDSDK_CONFIG", set.world.folder.join("gcloud"));
    let endpoint = format!("{}/bigquery/v2/", set.gateway.url);
    gcloud.env("CLOUDSDK_API_ENDPOINT_OVERRIDES_BIGQUERY", endpoint);
    gcloud
}

/// Google's Java client is not to be had here; what it goes by is.
#[test]
fn a_jvm_gets_through_with_a_trust_store_and_its_own_proxy_options() {
    if !is_here("keytool") {
        return;
    }
    block_on(async {
        let set = Set::new("java").await;
        let through = set.exec(&scenario("bash", "java/scenario.sh"));
        assert_same(&set.direct(scenario("bash", "java/scenario.sh")), &through);
        assert_eq!(value(&through.objects(), "query"), &json!([200, "Ada"]));
        one_session_has_it_all(&set.gateway);
        set.all_is_recorded();
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
        // gcloud asks at the file's `token_info_url` whose token it has, before it uses it.
        if is_here("gcloud") {
            let file = set.credential("file").await;
            let answer = run(gcloud_list(&set).env("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", file));
            assert_eq!(answer.stdout.trim(), "[]", "{}", answer.stderr);
        }
        set.all_is_recorded();
        let records = set.gateway.records(&[]);
        let exchanges = records.iter().filter(|record| record["kind"] == "exchange");
        for exchange in exchanges.filter(|record| record["actor"]["kind"] != "gateway") {
            assert_eq!(exchange["actor"]["id"]["value"], "alice@example.com", "{exchange:#}");
        }
    });
}

/// A proxy in place of DNS: names of a universe lead to the gateway, whatever the port; others nowhere.
struct Names {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    async fn start(universe: &'static str, gateway: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await.ok()?);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let name = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
                    kept.lock().unwrap().push(name.clone());
                    let host = name.split(':').next()?;
                    if !host.ends_with(universe) {
                        return client.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.ok();
                    }
                    let mut server = TcpStream::connect(("127.0.0.1", gateway)).await.ok()?;
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok().map(|_| ())
                });
            }
        });
        Self { url, asked }
    }

    /// What was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        let names = self.so_far();
        self.asked.lock().unwrap().clear();
        names
    }

    fn so_far(&self) -> Vec<String> {
        let mut names = self.asked.lock().unwrap().clone();
        names.sort();
        names.dedup();
        names
    }
}

const UNIVERSE: &str = "hansard.test";

/// The gateway of a world again, by TLS, as `bigquery.UNIVERSE` and `bigquerystorage.UNIVERSE`.
struct Secure {
    child: Child,
}

impl Secure {
    fn start(world: &World) -> Self {
        let names = format!("subjectAltName=DNS:bigquery.{UNIVERSE},DNS:bigquerystorage.{UNIVERSE}");
        let request =
            "req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -days 1 -subj /CN=hansard";
        let mut openssl = Command::new("openssl");
        let made = run(openssl.current_dir(&world.folder).args(request.split(' ')).args(["-addext", &names]));
        assert_eq!(made.code, 0, "{}", made.stderr);
        let file = world.folder.join("hansard.toml");
        let tls = "[server.tls]\ncert = \"tls.crt\"\nkey = { file = \"tls.key\" }\n\n[[identity.oidc]]";
        let config = std::fs::read_to_string(&file).unwrap().replacen("[[identity.oidc]]", tls, 1);
        let public = format!("[server]\npublic_url = \"https://bigquery.{UNIVERSE}\"\n");
        std::fs::write(&file, config.replacen("[server]\n", &public, 1)).unwrap();
        let log = std::fs::File::create(world.folder.join("tls.log")).unwrap();
        let mut serve = Command::new(binary());
        serve.arg("serve").current_dir(&world.folder).stdout(log.try_clone().unwrap()).stderr(log);
        let secure = Self { child: serve.spawn().unwrap() };
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", world.port)).is_err() {
            assert!(Instant::now() < until, "it does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        secure
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client needs to be in the universe: a key of it, its name, its certificate and its names.
fn in_universe(program: Command, world: &World, names: &Names, universe: &str) -> Command {
    let key = std::fs::read(world.folder.join("key.json")).unwrap();
    let mut key: Value = serde_json::from_slice(&key).unwrap();
    key["universe_domain"] = universe.into();
    let file = world.folder.join("universe.json");
    std::fs::write(&file, key.to_string()).unwrap();
    let mut program = at_home(program);
    for name in ["HTTPS_PROXY", "https_proxy"] {
        program.env(name, &names.url);
    }
    let bundles = ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"];
    for name in bundles.into_iter().chain(["NODE_EXTRA_CA_CERTS", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE"]) {
        program.env(name, world.folder.join("tls.crt"));
    }
    program.env("GOOGLE_CLOUD_UNIVERSE_DOMAIN", universe).env("CLOUDSDK_CORE_UNIVERSE_DOMAIN", universe);
    program.env("GOOGLE_APPLICATION_CREDENTIALS", file);
    program
}

#[test]
fn a_universe_domain_leads_to_the_gateway() {
    block_on(async {
        let set = Set::new("universe").await;
        let ways = || {
            let mut program = python_ways();
            program.env("WAYS_STORAGE", "1");
            program
        };
        let direct = set.direct(ways());
        set.key();
        let Set { world, gateway, .. } = &set;
        assert_eq!(run(Command::new("kill").arg(gateway.pid().to_string())).code, 0);
        while std::net::TcpStream::connect(("127.0.0.1", world.port)).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _secure = Secure::start(world);
        let names = Names::start(UNIVERSE, world.port).await;
        let with_port = format!("{UNIVERSE}:8443");

        // Python, with its Storage API: no other name is ever asked for.
        for (universe, port) in [(UNIVERSE, 443), (&with_port, 8443)] {
            assert_same(&direct, &run(&mut in_universe(ways(), world, &names, universe)));
            let expected = ["bigquery", "bigquerystorage"].map(|name| format!("{name}.{UNIVERSE}:{port}"));
            assert_eq!(names.asked(), expected);
            bq_in_universe(world, &names, universe, port);
        }
        // Go honours it for REST alone, Node not at all. A key of ours is worth nothing where they go.
        let adbc = script("storage/bin/python", "python/adbc_scenario.py");
        let mut adbc = in_universe(adbc, world, &names, UNIVERSE)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let wanted = [format!("bigquery.{UNIVERSE}:443"), "bigquerystorage.googleapis.com:443".to_owned()];
        let until = Instant::now() + Duration::from_secs(30);
        while names.so_far() != wanted {
            assert!(Instant::now() < until, "{:?}", names.asked());
            std::thread::sleep(Duration::from_millis(50));
        }
        adbc.kill().unwrap();
        adbc.wait().unwrap();
        names.asked();
        let node = run(&mut in_universe(node("ways_scenario.mjs"), world, &names, UNIVERSE));
        assert!(node.objects().iter().all(|step| step["error"]["code"] == 403), "{}", node.stdout);
        assert_eq!(names.asked(), ["bigquery.googleapis.com:443"]);
        set.all_is_recorded();
    });
}

fn bq_in_universe(world: &World, names: &Names, universe: &str, port: u16) {
    if !is_here("bq") {
        return;
    }
    let token = world.folder.join("token");
    std::fs::write(&token, world.issuer.token("alice@example.com", &["data"])).unwrap();
    let mut bq = in_universe(bq_query(world), world, names, universe);
    bq.env_remove("GOOGLE_APPLICATION_CREDENTIALS").env("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", token);
    let answer = run(&mut bq);
    assert!(answer.stdout.contains(ANSWER), "{} {}", answer.stdout, answer.stderr);
    assert_eq!(names.asked(), [format!("bigquery.{UNIVERSE}:{port}")]);
}

const ANSWER: &str = r#"[{"answer":"42"}]"#;

/// One query by bq, with nothing of the person's own.
fn bq_query(world: &World) -> Command {
    std::fs::write(world.folder.join("bigqueryrc"), "").unwrap();
    let mut bq = Command::new("bq");
    bq.args(["--project_id=proj", "--format=json", "query", "--use_legacy_sql=false", "SELECT 42 AS answer"]);
    bq.env("BIGQUERYRC", world.folder.join("bigqueryrc")).env("CLOUDSDK_CONFIG", world.folder.join("gcloud"));
    bq
}
