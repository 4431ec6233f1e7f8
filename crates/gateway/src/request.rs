//! A request on its way in: its head, the part of its body that was looked at, and the rest.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use record::Timestamp;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::limits::{INSPECT_IDLE_MAX, INSPECT_MAX, INSPECTED_BYTES_MAX, LONG_BODIES_MAX, SMALL_BODY_BYTES};
use crate::sessions::Ending;
use crate::upstream::Question;

/// A request as the listener hands it over.
pub struct Request {
    pub head: Parts,
    pub body: RequestBody,
    pub client: ClientAddress,
    pub received: Timestamp,
    pub presence: Presence,
}

/// A request of the gateway's own. It goes on as long as the other end is held.
pub fn own_request(question: Question, now: Timestamp) -> (Request, Present) {
    let mut head = http::Request::new(()).into_parts().0;
    (head.method, head.uri) = (question.verb, question.uri);
    if !question.body.is_empty() {
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let (present, presence) = Presence::pair();
    let client = ClientAddress { ip: IpAddr::from([127, 0, 0, 1]), tls: false };
    (Request { head, body: RequestBody::whole(question.body), client, received: now, presence }, present)
}

/// From where it came.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress {
    pub ip: IpAddr,
    /// Whether the gateway itself spoke TLS with it.
    pub tls: bool,
}

/// Tells the exchange, which runs on its own, whether the client is still there.
pub struct Presence {
    watched: oneshot::Receiver<()>,
    has_left: bool,
    ending: Option<Ending>,
}

/// Held by the client's connection; dropping it says that the client left.
pub struct Present(#[expect(dead_code, reason = "held for its drop")] oneshot::Sender<()>);

impl Presence {
    /// Both ends.
    pub fn pair() -> (Present, Self) {
        let (held, watched) = oneshot::channel();
        (Present(held), Self { watched, has_left: false, ending: None })
    }

    /// Ends with the session too.
    pub(crate) fn within(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }

    /// What tells of the session's end, for whoever goes on when the client's request is over.
    pub(crate) fn into_ending(self) -> Option<Ending> {
        self.ending
    }

    /// Resolves when the client has left, or its session was ended; at once if that was before.
    pub async fn left(&mut self) {
        if self.has_left {
            return;
        }
        match &mut self.ending {
            None => drop((&mut self.watched).await),
            Some(ending) => tokio::select! {
                _ = &mut self.watched => (),
                () = ending.ended() => (),
            },
        }
        self.has_left = true;
    }
}

/// How much more of a body must be read before it can be decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspect {
    More,
    Enough,
}

/// A body: what was read of it, then what is still to come.
pub struct RequestBody {
    read: Bytes,
    ended: bool,
    /// Held by a long body until it is gone.
    place: Option<OwnedSemaphorePermit>,
    rest: Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send + Sync>>,
}

/// Places for bodies that are long while they are inspected.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(LONG_BODIES_MAX)));

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    TooLong,
    TooSlow,
    Broken(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the request's JSON is longer than {INSPECTED_BYTES_MAX} bytes"),
            Self::TooSlow => f.write_str("the request's body did not arrive in time"),
            Self::Broken(why) => write!(f, "the request's body broke off: {why}"),
        }
    }
}

impl std::error::Error for BodyError {}

impl RequestBody {
    /// From the wire.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: fmt::Display,
    {
        let rest = Box::pin(body.map_err(|error| BodyError::Broken(error.to_string())));
        Self { read: Bytes::new(), ended: false, place: None, rest }
    }

    /// A body that is already whole.
    pub fn whole(bytes: Bytes) -> Self {
        let rest = Box::pin(http_body_util::Empty::new().map_err(|never| match never {}));
        Self { read: bytes, ended: true, place: None, rest }
    }

    /// What was read so far.
    pub fn read(&self) -> &Bytes {
        &self.read
    }

    /// Whether that is all of it.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Reads on until `enough` says so or the body ends.
    pub async fn inspect(&mut self, enough: impl Fn(&[u8]) -> Inspect) -> Result<(), BodyError> {
        tokio::time::timeout(INSPECT_MAX, self.inspect_untimed(enough))
            .await
            .unwrap_or(Err(BodyError::TooSlow))
    }

    async fn inspect_untimed(&mut self, enough: impl Fn(&[u8]) -> Inspect) -> Result<(), BodyError> {
        let mut read = BytesMut::from(&self.read[..]);
        let result = loop {
            if self.ended || enough(&read) == Inspect::Enough {
                break Ok(());
            }
            if read.len() > INSPECTED_BYTES_MAX {
                break Err(BodyError::TooLong);
            }
            if read.len() > SMALL_BODY_BYTES && self.place.is_none() {
                self.place = PLACES.clone().acquire_owned().await.ok();
            }
            match tokio::time::timeout(INSPECT_IDLE_MAX, self.rest.frame()).await {
                Err(_) => break Err(BodyError::TooSlow),
                Ok(None) => self.ended = true,
                Ok(Some(Err(error))) => break Err(error),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        read.extend_from_slice(&data);
                    }
                }
            }
        };
        self.read = read.freeze();
        result
    }

    /// Puts other bytes in the place of those that were read; what is still to come follows them.
    pub fn replace_read(&mut self, bytes: Bytes) {
        self.read = bytes;
    }

    /// The next part, `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if !self.read.is_empty() {
            return Some(Ok(std::mem::take(&mut self.read)));
        }
        while !self.ended {
            match self.rest.frame().await {
                None => self.ended = true,
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
            }
        }
        None
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.read)))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.rest.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && (self.ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        if self.ended {
            return hyper::body::SizeHint::with_exact(self.read.len() as u64);
        }
        hyper::body::SizeHint::default()
    }
}
