//! Unmodified clients: the answers through the gateway equal those without it, and three logs agree.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use testkit::{Emulator, Gateway, Seen, Tap, World, judge, root, run, tools};

use crate::{binary, block_on};

/// What the scenarios do that agents may not do by default.
pub(crate) const EGRESS: &str = "allow_egress = [\"routines\"]\n";

/// How a client is started.
struct Client {
    name: &'static str,
    program: fn() -> Command,
    /// By a virtual key instead of a provider's token.
    by_key: bool,
    /// Steps that rightly differ, with the reason.
    differs: &'static [(&'static str, &'static str)],
    /// The least number of steps that it must have printed.
    steps: usize,
}

/// Status and reason are the same; the words are hansard's, which answers by itself for jobs that nobody started
/// through it.
const NO_SUCH_JOB: &[(&str, &str)] = &[("error_missing_job", "hansard's own words")];

const OVERRIDE: &str = "the emulator does not know X-HTTP-Method-Override; the gateway resolves it";
const CURL_DIFFERS: &[(&str, &str)] = &[
    ("method_override_get", OVERRIDE),
    ("method_override_patch", OVERRIDE),
    ("gzip_request_body", "the emulator does not read packed requests; the gateway unpacks them"),
    ("query_gzip_request", "the emulator does not read packed requests; the gateway unpacks them"),
    ("upload_resumable_start", "the upstream's own upload id (x-guploader-uploadid) stays at the gateway"),
    ("unknown_method", "the gateway refuses what is no method, in its own words"),
    ("unknown_path", "the gateway refuses what is no method, in its own words"),
    ("error_missing_job", "hansard's own words"),
    ("mcp", "the gateway refuses what is no method, in its own words"),
];
const BQ_DIFFERS: &[(&str, &str)] = &[
    ("error_missing_job", "hansard's own words"),
    ("discovery", "the emulator serves no discovery document; the gateway does"),
];

#[test]
fn python() {
    check(Client {
        name: "python",
        program: || script("clients/bin/python", "python/scenario.py"),
        by_key: false,
        differs: NO_SUCH_JOB,
        steps: 90,
    });
}

#[test]
fn python_by_key() {
    check(Client {
        name: "python_by_key",
        program: || script("clients/bin/python", "python/scenario.py"),
        by_key: true,
        differs: NO_SUCH_JOB,
        steps: 90,
    });
}

#[test]
fn python_under_exec() {
    check_exec(Client {
        name: "python_exec",
        program: || script("clients/bin/python", "python/scenario.py"),
        by_key: true,
        differs: NO_SUCH_JOB,
        steps: 90,
    });
}

#[test]
fn sqlalchemy_under_exec() {
    check_exec(Client {
        name: "sqlalchemy_exec",
        program: || script("clients/bin/python", "python/sqlalchemy_scenario.py"),
        by_key: true,
        differs: NO_SUCH_JOB,
        steps: 20,
    });
}

#[test]
fn pandas_gbq_under_exec() {
    check_exec(Client {
        name: "pandas_gbq_exec",
        program: || script("clients/bin/python", "python/pandas_gbq_scenario.py"),
        by_key: true,
        differs: NO_SUCH_JOB,
        steps: 15,
    });
}

#[test]
fn node_under_exec() {
    let program = || node("scenario.mjs");
    check_exec(Client { name: "node_exec", program, by_key: true, differs: NO_SUCH_JOB, steps: 50 });
}

#[test]
fn curl_under_exec() {
    check_exec(Client {
        name: "curl_exec",
        program: || scenario("bash", "curl/scenario.sh"),
        by_key: true,
        differs: CURL_DIFFERS,
        steps: 50,
    });
}

#[test]
fn bq_under_exec() {
    if !Path::new("/usr/bin/bq").exists() {
        println!("skipped: bq: it is not installed, and no registry has it");
        return;
    }
    check_exec(Client {
        name: "bq_exec",
        program: || scenario("bash", "bq/scenario.sh"),
        by_key: true,
        differs: BQ_DIFFERS,
        steps: 25,
    });
}

#[test]
fn sqlalchemy() {
    check(Client {
        name: "sqlalchemy",
        program: || script("clients/bin/python", "python/sqlalchemy_scenario.py"),
        by_key: false,
        differs: NO_SUCH_JOB,
        steps: 20,
    });
}

#[test]
fn pandas_gbq() {
    check(Client {
        name: "pandas_gbq",
        program: || script("clients/bin/python", "python/pandas_gbq_scenario.py"),
        by_key: false,
        differs: NO_SUCH_JOB,
        steps: 15,
    });
}

#[test]
fn node_by_key() {
    let program = || node("scenario.mjs");
    check(Client { name: "node", program, by_key: true, differs: NO_SUCH_JOB, steps: 50 });
}

#[test]
fn curl() {
    check(Client {
        name: "curl",
        program: || scenario("bash", "curl/scenario.sh"),
        by_key: false,
        differs: CURL_DIFFERS,
        steps: 50,
    });
}

#[test]
fn bq() {
    if !Path::new("/usr/bin/bq").exists() {
        println!("skipped: bq: it is not installed, and no registry has it");
        return;
    }
    check(Client {
        name: "bq",
        program: || scenario("bash", "bq/scenario.sh"),
        by_key: false,
        differs: BQ_DIFFERS,
        steps: 25,
    });
}

pub(crate) fn scenario(interpreter: &str, script: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(root().join("tests/clients").join(script));
    command
}

pub(crate) fn script(interpreter: &str, script: &str) -> Command {
    scenario(tools().join(interpreter).to_str().expect("a path"), script)
}

/// Node finds modules in a folder above the script: the scripts are read from where they are.
pub(crate) fn node(script: &str) -> Command {
    let source = root().join("tests/clients/node");
    let below = tools().join("node").join(format!("run-{}", std::process::id()));
    std::fs::create_dir_all(&below).expect("a folder");
    for name in ["common.mjs", script] {
        std::fs::copy(source.join(name), below.join(name)).expect("the scenario");
    }
    let mut command = Command::new("node");
    command.arg(below.join(script));
    command
}

fn check(client: Client) {
    block_on(async {
        let log =
            std::env::temp_dir().join(format!("hansard-emulator-{}-{}.log", client.name, std::process::id()));
        let emulator = Emulator::start(&log);
        let direct = steps(
            &client,
            (client.program)()
                .env("BIGQUERY_URL", &emulator.url)
                .env("BIGQUERY_DATASET", format!("{}_a", client.name)),
        );

        let upstream = Tap::start(&emulator.url).await;
        let world = World::new(binary(), &upstream.url, EGRESS).await;
        let discovery = format!("discovery = \"{}\"\n", discovery_document().display());
        let config = std::fs::read_to_string(world.folder.join("hansard.toml")).unwrap();
        std::fs::write(
            world.folder.join("hansard.toml"),
            config.replacen("[server]\n", &format!("[server]\n{discovery}"), 1),
        )
        .unwrap();
        let gateway = world.gateway();
        let downstream = Tap::start(&gateway.url).await;

        let mut command = (client.program)();
        command.env("BIGQUERY_URL", &downstream.url).env("BIGQUERY_DATASET", format!("{}_b", client.name));
        if client.by_key {
            command.env("BIGQUERY_KEY_FILE", gateway.issue_key("agent@example.com", "key.json"));
        } else {
            command.env("BIGQUERY_TOKEN", world.issuer.token("alice@example.com", &["data"]));
        }
        let through = steps(&client, &mut command);
        compare(&client, &direct, &through);
        gateway.until_jobs_are_recorded().await;
        three_logs_agree(&client, &gateway, &downstream.seen(), &upstream.seen());
        assert_eq!(gateway.stop(), 0);
        drop(emulator);
    });
}

/// The same scenario as a command of `hansard exec`: the client is told nothing, and finds everything.
fn check_exec(client: Client) {
    block_on(async {
        let log = std::env::temp_dir().join(format!(
            "hansard-emulator-exec-{}-{}.log",
            client.name,
            std::process::id()
        ));
        let emulator = Emulator::start(&log);
        let mut program = (client.program)();
        program.env("BIGQUERY_URL", &emulator.url).env("BIGQUERY_DATASET", format!("{}_a", client.name));
        let direct = steps(&client, &mut program);

        let upstream = Tap::start(&emulator.url).await;
        let world = World::with_storage(binary(), &upstream.url, Some(&emulator.storage), EGRESS).await;
        let gateway = world.gateway();
        let downstream = Tap::start(&gateway.url).await;
        let key = gateway.issue_key("agent@example.com", "key.json");

        let mut program = (client.program)();
        let mut command = Command::new(binary());
        command.args([
            "exec",
            "--task",
            "T-1",
            "--gateway",
            &downstream.url,
            "--key",
            key.to_str().unwrap(),
            "--",
        ]);
        command.arg(program.get_program()).args(program.get_args());
        program.env_remove("BIGQUERY_URL");
        command.env("BIGQUERY_DATASET", format!("{}_b", client.name));
        command.env("HOME", &world.folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_RUNTIME_DIR");
        let through = steps(&client, &mut command);
        compare(&client, &direct, &through);
        gateway.until_jobs_are_recorded().await;
        one_session_has_it_all(&gateway);
        let own = |seen: &Seen| seen.uri.path().starts_with("/api/v1/");
        let downstream: Vec<Seen> = downstream.seen().into_iter().filter(|seen| !own(seen)).collect();
        three_logs_agree(&client, &gateway, &downstream, &upstream.seen());
        assert_eq!(gateway.stop(), 0);
        drop(emulator);
    });
}

/// Every exchange that a client caused is of the one session that `exec` opened.
pub(crate) fn one_session_has_it_all(gateway: &Gateway) {
    let records = gateway.records(&[]);
    let opened: Vec<_> =
        records.iter().filter(|record| record["event"]["action"] == "session.open").collect();
    assert_eq!(opened.len(), 1, "{opened:#?}");
    let session = &opened[0]["session"];
    assert_eq!(opened[0]["actor"]["kind"], "agent");
    let exchanges =
        records.iter().filter(|record| record["kind"] == "exchange" && record["actor"]["kind"] != "gateway");
    let mut count = 0;
    for exchange in exchanges {
        assert_eq!(&exchange["session"], session, "{exchange:#}");
        assert_eq!(exchange["task"]["id"], "T-1");
        count += 1;
    }
    assert!(count > 5, "the session has little: {count}");
    let closed = records.iter().filter(|record| record["event"]["action"] == "session.close").count();
    assert_eq!(closed, 1);
}

fn discovery_document() -> std::path::PathBuf {
    let lib = tools().join("emulator/lib");
    let python =
        std::fs::read_dir(lib).expect("the emulator is installed").flatten().next().expect("a python");
    python.path().join("site-packages/googleapiclient/discovery_cache/documents/bigquery.v2.json")
}

type Steps = Vec<(String, String)>;

fn steps(client: &Client, command: &mut Command) -> Steps {
    let output = run(command.env("BIGQUERY_PROJECT", "proj"));
    let mut steps: Steps = output
        .objects()
        .into_iter()
        .map(|step| (step["step"].as_str().unwrap_or_default().to_owned(), step.to_string()))
        .collect();
    assert!(
        steps.len() >= client.steps,
        "{} made {} steps: {}\n{}",
        client.name,
        steps.len(),
        output.stderr,
        output.stdout
    );
    steps.push(("exit code".to_owned(), output.code.to_string()));
    steps
}

fn compare(client: &Client, direct: &Steps, through: &Steps) {
    let names = |steps: &Steps| steps.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(direct), names(through), "{}: other steps", client.name);
    let different: BTreeMap<&str, String> = direct
        .iter()
        .zip(through)
        .filter(|((name, direct), (_, through))| {
            direct != through && !client.differs.iter().any(|(known, _)| known == name)
        })
        .map(|((name, direct), (_, through))| {
            (name.as_str(), format!("\n  direct:  {direct}\n  through: {through}"))
        })
        .collect();
    assert!(different.is_empty(), "{}: {} steps differ: {different:#?}", client.name, different.len());
}

fn three_logs_agree(client: &Client, gateway: &Gateway, downstream: &[Seen], upstream: &[Seen]) {
    let on_data_path = |seen: &&Seen| seen.uri.path() != "/token";
    let downstream: Vec<Seen> = downstream.iter().filter(on_data_path).cloned().collect();
    // What the client's own discovery probe asked without a token has no principal, and so no exchange.
    let known: Vec<Seen> =
        downstream.into_iter().filter(|seen| seen.status != http::StatusCode::UNAUTHORIZED).collect();
    let records = exchanges(gateway);
    let judgement = judge(&known, upstream, &records);
    println!(
        "{}: {} exchanges, {} statements, {} unrecorded, {} phantom, {} bytes unaccounted",
        client.name,
        judgement.exchanges,
        judgement.statements,
        judgement.unrecorded,
        judgement.phantom,
        judgement.bytes_unaccounted
    );
    assert!(judgement.agrees(), "{}: {judgement:#?}", client.name);
    assert!(
        judgement.exchanges >= client.steps / 2,
        "{}: the tap saw little: {}",
        client.name,
        judgement.exchanges
    );
}

/// Every exchange with its rows.
fn exchanges(gateway: &Gateway) -> Vec<serde_json::Value> {
    let sessions = gateway.hansard(&["sessions", "--json"]);
    assert_eq!(sessions.code, 0, "{}", sessions.stderr);
    let mut records = Vec::new();
    for session in sessions.objects() {
        let id = session["id"].as_str().unwrap();
        let shown = gateway.hansard(&["session", "show", id, "--rows", "--json"]);
        assert_eq!(shown.code, 0, "{}", shown.stderr);
        records.extend(shown.objects().into_iter().filter(|record| record["kind"] == "exchange"));
    }
    records
}
