//! The demo, step by step.

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;

use super::DemoArgs;
use super::provider::Provider;
use super::sandbox::{Sandbox, free_port};
use crate::cache::cache;
use crate::cli::{Failure, FolderArgs};
use crate::config;
use crate::wiring::{Settings, write_private};
use crate::{commands, serve};

const AGENT: &str = include_str!("agent.py");
const PROJECT: &str = "demo";

/// Where a run of the demo lies.
struct Stage {
    folder: PathBuf,
    config: PathBuf,
    key: PathBuf,
}

/// Runs it to the end, or until it is told to stop.
pub(crate) async fn demo(args: &DemoArgs) -> Result<(), Failure> {
    println!("hansard demo: everything on loopback, nothing to configure\n");
    let mut parts = Parts::default();
    parts.begin("the sandbox warehouse (bqemulator, an emulator of BigQuery)");
    let sandbox = tokio::task::spawn_blocking(Sandbox::install).await.expect("installing does not panic")?;
    install_analyzer().await?;
    let warehouse = match &args.upstream {
        Some(_) => None,
        None => Some(sandbox.start(PROJECT).await?),
    };
    let upstream =
        args.upstream.clone().or_else(|| warehouse.as_ref().map(|warehouse| warehouse.url.clone()));
    let upstream = upstream.expect("one of them is there");
    println!("   answers on {upstream}");

    parts.begin("a sign-in for the demo (OpenID Connect, on loopback)");
    let provider = Provider::start().await?;
    println!("   answers on {}", provider.issuer);

    parts.begin("the gateway");
    let stage = stage(&provider, &upstream, sandbox.discovery().as_deref())?;
    let settings = Settings::check(config::load(&stage.config)?, None)?;
    let running = serve::start(settings).await?;
    let gateway = running.public_url.clone();
    let key = issue_key(&running.rooms, &stage).await?;
    println!("   listens on {gateway}, by {}", stage.config.display());
    println!("   and issued a virtual key to the agent 'demo-agent': {}", stage.key.display());

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(running.until(async move {
        let _ = stopped.await;
    }));
    parts.begin("an agent at work, through Google's own Python client\n");
    let ran = agent(&sandbox, &gateway, &stage, &provider).await;
    println!();
    let shown = match ran {
        Ok(()) => {
            parts.begin("what hansard recorded\n");
            show(args, (&stage, &provider), (&gateway, &key), parts).await
        }
        Err(failure) => Err(failure),
    };
    let _ = stop.send(());
    let ended = serving.await.expect("serving does not panic");
    drop(warehouse);
    shown.and(ended)
}

/// The demo's parts, announced as they begin, with the time that each took.
#[derive(Default)]
struct Parts {
    took: Vec<(String, Duration)>,
    under_way: Option<(String, Instant)>,
}

impl Parts {
    fn begin(&mut self, title: &str) {
        self.end();
        println!("{}. {title}", self.took.len() + 1);
        let name = title.split([',', '(']).next().unwrap_or(title).trim();
        self.under_way = Some((name.to_owned(), Instant::now()));
    }

    fn end(&mut self) {
        if let Some((name, begun)) = self.under_way.take() {
            let took = begun.elapsed();
            println!("   {:.1} s", took.as_secs_f64());
            self.took.push((name, took));
        }
    }

    /// Prints where the time went, the slowest part first.
    fn summary(mut self) {
        self.end();
        self.took.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        let all: Duration = self.took.iter().map(|(_, took)| *took).sum();
        let slowest = self.took.iter().map(|(name, took)| format!("{name} {:.1} s", took.as_secs_f64()));
        println!("   {:.1} s in all: {}\n", all.as_secs_f64(), slowest.collect::<Vec<_>>().join(", "));
    }
}

/// Installs the parser that reads statements before a rule decides on them.
#[cfg(feature = "analyzer")]
async fn install_analyzer() -> Result<(), Failure> {
    let cache = cache()?;
    let installing = tokio::task::spawn_blocking(move || {
        crate::analyzers::install(&cache, &|step| println!("{step}")).map(|_| ())
    });
    installing.await.expect("installing does not panic")
}

#[cfg(not(feature = "analyzer"))]
async fn install_analyzer() -> Result<(), Failure> {
    Ok(())
}

/// A fresh folder, with the configuration a user would write.
fn stage(provider: &Provider, upstream: &str, discovery: Option<&Path>) -> Result<Stage, Failure> {
    let folder = cache()?.join("demo");
    let cannot =
        |error: std::io::Error| Failure::other_side(format!("can't write {}: {error}", folder.display()));
    if folder.exists() {
        // A demo that still runs keeps its folder.
        if std::os::unix::net::UnixStream::connect(serve::control_socket(&folder.join("data"))).is_ok() {
            return Err(Failure::other_side(format!(
                "another demo runs on {}; stop it first",
                folder.display()
            )));
        }
        fs::remove_dir_all(&folder).map_err(cannot)?;
    }
    fs::create_dir_all(&folder).map_err(cannot)?;
    let stage = Stage {
        config: folder.join("hansard.toml"),
        key: folder.join("agent-key.json"),
        folder: folder.clone(),
    };
    let account = registry::issue_virtual_key(
        "sandbox",
        "gateway@demo.iam.gserviceaccount.com",
        PROJECT,
        &format!("{}/token", provider.issuer),
    );
    write_private(&folder.join("service-account.json"), account.file.reveal()).map_err(cannot)?;
    write_private(&folder.join("evidence.key"), registry::Vault::new_key_text().reveal()).map_err(cannot)?;
    let port = if free(8484) { 8484 } else { free_port()? };
    let discovery = discovery.map(|path| format!("discovery = {}\n", json!(path.to_string_lossy())));
    let text = format!(
        "# Written by `hansard demo`; everything in it is for this run only.
[server]
listen = \"127.0.0.1:{port}\"
data_dir = \"data\"
{}
[evidence]
key = {{ file = \"evidence.key\" }}

[identity]
agents = \"principal.email.endsWith('@agents.example.com')\"

[policy]
include = [\"agents-default\"]

[[identity.oidc]]
name = \"demo\"
issuer = \"{}\"
client_id = \"hansard\"
audiences = [\"hansard\"]

[roles]
auditor = \"'data' in principal.groups\"

[[connection]]
name = \"sandbox\"
projects = [\"{PROJECT}\"]
credentials = {{ file = \"service-account.json\" }}
upstream = \"{upstream}\"
allow = \"principal.is_agent || 'data' in principal.groups\"
",
        discovery.unwrap_or_default(),
        provider.issuer,
    );
    fs::write(&stage.config, text).map_err(cannot)?;
    Ok(stage)
}

fn free(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}

async fn issue_key(rooms: &crate::wiring::Rooms, stage: &Stage) -> Result<String, Failure> {
    let wanted = json!({
        "principal": "devin@agents.example.com", "connection": "sandbox", "kind": "agent", "agent": "demo-agent",
        "task": "DEMO-1", "groups": ["data"], "ttl_secs": 3600,
    });
    let request = console::ApiRequest {
        method: http::Method::POST,
        path: "keys".to_owned(),
        query: String::new(),
        body: wanted.to_string().into(),
        actor: crate::control::actor_of(Some(rustix::process::getuid().as_raw()), record::Proof::Verified),
        reads_all: true,
    };
    let reply = rooms.api.clone().answer(request).await;
    let body = http_body_util::BodyExt::collect(reply.into_body()).await.expect("it can't fail").to_bytes();
    let made: Value =
        serde_json::from_slice(&body).map_err(|error| Failure::other_side(error.to_string()))?;
    let file = serde_json::to_vec_pretty(&made["file"]).expect("JSON is JSON");
    write_private(&stage.key, &file).map_err(|error| Failure::other_side(error.to_string()))?;
    Ok(made["key"]["id"].as_str().unwrap_or_default().to_owned())
}

async fn agent(sandbox: &Sandbox, gateway: &str, stage: &Stage, provider: &Provider) -> Result<(), Failure> {
    let script = stage.folder.join("agent.py");
    fs::write(&script, AGENT).map_err(|error| Failure::other_side(error.to_string()))?;
    let status = Command::new(sandbox.python())
        .arg(&script)
        .env("GATEWAY", gateway)
        .env("PROJECT", PROJECT)
        .env("KEY_FILE", &stage.key)
        .env("PERSON_TOKEN", provider.token("ada@example.com", &["data"]))
        // The client library asks Google about regional limits of a key; nothing of the demo leaves loopback.
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|error| Failure::other_side(format!("the agent did not start: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::other_side("the agent's run failed; its words stand above")),
    }
}

async fn show(
    args: &DemoArgs,
    (stage, provider): (&Stage, &Provider),
    (gateway, key): (&str, &str),
    parts: Parts,
) -> Result<(), Failure> {
    let folder = FolderArgs { gateway: None, config: stage.config.clone(), data: None, json: false };
    let printed =
        tokio::task::spawn_blocking(move || print_record(&folder)).await.expect("printing does not panic");
    let session = printed?;
    parts.summary();
    if args.once {
        return Ok(());
    }
    let config = stage.config.display();
    let own = std::env::current_exe().map_or_else(|_| "hansard".to_owned(), |own| own.display().to_string());
    println!(
        "The gateway goes on until Ctrl-C. In another terminal (where hansard is not installed, it is {own}):
  hansard sessions --config {config}
  hansard session show {session} --rows --config {config}
  hansard records --outcome error --config {config}
  hansard query \"SELECT method, count(*) AS n, sum(result_rows) AS rows FROM records GROUP BY 1\" --config {config}
  hansard verify --config {config}
  hansard key revoke {key} --config {config}
As a person, with any HTTP client:
  curl -H \"Authorization: Bearer $(curl -s {}/sign-in/ada)\" {gateway}/bigquery/v2/projects/{PROJECT}/datasets",
        provider.issuer
    );
    let _ = tokio::signal::ctrl_c().await;
    println!();
    Ok(())
}

/// Prints the agent's session and returns its id.
fn print_record(folder: &FolderArgs) -> Result<String, Failure> {
    let found = commands::session_ids(folder)?;
    commands::sessions(&crate::cli::SessionsArgs { since: None, limit: None, folder: folder.clone() })?;
    println!();
    let session = found
        .iter()
        .find(|session| session["agent"] == "demo-agent")
        .and_then(|session| session["id"].as_str())
        .ok_or_else(|| Failure::other_side("the agent's session was not recorded"))?;
    let id = session.parse().map_err(|_| Failure::other_side("a session without an id"))?;
    commands::session_show(id, false, false, folder)?;
    Ok(session.to_owned())
}
