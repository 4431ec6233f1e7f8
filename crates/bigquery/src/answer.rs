//! An answer on its way down: decoded once, edited where it must be, watched for what the record says.

use bytes::Bytes;
use flate2::write::GzDecoder;
use gateway::{Answer, AnswerBody, Chunk, Learnt, Manner, NextChunk, Presence, Speaks, UpstreamFault};
use http::StatusCode;
use http::response::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

use crate::json::{Edit, Editor, Packer, Watcher};
use crate::learn;
use crate::methods::Shape;

/// Encoded bytes that are decoded at a time: gzip makes at most about a thousand bytes of one.
const DECODE_BYTES: usize = 4 * 1024;

/// How a body is read.
pub(crate) struct Reading {
    pub(crate) status: StatusCode,
    pub(crate) shape: Shape,
    pub(crate) gzip: bool,
    pub(crate) edits: Vec<Edit>,
    pub(crate) keeps_schema: bool,
    /// Its rows are kept, so they are packed.
    pub(crate) keeps_rows: bool,
    pub(crate) project: String,
    /// It answers `jobs.query`, whose statement may be over with it.
    pub(crate) starts_query: bool,
}

/// An answer whose body is still to come, or was read and changed.
pub(crate) fn reading(
    head: Parts,
    source: Source,
    reading: Reading,
    presence: Presence,
    repeatable: bool,
) -> Answer {
    let body = ReadBody {
        source,
        decoder: reading.gzip.then(|| GzDecoder::new(Vec::new())),
        encoded: Bytes::new(),
        unedited: (!reading.edits.is_empty()).then(Watcher::default),
        editors: reading.edits.into_iter().map(Editor::new).collect(),
        delivered: if reading.keeps_rows { Packer::packing() } else { Packer::counting() },
        status: reading.status,
        shape: reading.shape,
        keeps_schema: reading.keeps_schema,
        project: reading.project,
        starts_query: reading.starts_query,
    };
    Answer { head, body: Box::new(body), presence, manner: Manner { speaks: Speaks::Json, repeatable } }
}

/// An answer of our own.
pub(crate) fn whole(head: Parts, body: Bytes, presence: Presence, shape: Shape, repeatable: bool) -> Answer {
    let body = ReadBody {
        source: Source::Own(Some(body)),
        decoder: None,
        encoded: Bytes::new(),
        unedited: None,
        editors: Vec::new(),
        delivered: Packer::counting(),
        status: head.status,
        shape,
        keeps_schema: false,
        project: String::new(),
        starts_query: false,
    };
    Answer { head, body: Box::new(body), presence, manner: Manner { speaks: Speaks::Json, repeatable } }
}

/// No answer: the client left while BigQuery was asked.
pub(crate) fn left(presence: Presence, repeatable: bool) -> Answer {
    let mut head = http::Response::new(()).into_parts().0;
    head.status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = whole(head, Bytes::new(), presence, Shape::Other, repeatable);
    answer.body = Box::new(Left);
    answer
}

pub(crate) struct Left;

impl AnswerBody for Left {
    fn next(&mut self) -> NextChunk<'_> {
        Box::pin(async { Some(Err(UpstreamFault("the client left".to_owned()))) })
    }

    fn rows(&self) -> (u64, Option<u64>) {
        (0, None)
    }

    fn learnt(self: Box<Self>) -> Learnt {
        Learnt::default()
    }
}

/// Where a body comes from.
pub(crate) enum Source {
    Upstream(Incoming),
    Own(Option<Bytes>),
}

struct ReadBody {
    source: Source,
    decoder: Option<GzDecoder<Vec<u8>>>,
    /// Received and not yet decoded.
    encoded: Bytes,
    editors: Vec<Editor>,
    /// Watches the whole answer where the client gets an edited one: the record learns from this, and keeps that.
    unedited: Option<Watcher>,
    delivered: Packer,
    status: StatusCode,
    shape: Shape,
    keeps_schema: bool,
    project: String,
    starts_query: bool,
}

impl ReadBody {
    fn watcher(&self) -> &Watcher {
        self.unedited.as_ref().unwrap_or(self.delivered.watcher())
    }

    async fn next(&mut self) -> Option<Result<Chunk, UpstreamFault>> {
        loop {
            let wire = match self.wire().await {
                Some(Ok(wire)) => wire,
                Some(Err(fault)) => return Some(Err(fault)),
                None => return self.end(),
            };
            match self.chunk(wire) {
                // All of it was taken out.
                Ok(chunk) if chunk.decoded.is_empty() && chunk.wire.is_none() => continue,
                other => return Some(other),
            }
        }
    }

    async fn wire(&mut self) -> Option<Result<Bytes, UpstreamFault>> {
        if !self.encoded.is_empty() {
            let taken = self.encoded.len().min(DECODE_BYTES);
            return Some(Ok(self.encoded.split_to(taken)));
        }
        loop {
            let part = match &mut self.source {
                Source::Own(body) => body.take().filter(|body| !body.is_empty())?,
                Source::Upstream(body) => match body.frame().await? {
                    Err(error) => return Some(Err(UpstreamFault(outbound::causes(&error)))),
                    Ok(frame) => match frame.into_data() {
                        Ok(data) if !data.is_empty() => data,
                        _ => continue,
                    },
                },
            };
            if self.decoder.is_none() {
                return Some(Ok(part));
            }
            self.encoded = part;
            let taken = self.encoded.len().min(DECODE_BYTES);
            return Some(Ok(self.encoded.split_to(taken)));
        }
    }

    fn chunk(&mut self, wire: Bytes) -> Result<Chunk, UpstreamFault> {
        match &mut self.decoder {
            None => self.edited(wire, None),
            Some(decoder) => {
                let fed = decoder.write_all(&wire).and_then(|()| decoder.flush());
                fed.map_err(|_| UpstreamFault("its gzip is damaged".to_owned()))?;
                let decoded = Bytes::from(std::mem::take(decoder.get_mut()));
                self.edited(decoded, Some(wire))
            }
        }
    }

    fn edited(&mut self, decoded: Bytes, wire: Option<Bytes>) -> Result<Chunk, UpstreamFault> {
        let Some(unedited) = &mut self.unedited else { return Ok(Chunk { decoded, wire }) };
        unedited.push(&decoded);
        let mut edited = decoded;
        for editor in &mut self.editors {
            let mut out = Vec::with_capacity(edited.len());
            let done = editor.push(&edited, &mut out);
            done.map_err(|_| UpstreamFault("its JSON can't be edited as it must be".to_owned()))?;
            edited = out.into();
        }
        Ok(Chunk { decoded: edited, wire: None })
    }

    /// The end: encoded bytes were whole, and so was what was edited. What the decoder still held comes first.
    fn end(&mut self) -> Option<Result<Chunk, UpstreamFault>> {
        if let Some(mut decoder) = self.decoder.take() {
            if decoder.try_finish().is_err() {
                return Some(Err(UpstreamFault("its gzip ends too early".to_owned())));
            }
            let rest = Bytes::from(std::mem::take(decoder.get_mut()));
            if !rest.is_empty() {
                return Some(self.edited(rest, Some(Bytes::new())));
            }
        }
        let whole = self.editors.iter().all(Editor::is_done);
        (!whole).then(|| Err(UpstreamFault("its JSON ends too early".to_owned())))
    }
}

impl AnswerBody for ReadBody {
    fn next(&mut self) -> NextChunk<'_> {
        Box::pin(ReadBody::next(self))
    }

    fn read(&mut self, gathered: &[u8]) {
        self.delivered.read(gathered);
    }

    fn finish(&mut self, window: &[u8]) -> Option<Vec<u8>> {
        self.delivered.finish(window)
    }

    fn rows(&self) -> (u64, Option<u64>) {
        match self.shape {
            Shape::Query | Shape::Rows => (self.watcher().rows().unwrap_or(0), self.watcher().total_rows()),
            _ => (0, None),
        }
    }

    fn learnt(self: Box<Self>) -> Learnt {
        learn::from_answer(
            self.status,
            self.shape,
            self.watcher(),
            self.keeps_schema,
            (&self.project, self.starts_query),
        )
    }
}

/// A request body made of recorded parts.
pub(crate) struct Passed(pub(crate) mpsc::Receiver<Result<Bytes, String>>);

impl Body for Passed {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0
            .poll_recv(context)
            .map(|part| part.map(|part| part.map(Frame::data).map_err(std::io::Error::other)))
    }
}
