//! A tap: a plain reverse proxy that keeps everything that passes, on the client's side of the gateway or on the
//! upstream's.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::Future;
use std::io::Read;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// One request and its reply, whole.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub status: StatusCode,
    pub reply_headers: HeaderMap,
    /// As on the wire.
    pub reply_body: Bytes,
    /// The reply ended cleanly.
    pub whole: bool,
}

impl Seen {
    /// The reply's body, unpacked.
    pub fn decoded(&self) -> Vec<u8> {
        unpacked(&self.reply_headers, &self.reply_body)
    }

    /// The request's body, unpacked.
    pub fn asked(&self) -> Vec<u8> {
        unpacked(&self.headers, &self.body)
    }

    /// The record that the reply, or on the upstream's side the request, names.
    pub fn record(&self) -> Option<String> {
        let header =
            self.reply_headers.get("x-hansard-record").or_else(|| self.headers.get("x-hansard-record"));
        header.and_then(|value| value.to_str().ok()).map(str::to_owned)
    }
}

fn unpacked(headers: &HeaderMap, body: &Bytes) -> Vec<u8> {
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        let mut out = Vec::new();
        let _ = flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut out);
        return out;
    }
    body.to_vec()
}

/// A tap before `target`.
pub struct Tap {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    target: Arc<Mutex<String>>,
}

impl Tap {
    /// Answers on a free loopback port and passes everything on.
    pub async fn start(target: &str) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let target = Arc::new(Mutex::new(target.to_owned()));
        let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let (kept, to) = (seen.clone(), target.clone());
        let url = serve(move |request| {
            let (client, kept) = (client.clone(), kept.clone());
            let to = to.lock().unwrap().clone();
            async move { pass(client, &to, request, &kept).await }
        })
        .await;
        Self { url, seen, target }
    }

    /// Everything that passed, in the order of its end.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Passes to another address from now on.
    pub fn point_to(&self, target: &str) {
        *self.target.lock().unwrap() = target.to_owned();
    }

    /// Forgets what passed.
    pub fn clear(&self) {
        self.seen.lock().unwrap().clear();
    }
}

async fn pass(
    client: Client<HttpConnector, Full<Bytes>>,
    target: &str,
    request: Request<Incoming>,
    kept: &Mutex<Vec<Seen>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = Request::new(Full::new(body.clone()));
    *onward.method_mut() = head.method.clone();
    *onward.uri_mut() = format!("{target}{path}").parse().expect("a URL of a test");
    // The host stays: addresses in answers lead back through the tap.
    for (name, value) in &head.headers {
        if name != "transfer-encoding" && name != "content-length" && name != "connection" && name != "expect"
        {
            onward.headers_mut().append(name, value.clone());
        }
    }
    let Ok(reply) = client.request(onward).await else {
        return Response::builder().status(502).body(Full::default()).unwrap();
    };
    let (reply_head, mut reply_body) = reply.into_parts();
    let mut read = Vec::new();
    let mut whole = true;
    while let Some(frame) = reply_body.frame().await {
        match frame {
            Ok(frame) => frame.into_data().iter().for_each(|data| read.extend_from_slice(data)),
            Err(_) => whole = false,
        }
        if !whole {
            break;
        }
    }
    let read = Bytes::from(read);
    kept.lock().unwrap().push(Seen {
        method: head.method,
        uri: head.uri,
        headers: head.headers,
        body,
        status: reply_head.status,
        reply_headers: reply_head.headers.clone(),
        reply_body: read.clone(),
        whole,
    });
    let mut reply = Response::new(Full::new(if whole { read } else { Bytes::new() }));
    *reply.status_mut() = if whole { reply_head.status } else { StatusCode::BAD_GATEWAY };
    for (name, value) in &reply_head.headers {
        if name != "transfer-encoding" && name != "content-length" && name != "connection" {
            reply.headers_mut().append(name, value.clone());
        }
    }
    reply
}

/// Serves a function on a free loopback port until the runtime ends.
pub(crate) async fn serve<F, A>(answer: F) -> String
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on loopback");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .max_buf_size(1024 * 1024)
                    .serve_connection(TokioIo::new(socket), service),
            );
        }
    });
    url
}
