//! How a command reaches a data folder: by the gateway that runs on it, or by opening it itself.

use bytes::Bytes;
use console::ApiRequest;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use record::Proof;
use std::path::{Path, PathBuf};

use crate::cli::{Failure, FolderArgs};
use crate::config;
use crate::control;
use crate::login;
use crate::routes::method;
use crate::wiring::Settings;

/// A command's question to `/api/v1`.
pub(crate) struct Question {
    pub(crate) method: &'static str,
    /// Below `/api/v1/`, with its query string.
    pub(crate) path: String,
    pub(crate) body: Bytes,
}

impl Question {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), body: Bytes::new() }
    }

    pub(crate) fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: "POST", path: path.into(), body: body.into() }
    }
}

/// The data folder that the arguments mean.
pub(crate) fn data_dir(folder: &FolderArgs) -> Result<PathBuf, Failure> {
    if let Some(data) = &folder.data {
        return Ok(data.clone());
    }
    let loaded = config::load(&folder.config)?;
    Ok(loaded.resolve(&loaded.config.server.data_dir))
}

/// Asks, and gives each part of the answer to `each` as it comes.
pub(crate) fn ask(
    folder: &FolderArgs,
    question: Question,
    mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::other_side(format!("the system gives no threads: {error}")))?;
    if let Some(gateway) = &folder.gateway {
        let done = runtime.block_on(remote(gateway, &folder.config, question, &mut each));
        runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        return done;
    }
    let data = data_dir(folder)?;
    let done = runtime.block_on(async {
        let uri = format!("http://hansard/api/v1/{}", question.path);
        let request = Request::builder().method(question.method).uri(uri).header("host", "hansard");
        let request = request
            .body(Full::new(question.body.clone()))
            .map_err(|error| Failure::usage(error.to_string()))?;
        match control::ask(&data, request).await {
            Some(answer) => {
                let answer =
                    answer.map_err(|error| Failure::other_side(format!("the gateway broke off: {error}")))?;
                let status = answer.status();
                pass(status, answer.into_body(), &mut each).await
            }
            None => own(folder, &data, question, &mut each).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    done
}

/// A gateway elsewhere, as the principal who is signed in there.
async fn remote(
    gateway: &str,
    config: &Path,
    question: Question,
    each: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let gateway = login::gateway_url(Some(gateway), config)?;
    let token = login::token(&gateway).await?;
    let request = Request::builder()
        .method(question.method)
        .uri(format!("{gateway}/api/v1/{}", question.path))
        .header("authorization", format!("Bearer {token}"))
        .body(Full::new(question.body))
        .map_err(|error| Failure::usage(error.to_string()))?;
    let client = outbound::https().map_err(|error| Failure::other_side(error.to_string()))?;
    let answer = client.request(request).await.map_err(|error| {
        Failure::other_side(format!("{gateway} can't be reached: {}", outbound::causes(&error)))
    })?;
    pass(answer.status(), answer.into_body(), each).await
}

/// Nobody runs on the folder: this command opens it.
async fn own(
    folder: &FolderArgs,
    data: &Path,
    question: Question,
    each: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !data.join("journal").is_dir() {
        return Err(Failure::usage(format!(
            "{} is no data folder; 'hansard serve' makes one",
            data.display()
        )));
    }
    let loaded = config::load(&folder.config).map_err(|error| {
        Failure::usage(format!("no gateway runs on {}, and its keys are unknown: {error}", data.display()))
    })?;
    let settings = Settings::check(loaded, Some(data))?;
    let rooms = settings.open()?;
    let (path, query) = question.path.split_once('?').unwrap_or((&question.path, ""));
    let request = ApiRequest {
        method: method(question.method),
        path: path.to_owned(),
        query: query.to_owned(),
        body: question.body,
        actor: control::actor_of(Some(rustix::process::getuid().as_raw()), Proof::Verified),
        reads_all: true,
    };
    let reply = rooms.api.clone().answer(request).await;
    let status = reply.status();
    pass(status, reply.into_body(), each).await
}

async fn pass<B>(
    status: StatusCode,
    mut body: B,
    each: &mut impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    if !status.is_success() {
        let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let message = serde_json::from_slice::<serde_json::Value>(&text).ok();
        let message = message.and_then(|value| value["error"].as_str().map(str::to_owned));
        let message = message.unwrap_or_else(|| String::from_utf8_lossy(&text).into_owned());
        return Err(if status.is_server_error() {
            Failure::other_side(message)
        } else {
            Failure::no(message)
        });
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::other_side(format!("the answer broke off: {error}")))?;
        if let Ok(data) = frame.into_data() {
            each(&data)?;
        }
    }
    Ok(())
}

/// Cuts a stream into lines.
#[derive(Default)]
pub(crate) struct LineCutter(Vec<u8>);

impl LineCutter {
    /// Gives every whole line to `each`.
    pub(crate) fn push(
        &mut self,
        part: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut rest = part;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.0.is_empty() {
                each(line)?;
            } else {
                self.0.extend_from_slice(line);
                each(&std::mem::take(&mut self.0))?;
            }
            rest = after;
        }
        self.0.extend_from_slice(rest);
        Ok(())
    }
}
