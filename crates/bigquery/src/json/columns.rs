//! Rows by column: what stands in one column is alike, so it compresses far better there than in rows.
//!
//! A payload is `before | rows | after`, where the rows stand as BigQuery writes them without white space:
//! `{"f":[{"v":1},{"v":"x"}]},{"f":...`. Packed, it is
//! `before's length | columns | rows | length of each column | before | columns | after`, each column its cells'
//! own bytes with a line feed behind each; numbers are 4 bytes, least first. What does not look like that stays
//! as it is.

use super::scan::{CELL, literal, string_end, value_end};

const ROW: &[u8; 6] = b"{\"f\":[";
/// Fewer rows are not worth it.
const ROWS_MIN: usize = 8;
const COLUMNS_MAX: usize = 10_000;

/// BigQuery's rows, for the ledger to pack.
pub struct RowColumns;

impl ledger::Packing for RowColumns {
    fn pack(&self, payload: &[u8]) -> Option<Vec<u8>> {
        pack(payload)
    }

    fn unpack(&self, packed: &[u8]) -> Option<Vec<u8>> {
        unpack(packed)
    }
}

fn pack(payload: &[u8]) -> Option<Vec<u8>> {
    let start = memchr::memmem::find(payload, ROW)?;
    let mut columns: Vec<Vec<u8>> = Vec::new();
    let mut rows = 0usize;
    let mut end = start;
    let mut at = start;
    let mut cells = Vec::new();
    while let Some(next) = row(payload, at, &mut cells) {
        if rows == 0 {
            columns =
                cells.iter().map(|_| Vec::with_capacity(payload.len() / cells.len().max(1) / 2)).collect();
        }
        if cells.len() != columns.len() {
            break;
        }
        for (column, cell) in columns.iter_mut().zip(&cells) {
            column.extend_from_slice(&payload[cell.0..cell.1]);
            column.push(b'\n');
        }
        rows += 1;
        end = next;
        if payload.get(next) != Some(&b',') {
            break;
        }
        at = next + 1;
    }
    // A line feed inside a cell would be taken for its end.
    let plain = |column: &Vec<u8>| memchr::memchr_iter(b'\n', column).count() == rows;
    if rows < ROWS_MIN || columns.is_empty() || columns.len() > COLUMNS_MAX || !columns.iter().all(plain) {
        return None;
    }
    let mut packed = Vec::with_capacity(payload.len() / 2);
    let mut number = |number: usize| packed.extend_from_slice(&(number as u32).to_le_bytes());
    number(start);
    number(columns.len());
    number(rows);
    columns.iter().for_each(|column| number(column.len()));
    packed.extend_from_slice(&payload[..start]);
    columns.iter().for_each(|column| packed.extend_from_slice(column));
    packed.extend_from_slice(&payload[end..]);
    Some(packed)
}

/// The cells of the row at `at`, and where it ends; none if it is written in another way.
fn row(payload: &[u8], at: usize, cells: &mut Vec<(usize, usize)>) -> Option<usize> {
    cells.clear();
    let mut at = literal(payload, at, ROW)?;
    loop {
        let value = literal(payload, at, CELL)?;
        let end = match payload.get(value)? {
            b'"' => string_end(payload, value + 1)?,
            _ => value_end(payload, value)?,
        };
        cells.push((value, end));
        at = literal(payload, end, b"}")?;
        match payload.get(at)? {
            b',' => at += 1,
            b']' => return literal(payload, at + 1, b"}"),
            _ => return None,
        }
    }
}

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let mut rest = packed;
    let mut number = || {
        let (number, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        Some(u32::from_le_bytes(*number) as usize)
    };
    let (before, columns, rows) = (number()?, number()?, number()?);
    if columns == 0 || columns > COLUMNS_MAX {
        return None;
    }
    let lengths: Vec<usize> = (0..columns).map(|_| number()).collect::<Option<_>>()?;
    let (before, mut rest) = rest.split_at_checked(before)?;
    let mut cells = Vec::with_capacity(columns);
    for length in lengths {
        let (column, after) = rest.split_at_checked(length)?;
        cells.push(column.split(|byte| *byte == b'\n'));
        rest = after;
    }
    let mut payload = Vec::with_capacity(packed.len() * 3);
    payload.extend_from_slice(before);
    for row in 0..rows {
        payload.extend_from_slice(if row > 0 { b",{\"f\":[" } else { ROW });
        for (at, column) in cells.iter_mut().enumerate() {
            payload.extend_from_slice(if at > 0 { b",{\"v\":" } else { CELL });
            payload.extend_from_slice(column.next()?);
            payload.push(b'}');
        }
        payload.extend_from_slice(b"]}");
    }
    payload.extend_from_slice(rest);
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let row = r#"{"f":[{"v":"a \" b"},{"v":null},{"v":{"f":[{"v":"1"},{"v":[{"v":"x}"}]}]}}]}"#;
        let body =
            format!(r#"{{"schema":{{"fields":[]}},"rows":[{}],"totalRows":"20"}}"#, vec![row; 20].join(","));
        for cut in 0..body.len() {
            for part in [&body.as_bytes()[..cut], &body.as_bytes()[cut..]] {
                if let Some(packed) = pack(part) {
                    assert_eq!(unpack(&packed).unwrap(), part, "cut at {cut}");
                }
            }
        }
        assert!(pack(body.as_bytes()).unwrap().len() < body.len());
    }

    #[test]
    fn what_is_written_otherwise_stays() {
        let pretty = r#"{ "f": [ { "v": "1" } ] }"#;
        let lines = "{\"f\":[{\"v\":{\"a\":\n1}}]}";
        for row in [pretty, lines, r#"{"f":[]}"#, r#"{"f":[{"v":1}"#] {
            let body = format!("[{}]", vec![row; 20].join(","));
            assert_eq!(pack(body.as_bytes()), None, "{row}");
        }
    }

    proptest! {
        #[test]
        fn any_text_around_and_in_rows(
            cells in prop::collection::vec("[ -~\n]{0,12}|\"[a-z\\\\\"]{0,6}\"|null|[0-9]{1,5}", 1..5),
            before in "[ -~]{0,20}", after in "[ -~]{0,20}", rows in 1usize..30,
        ) {
            let cells: Vec<_> = cells.iter().map(|cell| format!("{{\"v\":{cell}}}")).collect();
            let row = format!("{{\"f\":[{}]}}", cells.join(","));
            let body = format!("{before}{}{after}", vec![row; rows].join(","));
            if let Some(packed) = pack(body.as_bytes()) {
                prop_assert_eq!(unpack(&packed).unwrap(), body.as_bytes());
            }
        }

        #[test]
        fn damaged_forms_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&bytes);
        }
    }
}
