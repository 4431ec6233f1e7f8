//! `hansard env`, as a process of its own.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::process::Gateway;
use crate::world::World;

/// A sidecar before a gateway.
pub struct Sidecar {
    /// `http://host:port`
    pub url: String,
    child: Child,
}

impl Sidecar {
    /// Starts one with a key of its own.
    pub fn start(binary: &Path, world: &World, gateway: &Gateway) -> Self {
        let key = gateway.issue_key("sidecar@example.com", "sidecar.json");
        let mut child = Command::new(binary)
            .args(["env", "--gateway", &gateway.url, "--shell", "json", "--key"])
            .arg(key)
            .env("HOME", &world.folder)
            .env_remove("XDG_CONFIG_HOME")
            .env("XDG_RUNTIME_DIR", &world.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary is built");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says what it sets");
        let printed: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let address = printed["set"]["GCE_METADATA_HOST"].as_str().expect("it names its address");
        Self { url: format!("http://{address}"), child }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.pid().to_string()).status();
        let _ = self.child.wait();
    }
}
