//! Accepts connections and hands requests over: HTTP/1.1 and h2, with or without TLS, on one port.

use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use record::Clock;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, DRAIN_MAX, HEAD_MAX, HEADER_BYTES_MAX, HEADERS_MAX,
    RESET_STREAMS_MAX, STREAM_SEND_BYTES, STREAMS_MAX,
};
use crate::metrics::Metrics;
use crate::reply::Reply;
use crate::request::{ClientAddress, Presence, Request, RequestBody};

/// Who answers requests.
pub trait Routes: Send + Sync + 'static {
    /// Answers one.
    fn answer(self: Arc<Self>, request: Request) -> impl Future<Output = Reply> + Send;
}

/// A port and what it needs.
pub struct Listener {
    pub tcp: TcpListener,
    /// The acceptor may change between connections.
    pub tls: Option<watch::Receiver<TlsAcceptor>>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
}

/// Serves until `stop` resolves, then drains: no new requests, open ones have `DRAIN_MAX`. Returns whether all
/// ended in time.
pub async fn serve<R: Routes>(listener: Listener, routes: Arc<R>, stop: impl Future<Output = ()>) -> bool {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let addresses = Arc::<Addresses>::default();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener.tcp, &places) => accepted,
            () = &mut stop => break,
        };
        let Some((socket, peer, place)) = accepted else { continue };
        let Some(counted) = addresses.clone().count(peer.ip()) else { continue };
        let watcher = graceful.watcher();
        let (routes, clock, metrics) = (routes.clone(), listener.clock.clone(), listener.metrics.clone());
        let acceptor = listener.tls.as_ref().map(|tls| tls.borrow().clone());
        tokio::spawn(async move {
            let _held = (place, counted);
            metrics.connected(1);
            let client = ClientAddress { ip: peer.ip(), tls: acceptor.is_some() };
            match acceptor {
                None => connection(socket, client, routes, clock, watcher).await,
                Some(acceptor) => {
                    let handshake = tokio::time::timeout(HEAD_MAX, acceptor.accept(socket)).await;
                    if let Ok(Ok(socket)) = handshake {
                        connection(socket, client, routes, clock, watcher).await;
                    }
                }
            }
            metrics.connected(-1);
        });
    }
    drop(listener);
    tokio::time::timeout(DRAIN_MAX, graceful.shutdown()).await.is_ok()
}

/// Connections by address.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One connection, counted as long as this lives.
struct CountedConnection(Arc<Addresses>, IpAddr);

impl Addresses {
    /// None if the address has as many as it may.
    fn count(self: Arc<Self>, ip: IpAddr) -> Option<CountedConnection> {
        let mut all = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let open = all.entry(ip).or_default();
        if *open >= CONNECTIONS_PER_ADDRESS_MAX && !ip.is_loopback() {
            return None;
        }
        *open += 1;
        drop(all);
        Some(CountedConnection(self, ip))
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(open) = all.get_mut(&self.1) {
            *open -= 1;
            if *open == 0 {
                all.remove(&self.1);
            }
        }
    }
}

async fn accept(
    tcp: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match tcp.accept().await {
        Ok((socket, peer)) => {
            let _ = socket.set_nodelay(true);
            Some((socket, peer, place))
        }
        Err(error) => {
            // Out of descriptors, most likely: let some connections end.
            tracing::warn!(%error, "can't accept");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection<S, R>(
    socket: S,
    client: ClientAddress,
    routes: Arc<R>,
    clock: Arc<dyn Clock>,
    watcher: hyper_util::server::graceful::Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    R: Routes,
{
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (routes, clock) = (routes.clone(), clock.clone());
        async move { Ok::<_, Infallible>(detached(routes, request, client, &*clock).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEADER_BYTES_MAX.max(64 * 1024))
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .max_send_buf_size(STREAM_SEND_BYTES)
        .keep_alive_interval(Duration::from_secs(60))
        .adaptive_window(true);
    let served = builder.serve_connection(TokioIo::new(socket), service);
    if let Err(error) = watcher.watch(served.into_owned()).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// Runs the exchange on a task of its own: a client that hangs up can't cancel the record between open and
/// close. It does cancel the upstream, by way of `Presence`.
async fn detached<R: Routes>(
    routes: Arc<R>,
    request: http::Request<Incoming>,
    client: ClientAddress,
    clock: &dyn Clock,
) -> Reply {
    let (head, body) = request.into_parts();
    let (present, presence) = Presence::pair();
    let request = Request { head, body: RequestBody::new(body), client, received: clock.now(), presence };
    // Boxed: the future is long, and a task is moved several times before it stands still.
    let reply = tokio::spawn(Box::pin(routes.answer(request))).await;
    drop(present);
    reply.unwrap_or_else(|error| {
        tracing::error!(%error, "an exchange broke");
        Response::builder()
            .status(500)
            .body(crate::full("hansard failed inside; its log says where\n"))
            .expect("static")
    })
}
