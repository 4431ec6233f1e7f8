//! Rows in Arrow record batches.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::cells;

/// "End-of-stream" in Arrow's IPC streaming format.
const END_OF_STREAM: &[u8] = &[0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

/// Rows by one schema.
pub(super) struct ArrowRows {
    decoder: StreamDecoder,
    schema: std::sync::Arc<Schema>,
}

impl ArrowRows {
    pub(super) fn new(schema: &[u8]) -> Option<Self> {
        // A writer may have ended the stream that the schema began; the batches come by themselves all the same.
        let schema = schema.strip_suffix(END_OF_STREAM).unwrap_or(schema);
        let fed = |bytes: Vec<u8>| {
            let mut decoder = StreamDecoder::new();
            decoder.decode(&mut Buffer::from(bytes)).ok().filter(Option::is_none)?;
            Some(decoder)
        };
        // The schema is known by what follows it: here the end, there the batches.
        let known = fed([schema, END_OF_STREAM].concat())?.schema()?;
        Some(Self { decoder: fed(schema.to_vec())?, schema: known })
    }
}

impl super::Rows for ArrowRows {
    fn fields(&self) -> Value {
        self.schema.fields().iter().map(|known| field(known)).collect()
    }

    fn rows(&mut self, payload: &[u8], each: &mut dyn FnMut(Value)) -> Option<()> {
        let mut rest = Buffer::from(payload.to_vec());
        while !rest.is_empty() {
            let before = rest.len();
            match self.decoder.decode(&mut rest).ok()? {
                Some(batch) => rows_of(&batch, each),
                None if rest.len() == before => return None,
                None => {}
            }
        }
        Some(())
    }
}

fn rows_of(batch: &RecordBatch, each: &mut dyn FnMut(Value)) {
    for row in 0..batch.num_rows() {
        each(cells::row(batch.columns().iter().map(|column| cell(&**column, row)).collect()));
    }
}

fn field(known: &Field) -> Value {
    let (kind, mode) = match known.data_type() {
        DataType::List(item) => (item.data_type(), "REPEATED"),
        other => (other, if known.is_nullable() { "NULLABLE" } else { "REQUIRED" }),
    };
    if let DataType::Struct(fields) = kind {
        let fields: Vec<Value> = fields.iter().map(|inner| field(inner)).collect();
        return json!({"name": known.name(), "type": "RECORD", "mode": mode, "fields": fields});
    }
    let word = match kind {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => "INTEGER",
        DataType::Float32 | DataType::Float64 => "FLOAT",
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "BYTES",
        DataType::Date32 => "DATE",
        DataType::Time64(_) => "TIME",
        DataType::Timestamp(_, None) => "DATETIME",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP",
        DataType::Decimal128(..) => "NUMERIC",
        DataType::Decimal256(..) => "BIGNUMERIC",
        _ => "STRING",
    };
    json!({"name": known.name(), "type": word, "mode": mode})
}

fn cell(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string().into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).to_string().into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string().into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string().into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string().into(),
        DataType::Float32 => cells::float(f64::from(array.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => cells::float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).into(),
        DataType::Binary => STANDARD.encode(array.as_binary::<i32>().value(row)).into(),
        DataType::LargeBinary => STANDARD.encode(array.as_binary::<i64>().value(row)).into(),
        DataType::FixedSizeBinary(_) => STANDARD.encode(array.as_fixed_size_binary().value(row)).into(),
        DataType::Date32 => cells::day(i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::Time64(TimeUnit::Microsecond) => {
            cells::time(array.as_primitive::<Time64MicrosecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            if zone.is_some() { cells::timestamp(micros) } else { cells::datetime(micros) }
        }
        DataType::Decimal128(..) => {
            cells::decimal(&array.as_primitive::<Decimal128Type>().value_as_string(row))
        }
        DataType::Decimal256(..) => {
            cells::decimal(&array.as_primitive::<Decimal256Type>().value_as_string(row))
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            cells::list((0..items.len()).map(|at| cell(&*items, at)).collect())
        }
        DataType::Struct(_) => {
            cells::row(array.as_struct().columns().iter().map(|column| cell(&**column, row)).collect())
        }
        // BigQuery sends none of the others: an interval, at most.
        other => format!("({other})").into(),
    }
}
