//! Fast ways over JSON that need not be understood: eight bytes at a time where nothing of interest stands.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// How BigQuery begins a cell of a row.
pub(crate) const CELL: &[u8; 5] = b"{\"v\":";

/// Marks, by their high bits, the bytes of `word` that equal `byte`. The lowest mark is exact.
fn equal(word: u64, byte: u8) -> u64 {
    let differs = word ^ (ONES * u64::from(byte));
    differs.wrapping_sub(ONES) & !differs & HIGHS
}

/// Where the next quote or backslash stands, from `at` on; the length if there is none.
pub(crate) fn quote_or_escape(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
        let found = equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while at < bytes.len() && !matches!(bytes[at], b'"' | b'\\') {
        at += 1;
    }
    at
}

/// Where the cells end that begin at `at`, as far as they are whole, and texts or nulls as BigQuery writes them:
/// `{"v":"..."},{"v":null}`.
pub(crate) fn cells_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(end) = cell_end(bytes, at) {
        at = end;
        if bytes.get(at) != Some(&b',') {
            break;
        }
        at += 1;
    }
    at
}

fn cell_end(bytes: &[u8], at: usize) -> Option<usize> {
    let value = literal(bytes, at, CELL)?;
    let end = match bytes.get(value)? {
        b'"' => string_end(bytes, value + 1)?,
        _ => literal(bytes, value, b"null")?,
    };
    literal(bytes, end, b"}")
}

/// Behind the literal that stands at `at`; its length is known beforehand, so it is compared as one number.
pub(crate) fn literal<const N: usize>(bytes: &[u8], at: usize, wanted: &[u8; N]) -> Option<usize> {
    (bytes.get(at..)?.first_chunk()? == wanted).then_some(at + N)
}

/// Where the string ends whose opening quote stands before `at`: behind its closing quote.
pub(crate) fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at = quote_or_escape(bytes, at);
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// Where the value that begins at `at` ends.
pub(crate) fn value_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = string_end(bytes, at + 1)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b',' if depth == 0 => return Some(at),
            _ => {}
        }
        at += 1;
    }
}
