//! Cells as BigQuery's JSON writes them.
//!
//! Source: "Data types" in BigQuery's REST reference, under TableRow: every value is a string, or null.

use jiff::civil::{Date, Time, date};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const MICROS: i64 = 1_000_000;

pub(super) fn row(cells: Vec<Value>) -> Value {
    let cells: Vec<Value> = cells.into_iter().map(|cell| json!({"v": cell})).collect();
    json!({"f": cells})
}

pub(super) fn list(cells: Vec<Value>) -> Value {
    cells.into_iter().map(|cell| json!({"v": cell})).collect()
}

pub(super) fn float(value: f64) -> Value {
    match value {
        _ if value.is_nan() => "NaN".into(),
        _ if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        _ => format!("{value:?}").into(),
    }
}

/// Days since 1970.
pub(super) fn day(days: i64) -> Value {
    let at: Option<Date> =
        date(1970, 1, 1).checked_add(SignedDuration::from_hours(days.saturating_mul(24))).ok();
    at.map_or(Value::Null, |at| at.to_string().into())
}

/// Microseconds since midnight.
pub(super) fn time(micros: i64) -> Value {
    let at: Option<Time> = Time::midnight().checked_add(SignedDuration::from_micros(micros)).ok();
    at.map_or(Value::Null, |at| at.to_string().into())
}

/// Microseconds since 1970, in no zone.
pub(super) fn datetime(micros: i64) -> Value {
    let at = Timestamp::from_microsecond(micros).ok();
    at.map_or(Value::Null, |at| at.to_zoned(jiff::tz::TimeZone::UTC).datetime().to_string().into())
}

/// Microseconds since 1970: seconds with a fraction.
pub(super) fn timestamp(micros: i64) -> Value {
    let sign = if micros < 0 { "-" } else { "" };
    let (seconds, rest) = (micros.unsigned_abs() / MICROS as u64, micros.unsigned_abs() % MICROS as u64);
    format!("{sign}{seconds}.{rest:06}").into()
}

/// A number in decimal digits, without zeros at its end.
pub(super) fn decimal(text: &str) -> Value {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text.into(),
    }
}

/// A two's complement integer, the highest byte first, whose last `scale` digits are a fraction.
pub(super) fn decimal_of(bytes: &[u8], scale: usize) -> Option<Value> {
    // BIGNUMERIC has 256 bits: long division by hand, for no integer type holds them.
    if bytes.is_empty() || bytes.len() > 33 {
        return None;
    }
    let negative = bytes[0] & 0x80 != 0;
    let mut left: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in left.iter_mut().rev() {
            let (flipped, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (flipped, over);
        }
    }
    let mut digits = Vec::new();
    while left.iter().any(|byte| *byte != 0) {
        let mut rest = 0u32;
        for byte in &mut left {
            let value = rest * 256 + u32::from(*byte);
            (*byte, rest) = ((value / 10) as u8, value % 10);
        }
        digits.push(b'0' + rest as u8);
    }
    while digits.len() <= scale {
        digits.push(b'0');
    }
    digits.reverse();
    let text = String::from_utf8(digits).expect("digits");
    let (whole, fraction) = text.split_at(text.len() - scale);
    let sign = if negative { "-" } else { "" };
    let text = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
    Some(decimal(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_written_as_bigquery_writes_them() {
        assert_eq!(day(20_454), "2026-01-01");
        assert_eq!(day(-1), "1969-12-31");
        assert_eq!(time(3_600_000_001), "01:00:00.000001");
        assert_eq!(datetime(1_767_225_600_000_000), "2026-01-01T00:00:00");
        assert_eq!(timestamp(1_767_225_600_500_000), "1767225600.500000");
        assert_eq!(timestamp(-1), "-0.000001");
        assert_eq!(float(1.0), "1.0");
        assert_eq!(decimal_of(&[0x04, 0xD2], 2), Some("12.34".into()));
        assert_eq!(decimal_of(&[0xFB, 0x2E], 2), Some("-12.34".into()));
        assert_eq!(decimal_of(&[0x01], 9), Some("0.000000001".into()));
        assert_eq!(decimal_of(&[0x00], 0), Some("0".into()));
    }
}
