//! The sandbox warehouse: bqemulator from PyPI, in a virtual environment of its own in the user's cache.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Blocking, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

use crate::cache::cache;
use crate::cli::Failure;
use crate::wiring::env_var;

/// Pinned, with hashes; the tests use the same file.
const REQUIREMENTS: &str = include_str!("../../../../tests/clients/python/emulator-requirements.txt");
const START_MAX: Duration = Duration::from_secs(60);

/// An installed environment.
pub(crate) struct Sandbox {
    folder: PathBuf,
}

/// A running warehouse; it ends with this value.
pub(crate) struct Warehouse {
    pub(crate) url: String,
    _child: Child,
}

impl Sandbox {
    /// Installs it once; later runs find it.
    pub(crate) fn install() -> Result<Self, Failure> {
        let hash = ledger::sha256(REQUIREMENTS.as_bytes()).to_string();
        let folder = cache()?.join(format!("sandbox-{}", &hash[..12]));
        let sandbox = Self { folder };
        let complete = sandbox.folder.join("complete");
        if complete.exists() {
            return Ok(sandbox);
        }
        println!(
            "  installing the sandbox warehouse from PyPI into {} (once; a minute or two)",
            sandbox.folder.display()
        );
        let cannot = |error: std::io::Error| {
            Failure::other_side(format!("can't write {}: {error}", sandbox.folder.display()))
        };
        fs::create_dir_all(sandbox.home()).map_err(cannot)?;
        let requirements = sandbox.folder.join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS).map_err(cannot)?;
        let python = env_var("HANSARD_PYTHON").unwrap_or_else(|| "python3".to_owned());
        step(Blocking::new(&python).args(["-m", "venv"]).arg(sandbox.folder.join("venv")), &python)?;
        let pip = sandbox.folder.join("venv/bin/pip");
        // The list is complete, so pip resolves nothing: an extra of a package would need another pin.
        let install = ["install", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r"];
        packages(Blocking::new(pip).args(install).arg(&requirements))?;
        let extensions = "from duckdb_extensions import import_extension as i; i('spatial'); i('avro')";
        step(
            Blocking::new(sandbox.python()).env("HOME", sandbox.home()).args(["-c", extensions]),
            "duckdb_extensions",
        )?;
        fs::write(complete, "").map_err(cannot)?;
        Ok(sandbox)
    }

    /// Its Python, which has Google's client library too.
    pub(crate) fn python(&self) -> PathBuf {
        self.folder.join("venv/bin/python")
    }

    /// The discovery document that comes with Google's Python API client.
    pub(crate) fn discovery(&self) -> Option<PathBuf> {
        let lib = fs::read_dir(self.folder.join("venv/lib")).ok()?;
        lib.flatten()
            .map(|entry| {
                entry.path().join("site-packages/googleapiclient/discovery_cache/documents/bigquery.v2.json")
            })
            .find(|path| path.exists())
    }

    fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// Starts the warehouse on free loopback ports and waits for its first answer.
    pub(crate) async fn start(&self, project: &str) -> Result<Warehouse, Failure> {
        let (rest, grpc) = (free_port()?, free_port()?);
        let log = self.folder.join("warehouse.log");
        let file = fs::File::create(&log)
            .map_err(|error| Failure::other_side(format!("can't write {}: {error}", log.display())))?;
        let errors = file.try_clone().map_err(|error| Failure::other_side(error.to_string()))?;
        let child = Command::new(self.folder.join("venv/bin/bqemulator"))
            .args([
                "start",
                "--rest-port",
                &rest.to_string(),
                "--grpc-port",
                &grpc.to_string(),
                "--project",
                project,
            ])
            .env("HOME", self.home())
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::other_side(format!("the sandbox warehouse does not start: {error}")))?;
        let url = format!("http://127.0.0.1:{rest}");
        wait_for(&url, project, &log).await?;
        Ok(Warehouse { url, _child: child })
    }
}

async fn wait_for(url: &str, project: &str, log: &Path) -> Result<(), Failure> {
    let fetcher = outbound::Fetcher::new().map_err(|error| Failure::other_side(error.to_string()))?;
    let until = Instant::now() + START_MAX;
    while Instant::now() < until {
        let request = http::Request::get(format!("{url}/bigquery/v2/projects/{project}/datasets"));
        let request = request.body(bytes::Bytes::new().into()).expect("a URL of ours");
        let answer = fetcher.send(request, 1024 * 1024, Duration::from_secs(2)).await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::other_side(format!(
        "the sandbox warehouse gave no answer in {} s; its log: {}",
        START_MAX.as_secs(),
        log.display()
    )))
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, Failure> {
    let bound = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|error| Failure::other_side(format!("no free port on loopback: {error}")))
}

/// Installs the packages of the list; on a terminal, tells how far it is.
fn packages(pip: &mut Blocking) -> Result<(), Failure> {
    let all = REQUIREMENTS.lines().filter(|line| line.contains("==")).count();
    let failed = |why: String| Failure::other_side(format!("installing the sandbox failed at pip: {why}"));
    let pip = pip.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pip.spawn().map_err(|error| failed(error.to_string()))?;
    let said = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    for (number, package) in said.filter(|line| line.starts_with("Collecting ")).enumerate() {
        if std::io::stdout().is_terminal() {
            let name = package.split_whitespace().nth(1).unwrap_or_default();
            print!("\r\x1b[K  {} of {all}: {name}", number + 1);
            let _ = std::io::stdout().flush();
        }
    }
    if std::io::stdout().is_terminal() {
        print!("\r\x1b[K");
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(words.lines().last().unwrap_or("it said nothing").to_owned())),
    }
}

fn step(command: &mut Blocking, name: &str) -> Result<(), Failure> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::other_side(format!(
            "the demo needs Python 3 ('{name}' was not found). Install it, or name it in HANSARD_PYTHON, or run against your own emulator with --upstream URL."
        )),
        _ => Failure::other_side(format!("{name}: {error}")),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().rev().take(3).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(Failure::other_side(format!("installing the sandbox failed at {name}: {}", last.join(" | "))))
}
