//! Bytes leave behind the record, window by window.
//!
//! ```text
//! fits one window:  read all -> close (durable) -> head and body leave
//! longer:           window 0 durable -> head, window 0 leave -> window 1 durable -> ... -> close -> end leaves
//! ```
//! While a window becomes durable, the next one is read. After any kill the record is ahead of the client, by at most a
//! window and what waits at the client's socket, never behind.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::Frame;
use ledger::{Closing, LedgerError, OpenRecord, Payload, WINDOW_BYTES, failpoint};
use record::{Clock, Outcome, RecordId, Status, Timestamp};
use std::sync::Arc;
use tokio::sync::mpsc;

use crate::exchange::Gateway;
use crate::histories::Histories;
use crate::limits::{
    MESSAGES_GATHERED_MAX, REPLY_PIECE_BYTES, REPLY_PIECES_MAX, UPLOAD_IDLE_MAX, UPLOAD_REST_MAX,
};
use crate::metrics::Metrics;
use crate::ownership::Claims;
use crate::refusal::{Reason, Refusal};
use crate::reply::{Reply, ReplyBody};
use crate::sessions::Ending;
use crate::upstream::{Answer, AnswerBody, Chunk, Learnt, Manner, Speaks, Upstream, UpstreamFault};

/// The header that names an answer's record.
pub(crate) const RECORD_HEADER: &str = "x-hansard-record";
const CLIENT_LEFT: &str = "the client left, or its session was ended";

/// A part of the body, gathered until it may leave.
#[derive(Default)]
struct Gathered {
    decoded: BytesMut,
    /// Of an encoded body, what the wire carries.
    wire: Option<BytesMut>,
    /// Its body has read all of it.
    is_read: bool,
    /// A shorter form, where one is to be kept.
    packed: Option<Vec<u8>>,
}

/// A part of the body that is gathered: what is recorded, and what leaves.
struct Window {
    payload: Payload,
    /// Of an encoded body, what the wire carries.
    wire: Option<Bytes>,
}

impl Gathered {
    /// With room for what the answer says it has, a window of it at most.
    fn of(head: &http::response::Parts) -> Self {
        let said =
            head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let room = said.map_or(0, |said: usize| said.min(WINDOW_BYTES + WINDOW_BYTES / 16));
        Self { decoded: BytesMut::with_capacity(room), ..Self::default() }
    }

    fn take(&mut self, chunk: Chunk) {
        self.decoded.extend_from_slice(&chunk.decoded);
        if let Some(wire) = chunk.wire {
            self.wire.get_or_insert_default().extend_from_slice(&wire);
        }
    }

    /// No more comes: what is left of it is read, once.
    fn finish(&mut self, body: &mut dyn AnswerBody) {
        if !self.is_read {
            (self.packed, self.is_read) = (body.finish(&self.decoded), true);
        }
    }

    /// Encoded bytes may say nothing for as long as they like: they fill a window too.
    fn is_full(&self) -> bool {
        let wire = self.wire.as_ref().map_or(0, BytesMut::len);
        self.decoded.len().max(wire) >= WINDOW_BYTES
    }

    fn into_window(self) -> Window {
        let payload = Payload { bytes: self.decoded.freeze(), packed: self.packed };
        Window { payload, wire: self.wire.map(BytesMut::freeze) }
    }

    /// An empty one with room for as much as this one holds, so that a window is not moved while it grows.
    fn successor(&self) -> Self {
        let room = self.decoded.len() + self.decoded.len() / 16;
        Self { decoded: BytesMut::with_capacity(room), ..Self::default() }
    }
}

impl Window {
    /// What is recorded, and what leaves.
    fn into_parts(self) -> (Payload, Bytes) {
        let wire = self.wire.unwrap_or_else(|| self.payload.bytes.clone());
        (self.payload, wire)
    }
}

/// What leaves, in pieces.
fn pieces(mut wire: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || (!wire.is_empty()).then(|| wire.split_to(wire.len().min(REPLY_PIECE_BYTES))))
}

/// How far reading came.
enum Read {
    Window,
    End,
    /// Nobody is there to read for.
    Left,
    Broken(UpstreamFault),
}

/// What is known when the answer began.
struct Times {
    forwarded: Timestamp,
    first_byte: Timestamp,
    http: u16,
}

/// Releases an answer behind its record.
pub(crate) async fn behind<U: Upstream>(
    gateway: &Gateway<U>,
    mut open: OpenRecord,
    mut claims: Claims,
    forwarded: Timestamp,
    answer: Answer,
) -> Reply {
    failpoint("first_byte");
    let Answer { mut head, mut body, mut presence, manner } = answer;
    let id = open.id();
    if let Some(progress) = body.progress() {
        open.show_progress(progress);
    }
    if head.status.is_client_error() {
        claims.give_back().await;
    }
    stamp(&mut head.headers, Some(id));
    let times = Times { forwarded, first_byte: gateway.clock.now(), http: head.status.as_u16() };
    let mut gathered = Gathered::of(&head);
    let read = tokio::select! {
        biased;
        () = presence.left() => Read::Left,
        read = fill(&mut *body, &mut gathered, manner.speaks) => read,
    };
    if let (Read::Window | Read::End, Some(refusal)) = (&read, claims.too_many(&*body)) {
        return Box::pin(refused_for_its_rows(gateway, open, claims, body, (refusal, &times, manner))).await;
    }
    match read {
        Read::Window => {
            let next = gathered.successor();
            let (first, wire) = gathered.into_window().into_parts();
            let durable = Durable { decoded: first.bytes.len() as u64, wire };
            if open.window(first).await.is_err() {
                return withhold(gateway, id, manner);
            }
            let (release, released) = mpsc::channel(REPLY_PIECES_MAX);
            failpoint("mid_body");
            let rest = Rest {
                open,
                ending: presence.into_ending(),
                claims,
                clock: gateway.clock.clone(),
                body,
                times,
                gathered: next,
                release,
                metrics: gateway.metrics.clone(),
                histories: gateway.histories.clone(),
                wire_bytes: 0,
                released: 0,
                is_short: false,
                speaks: manner.speaks,
            };
            tokio::spawn(rest.run(durable));
            Reply::from_parts(head, ReplyBody::Released(released))
        }
        Read::End => {
            let (whole, wire) = gathered.into_window().into_parts();
            tokio::select! {
                () = upload_passed(&mut open, manner.speaks) => {}
                () = presence.left() => {}
            }
            let mut learnt = body.learnt();
            failpoint("last_byte");
            let mismatched = claims.mismatched(&learnt);
            let has_failed = has_failed(&times, &learnt);
            let (session, ended) = claims.ended(&learnt, has_failed);
            gateway.histories.ended(session, &ended, gateway.clock.now());
            if !claims.learn(&mut learnt, gateway.clock.now()).await {
                return Box::pin(unclaimed(gateway, open, learnt, manner, &times)).await;
            }
            let trailers = trailed(&mut learnt, id);
            let closing = closing(&times, learnt, wire.len() as u64);
            gateway.metrics.exchange(closing.outcome);
            if !closing.statement.decided_as.is_empty() {
                gateway.metrics.mismatch();
            }
            if let Some(job) = mismatched {
                gateway.stop_mismatch(claims.by(), &job, id).await;
            }
            if open.close(closing, whole).await.is_err() {
                return withhold(gateway, id, manner);
            }
            failpoint("answered");
            match trailers {
                None => Reply::from_parts(head, crate::full(wire)),
                Some(trailers) => Reply::from_parts(head, ReplyBody::trailed(wire, trailers)),
            }
        }
        read @ (Read::Left | Read::Broken(_)) => {
            gathered.finish(&mut *body);
            let fault = match read {
                Read::Broken(fault) => Some(fault),
                _ => None,
            };
            Box::pin(broken_before_release(gateway, open, claims, body, (fault, &times, manner))).await
        }
    }
}

/// Releases a no of ours, or that it waits: the record closes first. False if that failed.
pub(crate) async fn whole<U: Upstream>(
    gateway: &Gateway<U>,
    speaks: Speaks,
    open: OpenRecord,
    (outcome, refusal): (Outcome, &Refusal),
) -> (Reply, bool) {
    let reply = gateway.upstream.refuse(speaks, refusal, Some(open.id()));
    let said = (refusal_word(refusal.reason).to_owned(), refusal.message.clone());
    own(gateway, speaks, open, (outcome, said), reply).await
}

/// Releases an answer of ours that is whole: the record closes first, with what it delivers. False if that failed.
pub(crate) async fn own<U: Upstream>(
    gateway: &Gateway<U>,
    speaks: Speaks,
    open: OpenRecord,
    (outcome, (reason, message)): (Outcome, (String, String)),
    reply: Reply,
) -> (Reply, bool) {
    let (mut head, body) = reply.into_parts();
    stamp(&mut head.headers, Some(open.id()));
    let (http, grpc) = (Some(head.status.as_u16()), grpc_status(&head.headers));
    let delivered = match (&body, outcome) {
        (ReplyBody::Whole(whole), Outcome::Ok | Outcome::Held) => whole.clone().collect().await,
        _ => Ok(Default::default()),
    };
    let delivered = delivered.unwrap_or_else(|never| match never {}).to_bytes();
    let mut closing = Closing::new(outcome, Status { http, grpc, reason, message });
    closing.wire_bytes = delivered.len() as u64;
    gateway.metrics.exchange(outcome);
    match open.close(closing, delivered.into()).await {
        Ok(_) => (Reply::from_parts(head, body), true),
        Err(_) => (gateway.upstream.refuse(speaks, &Refusal::unrecorded(), None), false),
    }
}

/// The rest of a reply whose head has left.
struct Rest {
    open: OpenRecord,
    ending: Option<Ending>,
    claims: Claims,
    clock: Arc<dyn Clock>,
    body: Box<dyn AnswerBody>,
    times: Times,
    gathered: Gathered,
    release: mpsc::Sender<Result<Frame<Bytes>, crate::reply::CutOff>>,
    metrics: Arc<Metrics>,
    histories: Arc<Histories>,
    wire_bytes: u64,
    /// Decoded bytes that were given to the client, at most.
    released: u64,
    /// The client left before all that was to be released had been.
    is_short: bool,
    speaks: Speaks,
}

/// A window that may leave.
struct Durable {
    decoded: u64,
    wire: Bytes,
}

impl Rest {
    /// While a window becomes durable, the next one is read: never more than that.
    async fn run(mut self, first: Durable) {
        let mut read = self.release_then(first, None).await;
        loop {
            if let (Read::Window | Read::End, Some(refusal)) = (&read, self.claims.too_many(&*self.body)) {
                return self.close_early(&refusal.message).await;
            }
            match read {
                Read::Window => match self.record_and_release().await {
                    Ok(next) => read = next,
                    Err(_) => return self.cut_off().await,
                },
                Read::End => return self.close_at_end().await,
                Read::Left => return self.close_left().await,
                // A client who leaves breaks off what it sends as well, and so what the upstream answers.
                Read::Broken(_) if self.release.is_closed() => return self.close_left().await,
                Read::Broken(fault) => return self.close_early(&fault.0).await,
            }
        }
    }

    /// Makes the window that is gathered durable, then releases it; meanwhile reads the next.
    async fn record_and_release(&mut self) -> Result<Read, LedgerError> {
        let successor = self.gathered.successor();
        let (window, wire) = std::mem::replace(&mut self.gathered, successor).into_window().into_parts();
        let durable = Durable { decoded: window.bytes.len() as u64, wire };
        let mut next = None;
        let Self { open, body, gathered, speaks, .. } = self;
        {
            let (recording, reading) = (open.window(window), fill(&mut **body, gathered, *speaks));
            tokio::pin!(recording, reading);
            loop {
                tokio::select! {
                    recorded = &mut recording => break recorded?,
                    read = &mut reading, if next.is_none() => next = Some(read),
                }
            }
        }
        Ok(self.release_then(durable, next).await)
    }

    /// Gives a durable window to the client; then reads on, unless the next was read already.
    async fn release_then(&mut self, window: Durable, next: Option<Read>) -> Read {
        if !self.let_go(window).await {
            self.is_short = true;
            return Read::Left;
        }
        if let Some(next) = next {
            return next;
        }
        let Self { body, gathered, speaks, release, ending, .. } = self;
        tokio::select! {
            read = fill(&mut **body, gathered, *speaks) => read,
            () = release.closed() => Read::Left,
            () = ended(ending) => Read::Left,
        }
    }

    /// Gives a window to the client, piece by piece; false if it left. A slow client slows the upstream.
    async fn let_go(&mut self, window: Durable) -> bool {
        // Nobody can tell how much a part of what is encoded decodes to.
        let is_plain = window.decoded == window.wire.len() as u64;
        if !is_plain {
            self.released += window.decoded;
        }
        for piece in pieces(window.wire) {
            let bytes = piece.len() as u64;
            let sent = tokio::select! {
                sent = self.release.send(Ok(Frame::data(piece))) => sent.is_ok(),
                () = ended(&mut self.ending) => false,
            };
            if !sent {
                return false;
            }
            self.wire_bytes += bytes;
            self.released += if is_plain { bytes } else { 0 };
        }
        true
    }

    async fn close_at_end(mut self) {
        let (last, wire) = std::mem::take(&mut self.gathered).into_window().into_parts();
        let wire_bytes = self.wire_bytes + wire.len() as u64;
        tokio::select! {
            () = upload_passed(&mut self.open, self.speaks) => {}
            () = ended(&mut self.ending) => {}
        }
        let mut learnt = self.body.learnt();
        failpoint("last_byte");
        let (session, ended) = self.claims.ended(&learnt, has_failed(&self.times, &learnt));
        self.histories.ended(session, &ended, self.clock.now());
        if !self.claims.learn(&mut learnt, self.clock.now()).await {
            self.metrics.unrecorded();
            let _ = self.release.send(Err(crate::reply::CutOff)).await;
            return;
        }
        let trailers = trailed(&mut learnt, self.open.id());
        let closing = closing(&self.times, learnt, wire_bytes);
        self.metrics.exchange(closing.outcome);
        if !closing.statement.decided_as.is_empty() {
            self.metrics.mismatch();
        }
        let Self { open, release, .. } = self;
        let closed = open.close(closing, last).await;
        if closed.is_err() {
            let _ = release.send(Err(crate::reply::CutOff)).await;
            return;
        }
        for piece in pieces(wire) {
            if release.send(Ok(Frame::data(piece))).await.is_err() {
                return;
            }
        }
        if let Some(trailers) = trailers {
            let _ = release.send(Ok(Frame::trailers(trailers))).await;
        }
    }

    /// The client left. A stream whose every message was answered ended as it should, however it was closed.
    async fn close_left(self) {
        let is_whole = self.body.is_settled() && !self.is_short && self.gathered.decoded.is_empty();
        self.close_before_the_end(CLIENT_LEFT, is_whole).await;
    }

    /// The reply is not whole: the client's connection is reset, never ended as if it were.
    async fn close_early(self, why: &str) {
        self.close_before_the_end(why, false).await;
    }

    async fn close_before_the_end(mut self, why: &str, is_whole: bool) {
        self.gathered.finish(&mut *self.body);
        let wire_bytes = self.wire_bytes;
        // What it started goes on, and is followed; what it was billed counts.
        let mut learnt = self.body.learnt();
        if !self.claims.learn(&mut learnt, self.clock.now()).await {
            self.metrics.unrecorded();
        }
        let mut closing = closing(&self.times, learnt, wire_bytes);
        closing.released = Some(self.released);
        if !is_whole {
            closing.outcome = Outcome::Aborted;
            closing.status.reason = "aborted".to_owned();
            closing.status.message = why.to_owned();
        }
        self.metrics.exchange(closing.outcome);
        let _ = self.open.close(closing, Payload::default()).await;
        let _ = self.release.send(Err(crate::reply::CutOff)).await;
    }

    async fn cut_off(self) {
        self.metrics.unrecorded();
        let _ = self.release.send(Err(crate::reply::CutOff)).await;
    }
}

/// An answer may come before the upload's end: BigQuery takes the rest all the same, and the record is of all of it. A
/// call of gRPC is over with its answer.
async fn upload_passed(open: &mut OpenRecord, speaks: Speaks) {
    match speaks {
        Speaks::Json => {
            let passed = open.upload_passed(UPLOAD_IDLE_MAX);
            // Whoever sends for longer than that after the answer is cut off: the record closes.
            let _ = tokio::time::timeout(UPLOAD_REST_MAX, passed).await;
        }
        Speaks::Grpc => {}
    }
}

/// Resolves when the session is ended.
async fn ended(ending: &mut Option<Ending>) {
    match ending {
        Some(ending) => ending.ended().await,
        None => std::future::pending().await,
    }
}

/// Reads until a window is full or the body ends; of a stream of messages, also until no more come for now, for
/// whoever sends the other half may wait for them.
async fn fill(body: &mut dyn AnswerBody, gathered: &mut Gathered, speaks: Speaks) -> Read {
    let read = loop {
        if gathered.is_full() {
            break Read::Window;
        }
        let next = match speaks {
            Speaks::Grpc if !gathered.decoded.is_empty() => {
                match tokio::time::timeout(MESSAGES_GATHERED_MAX, body.next()).await {
                    Ok(next) => next,
                    Err(_) => break Read::Window,
                }
            }
            Speaks::Grpc | Speaks::Json => body.next().await,
        };
        match next {
            Some(Ok(chunk)) => {
                gathered.take(chunk);
                body.read(&gathered.decoded);
            }
            Some(Err(fault)) => return Read::Broken(fault),
            None => break Read::End,
        }
    };
    gathered.finish(body);
    read
}

/// What follows the body, with the record's id.
fn trailed(learnt: &mut Learnt, id: RecordId) -> Option<HeaderMap> {
    let mut trailers = learnt.trailers.take()?;
    trailers.insert(RECORD_HEADER, HeaderValue::from_str(&id.to_string()).expect("a UUID is a header value"));
    Some(trailers)
}

fn has_failed(times: &Times, learnt: &Learnt) -> bool {
    times.http >= 400 || !learnt.status.reason.is_empty()
}

fn closing(times: &Times, learnt: Learnt, wire_bytes: u64) -> Closing {
    let failed = has_failed(times, &learnt);
    Closing {
        outcome: if failed { Outcome::Error } else { Outcome::Ok },
        forwarded: Some(times.forwarded),
        first_byte: Some(times.first_byte),
        statement: learnt.statement,
        job: learnt.job,
        location: learnt.location,
        rows: learnt.rows,
        wire_bytes,
        status: Status { http: Some(times.http), ..learnt.status },
        schema: learnt.schema,
        released: None,
        is_another: learnt.is_another,
    }
}

/// The result has more rows than it may: none of them leaves. What came to be is claimed all the same.
async fn refused_for_its_rows<U: Upstream>(
    gateway: &Gateway<U>,
    open: OpenRecord,
    mut claims: Claims,
    body: Box<dyn AnswerBody>,
    (refusal, times, manner): (Refusal, &Times, Manner),
) -> Reply {
    let mut learnt = body.learnt();
    if !claims.learn(&mut learnt, gateway.clock.now()).await {
        return unclaimed(gateway, open, learnt, manner, times).await;
    }
    let id = open.id();
    let refusal = refusal.with_record(id);
    let mut reply = gateway.upstream.refuse(manner.speaks, &refusal, Some(id));
    stamp(reply.headers_mut(), Some(id));
    let mut closing = closing(times, learnt, 0);
    closing.outcome = Outcome::Refused;
    closing.rows = None;
    closing.status = Status {
        http: Some(reply.status().as_u16()),
        grpc: grpc_status(reply.headers()),
        reason: refusal_word(refusal.reason).to_owned(),
        message: refusal.message.clone(),
    };
    gateway.metrics.exchange(Outcome::Refused);
    match open.close(closing, Payload::default()).await {
        Ok(_) => reply,
        Err(_) => withhold(gateway, id, manner),
    }
}

/// Nothing was released yet. Without a fault it is the client who left: nobody reads the reply.
async fn broken_before_release<U: Upstream>(
    gateway: &Gateway<U>,
    open: OpenRecord,
    mut claims: Claims,
    body: Box<dyn AnswerBody>,
    (fault, times, manner): (Option<UpstreamFault>, &Times, Manner),
) -> Reply {
    let id = open.id();
    let undo = claims.undo().to_vec();
    let mut learnt = body.learnt();
    if !claims.learn(&mut learnt, gateway.clock.now()).await {
        return unclaimed(gateway, open, learnt, manner, times).await;
    }
    let why = match &fault {
        Some(fault) => format!("BigQuery broke off its answer: {fault}. Record {id}"),
        None => CLIENT_LEFT.to_owned(),
    };
    let refusal = Refusal::new(Reason::Upstream, why);
    let mut reply = gateway.upstream.refuse(manner.speaks, &refusal, Some(id));
    stamp(reply.headers_mut(), Some(id));
    let message = refusal.message.clone();
    let status = match fault {
        Some(_) => Status {
            http: Some(reply.status().as_u16()),
            grpc: grpc_status(reply.headers()),
            reason: refusal_word(Reason::Upstream).to_owned(),
            message,
        },
        None => Status { reason: "aborted".to_owned(), message, ..Status::default() },
    };
    let mut closing = Closing::new(Outcome::Aborted, status);
    closing.forwarded = Some(times.forwarded);
    closing.first_byte = Some(times.first_byte);
    closing.statement.undo = undo;
    closing.is_another = learnt.is_another;
    gateway.metrics.exchange(Outcome::Aborted);
    match open.close(closing, Payload::default()).await {
        Ok(_) => reply,
        Err(_) => withhold(gateway, id, manner),
    }
}

/// What the answer taught can't be made durable, so the answer is withheld, and the record says so.
async fn unclaimed<U: Upstream>(
    gateway: &Gateway<U>,
    open: OpenRecord,
    learnt: Learnt,
    manner: Manner,
    times: &Times,
) -> Reply {
    let id = open.id();
    let mut closing = closing(times, learnt, 0);
    closing.outcome = Outcome::Aborted;
    closing.status.reason = "withheld".to_owned();
    let _ = open.close(closing, Payload::default()).await;
    withhold(gateway, id, manner)
}

/// It ran, and its answer can't be recorded: a read may be repeated, anything else must not be.
fn withhold<U: Upstream>(gateway: &Gateway<U>, id: RecordId, manner: Manner) -> Reply {
    gateway.metrics.unrecorded();
    let refusal = if manner.repeatable { Refusal::unrecorded_answer() } else { Refusal::withheld(id) };
    gateway.upstream.refuse(manner.speaks, &refusal, None)
}

/// Where the whole reply is a status.
fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// The record's id, and that no cache may share the answer.
pub(crate) fn stamp(headers: &mut HeaderMap, id: Option<RecordId>) {
    if let Some(id) = id {
        let value = HeaderValue::from_str(&id.to_string()).expect("a UUID is a header value");
        headers.insert(RECORD_HEADER, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
}

/// The word in the record.
pub(crate) fn refusal_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Unauthenticated => "unauthenticated",
        Reason::Denied => "accessDenied",
        Reason::UnknownMethod => "unknownMethod",
        Reason::UnknownConnection => "unknownConnection",
        Reason::Invalid => "invalid",
        Reason::Duplicate => "duplicate",
        Reason::NotFound => "notFound",
        Reason::TooLarge => "tooLarge",
        Reason::Unrecorded => "unrecorded",
        Reason::Withheld | Reason::Stopped => "stopped",
        Reason::Upstream => "upstream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::NextChunk;
    use std::collections::VecDeque;

    /// Parts to come, and how much was read.
    struct Scripted(VecDeque<Option<&'static str>>, usize);

    impl AnswerBody for Scripted {
        fn next(&mut self) -> NextChunk<'_> {
            let next = self.0.pop_front().map(|part| match part {
                Some(text) => Ok(Chunk { decoded: Bytes::from_static(text.as_bytes()), wire: None }),
                None => Err(UpstreamFault("it broke off".to_owned())),
            });
            Box::pin(async { next })
        }

        fn finish(&mut self, window: &[u8]) -> Option<Vec<u8>> {
            self.1 += window.len();
            None
        }

        fn rows(&self) -> (u64, Option<u64>) {
            (0, None)
        }

        fn learnt(self: Box<Self>) -> Learnt {
            Learnt::default()
        }
    }

    #[test]
    fn what_is_gathered_is_read_once_however_it_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (parts, is_broken) in
            [([Some("ab"), Some("cde")].as_slice(), false), (&[Some("ab"), Some("cde"), None], true)]
        {
            let mut body = Scripted(parts.iter().copied().collect(), 0);
            let mut gathered = Gathered::default();
            let read = runtime.block_on(fill(&mut body, &mut gathered, Speaks::Json));
            assert_eq!(matches!(read, Read::Broken(_)), is_broken);
            // Whoever can't release it reads what is left, to learn from it.
            gathered.finish(&mut body);
            assert_eq!(body.1, 5);
        }
    }
}
