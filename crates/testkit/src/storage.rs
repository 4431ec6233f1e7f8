//! A Storage API that streams as many rows as a test wants, and a client that reads them as a test wants.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const SERVICE: &str = "/google.cloud.bigquery.storage.v1.BigQueryRead";

/// A slow reader pauses for so long at least.
const PAUSE: Duration = Duration::from_millis(20);

/// What each stream is like.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    pub messages: u64,
    /// Bytes of one message's rows.
    pub bytes: usize,
    /// Rows that each message says it has.
    pub rows: u64,
    /// The connection ends after so many messages, without a status.
    pub breaks_after: Option<u64>,
}

/// The upstream. A call without the gateway's token is answered UNAUTHENTICATED.
pub struct Storage {
    /// `host:port`
    pub address: String,
    unauthenticated: Arc<AtomicU64>,
}

impl Storage {
    /// Answers on a free loopback port until the runtime ends.
    pub async fn start(rows: Rows) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on loopback");
        let address = listener.local_addr().expect("it is bound").to_string();
        let unauthenticated = Arc::<AtomicU64>::default();
        let counted = unauthenticated.clone();
        // The same bytes in every message: what a test measures is not how they are made.
        let message = rows_message(rows);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (counted, message) = (counted.clone(), message.clone());
                let service =
                    service_fn(move |request| answer(request, counted.clone(), rows, message.clone()));
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.adaptive_window(true).max_send_buf_size(1024 * 1024);
                tokio::spawn(builder.serve_connection(TokioIo::new(socket), service));
            }
        });
        Self { address, unauthenticated }
    }

    /// Calls that came without the gateway's token.
    pub fn unauthenticated(&self) -> u64 {
        self.unauthenticated.load(Ordering::Relaxed)
    }
}

async fn answer(
    request: Request<Incoming>,
    unauthenticated: Arc<AtomicU64>,
    rows: Rows,
    message: Bytes,
) -> Result<Response<Either<Full<Bytes>, RowsBody>>, Infallible> {
    let expected = format!("Bearer {}", crate::issuer::UPSTREAM_TOKEN);
    let mut reply = Response::new(Either::Left(Full::default()));
    reply.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    if request.headers().get("authorization").is_none_or(|value| value != expected.as_str()) {
        unauthenticated.fetch_add(1, Ordering::Relaxed);
        reply.headers_mut().insert("grpc-status", HeaderValue::from_static("16"));
        return Ok(reply);
    }
    let is_session = request.uri().path().ends_with("/CreateReadSession");
    let body = match is_session {
        true => RowsBody { left: 1, message: session_message(), breaks: false },
        false => RowsBody {
            left: rows.breaks_after.unwrap_or(rows.messages),
            message,
            breaks: rows.breaks_after.is_some(),
        },
    };
    let _ = request.into_body().collect().await;
    *reply.body_mut() = Either::Right(body);
    Ok(reply)
}

/// The same message again and again, then a status; or an end without one.
struct RowsBody {
    left: u64,
    message: Bytes,
    breaks: bool,
}

impl Body for RowsBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.left == u64::MAX {
            return Poll::Ready(None);
        }
        if self.left > 0 {
            self.left -= 1;
            return Poll::Ready(Some(Ok(Frame::data(self.message.clone()))));
        }
        self.left = u64::MAX;
        if self.breaks {
            return Poll::Ready(Some(Err(std::io::Error::other("it breaks off"))));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn framed(message: &[u8]) -> Bytes {
    [&[0], &(message.len() as u32).to_be_bytes()[..], message].concat().into()
}

/// A `ReadRowsResponse` whose Arrow batch is as compressible as numbers and names are.
fn rows_message(rows: Rows) -> Bytes {
    let mut batch = Vec::with_capacity(rows.bytes + 32);
    let mut n = 0u64;
    while batch.len() < rows.bytes {
        n += 1;
        batch.extend_from_slice(&n.to_le_bytes());
        batch.extend_from_slice(&(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40).to_le_bytes());
        batch.extend_from_slice(format!("customer {:06}", n * 31 % 977).as_bytes());
    }
    batch.truncate(rows.bytes);
    framed(&[field(4, &field(1, &batch)), varint(6 << 3), varint(rows.rows)].concat())
}

/// A new `ReadSession` with one stream.
fn session_message() -> Bytes {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("projects/p/locations/us/sessions/s{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let stream = field(1, format!("{name}/streams/t").as_bytes());
    framed(
        &[field(1, name.as_bytes()), field(6, b"projects/p/datasets/d/tables/t"), field(10, &stream)]
            .concat(),
    )
}

/// What a client got of a stream.
#[derive(Clone, Debug, Default)]
pub struct Got {
    pub bytes: u64,
    /// The status that ended it; none if it broke off.
    pub status: Option<u16>,
    /// The record that the answer named.
    pub record: String,
}

/// Reads streams, over one connection.
pub struct StorageClient {
    client: outbound::Https<Full<Bytes>>,
    /// `http://host:port`
    url: String,
    token: String,
}

impl StorageClient {
    /// For `http://host:port` and a bearer token; none where it is empty.
    pub fn new(url: &str, token: &str) -> Self {
        let client = outbound::h2().expect("a client");
        Self { client, url: url.to_owned(), token: token.to_owned() }
    }

    async fn call(&self, method: &str, message: &[u8]) -> Option<Response<Incoming>> {
        let mut request = Request::post(format!("{}{SERVICE}/{method}", self.url))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let request = request.body(Full::new(framed(message))).expect("a request");
        self.client.request(request).await.ok()
    }

    /// Makes a read session; the name of its stream.
    pub async fn session(&self) -> String {
        let session = field(6, b"projects/p/datasets/d/tables/t");
        let asked = [field(1, b"projects/p"), field(2, &session)].concat();
        let reply = self.call("CreateReadSession", &asked).await.expect("an answer");
        let body = reply.into_body().collect().await.expect("a whole answer").to_bytes();
        // Framing, then field 1: the session's name.
        let len = usize::from(*body.get(6).expect("a session"));
        format!("{}/streams/t", String::from_utf8_lossy(&body[7..7 + len]))
    }

    /// Reads a stream to its end, at most so many bytes a second; `seen` is told how many came so far.
    pub async fn read(&self, stream: &str, bytes_per_second: Option<u64>, mut seen: impl FnMut(u64)) -> Got {
        let mut got = Got::default();
        let Some(reply) = self.call("ReadRows", &field(1, stream.as_bytes())).await else { return got };
        let (head, mut body) = reply.into_parts();
        let status = |headers: &HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
        let record = head.headers.get("x-hansard-record").and_then(|value| value.to_str().ok());
        (got.status, got.record) = (status(&head.headers), record.unwrap_or_default().to_owned());
        let started = Instant::now();
        while let Some(Ok(frame)) = body.frame().await {
            match frame.into_data() {
                Ok(data) => got.bytes += data.len() as u64,
                Err(frame) => got.status = frame.trailers_ref().and_then(status),
            }
            seen(got.bytes);
            if let Some(rate) = bytes_per_second {
                // Seldom and long: with a pause after every frame, HTTP/2's windows would shrink to crumbs.
                let due = Duration::from_secs_f64(got.bytes as f64 / rate as f64);
                let ahead = due.saturating_sub(started.elapsed());
                if ahead > PAUSE {
                    tokio::time::sleep(ahead).await;
                }
            }
        }
        got
    }
}
