//! The real binary, as a process.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// One JSON object a line.
    pub fn objects(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.stdout.lines().filter(|line| !line.is_empty()).map(parse).collect()
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A gateway that runs.
pub struct Gateway {
    pub url: String,
    pub folder: PathBuf,
    pub binary: PathBuf,
    child: Option<Child>,
}

impl Gateway {
    /// Starts `hansard serve` in a folder that has a `hansard.toml`, and waits until it is ready.
    pub fn start(binary: &Path, folder: &Path, port: u16, env: &[(&str, &str)]) -> Self {
        Self::start_until("/readyz", binary, folder, (port, env))
    }

    /// The same, and waits only until it answers: it may never get ready.
    pub fn start_alive(binary: &Path, folder: &Path, port: u16) -> Self {
        Self::start_until("/healthz", binary, folder, (port, &[]))
    }

    fn start_until(path: &str, binary: &Path, folder: &Path, (port, env): (u16, &[(&str, &str)])) -> Self {
        let log =
            std::fs::File::options().create(true).append(true).open(folder.join("serve.log")).expect("a log");
        let child = Command::new(binary)
            .arg("serve")
            .envs(env.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        let gateway = Self {
            url: format!("http://127.0.0.1:{port}"),
            folder: folder.to_owned(),
            binary: binary.to_owned(),
            child: Some(child),
        };
        gateway.wait_until(path, port);
        gateway
    }

    fn wait_until(&self, path: &str, port: u16) {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if is_ok(path, port) {
                return;
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        panic!("the gateway did not get ready: {}", self.log());
    }

    /// A metric's value now.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = crate::ask("GET", &format!("{}/metrics", self.url), "", "").await;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        line.unwrap_or_else(|| panic!("no metric {name}: {text}"))
    }

    /// Waits until the end of every job is recorded.
    pub async fn until_jobs_are_recorded(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.metric("hansard_followed_jobs").await > 0.0 {
            assert!(Instant::now() < until, "jobs are followed without end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What it wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("serve.log")).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Runs a command of the binary in its folder.
    pub fn hansard(&self, args: &[&str]) -> Output {
        run(Command::new(&self.binary).args(args).current_dir(&self.folder))
    }

    /// Issues a virtual key of the connection `main` to somebody of the group `data`; its file.
    pub fn issue_key(&self, principal: &str, file: &str) -> PathBuf {
        let issue = ["key", "issue", "--principal", principal, "--connection", "main", "--group", "data"];
        let issued = self.hansard(&[&issue[..], &["--out", file]].concat());
        assert_eq!(issued.code, 0, "{}", issued.stderr);
        self.folder.join(file)
    }

    /// All records that match, oldest first.
    pub fn records(&self, args: &[&str]) -> Vec<Value> {
        let output = self.hansard(&[&["records", "--json"], args].concat());
        assert_eq!(output.code, 0, "{}", output.stderr);
        let mut records = output.objects();
        records.reverse();
        records
    }

    /// One record with its rows. Refusals of strangers wait for no disk, so theirs may come a moment later.
    pub fn record(&self, id: &str) -> Value {
        let show = || self.hansard(&["record", "show", id, "--rows", "--json"]);
        let mut output = show();
        for _ in 0..20 {
            if output.code != 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
            output = show();
        }
        assert_eq!(output.code, 0, "{}", output.stderr);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
    }

    /// Tells it to stop and waits; its exit code.
    pub fn stop(mut self) -> i32 {
        let child = self.child.as_mut().expect("it runs");
        signal(child.id(), "TERM");
        child.wait().expect("it ends").code().unwrap_or(-1)
    }

    /// Waits until it has died by itself, as a failpoint makes it.
    pub fn has_died(mut self) {
        let until = Instant::now() + Duration::from_secs(30);
        let child = self.child.as_mut().expect("it runs");
        while child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < until, "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it where it stands.
    pub fn kill(mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
}

fn is_ok(path: &str, port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut socket) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
    let asked = write!(socket, "GET {path} HTTP/1.1\r\nhost: hansard\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && socket.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}
