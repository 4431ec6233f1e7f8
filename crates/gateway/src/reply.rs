//! A reply on its way out.

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// A reply.
pub type Reply = Response<ReplyBody>;

/// Whole, or released part by part.
pub enum ReplyBody {
    Whole(Full<Bytes>),
    Released(mpsc::Receiver<Result<Frame<Bytes>, CutOff>>),
    /// Whole, and then its trailers.
    Trailed(VecDeque<Frame<Bytes>>),
}

/// The reply ends here, and not well: the connection or stream is reset.
#[derive(Debug)]
pub struct CutOff;

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply was cut off")
    }
}

impl std::error::Error for CutOff {}

/// A body that is already whole.
pub fn full(bytes: impl Into<Bytes>) -> ReplyBody {
    ReplyBody::Whole(Full::new(bytes.into()))
}

impl ReplyBody {
    /// A body that is whole, with what follows it.
    pub fn trailed(whole: Bytes, trailers: HeaderMap) -> Self {
        let data = (!whole.is_empty()).then(|| Frame::data(whole));
        Self::Trailed(data.into_iter().chain([Frame::trailers(trailers)]).collect())
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match &mut *self {
            Self::Whole(whole) => Pin::new(whole).poll_frame(context).map_err(|never| match never {}),
            Self::Released(parts) => parts.poll_recv(context),
            Self::Trailed(frames) => Poll::Ready(frames.pop_front().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Released(_) => false,
            Self::Trailed(frames) => frames.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Released(_) | Self::Trailed(_) => SizeHint::default(),
        }
    }
}
