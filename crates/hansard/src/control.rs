//! The control socket: commands of this machine reach the gateway that holds the folder.

use bytes::Bytes;
use console::{Api, ApiBody, ApiRequest};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use record::{Actor, ActorKind, Asserted, Proof};
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::cli::Failure;
use crate::serve::control_socket;

const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// The socket, as long as the gateway runs.
pub(crate) struct Control {
    path: PathBuf,
    accepting: JoinHandle<()>,
}

impl Control {
    /// Opens it. The folder's lock is ours, so a socket that is there is a dead process's.
    pub(crate) async fn open(data: &Path, api: Arc<Api>) -> Result<Self, Failure> {
        let path = control_socket(data);
        let _ = std::fs::remove_file(&path);
        let failed =
            |error: std::io::Error| Failure::other_side(format!("can't open {}: {error}", path.display()));
        let listener = UnixListener::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let accepting = tokio::spawn(accept(listener, api));
        Ok(Self { path, accepting })
    }

    /// Closes it and takes it away.
    pub(crate) async fn close(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, api: Arc<Api>) {
    let mut open = tokio::task::JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let Ok((socket, _)) = listener.accept().await else { continue };
        let api = api.clone();
        open.spawn(async move {
            let actor = local_actor(&socket);
            let service = service_fn(move |request| answer(api.clone(), actor.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn answer(
    api: Arc<Api>,
    actor: Actor,
    request: Request<Incoming>,
) -> Result<Response<ApiBody>, Infallible> {
    let (head, body) = request.into_parts();
    let body =
        Limited::new(body, REQUEST_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let path = head.uri.path().strip_prefix("/api/v1/").unwrap_or_default().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    Ok(api.answer(ApiRequest { method: head.method, path, query, body, actor, reads_all: true }).await)
}

fn local_actor(socket: &UnixStream) -> Actor {
    let uid = socket.peer_cred().map(|peer| peer.uid()).ok();
    actor_of(uid, Proof::Verified)
}

/// A user of this machine.
pub(crate) fn actor_of(uid: Option<u32>, proof: Proof) -> Actor {
    Actor {
        kind: ActorKind::Local,
        id: uid.map(|uid| Asserted { value: format!("uid:{uid}"), proof }),
        email: None,
        name: None,
        groups: None,
        idp: None,
        agent: None,
        act_chain: Vec::new(),
        credential: None,
    }
}

/// Asks the gateway that holds the folder; none if nobody answers.
pub(crate) async fn ask(
    data: &Path,
    request: Request<Full<Bytes>>,
) -> Option<Result<Response<Incoming>, hyper::Error>> {
    let socket = UnixStream::connect(control_socket(data)).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.ok()?;
    tokio::spawn(connection);
    Some(sender.send_request(request).await)
}
