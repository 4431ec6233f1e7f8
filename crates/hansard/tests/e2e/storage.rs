//! The Storage API through the gateway, by Google's own client under `hansard exec`.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use testkit::{Emulator, Gateway, Output, World, free_port, root, run, tools};

use crate::{binary, block_on};

fn python(script: &[&str]) -> Vec<String> {
    let program = tools().join("storage/bin/python").to_str().expect("a path").to_owned();
    [program].into_iter().chain(script.iter().map(|word| (*word).to_owned())).collect()
}

/// Runs a command as a principal of the world's, under `exec`.
fn exec(world: &World, gateway: &Gateway, who: &str, words: &[String], env: &[(&str, &str)]) -> Output {
    let key = world.folder.join(format!("{who}.json"));
    if !key.exists() {
        gateway.issue_key(&format!("{who}@example.com"), &format!("{who}.json"));
    }
    let mut command = Command::new(binary());
    command.args(["exec", "--gateway", &gateway.url, "--key", key.to_str().unwrap(), "--"]).args(words);
    command.env("HOME", &world.folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_RUNTIME_DIR");
    run(command.envs(env.iter().copied()))
}

fn emulator(name: &str) -> Emulator {
    Emulator::start(&std::env::temp_dir().join(format!("hansard-emulator-{name}-{}.log", std::process::id())))
}

fn by_method<'a>(records: &'a [Value], method: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["target"]["method"] == method).collect()
}

#[test]
fn reads_and_writes_are_the_same_and_recorded() {
    block_on(async {
        let emulator = emulator("storage");
        let scenario = root().join("tests/clients/python/storage_scenario.py");
        let words = python(&[scenario.to_str().expect("a path")]);
        let mut direct = Command::new(&words[0]);
        direct.arg(&words[1]).env("BIGQUERY_DATASET", "storage_a").env("BIGQUERY_URL", &emulator.url);
        let direct = run(direct.env("BIGQUERY_STORAGE", &emulator.storage));
        let world = World::with_storage(binary(), &emulator.url, Some(&emulator.storage), "").await;
        let gateway = world.gateway();
        let through = exec(&world, &gateway, "alice", &words, &[("BIGQUERY_DATASET", "storage_b")]);
        // A stream that nobody made is refused in hansard's own words.
        let own_words = |line: &&str| line.contains("read_missing_stream");
        let alike = |output: &Output| {
            output.stdout.lines().filter(|line| !own_words(line)).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(alike(&direct), alike(&through), "{}\n{}", direct.stderr, through.stderr);
        for output in [&direct, &through] {
            let missing = output.stdout.lines().find(own_words).expect("it was tried");
            assert!(missing.contains(r#""class": "NotFound", "code": 404"#), "{missing}");
        }
        assert!(direct.stdout.lines().count() >= 17, "{}", direct.stdout);

        let records = gateway.records(&[]);
        let sessions = by_method(&records, "BigQueryRead.CreateReadSession");
        let selected = sessions
            .iter()
            .find(|record| record["statement"]["columns"] == serde_json::json!(["id", "name"]))
            .expect("the one that selects");
        assert_eq!(selected["statement"]["tables"][0], "proj.storage_b.people");
        let body: Value = serde_json::from_str(
            gateway.record(selected["id"].as_str().unwrap())["request"]["body"].as_str().unwrap(),
        )
        .unwrap();
        assert_eq!(body["rowRestriction"], "id > 19990");
        let reads = by_method(&records, "BigQueryRead.ReadRows");
        let rows: u64 = reads.iter().filter_map(|record| record["result"]["rows"].as_u64()).sum();
        assert_eq!(rows, 2 * 20_000 + 2 * 10 + 5 * 20_000 + 2 * 20_000, "every row is counted");
        assert!(reads.iter().all(|record| record["session"] == reads[0]["session"]));
        rows_are_readable(&gateway, &reads);
        let appends = by_method(&records, "BigQueryWrite.AppendRows");
        let inserted = |record: &&Value| {
            record["job"]["dml"]["insertedRowCount"].as_str().and_then(|count| count.parse::<u64>().ok())
        };
        let appended: Vec<u64> = appends.iter().filter_map(inserted).collect();
        // The last one has an offset that the stream does not have yet.
        assert_eq!(appended, [300, 30, 50, 0]);
        let outcomes: Vec<_> = appends.iter().map(|record| record["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["ok", "ok", "ok", "error"]);
        for append in appends {
            assert_eq!(append["statement"]["tables"][0], "proj.storage_b.written");
            assert!(append["request"]["sha256"].is_string(), "{append:#}");
        }
        assert_eq!(gateway.stop(), 0);
    });
}

/// Arrow and Avro read back as BigQuery's JSON rows.
fn rows_are_readable(gateway: &Gateway, reads: &[&Value]) {
    let mut seen = Vec::new();
    for read in reads.iter().filter(|read| read["result"]["rows"] == 10) {
        let shown = gateway.record(read["id"].as_str().unwrap());
        let data = &shown["result"]["data"];
        assert!(data["schema"]["fields"].is_array(), "{:#}", shown["result"]);
        let names: Vec<_> =
            data["schema"]["fields"].as_array().unwrap().iter().map(|field| &field["name"]).collect();
        assert_eq!(names, ["id", "name"], "{data}");
        let mut rows: Vec<String> = data["rows"].as_array().unwrap().iter().map(Value::to_string).collect();
        rows.sort();
        assert_eq!(rows.len(), 10, "{shown:#}");
        assert_eq!(rows[0], r#"{"f":[{"v":"19991"},{"v":"name 19991"}]}"#);
        seen.push(rows);
    }
    assert_eq!(seen.len(), 2, "one by Arrow, one by Avro");
    assert_eq!(seen[0], seen[1]);
    let whole = reads.iter().filter(|read| read["result"]["rows"] == 20_000).take(2);
    for read in whole {
        let shown = gateway.record(read["id"].as_str().unwrap());
        let rows = shown["result"]["data"]["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 20_000);
        let first = rows.iter().find(|row| row["f"][0]["v"] == "7").unwrap();
        let cells =
            r#"{"f":[{"v":"7"},{"v":"name 7"},{"v":"10.5"},{"v":"false"},{"v":"2026-01-08"},{"v":null}]}"#;
        assert_eq!(first.to_string(), cells);
    }
}

const MAKE: &str = "
from google.cloud import bigquery, bigquery_storage_v1 as s
from google.cloud.bigquery_storage_v1 import types
bq = bigquery.Client(); bq.create_dataset('owned', exists_ok=True)
bq.query('CREATE TABLE IF NOT EXISTS owned.t AS SELECT 1 AS id').result()
made = s.BigQueryReadClient().create_read_session(parent='projects/proj', max_stream_count=1,
    read_session=types.ReadSession(table='projects/proj/datasets/owned/tables/t', data_format=2))
print(made.streams[0].name)
";
const READ: &str = "
import sys
from google.cloud import bigquery_storage_v1 as s
try:
    print(sum(page.row_count for page in s.BigQueryReadClient().read_rows(sys.argv[1])))
except Exception as error:
    print(error.code().name if callable(error.code) else error.code, str(error)[:300])
";
const UNKNOWN: &str = "
import google.auth, grpc
from google.auth.transport.grpc import secure_authorized_channel
from google.auth.transport.requests import Request
credentials, _ = google.auth.default(scopes=['https://www.googleapis.com/auth/bigquery'])
channel = secure_authorized_channel(credentials, Request(), 'bigquerystorage.googleapis.com:443')
call = channel.unary_unary('/google.cloud.bigquery.storage.v1beta1.BigQueryStorage/CreateReadSession')
try:
    call(b'')
except grpc.RpcError as error:
    print(error.code().name, error.details())
";

#[test]
fn a_stream_belongs_to_whoever_made_its_session() {
    block_on(async {
        let emulator = emulator("streams");
        let world = World::with_storage(binary(), &emulator.url, Some(&emulator.storage), "").await;
        let gateway = world.gateway();
        let made = exec(&world, &gateway, "alice", &python(&["-c", MAKE]), &[]);
        let stream = made.stdout.trim();
        assert!(stream.contains("/streams/"), "{}", made.stderr);
        let own = exec(&world, &gateway, "alice", &python(&["-c", READ, stream]), &[]);
        assert_eq!(own.stdout.trim(), "1", "{}", own.stderr);
        let other = exec(&world, &gateway, "mallory", &python(&["-c", READ, stream]), &[]);
        assert!(other.stdout.contains("another principal's"), "{} {}", other.stdout, other.stderr);
        let nobodys = stream.replace("/sessions/", "/sessions/x");
        let nobodys = exec(&world, &gateway, "alice", &python(&["-c", READ, &nobodys]), &[]);
        assert!(nobodys.stdout.contains("hansard shows what was started through it"), "{}", nobodys.stdout);
        let unknown = exec(&world, &gateway, "alice", &python(&["-c", UNKNOWN]), &[]);
        assert!(unknown.stdout.starts_with("UNIMPLEMENTED"), "{} {}", unknown.stdout, unknown.stderr);
        let refused = gateway.records(&["--outcome", "refused"]);
        let codes: Vec<_> = refused.iter().map(|record| record["status"]["grpc"].clone()).collect();
        assert_eq!(codes, [7, 5, 12], "{refused:#?}");
        assert_eq!(gateway.stop(), 0);
    });
}

/// Tries a table by both services, and prints what came of it.
const DOORS: &str = "
from google.cloud import bigquery_storage as storage
table = 'projects/proj/datasets/crm/tables/'
def tried(name, call):
    try:
        call()
        print(name, 'passed')
    except Exception as error:
        print(name, type(error).__name__, error.message.splitlines()[0])
read, write = storage.BigQueryReadClient(), storage.BigQueryWriteClient()
session = lambda name, **options: read.create_read_session(parent='projects/proj', max_stream_count=1,
    read_session=storage.types.ReadSession(table=table + name, data_format='ARROW', read_options=options))
stream = storage.types.WriteStream(type_=storage.types.WriteStream.Type.COMMITTED)
tried('session', lambda: session('customers'))
tried('one column', lambda: session('customers', selected_fields=['id']))
tried('restricted', lambda: session('customers', selected_fields=['id'], row_restriction='id > 1'))
tried('stream', lambda: write.create_write_stream(parent=table + 'customers', write_stream=stream))
tried('another', lambda: session('customers_public'))
";

#[test]
fn a_rule_closes_the_storage_api_too() {
    block_on(async {
        let emulator = emulator("storage-rules");
        let rule = "[[rule]]\nname = \"no-customers\"\nwhen = \"'proj.crm.customers' in statement.tables\"\naction = \"deny\"\n";
        let world = World::with_storage(binary(), &emulator.url, Some(&emulator.storage), rule).await;
        let gateway = world.gateway();
        let tried = exec(&world, &gateway, "alice", &python(&["-c", DOORS]), &[]);
        let lines: Vec<&str> = tried.stdout.lines().collect();
        assert_eq!(lines.len(), 5, "{}\n{}", tried.stdout, tried.stderr);
        for (line, kind) in lines.iter().zip(["SELECT", "SELECT", "SELECT", "INSERT"]) {
            let said = format!("hansard rule 'no-customers' does not allow {kind} on proj.crm.customers");
            assert!(line.contains("PermissionDenied") && line.contains(&said), "{line}");
        }
        // It gets as far as the emulator, which has no such table.
        assert!(lines[4].contains("NotFound"), "{}", lines[4]);
        let refused = gateway.records(&["--outcome", "refused"]);
        assert_eq!(refused.len(), 4);
        assert!(
            refused.iter().all(|record| record["decision"]["rules"][0] == "no-customers"),
            "{refused:#?}"
        );
    });
}

/// A BigQueryWrite service that does what its rows say; it ends with this value.
struct Appends(Child, String);

impl Appends {
    fn start() -> Self {
        let port = free_port();
        let script = root().join("tests/clients/python/appends_upstream.py");
        let words = python(&[script.to_str().expect("a path"), &port.to_string()]);
        let child = Command::new(&words[0]).args(&words[1..]).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("the service starts");
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut said).expect("it says so");
        assert_eq!(said.trim(), "ready");
        Self(child, format!("127.0.0.1:{port}"))
    }
}

impl Drop for Appends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway before an upstream that does what rows say.
async fn appends_world() -> (Appends, World, Gateway) {
    let upstream = Appends::start();
    let world = World::with_storage(binary(), "http://127.0.0.1:9", Some(&upstream.1), "").await;
    let gateway = world.gateway();
    (upstream, world, gateway)
}

/// The words of a client that appends rows as Alice.
fn appending(world: &World, gateway: &Gateway, how: &str, rows: &[&str]) -> Vec<String> {
    let script = root().join("tests/clients/python/appends_client.py");
    let target = gateway.url.trim_start_matches("http://");
    let token = world.issuer.token("alice@example.com", &["data"]);
    python(&[&[script.to_str().expect("a path"), target, &token, how], rows].concat())
}

/// Attacks 57 and 66: what BigQuery refused within a stream that went well, and who closed it how.
#[test]
fn a_stream_is_recorded_as_it_was_taken_however_it_is_closed() {
    block_on(async {
        let (_upstream, world, gateway) = appends_world().await;
        let append = |how: &str, rows: &[&str]| {
            let words = appending(&world, &gateway, how, rows);
            let output = run(Command::new(&words[0]).args(&words[1..]));
            assert_eq!(output.code, 0, "{output:?}");
            output.stdout.lines().count()
        };
        let expected = [
            ("end", vec!["a", "b"], 2, "ok", "", "2"),
            ("end", vec!["a", "bad", "c"], 3, "error", "INVALID_ARGUMENT", "2"),
            ("end", vec!["a", "again"], 2, "ok", "", "1"),
            ("leave", vec!["a", "b"], 2, "ok", "", "2"),
            ("leave", vec!["a", "bad"], 2, "error", "INVALID_ARGUMENT", "1"),
            ("waiting", vec!["a", "silent"], 1, "aborted", "aborted", "1"),
        ];
        for (how, rows, answered, outcome, reason, taken) in expected {
            assert_eq!(append(how, &rows), answered, "{how} {rows:?}");
            let record = last(&gateway, "BigQueryWrite.AppendRows");
            assert_eq!(
                (&record["outcome"], record["status"]["reason"].as_str().unwrap_or_default()),
                (&json!(outcome), reason),
                "{how} {rows:?}: {record:#}"
            );
            assert_eq!(record["job"]["dml"], json!({"insertedRowCount": taken}), "{how} {rows:?}");
            assert_eq!(record["statement"]["tables"], json!(["proj.shop.orders"]));
            let message = record["status"]["message"].as_str().unwrap_or_default();
            assert!(!message.contains("BigQuery broke off"), "{message}");
        }
        // Attack 51: a stream to so many tables was in no record.
        let tables: Vec<String> = (0..80).map(|n| format!("{n:04}")).collect();
        assert_eq!(append("tables", &tables.iter().map(String::as_str).collect::<Vec<_>>()), 80);
        let record = last(&gateway, "BigQueryWrite.AppendRows");
        let named: Vec<_> = tables
            .iter()
            .map(|table| json!(format!("proj.{}.{table}{}", "d".repeat(300), "t".repeat(600))))
            .collect();
        assert_eq!((&record["outcome"], &record["statement"]["tables"]), (&json!("ok"), &json!(named)));
        assert_eq!(append("commit", &[]), 1);
        let record = last(&gateway, "BigQueryWrite.BatchCommitWriteStreams");
        let status = json!({"http": 200, "grpc": 0, "reason": "STREAM_ALREADY_COMMITTED", "message": "stream already committed"});
        assert_eq!((&record["outcome"], &record["status"]), (&json!("error"), &status));
        assert_eq!(gateway.stop(), 0);
    });
}

/// Attack 57: a stream under way was in no record, no session, no view, for as long as it was open.
#[test]
fn a_stream_under_way_is_seen_with_what_it_has_written() {
    block_on(async {
        let (_upstream, world, gateway) = appends_world().await;
        let words = appending(&world, &gateway, "hold", &["a", "b"]);
        let mut client = Command::new(&words[0])
            .args(&words[1..])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the client starts");
        let answers = BufReader::new(client.stdout.take().expect("piped")).lines().map_while(Result::ok);
        assert_eq!(answers.take(2).count(), 2);
        let open = || gateway.hansard(&["records", "--open", "--json"]).objects();
        let seen = open();
        let [record] = &seen[..] else { panic!("{seen:#?}") };
        assert_eq!(record["actor"]["email"]["value"], "alice@example.com");
        assert_eq!(
            (&record["outcome"], &record["status"]["reason"]),
            (&json!("unknown"), &json!("underWay"))
        );
        assert_eq!(record["job"]["dml"], json!({"insertedRowCount": "2"}), "{record:#}");
        assert_eq!(record["statement"]["tables"], json!(["proj.shop.orders"]));
        assert!(record["request"]["bytes"].as_u64().unwrap() > 0, "{record:#}");
        let hers = || {
            let sessions = gateway.hansard(&["sessions", "--json"]).objects();
            sessions.into_iter().find(|one| one["principal"] == "alice@example.com")
        };
        assert_eq!(hers().expect("her session is seen")["open"], 1);
        let other = gateway.hansard(&["records", "--open", "--principal", "bob@example.com", "--json"]);
        assert_eq!(other.objects().len(), 0);
        assert!(client.wait().expect("it ends").success());
        let record = last(&gateway, "BigQueryWrite.AppendRows");
        assert_eq!(record["outcome"], "ok");
        assert_eq!((open().len(), &hers().expect("still")["open"]), (0, &json!(0)));
    });
}

/// The newest record of a method; that of a client who left comes a moment later.
fn last(gateway: &Gateway, method: &str) -> Value {
    std::thread::sleep(std::time::Duration::from_millis(500));
    let records = gateway.records(&[]);
    (*by_method(&records, method).last().unwrap_or_else(|| panic!("no {method}: {records:#?}"))).clone()
}
