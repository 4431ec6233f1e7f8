//! `hansard doctor`: tries each way in and each hole of a session, from inside it.

use clap::Args;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{SessionArgs, child, exec_words};
use crate::cli::Failure;
use crate::wiring::env_var;

const CONNECT_MAX: Duration = Duration::from_secs(3);
const ANSWER_MAX: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Files of the current folder that are looked at, and how large a key file is at most.
const FILES_MAX: usize = 1_000;
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Args, Clone)]
#[command(after_help = "Examples:
  hansard doctor                          opens a session, looks around in it, closes it
  hansard exec -- hansard doctor          the same, in a session of yours
  hansard doctor -- claude                also looks for the command")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Where a direct way to Google would lead.
    #[arg(long, default_value = "bigquery.googleapis.com:443", value_name = "HOST:PORT")]
    egress: String,
    /// The command that would run.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What one check came to.
struct Check {
    name: &'static str,
    /// What is well, or what is open and what closes it.
    result: Result<String, String>,
}

/// `hansard doctor`
pub(crate) fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    if env_var("HANSARD_SESSION").is_none() {
        return inside(args);
    }
    let mut checks = vec![
        Check { name: "proxy", result: proxy() },
        Check { name: "trust", result: trust() },
        Check { name: "metadata server", result: metadata() },
        Check { name: "credential file", result: credential_file() },
        Check { name: "a request", result: request() },
        Check { name: "your own Google login", result: own_login() },
        Check { name: "credentials in the environment", result: environment() },
        Check { name: "key files here", result: key_files() },
        Check { name: "direct egress", result: egress(&args.egress) },
    ];
    if let Some(program) = args.command.first() {
        let found = child::find(program).map(|path| format!("{} is there", path.display()));
        checks.push(Check { name: "the command", result: found.map_err(|failure| failure.message) });
    }
    let open = checks.iter().filter(|check| check.result.is_err()).count();
    for check in &checks {
        let (is_ok, text) = match &check.result {
            Ok(text) => (true, text),
            Err(text) => (false, text),
        };
        match args.json {
            true => println!("{}", json!({"check": check.name, "ok": is_ok, "text": text})),
            false => println!("{}  {:<30}  {text}", if is_ok { "ok  " } else { "OPEN" }, check.name),
        }
    }
    match open {
        0 => Ok(()),
        _ => Err(Failure::no(match args.json {
            true => String::new(),
            false => format!("{open} of {} checks found something open", checks.len()),
        })),
    }
}

/// Opens a session and runs the checks as its command.
fn inside(args: &DoctorArgs) -> Result<(), Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::other_side(error.to_string()))?;
    let mut words =
        vec![own.into_os_string(), "doctor".into(), "--egress".into(), args.egress.clone().into()];
    if args.json {
        words.push("--json".into());
    }
    if !args.command.is_empty() {
        words.push("--".into());
        words.extend(args.command.iter().cloned());
    }
    match exec_words(&args.session, &words)? {
        0 => Ok(()),
        code => Err(Failure { code, message: String::new() }),
    }
}

fn proxy() -> Result<String, String> {
    let all: Vec<String> =
        ["HTTPS_PROXY", "https_proxy", "grpc_proxy"].into_iter().filter_map(env_var).collect();
    let [first, rest @ ..] = &all[..] else {
        return Err("HTTPS_PROXY is not set, so clients go straight out; run the command by 'hansard exec'"
            .to_owned());
    };
    if all.len() < 3 || rest.iter().any(|other| other != first) {
        return Err(
            "HTTPS_PROXY, https_proxy and grpc_proxy differ; some clients read only one of them".to_owned()
        );
    }
    let excepted = env_var("NO_PROXY").unwrap_or_default() + "," + &env_var("no_proxy").unwrap_or_default();
    if excepted.split(',').any(|name| name == "*" || name.trim_start_matches('.').ends_with("googleapis.com"))
    {
        return Err("NO_PROXY excepts Google's hosts; unset it".to_owned());
    }
    match TcpStream::connect(first.trim_start_matches("http://")) {
        Ok(_) => Ok(format!("{first} listens, and every variable names it")),
        Err(error) => Err(format!("{first} does not listen ({error}); the session is over")),
    }
}

fn trust() -> Result<String, String> {
    for name in
        ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "NODE_EXTRA_CA_CERTS"]
    {
        let Some(path) = env_var(name) else {
            return Err(format!(
                "{name} is not set; clients that read it will refuse the session's certificates"
            ));
        };
        if env_var("SSL_CERT_FILE").as_ref() != Some(&path) {
            return Err(format!("{name} names another file than SSL_CERT_FILE"));
        }
    }
    let path = env_var("SSL_CERT_FILE").unwrap_or_default();
    match std::fs::metadata(&path) {
        Ok(_) => Ok(format!("{path} holds the machine's roots and the session's")),
        Err(error) => Err(format!("{path} can't be read ({error})")),
    }
}

fn metadata() -> Result<String, String> {
    let host =
        env_var("GCE_METADATA_HOST").ok_or("GCE_METADATA_HOST is not set; gcloud and bq find no identity")?;
    let path = "/computeMetadata/v1/instance/service-accounts/default/token";
    let answer = get(&host, path).map_err(|error| format!("{host} does not answer ({error})"))?;
    let is_ours =
        answer["access_token"].as_str().is_some_and(|token| token.starts_with(identity::TOKEN_PREFIX));
    match is_ours {
        true => Ok("it hands out this session's token, which is worthless at Google".to_owned()),
        false => Err(format!("{host} hands out no token of hansard's")),
    }
}

fn credential_file() -> Result<String, String> {
    let path = env_var("GOOGLE_APPLICATION_CREDENTIALS")
        .ok_or("GOOGLE_APPLICATION_CREDENTIALS is not set; Go and Node then find your own login first")?;
    let file: Value = std::fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or_else(|| format!("{path} can't be read"))?;
    let is_ours = file["token_url"].as_str().is_some_and(|url| url.starts_with("http://127.0.0.1:"));
    match is_ours {
        true => Ok("it names the session, and holds no secret".to_owned()),
        false => Err(format!("{path} is a credential of its own; unset GOOGLE_APPLICATION_CREDENTIALS")),
    }
}

/// Through the proxy's port, as any client would.
fn request() -> Result<String, String> {
    let host = env_var("GCE_METADATA_HOST").ok_or("there is no session")?;
    let project = env_var("GOOGLE_CLOUD_PROJECT").unwrap_or_default();
    let answer = exchange(&host, &format!("/bigquery/v2/projects/{project}/datasets?maxResults=1"))
        .map_err(|error| format!("BigQuery does not answer through the session ({error})"))?;
    let record = answer.lines().find_map(|line| line.strip_prefix("x-hansard-record: "));
    match record {
        Some(record) => Ok(format!("it was recorded as {record}")),
        None => Err("it was answered without a record".to_owned()),
    }
}

fn own_login() -> Result<String, String> {
    let home = PathBuf::from(env_var("HOME").unwrap_or_default());
    let folder = home.join(".config/gcloud");
    let found = ["application_default_credentials.json", "credentials.db", "legacy_credentials"]
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.exists());
    match found {
        None => Ok(format!("{} holds none", folder.display())),
        Some(path) => Err(format!(
            "{} can be read by the command; a token made with it is refused on the way, unless it goes straight out",
            path.display()
        )),
    }
}

fn environment() -> Result<String, String> {
    let found: Vec<&str> = super::environment::HIDDEN
        .iter()
        .copied()
        .filter(|name| is_credential(name) && env_var(name).is_some())
        .collect();
    match found.is_empty() {
        true => Ok("there are none".to_owned()),
        false => Err(format!("{} is set; unset it", found.join(", "))),
    }
}

fn is_credential(name: &str) -> bool {
    ["TOKEN", "CREDENTIAL", "KEY", "ACCOUNT"].iter().any(|word| name.contains(word))
}

/// Service-account keys that lie where the command would run. Files of hansard's own make are good only here.
fn key_files() -> Result<String, String> {
    let files = std::fs::read_dir(".").into_iter().flatten().flatten().take(FILES_MAX);
    let keys: Vec<String> = files
        .filter(|file| file.path().extension().is_some_and(|end| end == "json"))
        .filter(|file| file.metadata().is_ok_and(|meta| meta.len() <= KEY_FILE_BYTES_MAX))
        .filter(|file| is_key(&file.path()))
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .collect();
    match keys.is_empty() {
        true => Ok("none lies in this folder".to_owned()),
        false => Err(format!("{} can be read by the command; move it away", keys.join(", "))),
    }
}

fn is_key(path: &Path) -> bool {
    let file: Value =
        std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    file["type"] == "service_account" && file["private_key"].is_string()
}

/// A way out that does not lead by the session.
fn egress(target: &str) -> Result<String, String> {
    let address = target.to_socket_addrs().ok().and_then(|mut all| all.next());
    match address.map(|address| TcpStream::connect_timeout(&address, CONNECT_MAX)) {
        Some(Ok(_)) => Err(format!(
            "{target} can be reached directly; the session's token is worthless there, another credential's is not: \
             let only the gateway through your firewall"
        )),
        _ => Ok(format!("{target} can't be reached directly")),
    }
}

fn get(host: &str, path: &str) -> Result<Value, String> {
    let answer = exchange(host, path)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    serde_json::from_str(body).map_err(|_| "its answer is not JSON".to_owned())
}

/// One plain request on loopback, by hand.
fn exchange(host: &str, path: &str) -> Result<String, String> {
    let asked = || {
        let mut socket = TcpStream::connect(host)?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nMetadata-Flavor: Google\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes())?;
        let mut answer = String::new();
        socket.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    asked().map_err(|error| error.to_string())
}
