//! One port for everything. The first byte tells TLS from HTTP; what a request is, each request says for itself:
//! clients send `CONNECT` where they just asked for metadata.

use http::{Method, Request, StatusCode, Uri, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use record::Clock;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::answer::{Answer, google_error, text, whole};
use crate::authority::Authority;
use crate::forward::{Forwarder, is_for_gateway};
use crate::handed::Handed;
use crate::hosts::{Host, host};
use crate::metadata::{self, Account};
use crate::peer::{Admits, may_connect};
use crate::tunnel;

/// Open connections.
const CONNECTIONS_MAX: usize = 1024;
/// A head, or a TLS handshake, takes at most so long.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// What a sidecar is made from.
pub struct SidecarConfig {
    /// The gateway's address.
    pub gateway: String,
    pub handed: Arc<Handed>,
    pub authority: Arc<Authority>,
    pub admits: Admits,
    /// Hosts that are not BigQuery's are refused.
    pub only_bigquery: bool,
    /// The proxy that this machine reaches other hosts by.
    pub proxy: Option<Uri>,
    /// Whom the clients take themselves for.
    pub email: String,
    pub project: String,
    pub clock: Arc<dyn Clock>,
}

/// A running sidecar's parts.
pub struct Sidecar {
    forwarder: Forwarder,
    handed: Arc<Handed>,
    tls: TlsAcceptor,
    admits: Admits,
    only_bigquery: bool,
    proxy: Option<Uri>,
    account: Account,
    clock: Arc<dyn Clock>,
}

/// Where a request arrived.
#[derive(Clone)]
struct Door {
    /// The sidecar's own address.
    ours: SocketAddr,
    /// The host that the client believes to speak with, inside TLS.
    host: Option<Arc<str>>,
}

impl Sidecar {
    /// Builds it; fails if the machine has no certificate roots, or TLS can't be set up.
    pub fn new(config: SidecarConfig) -> Result<Arc<Self>, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(config.authority);
        tls.alpn_protocols = ["h2", "http/1.1", "http/1.0"].map(|name| name.as_bytes().to_vec()).to_vec();
        let forwarder =
            Forwarder::new(&config.gateway, config.handed.clone()).map_err(|error| error.to_string())?;
        Ok(Arc::new(Self {
            forwarder,
            handed: config.handed,
            tls: TlsAcceptor::from(Arc::new(tls)),
            admits: config.admits,
            only_bigquery: config.only_bigquery,
            proxy: config.proxy,
            account: Account { email: config.email, project: config.project },
            clock: config.clock,
        }))
    }

    /// Serves until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let Ok(ours) = listener.local_addr() else { return };
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((socket, peer)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let sidecar = self.clone();
            tokio::spawn(async move {
                let admits = sidecar.admits;
                let known = tokio::task::spawn_blocking(move || may_connect(admits, peer, ours)).await;
                if known.unwrap_or(false) {
                    sidecar.accepted(socket, Door { ours, host: None }).await;
                } else {
                    tracing::warn!(%peer, "a process that is not served here was turned away");
                }
                drop(place);
            });
        }
    }

    async fn accepted(self: Arc<Self>, socket: TcpStream, door: Door) {
        let _ = socket.set_nodelay(true);
        let mut first = [0];
        match tokio::time::timeout(HEAD_MAX, socket.peek(&mut first)).await {
            Ok(Ok(1)) if first[0] == 0x16 => self.inside_tls(socket, door, None).await,
            Ok(Ok(1)) => self.speak(socket, door).await,
            _ => {}
        }
    }

    /// TLS by the private CA, for a name of BigQuery's.
    async fn inside_tls<S>(self: Arc<Self>, socket: S, door: Door, connected: Option<String>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = tokio::time::timeout(HEAD_MAX, self.tls.accept(socket)).await;
        let Ok(Ok(socket)) = handshake else { return };
        let name = socket.get_ref().1.server_name().map(str::to_ascii_lowercase);
        let Some(name) = name else { return };
        // Within a tunnel to one host, another's certificate is not served.
        if connected.is_some_and(|connected| connected != name) {
            return;
        }
        self.speak(socket, Door { host: Some(name.into()), ..door }).await;
    }

    /// HTTP/1.1 or h2. Boxed, for a tunnel may lead back here.
    fn speak<S>(self: Arc<Self>, socket: S, door: Door) -> Pin<Box<dyn Future<Output = ()> + Send>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Box::pin(async move {
            let sidecar = self.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let (sidecar, door) = (sidecar.clone(), door.clone());
                async move { Ok::<_, Infallible>(sidecar.answer(request, door).await) }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
            builder.http2().timer(TokioTimer::new()).adaptive_window(true);
            let served = builder.serve_connection_with_upgrades(TokioIo::new(socket), service);
            if let Err(error) = served.await {
                tracing::debug!(%error, "a client's connection ended");
            }
        })
    }

    /// Answers one request.
    async fn answer(self: Arc<Self>, request: Request<Incoming>, door: Door) -> Answer {
        if request.method() == Method::CONNECT {
            return self.connect(request, door).await;
        }
        match door.host.clone() {
            Some(name) => self.answer_for(request, &name).await,
            None => self.answer_plain(request, door.ours).await,
        }
    }

    /// A request inside TLS, for the host whose certificate was shown.
    async fn answer_for(&self, request: Request<Incoming>, name: &str) -> Answer {
        let asked = request.uri().host().map(str::to_owned).or_else(|| host_header(&request));
        if asked.is_some_and(|asked| !asked.eq_ignore_ascii_case(name)) {
            return text(StatusCode::MISDIRECTED_REQUEST, "this connection is another host's\n");
        }
        match host(name) {
            Host::BigQuery => self.forwarder.forward(request, &format!("https://{name}")).await,
            Host::Sister => self.forwarder.forward_api(request, name).await,
            Host::Shared if is_for_gateway(request.uri()) => {
                self.forwarder.forward(request, &format!("https://{name}")).await
            }
            Host::Shared | Host::Credentials if !self.only_bigquery || self.is_ours(&request) => {
                self.forwarder.pass_on(request, name).await
            }
            _ => self.forwarder.report(&request, &format!("host {name}")).await,
        }
    }

    fn is_ours(&self, request: &Request<Incoming>) -> bool {
        let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        value.and_then(|text| text.split_once(' ')).is_some_and(|(_, token)| self.handed.knows(token))
    }

    /// A request to the port itself. Only a process on this machine that knows it may ask: no page in a browser,
    /// and nobody by a name that was made to point here.
    async fn answer_plain(&self, request: Request<Incoming>, ours: SocketAddr) -> Answer {
        let asked = request.uri().host().map(str::to_owned).or_else(|| host_header(&request));
        let is_metadata_name =
            matches!(asked.as_deref(), Some("metadata.google.internal" | "169.254.169.254" | "metadata"));
        let is_here = is_metadata_name || asked.as_deref().is_none_or(is_loopback);
        if !is_here || request.headers().contains_key(header::ORIGIN) {
            return text(
                StatusCode::FORBIDDEN,
                "this port serves the programs of one session on this machine\n",
            );
        }
        let now = self.clock.now().secs();
        if metadata::is_asked(&request) {
            return metadata::answer(&request, &self.account, &self.handed, now);
        }
        if is_metadata_name
            || request.uri().authority().is_some() && request.version() < http::Version::HTTP_2
        {
            return text(StatusCode::FORBIDDEN, "this proxy passes HTTPS on (CONNECT), and no plain HTTP\n");
        }
        if metadata::is_exchange(&request) {
            return metadata::exchange(request, &self.handed, now).await;
        }
        self.forwarder.forward(request, &format!("http://{ours}")).await
    }

    /// `CONNECT host:port`.
    async fn connect(self: Arc<Self>, request: Request<Incoming>, door: Door) -> Answer {
        let Some(authority) = request.uri().authority().cloned().filter(|_| door.host.is_none()) else {
            return text(StatusCode::BAD_REQUEST, "CONNECT needs host:port\n");
        };
        let (name, port) = (authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(443));
        let is_us = is_loopback(&name) && port == door.ours.port();
        let kind = host(&name);
        match kind {
            _ if is_us => {}
            Host::Unknown => {
                return self.forwarder.report(&at_root(&request), &format!("host {name}")).await;
            }
            Host::Other if self.only_bigquery => {
                return self.forwarder.report(&at_root(&request), &format!("host {name}")).await;
            }
            Host::Other => {
                return match tunnel::dial(&name, port, self.proxy.as_ref()).await {
                    Ok(server) => upgraded(request, |client| tunnel::pass(client, server)),
                    Err(error) => google_error(
                        StatusCode::BAD_GATEWAY,
                        &format!("{name}:{port} can't be reached: {error}"),
                    ),
                };
            }
            _ if port != 443 => {
                return self.forwarder.report(&at_root(&request), &format!("host {name}:{port}")).await;
            }
            _ => {}
        }
        let sidecar = self.clone();
        upgraded(request, move |client| async move {
            match is_us {
                true => sidecar.speak(client, door).await,
                false => sidecar.inside_tls(client, door, Some(name)).await,
            }
        })
    }
}

/// What becomes of a connection once `CONNECT` was answered.
fn upgraded<F, W>(request: Request<Incoming>, then: F) -> Answer
where
    F: FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> W + Send + 'static,
    W: Future<Output = ()> + Send,
{
    tokio::spawn(async move {
        if let Ok(client) = hyper::upgrade::on(request).await {
            then(TokioIo::new(client)).await;
        }
    });
    Answer::new(whole(""))
}

/// The same with a path, for whoever reads one.
fn at_root(request: &Request<Incoming>) -> Request<()> {
    let mut root = Request::new(());
    *root.headers_mut() = request.headers().clone();
    *root.method_mut() = Method::CONNECT;
    *root.uri_mut() = Uri::from_static("/");
    root
}

fn host_header(request: &Request<Incoming>) -> Option<String> {
    let text = request.headers().get(header::HOST)?.to_str().ok()?;
    let authority: http::uri::Authority = text.parse().ok()?;
    Some(authority.host().to_owned())
}

fn is_loopback(name: &str) -> bool {
    matches!(name, "127.0.0.1" | "localhost" | "[::1]" | "::1")
}
