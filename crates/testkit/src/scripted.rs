//! An upstream that answers by script, in Google's documented shapes, for what the emulator can't do.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::tap::serve;

/// A reply of the script.
#[derive(Clone, Debug)]
pub struct ScriptedReply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl ScriptedReply {
    /// JSON, with 200.
    pub fn json(body: impl Into<String>) -> Self {
        let headers = vec![("content-type", "application/json; charset=UTF-8".to_owned())];
        Self { status: 200, headers, body: body.into().into_bytes() }
    }

    /// The same, packed.
    pub fn gzip(mut self) -> Self {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(&self.body).expect("into memory");
        self.body = packed.finish().expect("into memory");
        self.headers.push(("content-encoding", "gzip".to_owned()));
        self
    }

    /// With another status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// What to answer: the request's line and body in, a reply out.
pub type Script = Arc<dyn Fn(&str, &Request<Bytes>) -> ScriptedReply + Send + Sync>;

/// The upstream.
pub struct Scripted {
    pub url: String,
    asked: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl Scripted {
    /// Answers on a free loopback port. A request without the gateway's token is answered 401.
    pub async fn start(script: Script) -> Self {
        Self::start_for(script, Some(crate::issuer::UPSTREAM_TOKEN)).await
    }

    /// The same for everybody: somebody else's server, to which the gateway speaks.
    pub async fn start_open(script: Script) -> Self {
        Self::start_for(script, None).await
    }

    async fn start_for(script: Script, token: Option<&'static str>) -> Self {
        let asked: Arc<Mutex<Vec<Request<Bytes>>>> = Arc::default();
        let kept = asked.clone();
        let url = serve(move |request| {
            let (script, kept) = (script.clone(), kept.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let request = Request::from_parts(head, body);
                let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
                let known = token.is_none_or(|token| given == Some(format!("Bearer {token}").as_str()));
                let line = format!("{} {}", request.method(), request.uri());
                // A script may sleep, which must not stop the clock of the test's own runtime.
                let answered = tokio::task::spawn_blocking(move || {
                    let reply =
                        if known { script(&line, &request) } else { ScriptedReply::json("{}").status(401) };
                    (request, reply)
                });
                let (request, reply) = answered.await.expect("a script answers");
                kept.lock().unwrap().push(request);
                let mut answer = Response::new(Full::new(Bytes::from(reply.body)));
                *answer.status_mut() = StatusCode::from_u16(reply.status).expect("a status of a test");
                for (name, value) in reply.headers {
                    answer.headers_mut().append(name, value.parse().expect("a header of a test"));
                }
                answer
            }
        })
        .await;
        Self { url, asked }
    }

    /// Everything that was asked.
    pub fn asked(&self) -> Vec<Request<Bytes>> {
        self.asked.lock().unwrap().clone()
    }
}
