//! Replies that are streamed line by line from a thread that may block.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use hyper::body::{Body, Frame};
use serde::Serialize;
use serde_json::json;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Lines that wait for a slow reader.
const LINES_MAX: usize = 256;

/// A reply of the API.
pub type ApiReply = Response<ApiBody>;

/// A body that comes line by line.
pub struct ApiBody(mpsc::Receiver<Bytes>);

impl Body for ApiBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

/// Where lines go.
pub(crate) struct Lines(mpsc::Sender<Bytes>);

impl Lines {
    /// One object, one line. Breaks when nobody reads any more. Blocks while the reader is slow.
    pub(crate) fn object<T: Serialize>(&self, value: &T) -> ControlFlow<()> {
        let mut line = serde_json::to_vec(value).expect("what is printed is JSON");
        line.push(b'\n');
        self.bytes(line.into())
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&self, bytes: Bytes) -> ControlFlow<()> {
        match self.0.blocking_send(bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Whether somebody still reads.
    pub(crate) fn is_read(&self) -> bool {
        !self.0.is_closed()
    }
}

/// A reply whose lines `write` makes on a blocking thread. An error that comes late is a line of its own.
pub(crate) fn lines(write: impl FnOnce(&Lines) -> Result<(), String> + Send + 'static) -> ApiReply {
    let (send, receive) = mpsc::channel(LINES_MAX);
    tokio::task::spawn_blocking(move || {
        let lines = Lines(send);
        if let Err(error) = write(&lines) {
            let _ = lines.object(&json!({"error": error}));
        }
    });
    reply(StatusCode::OK, ApiBody(receive))
}

/// One object.
pub(crate) fn object<T: Serialize>(status: StatusCode, value: &T) -> ApiReply {
    let (send, receive) = mpsc::channel(1);
    let mut line = serde_json::to_vec(value).expect("what is printed is JSON");
    line.push(b'\n');
    let _ = send.try_send(line.into());
    reply(status, ApiBody(receive))
}

/// A sentence of what failed and what to do.
pub(crate) fn failure(status: StatusCode, message: impl Into<String>) -> ApiReply {
    object(status, &json!({"error": message.into()}))
}

fn reply(status: StatusCode, body: ApiBody) -> ApiReply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    let ndjson = header::HeaderValue::from_static("application/x-ndjson");
    reply.headers_mut().insert(header::CONTENT_TYPE, ndjson);
    reply.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    reply
}
