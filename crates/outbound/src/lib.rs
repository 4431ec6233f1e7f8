//! The one way out: an HTTPS client with the machine's roots, shared by whoever speaks to somebody else's server.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::fmt;
use std::time::Duration;

/// A connection that stays unused for so long is closed.
pub const IDLE_MAX: Duration = Duration::from_secs(90);
/// Waiting for a TCP connection takes at most so long.
pub const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The longest frame that is taken of an HTTP/2 stream, and so about the most that is read at a time. 16 KiB, which every
/// peer must allow (RFC 9113 section 6.5.2), is 64 reads for a message of rows.
const FRAME_BYTES_MAX: u32 = 256 * 1024;

/// A pooled client whose requests carry bodies of type `B`. Plain `http://` URIs are HTTP/1.1; `https://` is
/// what ALPN agrees on.
pub type Https<B> = Client<HttpsConnector<HttpConnector>, B>;

/// A body that is already whole.
pub type FullBody = Full<Bytes>;

/// Builds a client. Fails if the machine has no certificate roots at all.
pub fn https<B>() -> Result<Https<B>, OutboundError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
{
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls()?)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp());
    Ok(builder().build(connector))
}

/// The same for HTTP/2 alone, with prior knowledge where there is no TLS: what gRPC is spoken over.
pub fn h2<B>() -> Result<Https<B>, OutboundError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
{
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls()?)
        .https_or_http()
        .enable_http2()
        .wrap_connector(tcp());
    Ok(builder().http2_only(true).http2_max_frame_size(FRAME_BYTES_MAX).build(connector))
}

fn tls() -> Result<rustls::ClientConfig, OutboundError> {
    let tls =
        rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| OutboundError::Roots(error.to_string()))?
            .with_native_roots()
            .map_err(|error| OutboundError::Roots(error.to_string()))?
            .with_no_client_auth();
    Ok(tls)
}

fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_MAX));
    tcp
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_idle_timeout(IDLE_MAX)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_adaptive_window(true);
    builder
}

/// A client for small questions (tokens, keys, discovery): each answer is bounded in size and time.
#[derive(Clone)]
pub struct Fetcher {
    client: Https<Full<Bytes>>,
}

impl Fetcher {
    /// Fails if the machine has no certificate roots at all.
    pub fn new() -> Result<Self, OutboundError> {
        Ok(Self { client: https()? })
    }

    /// Sends one request and reads the whole answer, at most `bytes_max` of it and within `time_max`.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
        time_max: Duration,
    ) -> Result<Response<Bytes>, OutboundError> {
        tokio::time::timeout(time_max, self.send_untimed(request, bytes_max))
            .await
            .map_err(|_| OutboundError::TooSlow(time_max))?
    }

    async fn send_untimed(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, OutboundError> {
        let answer: Response<Incoming> =
            self.client.request(request).await.map_err(|error| OutboundError::Unreachable(causes(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, bytes_max)
            .collect()
            .await
            .map_err(|error| OutboundError::Body(error.to_string()))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

/// The error and everything below it, in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        text = format!("{text}: {cause}");
        below = cause.source();
    }
    text
}

/// Why a question got no answer.
#[derive(Debug)]
pub enum OutboundError {
    Roots(String),
    Unreachable(String),
    TooSlow(Duration),
    Body(String),
}

impl fmt::Display for OutboundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roots(why) => write!(f, "no usable certificate roots on this machine: {why}"),
            Self::Unreachable(why) => write!(f, "could not reach it: {why}"),
            Self::TooSlow(after) => write!(f, "no answer within {after:?}"),
            Self::Body(why) => write!(f, "its answer could not be read: {why}"),
        }
    }
}

impl std::error::Error for OutboundError {}
