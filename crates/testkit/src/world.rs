//! A world in one line: issuer, upstream, gateway.

use serde_json::json;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::issuer::Issuer;
use crate::process::Gateway;

/// The gateway's service account, as records name it.
pub const UPSTREAM_PRINCIPAL: &str = "gateway@proj.iam.gserviceaccount.com";

/// The project's root: of the clone that the test runs in, which need not be the one that it was compiled in.
pub fn root() -> PathBuf {
    let said = std::env::var_os("HANSARD_ROOT").or_else(|| std::env::var_os("CARGO_MANIFEST_DIR"));
    let start = said.map_or_else(std::env::current_dir, |set| Ok(set.into()));
    let start = start.expect("the current folder exists");
    let root = start.ancestors().find(|folder| folder.join("xtask/Cargo.toml").exists());
    root.expect("tests run in the project").to_owned()
}

/// Where `cargo xtask test` installs what tests need.
pub fn tools() -> PathBuf {
    let tools = root().join("target/tools");
    tools.canonicalize().expect("the tools of the tests are installed: run `cargo xtask tools` once")
}

/// The real emulator.
pub struct Emulator {
    pub url: String,
    /// `host:port` of its Storage API.
    pub storage: String,
    child: Child,
}

impl Emulator {
    /// Starts bqemulator on free ports.
    pub fn start(log: &Path) -> Self {
        let (rest, grpc) = (free_port(), free_port());
        let file = File::create(log).expect("a log");
        let child = Command::new(tools().join("emulator/bin/bqemulator"))
            .args([
                "start",
                "--rest-port",
                &rest.to_string(),
                "--grpc-port",
                &grpc.to_string(),
                "--project",
                "proj",
            ])
            .env("HOME", tools().join("emulator/home"))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log"))
            .stderr(file)
            .spawn()
            .expect("the emulator is installed");
        let (url, storage) = (format!("http://127.0.0.1:{rest}"), format!("127.0.0.1:{grpc}"));
        let emulator = Self { url, storage, child };
        let until = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", rest)).is_err() {
            assert!(Instant::now() < until, "the emulator does not answer; its log: {}", log.display());
            std::thread::sleep(Duration::from_millis(50));
        }
        emulator
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway in a folder of its own, between an issuer and an upstream.
pub struct World {
    pub folder: PathBuf,
    pub issuer: Issuer,
    pub port: u16,
    binary: PathBuf,
}

impl World {
    /// Writes the configuration; `extra` is appended to it.
    pub async fn new(binary: &str, upstream: &str, extra: &str) -> Self {
        Self::with_storage(binary, upstream, None, extra).await
    }

    /// The same with an address (`host:port`) for the Storage API.
    pub async fn with_storage(binary: &str, upstream: &str, storage: Option<&str>, extra: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("hansard-test-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        let issuer = Issuer::start().await;
        let port = free_port();
        let account =
            registry::issue_virtual_key("k", UPSTREAM_PRINCIPAL, "proj", &format!("{}/token", issuer.url));
        std::fs::write(folder.join("sa.json"), account.file.reveal()).expect("a key file");
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:{port}\"\n
[[identity.oidc]]\nname = \"test\"\nissuer = {issuer}\nclient_id = \"hansard\"\naudiences = [\"hansard\", \"hansard-cli\"]\n
[[connection]]\nname = \"main\"\nprojects = [\"proj\", \"p\"]\ncredentials = {{ file = \"sa.json\" }}\nupstream = {upstream}\n{storage}\
allow = \"'data' in principal.groups\"\n{extra}\n",
            storage = storage.map(|at| format!("upstream_storage = \"http://{at}\"\n")).unwrap_or_default(),
            issuer = json!(issuer.url),
            upstream = json!(upstream),
        );
        std::fs::write(folder.join("hansard.toml"), text).expect("a configuration");
        Self { folder, issuer, port, binary: binary.into() }
    }

    /// Starts the gateway, or starts it again.
    pub fn gateway(&self) -> Gateway {
        self.gateway_with(&[])
    }

    /// The same, with variables in its environment.
    pub fn gateway_with(&self, env: &[(&str, &str)]) -> Gateway {
        Gateway::start(&self.binary, &self.folder, self.port, env)
    }

    /// Starts a gateway that answers, and may never be ready.
    pub fn gateway_alive(&self) -> Gateway {
        Gateway::start_alive(&self.binary, &self.folder, self.port)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A free port that is this process's until it ends, below those that the system gives to clients: a gateway that is
/// started again must find it free, whatever other tests run beside this one.
pub fn free_port() -> u16 {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let user = std::fs::metadata("/proc/self").map_or(0, |own| own.uid());
    let locks = std::env::temp_dir().join(format!("hansard-test-ports-{user}"));
    std::fs::create_dir_all(&locks).expect("a folder for the locks of ports");
    let start = std::process::id().wrapping_mul(97);
    let mut ports = (0..20_000).map(|step| 12_000 + (start.wrapping_add(step) % 20_000) as u16);
    let held = ports.find_map(|port| {
        let lock =
            File::options().write(true).create(true).truncate(false).open(locks.join(port.to_string()));
        let lock = lock.unwrap_or_else(|error| panic!("{}: {error}", locks.display()));
        lock.try_lock().ok()?;
        std::net::TcpListener::bind(("127.0.0.1", port)).is_ok().then_some((port, lock))
    });
    let (port, lock) = held.expect("a free port");
    HELD.lock().expect("nobody panics here").push(lock);
    port
}
