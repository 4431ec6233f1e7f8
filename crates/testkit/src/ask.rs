//! A plain HTTP client for tests.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    /// The body ended cleanly.
    pub whole: bool,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// A header's text, empty where there is none.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    }

    /// Why BigQuery, or hansard in its shape, said no; empty if it did not.
    pub fn reason(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body.pointer("/error/errors/0/reason").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The record that the answer names.
    pub fn record(&self) -> String {
        self.header("x-hansard-record")
    }
}

/// Sends a request with a bearer token.
pub async fn ask(method: &str, url: &str, token: &str, body: impl Into<Bytes>) -> Answer {
    let request = Request::builder().method(method).uri(url).header("content-type", "application/json");
    send(request.header("authorization", format!("Bearer {token}")).body(body.into()).expect("a request"))
        .await
}

/// Sends any request.
pub async fn send(request: Request<Bytes>) -> Answer {
    try_send(request).await.expect("the gateway answers")
}

/// The same; none if there was no answer at all.
pub async fn try_send(request: Request<Bytes>) -> Option<Answer> {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer: Response<_> = client.request(request.map(Full::new)).await.ok()?;
    let (head, mut body) = answer.into_parts();
    let mut read = Vec::new();
    let mut whole = true;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => frame.into_data().iter().for_each(|data| read.extend_from_slice(data)),
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    Some(Answer { status: head.status.as_u16(), headers: head.headers, body: read.into(), whole })
}
