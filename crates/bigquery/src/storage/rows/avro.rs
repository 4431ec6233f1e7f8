//! Rows in Avro's binary form.
//!
//! Source: "Binary Encoding" in Avro 1.11; the types that BigQuery exports, in "Avro schema details" of its
//! documentation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::cells;

const DEPTH_MAX: usize = 16;

/// A type of the schema, as far as BigQuery makes them.
enum Kind {
    Null,
    Boolean,
    Int(Word),
    Long(Word),
    Float,
    Double,
    Bytes(Option<usize>),
    Fixed(usize),
    Text(String),
    Symbols(Vec<String>),
    List(Box<Kind>),
    Record(Vec<(String, Kind)>),
    Union(Vec<Kind>),
}

/// What a whole number stands for.
#[derive(Clone, Copy)]
enum Word {
    Number,
    Date,
    Time,
    Datetime,
    Timestamp,
}

/// Rows by one schema.
pub(super) struct AvroRows(Vec<(String, Kind)>);

impl AvroRows {
    pub(super) fn new(schema: &str) -> Option<Self> {
        match kind(&serde_json::from_str(schema).ok()?, 0)? {
            Kind::Record(fields) => Some(Self(fields)),
            _ => None,
        }
    }
}

impl super::Rows for AvroRows {
    fn fields(&self) -> Value {
        self.0.iter().map(|(name, kind)| field(name, kind)).collect()
    }

    fn rows(&mut self, payload: &[u8], each: &mut dyn FnMut(Value)) -> Option<()> {
        let mut rest = payload;
        while !rest.is_empty() {
            let cells = self.0.iter().map(|(_, kind)| cell(kind, &mut rest, 0)).collect::<Option<_>>()?;
            each(cells::row(cells));
        }
        Some(())
    }
}

fn kind(schema: &Value, depth: usize) -> Option<Kind> {
    if depth > DEPTH_MAX {
        return None;
    }
    if let Some(many) = schema.as_array() {
        return many.iter().map(|one| kind(one, depth + 1)).collect::<Option<_>>().map(Kind::Union);
    }
    let name = schema.as_str().or(schema["type"].as_str());
    let Some(name) = name else { return kind(&schema["type"], depth + 1) };
    let logical = schema["logicalType"].as_str().unwrap_or_default();
    let scale = schema["scale"].as_u64().unwrap_or(0) as usize;
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" | "long" => {
            let word = match logical {
                "date" => Word::Date,
                "time-micros" => Word::Time,
                "timestamp-micros" => Word::Timestamp,
                "local-timestamp-micros" => Word::Datetime,
                _ => Word::Number,
            };
            if name == "int" { Kind::Int(word) } else { Kind::Long(word) }
        }
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes((logical == "decimal").then_some(scale)),
        "fixed" => Kind::Fixed(schema["size"].as_u64()? as usize),
        "string" => Kind::Text(schema["sqlType"].as_str().unwrap_or("STRING").to_owned()),
        "enum" => Kind::Symbols(
            schema["symbols"].as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        ),
        "array" => Kind::List(Box::new(kind(&schema["items"], depth + 1)?)),
        "record" => Kind::Record(
            schema["fields"]
                .as_array()?
                .iter()
                .map(|field| Some((field["name"].as_str()?.to_owned(), kind(&field["type"], depth + 1)?)))
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}

fn field(name: &str, kind: &Kind) -> Value {
    let (kind, mode) = match kind {
        Kind::List(inner) => (&**inner, "REPEATED"),
        Kind::Union(kinds) => {
            (kinds.iter().find(|kind| !matches!(kind, Kind::Null)).unwrap_or(&Kind::Null), "NULLABLE")
        }
        other => (other, "REQUIRED"),
    };
    let word = match kind {
        Kind::Boolean => "BOOLEAN",
        Kind::Int(word) | Kind::Long(word) => match word {
            Word::Number => "INTEGER",
            Word::Date => "DATE",
            Word::Time => "TIME",
            Word::Datetime => "DATETIME",
            Word::Timestamp => "TIMESTAMP",
        },
        Kind::Float | Kind::Double => "FLOAT",
        Kind::Bytes(Some(_)) => "NUMERIC",
        Kind::Bytes(None) | Kind::Fixed(_) => "BYTES",
        Kind::Text(sql) => sql,
        Kind::Record(fields) => {
            let fields: Vec<Value> = fields.iter().map(|(name, kind)| field(name, kind)).collect();
            return json!({"name": name, "type": "RECORD", "mode": mode, "fields": fields});
        }
        Kind::Null | Kind::Symbols(_) | Kind::List(_) | Kind::Union(_) => "STRING",
    };
    json!({"name": name, "type": word, "mode": mode})
}

fn cell(kind: &Kind, rest: &mut &[u8], depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    Some(match kind {
        Kind::Null => Value::Null,
        Kind::Boolean => (take(rest, 1)?[0] != 0).to_string().into(),
        Kind::Int(word) | Kind::Long(word) => {
            let value = number(rest)?;
            match word {
                Word::Number => value.to_string().into(),
                Word::Date => cells::day(value),
                Word::Time => cells::time(value),
                Word::Datetime => cells::datetime(value),
                Word::Timestamp => cells::timestamp(value),
            }
        }
        Kind::Float => cells::float(f64::from(f32::from_le_bytes(take(rest, 4)?.try_into().ok()?))),
        Kind::Double => cells::float(f64::from_le_bytes(take(rest, 8)?.try_into().ok()?)),
        Kind::Bytes(scale) => {
            let len = usize::try_from(number(rest)?).ok()?;
            let bytes = take(rest, len)?;
            match scale {
                Some(scale) => cells::decimal_of(bytes, *scale)?,
                None => STANDARD.encode(bytes).into(),
            }
        }
        Kind::Fixed(len) => STANDARD.encode(take(rest, *len)?).into(),
        Kind::Text(_) => {
            let len = usize::try_from(number(rest)?).ok()?;
            String::from_utf8_lossy(take(rest, len)?).into_owned().into()
        }
        Kind::Symbols(symbols) => symbols.get(usize::try_from(number(rest)?).ok()?)?.clone().into(),
        Kind::List(inner) => cells::list(items(inner, rest, depth)?),
        Kind::Record(fields) => {
            cells::row(fields.iter().map(|(_, kind)| cell(kind, rest, depth + 1)).collect::<Option<_>>()?)
        }
        Kind::Union(kinds) => cell(kinds.get(usize::try_from(number(rest)?).ok()?)?, rest, depth + 1)?,
    })
}

/// Blocks of items, until one of none.
fn items(inner: &Kind, rest: &mut &[u8], depth: usize) -> Option<Vec<Value>> {
    let mut found = Vec::new();
    loop {
        let count = number(rest)?;
        if count == 0 {
            return Some(found);
        }
        // A negative count is followed by the block's length.
        if count < 0 {
            number(rest)?;
        }
        for _ in 0..count.unsigned_abs() {
            // An item of no bytes at all would never end the input.
            if rest.is_empty() {
                return None;
            }
            found.push(cell(inner, rest, depth + 1)?);
        }
    }
}

fn number(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::super::Rows;
    use super::*;

    #[test]
    fn every_type_that_bigquery_exports_is_read() {
        let schema = json!({"type": "record", "name": "__root__", "fields": [
            {"name": "id", "type": ["null", "long"]},
            {"name": "n", "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 9}},
            {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
            {"name": "when", "type": {"type": "string", "sqlType": "DATETIME"}},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "in", "type": ["null", {"type": "record", "name": "r", "fields": [{"name": "x", "type": "double"}]}]},
        ]});
        let mut rows = AvroRows::new(&schema.to_string()).unwrap();
        let fields = rows.fields();
        let types: Vec<_> = fields.as_array().unwrap().iter().map(|field| &field["type"]).collect();
        assert_eq!(types, ["INTEGER", "NUMERIC", "TIMESTAMP", "DATETIME", "STRING", "RECORD"]);
        let mut bytes = vec![2, 14]; // 7
        bytes.extend([2, 5]); // one byte: -5
        bytes.extend([0]); // null
        bytes.extend([2, b'w']);
        bytes.extend([4, 2, b'a', 2, b'b', 0]);
        bytes.push(2);
        bytes.extend(1.5f64.to_le_bytes());
        let mut seen = Vec::new();
        rows.rows(&[&bytes[..], &bytes[..]].concat(), &mut |row| seen.push(row.to_string())).unwrap();
        let row = r#"{"f":[{"v":"7"},{"v":"0.000000005"},{"v":null},{"v":"w"},{"v":[{"v":"a"},{"v":"b"}]},{"v":{"f":[{"v":"1.5"}]}}]}"#;
        assert_eq!(seen, [row, row]);
        assert!(rows.rows(&bytes[..bytes.len() - 1], &mut |_| ()).is_none());
    }
}
