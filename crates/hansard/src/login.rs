//! `hansard login` and `logout`: a person signs in at a gateway, and commands act for them from then on.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use outbound::Fetcher;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::cli::{Failure, LoginArgs, LogoutArgs};
use crate::config;
use crate::wiring::env_var;

/// A browser has so long to come back.
const SIGN_IN_MAX: Duration = Duration::from_secs(600);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// A token is renewed when it has less than this left, in seconds.
const RENEW_BEFORE_SECS: i64 = 60;

/// One signed-in gateway in the user's file.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    access_token: String,
    expires_at: i64,
    refresh_token: String,
}

/// By the gateway's URL.
type File = BTreeMap<String, Kept>;

/// `hansard login`
pub(crate) fn login(args: &LoginArgs) -> Result<(), Failure> {
    let gateway = gateway_url(args.gateway.as_deref(), &args.config)?;
    block_on(async {
        let kept = match args.device {
            true => by_device(&gateway).await?,
            false => by_browser(&gateway).await?,
        };
        keep(&gateway, Some(kept))?;
        match args.json {
            true => println!("{}", json!({"gateway": gateway, "signed_in": true})),
            false => println!("signed in at {gateway}"),
        }
        Ok(())
    })
}

/// `hansard logout`
pub(crate) fn logout(args: &LogoutArgs) -> Result<(), Failure> {
    let gateway = gateway_url(args.gateway.as_deref(), &args.config)?;
    let Some(kept) = read()?.remove(&gateway) else {
        return Err(Failure::no(format!("you are not signed in at {gateway}")));
    };
    block_on(async {
        let answer = post(&gateway, "/auth/logout", &[("token", &kept.refresh_token)]).await;
        // Forgotten here in any case: a gateway that is away lets the token run out.
        keep(&gateway, None)?;
        match answer {
            Ok(answer) if answer.status().is_success() => {
                println!("signed out of {gateway}");
                Ok(())
            }
            _ => Err(Failure::other_side(format!(
                "{gateway} could not be told; the token is forgotten here and expires there by itself"
            ))),
        }
    })
}

/// A token for a gateway that the user is signed in at, renewed if need be.
pub(crate) async fn token(gateway: &str) -> Result<String, Failure> {
    let _one_at_a_time = lock()?;
    let sign_in = || {
        Failure::no(format!("you are not signed in at {gateway}; run 'hansard login --gateway {gateway}'"))
    };
    let kept = read()?.remove(gateway).ok_or_else(sign_in)?;
    if kept.expires_at > now() + RENEW_BEFORE_SECS {
        return Ok(kept.access_token);
    }
    let form = [("grant_type", "refresh_token"), ("refresh_token", kept.refresh_token.as_str())];
    let answer = post(gateway, "/token", &form).await?;
    if !answer.status().is_success() {
        keep(gateway, None)?;
        return Err(sign_in());
    }
    let renewed = tokens(&answer)?;
    keep(gateway, Some(renewed.clone()))?;
    Ok(renewed.access_token)
}

/// The one gateway that the user is signed in at, if it is one.
pub(crate) fn only_gateway() -> Result<Option<String>, Failure> {
    let all = read()?;
    Ok(match all.len() {
        1 => all.into_keys().next(),
        _ => None,
    })
}

/// The gateway that is meant: the one given, else the configuration's own address. Tokens go over TLS, but to
/// this machine itself.
pub(crate) fn gateway_url(given: Option<&str>, config: &std::path::Path) -> Result<String, Failure> {
    let url = match given {
        Some(url) => url.to_owned(),
        None => config::load(config)
            .ok()
            .map(|loaded| own_address(loaded.config.server))
            .ok_or_else(|| Failure::usage("name the gateway: --gateway https://hansard.example.com"))?,
    };
    let url = url.trim_end_matches('/').to_owned();
    let parsed: http::Uri =
        url.parse().map_err(|_| Failure::usage(format!("'{url}' is no URL of a gateway")))?;
    let host = parsed.host().unwrap_or_default();
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match parsed.scheme_str() {
        Some("https") => Ok(url),
        Some("http") if is_here => Ok(url),
        _ => Err(Failure::usage(format!(
            "'{url}' is not https; a token would go over the network in the clear"
        ))),
    }
}

/// Where a configuration's gateway is found: its public address, else the port that it listens on.
fn own_address(server: config::Server) -> String {
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let listens = format!("{scheme}://{}", server.listen.into_inner());
    server.public_url.map_or(listens, toml::Spanned::into_inner)
}

/// The authorization code flow with a listener on this machine (RFC 8252).
async fn by_browser(gateway: &str) -> Result<Kept, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let listener =
        listener.map_err(|error| Failure::other_side(format!("can't listen on loopback: {error}")))?;
    let port = listener.local_addr().map_err(|error| Failure::other_side(error.to_string()))?.port();
    let redirect_uri = format!("http://127.0.0.1:{port}/signed-in");
    let (state, verifier) = (secret(), secret());
    let challenge = encoded(&registry::fingerprint(&verifier));
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("redirect_uri", &redirect_uri)
        .append_pair("state", &state)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256")
        .finish();
    let address = format!("{gateway}/auth/login?{query}");
    eprintln!("Sign in with your browser. If it does not open, go to:\n\n  {address}\n");
    open_browser(&address);
    let code = tokio::time::timeout(SIGN_IN_MAX, come_back(&listener, &state)).await.map_err(|_| {
        Failure::other_side("nobody signed in within ten minutes; run 'hansard login' again")
    })??;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("code_verifier", verifier.as_str()),
        ("redirect_uri", redirect_uri.as_str()),
    ];
    let answer = post(gateway, "/token", &form).await?;
    tokens(&answer)
}

/// Waits for the browser with our state; whatever else knocks is told that there is nothing.
async fn come_back(listener: &TcpListener, state: &str) -> Result<String, Failure> {
    loop {
        let Ok((mut socket, _)) = listener.accept().await else { continue };
        let mut read = vec![0; 16 * 1024];
        let Ok(Ok(len)) = tokio::time::timeout(Duration::from_secs(5), socket.read(&mut read)).await else {
            continue;
        };
        let line = String::from_utf8_lossy(&read[..len]).lines().next().unwrap_or_default().to_owned();
        let target = line.strip_prefix("GET ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let query = target.strip_prefix("/signed-in?").unwrap_or_default();
        let form = crate::sign_in::form(query).unwrap_or_default();
        let code = form.get("code").filter(|_| form.get("state").is_some_and(|given| given == state));
        let (status, text) = match code {
            Some(_) => ("200 OK", "You are signed in. You may close this page."),
            None => ("404 Not Found", "There is nothing here."),
        };
        let reply = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\
             Referrer-Policy: no-referrer\r\n\r\n<!doctype html><title>hansard</title><p>{text}</p>",
            text.len() + "<!doctype html><title>hansard</title><p></p>".len()
        );
        let _ = socket.write_all(reply.as_bytes()).await;
        let _ = socket.shutdown().await;
        if let Some(code) = code {
            return Ok(code.clone());
        }
    }
}

/// The device flow (RFC 8628), for a machine without a browser.
async fn by_device(gateway: &str) -> Result<Kept, Failure> {
    let answer = post(gateway, "/auth/device", &[]).await?;
    let device: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let text = |name: &str| device[name].as_str().unwrap_or_default().to_owned();
    let (code, at) = (text("device_code"), text("verification_uri"));
    if !answer.status().is_success() || code.is_empty() {
        return Err(Failure::other_side(format!(
            "{gateway} begins no sign-in for a device (HTTP {})",
            answer.status().as_u16()
        )));
    }
    eprintln!("On any machine, go to {at} and enter the code\n\n  {}\n", text("user_code"));
    let interval = Duration::from_secs(device["interval"].as_u64().unwrap_or(5).clamp(1, 60));
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    loop {
        tokio::time::sleep(interval).await;
        let answer = post(gateway, "/token", &[("grant_type", grant), ("device_code", &code)]).await?;
        if answer.status().is_success() {
            return tokens(&answer);
        }
        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        match body["error"].as_str() {
            Some("authorization_pending" | "slow_down") => {}
            _ => {
                let why = body["error_description"].as_str().unwrap_or("the gateway refused").to_owned();
                return Err(Failure::no(format!("not signed in: {why}")));
            }
        }
    }
}

fn tokens(answer: &Response<Bytes>) -> Result<Kept, Failure> {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    if answer.status() != StatusCode::OK {
        let why = body["error_description"].as_str().unwrap_or("the gateway refused").to_owned();
        return Err(Failure::no(format!("not signed in: {why}")));
    }
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    match (text("access_token"), text("refresh_token"), body["expires_in"].as_i64()) {
        (Some(access_token), Some(refresh_token), Some(expires_in)) => {
            Ok(Kept { access_token, refresh_token, expires_at: now() + expires_in })
        }
        _ => Err(Failure::other_side("the gateway's answer holds no tokens")),
    }
}

async fn post(gateway: &str, path: &str, form: &[(&str, &str)]) -> Result<Response<Bytes>, Failure> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = Request::post(format!("{gateway}{path}"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::from(body).into())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let fetcher = Fetcher::new().map_err(|error| Failure::other_side(error.to_string()))?;
    let answer = fetcher.send(request, ANSWER_BYTES_MAX, ANSWER_MAX).await;
    answer.map_err(|error| Failure::other_side(format!("{gateway}: {error}")))
}

/// `BROWSER`, else what the desktop has. Its failure costs nothing: the address was printed.
fn open_browser(address: &str) {
    let programs =
        env_var("BROWSER").map_or_else(|| vec!["xdg-open".to_owned(), "open".to_owned()], |one| vec![one]);
    for program in programs {
        let started = Command::new(program)
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if started.is_ok() {
            return;
        }
    }
}

fn path() -> Result<PathBuf, Failure> {
    let folder = env_var("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| env_var("HOME").map(|home| PathBuf::from(home).join(".config")));
    folder.map(|folder| folder.join("hansard/login.json")).ok_or_else(|| {
        Failure::usage("neither XDG_CONFIG_HOME nor HOME is set, so there is no place for the sign-in")
    })
}

/// A refresh token is good once, so commands that run at the same time renew one after the other.
fn lock() -> Result<std::fs::File, Failure> {
    let path = path()?.with_extension("lock");
    let locked = || {
        std::fs::create_dir_all(path.parent().expect("it lies in a folder"))?;
        let file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    locked().map_err(|error: std::io::Error| Failure::other_side(format!("{}: {error}", path.display())))
}

fn read() -> Result<File, Failure> {
    let path = path()?;
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
            Failure::usage(format!("{} is damaged; delete it and sign in again", path.display()))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::new()),
        Err(error) => Err(Failure::other_side(format!("{}: {error}", path.display()))),
    }
}

/// Readable by its owner alone, and whole or not at all.
fn keep(gateway: &str, kept: Option<Kept>) -> Result<(), Failure> {
    let path = path()?;
    let mut all = read()?;
    match kept {
        Some(kept) => drop(all.insert(gateway.to_owned(), kept)),
        None => drop(all.remove(gateway)),
    }
    let text = serde_json::to_vec_pretty(&all).expect("tokens are JSON");
    let write = || {
        let folder = path.parent().expect("it lies in a folder");
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)
    };
    write().map_err(|error: std::io::Error| Failure::other_side(format!("{}: {error}", path.display())))
}

fn secret() -> String {
    encoded(&registry::random_bytes::<32>())
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> i64 {
    use record::Clock;
    record::SystemClock.now().secs()
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|error| Failure::other_side(format!("the system gives no threads: {error}")))?
        .block_on(work)
}
