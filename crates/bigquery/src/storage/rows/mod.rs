//! Rows of a read stream in BigQuery's JSON row form, whatever they were on the wire: what a record shows.

mod arrow;
mod avro;
mod cells;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Value, json};

use super::messages::ReadRowsResponse;

/// A message is at most so long; a longer one is none of BigQuery's.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Rows of one format.
trait Rows: Send {
    /// The fields, as BigQuery's JSON schema names them.
    fn fields(&self) -> Value;

    /// The rows of one message's payload.
    fn rows(&mut self, payload: &[u8], each: &mut dyn FnMut(Value)) -> Option<()>;
}

/// Turns a stream's messages into `{"schema": ..., "rows": [...]}`, part by part.
pub struct RowReader {
    rows: Box<dyn Rows>,
    waiting: Vec<u8>,
    is_begun: bool,
    has_rows: bool,
    is_damaged: bool,
}

/// For a stream whose schema is this; none if it can't be read.
pub(crate) fn reader(schema: &Value) -> Option<RowReader> {
    let rows: Box<dyn Rows> = match (schema["arrow"].as_str(), schema["avro"].as_str()) {
        (Some(arrow), _) => Box::new(arrow::ArrowRows::new(&STANDARD.decode(arrow).ok()?)?),
        (None, Some(avro)) => Box::new(avro::AvroRows::new(avro)?),
        (None, None) => return None,
    };
    Some(RowReader { rows, waiting: Vec::new(), is_begun: false, has_rows: false, is_damaged: false })
}

impl RowReader {
    /// The next bytes of the stream, as text.
    pub fn part(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        if !std::mem::replace(&mut self.is_begun, true) {
            text = format!("{{\"schema\":{},\"rows\":[", json!({"fields": self.rows.fields()})).into();
        }
        self.waiting.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(prefix) = self.waiting[from..].first_chunk::<5>().filter(|_| !self.is_damaged) {
            let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
            let Some(message) = self.waiting[from..].get(5..5 + len) else {
                self.is_damaged = len > MESSAGE_BYTES_MAX;
                break;
            };
            let (rows, has_rows) = (&mut self.rows, &mut self.has_rows);
            let mut each = |row: Value| {
                if std::mem::replace(has_rows, true) {
                    text.push(b',');
                }
                text.extend_from_slice(row.to_string().as_bytes());
            };
            self.is_damaged = message_rows(&mut **rows, message, &mut each).is_none();
            from += 5 + len;
        }
        self.waiting.drain(..from);
        text
    }

    /// What closes the text. A stream that broke off, or could not be read to its end, says so.
    pub fn end(&mut self) -> Vec<u8> {
        let begin = if self.is_begun { Vec::new() } else { self.part(&[]) };
        let is_whole = self.waiting.is_empty() && !self.is_damaged;
        let end: &[u8] = if is_whole { b"]}" } else { b"],\"incomplete\":true}" };
        [&begin, end].concat()
    }
}

fn message_rows(rows: &mut dyn Rows, message: &[u8], each: &mut dyn FnMut(Value)) -> Option<()> {
    let message = ReadRowsResponse::decode(message).ok()?;
    match message.arrow_record_batch.or(message.avro_rows) {
        Some(payload) => rows.rows(&payload.bytes, each),
        // A message may say only how far the stream is.
        None => Some(()),
    }
}
