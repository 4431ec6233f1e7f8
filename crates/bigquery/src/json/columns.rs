//! Rows by column: what stands in one column is alike, so it compresses far better there than in rows.
//!
//! A payload is `before | rows | after`, where the rows stand as BigQuery writes them without white space:
//! `{"f":[{"v":1},{"v":"x"}]},{"f":...`. Packed, it is
//! `MARK | before's length | columns | rows | length of each column's texts | before | steps | texts | after`; numbers are
//! 4 bytes, least first. A cell is told by how it differs from the one above it: a step is how many bytes it begins alike
//! (1) and how many follow (1; at `LONG` their number stands before them), and its text what follows. What does not
//! look like that stays as it is.
//!
//! Records of before have no mark: `before's length | columns | rows | length of each column | before | columns | after`,
//! each column its cells' own bytes with a line feed behind each.

use super::scan::{CELL, literal, string_end, value_end};

const ROW: &[u8; 6] = b"{\"f\":[";
/// No payload begins with so long a `before`.
const MARK: [u8; 4] = [0xff; 4];
/// The length of a text whose length stands before it.
const LONG: u8 = u8::MAX;
/// Fewer rows are not worth it.
const ROWS_MIN: usize = 8;
const COLUMNS_MAX: usize = 10_000;
/// No window that was packed is longer: it has `WINDOW_BYTES`, and what the last part that was read brings beyond them.
const UNPACKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// BigQuery's rows, for the ledger to read.
pub struct RowColumns;

impl ledger::Unpacking for RowColumns {
    fn unpack(&self, packed: &[u8]) -> Option<Vec<u8>> {
        match packed.strip_prefix(&MARK) {
            Some(packed) => unpack(packed),
            None => unpack_lines(packed),
        }
    }
}

/// The rows of a window, by column, as far as they have come.
pub(crate) struct Columns {
    columns: Vec<Column>,
    rows: usize,
    /// Where the rows lie in the window.
    start: usize,
    end: usize,
    /// Whether rows that follow may still be taken.
    is_open: bool,
    /// Of the row that is read.
    cells: Vec<Span>,
}

#[derive(Default)]
struct Column {
    steps: Vec<[u8; 2]>,
    texts: Vec<u8>,
    /// Where the last cell lies in the window.
    above: Span,
}

/// From where to where.
type Span = (usize, usize);

impl Columns {
    /// Of a window of which nothing was read.
    pub(crate) fn new() -> Self {
        Self { columns: Vec::new(), rows: 0, start: 0, end: 0, is_open: true, cells: Vec::new() }
    }

    /// Takes the whole rows that stand at `at`, behind those that were taken; returns where they end. `window` is what has
    /// come of it so far, from its beginning.
    pub(crate) fn take(&mut self, window: &[u8], at: usize) -> usize {
        let mut end = at;
        while self.is_open
            && let Some(next) = window.get(end)
        {
            let has_comma = *next == b',';
            if self.rows > 0 && !has_comma {
                self.is_open = false;
                break;
            }
            let from = end + usize::from(has_comma);
            match row(window, from, &mut self.cells) {
                Some(row_end) if self.push(window, from) => end = row_end,
                _ => break,
            }
        }
        if self.rows > 0 {
            self.end = end;
        }
        end
    }

    /// Rows that were taken.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// No more rows are taken of this window.
    pub(crate) fn close(&mut self) {
        self.is_open = false;
    }

    /// Whether rows that follow may still be taken.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The packed form of the window, if it is worth it. What comes next is another window's.
    pub(crate) fn finish(&mut self, window: &[u8]) -> Option<Vec<u8>> {
        let packed = (self.rows >= ROWS_MIN).then(|| self.packed(window));
        // Their room is kept, for another window is mostly like this one, unless one column after the other grew.
        if self.columns.iter().map(Column::room).sum::<usize>() > 2 * window.len() {
            self.columns.clear();
        }
        for column in &mut self.columns {
            column.steps.clear();
            column.texts.clear();
            column.above = Span::default();
        }
        (self.rows, self.is_open) = (0, true);
        packed
    }

    fn packed(&self, window: &[u8]) -> Vec<u8> {
        let parts = self.columns.iter().map(|column| 2 * column.steps.len() + column.texts.len() + 4);
        let (before, after) = (&window[..self.start], &window[self.end..]);
        let size = MARK.len() + 12 + parts.sum::<usize>() + before.len() + after.len();
        let mut packed = Vec::with_capacity(size);
        packed.extend_from_slice(&MARK);
        let mut number = |number: usize| packed.extend_from_slice(&(number as u32).to_le_bytes());
        number(before.len());
        number(self.columns.len());
        number(self.rows);
        self.columns.iter().for_each(|column| number(column.texts.len()));
        packed.extend_from_slice(before);
        self.columns.iter().for_each(|column| packed.extend_from_slice(column.steps.as_flattened()));
        self.columns.iter().for_each(|column| packed.extend_from_slice(&column.texts));
        packed.extend_from_slice(after);
        packed
    }

    /// Adds the row whose cells were found; false if it has others than those before.
    fn push(&mut self, window: &[u8], from: usize) -> bool {
        if self.rows == 0 && self.cells.len() <= COLUMNS_MAX {
            self.columns.resize_with(self.cells.len(), Column::default);
            self.start = from;
        }
        self.is_open = self.cells.len() == self.columns.len();
        if !self.is_open {
            return false;
        }
        for (column, cell) in self.columns.iter_mut().zip(&self.cells) {
            column.push(window, *cell);
        }
        self.rows += 1;
        true
    }
}

impl Column {
    /// Bytes that it takes.
    fn room(&self) -> usize {
        self.texts.capacity() + 2 * self.steps.capacity()
    }

    fn push(&mut self, window: &[u8], (start, end): (usize, usize)) {
        let (above, below) = (&window[self.above.0..self.above.1], &window[start..end]);
        let alike = alike(above, below).min(usize::from(u8::MAX));
        let text = &below[alike..];
        let step = u8::try_from(text.len()).unwrap_or(LONG);
        self.steps.push([alike as u8, step]);
        if step == LONG {
            self.texts.extend_from_slice(&(text.len() as u32).to_le_bytes());
        }
        self.texts.extend_from_slice(text);
        self.above = (start, end);
    }
}

/// How many bytes two texts begin alike.
fn alike(one: &[u8], two: &[u8]) -> usize {
    let mut at = 0;
    while let (Some(one), Some(two)) = (word(one, at), word(two, at)) {
        let differs = one ^ two;
        if differs != 0 {
            return at + differs.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + one[at..].iter().zip(&two[at..]).take_while(|(one, two)| one == two).count()
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// The cells of the row at `at`, one at least, and where it ends; none if it is written in another way.
fn row(payload: &[u8], at: usize, cells: &mut Vec<Span>) -> Option<usize> {
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

/// What lies around the columns, and they themselves as far as they are not read.
struct Layout<'a> {
    before: &'a [u8],
    rows: usize,
    rest: &'a [u8],
}

impl<'a> Layout<'a> {
    /// Also gives the length of each column.
    fn read(packed: &'a [u8]) -> Option<(Self, Vec<usize>)> {
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
        let (before, rest) = rest.split_at_checked(before)?;
        Some((Self { before, rows, rest }, lengths))
    }

    /// So many bytes of what is left.
    fn part(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.rest.split_at_checked(bytes)?;
        self.rest = rest;
        Some(part)
    }
}

/// A column that is read from its top.
struct Reader<'a> {
    steps: std::slice::Iter<'a, [u8; 2]>,
    texts: &'a [u8],
    cell: Vec<u8>,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<&[u8]> {
        let [alike, length] = *self.steps.next()?;
        let length = match length {
            LONG => {
                let (length, texts) = self.texts.split_first_chunk::<4>()?;
                self.texts = texts;
                u32::from_le_bytes(*length) as usize
            }
            length => usize::from(length),
        };
        let (text, texts) = self.texts.split_at_checked(length)?;
        self.texts = texts;
        self.cell.get(usize::from(alike)..)?;
        self.cell.truncate(usize::from(alike));
        self.cell.extend_from_slice(text);
        Some(&self.cell)
    }
}

fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let (mut layout, lengths) = Layout::read(packed)?;
    let steps: Vec<_> =
        lengths.iter().map(|_| layout.part(layout.rows.checked_mul(2)?)).collect::<Option<_>>()?;
    let mut columns = Vec::with_capacity(lengths.len());
    for (steps, length) in steps.into_iter().zip(lengths) {
        let (steps, texts) = (steps.as_chunks().0.iter(), layout.part(length)?);
        columns.push(Reader { steps, texts, cell: Vec::new() });
    }
    rows_of(&layout, &mut columns, Reader::next)
}

fn unpack_lines(packed: &[u8]) -> Option<Vec<u8>> {
    let (mut layout, lengths) = Layout::read(packed)?;
    let mut columns = Vec::with_capacity(lengths.len());
    for length in lengths {
        columns.push(layout.part(length)?.split(|byte| *byte == b'\n'));
    }
    rows_of(&layout, &mut columns, |column| column.next())
}

/// The payload, each of its cells from its column.
fn rows_of<C>(
    layout: &Layout<'_>,
    columns: &mut [C],
    cell: impl Fn(&mut C) -> Option<&[u8]>,
) -> Option<Vec<u8>> {
    let mut payload = Vec::with_capacity(layout.rest.len());
    payload.extend_from_slice(layout.before);
    for row in 0..layout.rows {
        payload.extend_from_slice(if row > 0 { b",{\"f\":[" } else { ROW });
        for (at, column) in columns.iter_mut().enumerate() {
            payload.extend_from_slice(if at > 0 { b",{\"v\":" } else { CELL });
            payload.extend_from_slice(cell(column)?);
            payload.push(b'}');
        }
        payload.extend_from_slice(b"]}");
        if payload.len() > UNPACKED_BYTES_MAX {
            return None;
        }
    }
    payload.extend_from_slice(layout.rest);
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::Unpacking;
    use proptest::prelude::*;

    /// The form of before: a line for each cell.
    #[test]
    fn what_was_packed_in_lines_is_still_read() {
        let numbers = [1u32, 2, 2, 4, 9].map(u32::to_le_bytes).concat();
        let packed = [numbers.as_slice(), b"[", b"1\n2\n", b"\"a\"\nnull\n", b"]"].concat();
        let rows = br#"[{"f":[{"v":1},{"v":"a"}]},{"f":[{"v":2},{"v":null}]}]"#;
        assert_eq!(RowColumns.unpack(&packed).unwrap(), rows);
    }

    #[test]
    fn texts_begin_alike_as_far_as_they_do() {
        for (one, two, count) in [
            ("", "", 0),
            ("", "a", 0),
            ("abc", "abc", 3),
            ("customer number 31", "customer number 4", 16),
            ("12345678", "123456789", 8),
            ("x2345678", "12345678", 0),
        ] {
            assert_eq!(alike(one.as_bytes(), two.as_bytes()), count, "{one} {two}");
            assert_eq!(alike(two.as_bytes(), one.as_bytes()), count, "{two} {one}");
        }
    }

    #[test]
    fn a_form_that_grows_without_bound_is_refused() {
        let (rows, text) = (2_000_000u32, [b'x'; 200]);
        let mut packed = [MARK.as_slice(), &[0, 1, rows, 200].map(u32::to_le_bytes).concat()].concat();
        packed.extend_from_slice(&[0, 200]);
        (1..rows).for_each(|_| packed.extend_from_slice(&[200, 0]));
        packed.extend_from_slice(&text);
        assert_eq!(RowColumns.unpack(&packed), None);
    }

    proptest! {
        #[test]
        fn damaged_forms_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RowColumns.unpack(&bytes);
            let _ = RowColumns.unpack(&[MARK.as_slice(), &bytes].concat());
        }
    }
}
