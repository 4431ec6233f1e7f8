//! Reads what is delivered once: its rows are counted and, where they are kept, packed by column.

use super::columns::Columns;
use super::watcher::Watcher;

/// Shorter windows are kept as they are, beside others.
const PACKED_BYTES_MIN: usize = 64 * 1024;
/// A row that is not whole in so many bytes is written in another way, or not worth packing.
const ROW_BYTES_MAX: usize = 128 * 1024;
/// A window is read on when so much more has come: a row that is not whole is read again each time.
const PART_BYTES_MIN: usize = 32 * 1024;

/// Reads a body window by window.
pub(crate) struct Packer {
    packs: bool,
    packed_bytes_min: usize,
    row_bytes_max: usize,
    part_bytes_min: usize,
    watcher: Watcher,
    columns: Columns,
    /// How far the window was read, and how much had come by then.
    read: usize,
    seen: usize,
}

impl Packer {
    /// For a body whose rows are only counted.
    pub(crate) fn counting() -> Self {
        Self { packs: false, ..Self::packing() }
    }

    /// For a body whose rows are kept.
    pub(crate) fn packing() -> Self {
        Self {
            packs: true,
            packed_bytes_min: PACKED_BYTES_MIN,
            row_bytes_max: ROW_BYTES_MAX,
            part_bytes_min: PART_BYTES_MIN,
            watcher: Watcher::default(),
            columns: Columns::new(),
            read: 0,
            seen: 0,
        }
    }

    /// Packs short windows too, and waits for short rows only.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn eager() -> Self {
        Self { packed_bytes_min: 0, row_bytes_max: 256, part_bytes_min: 0, ..Self::packing() }
    }

    /// What it saw of the body, as far as it read.
    pub(crate) fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// Reads on in a window, of which more has come; a row that is not whole yet waits.
    pub(crate) fn read(&mut self, gathered: &[u8]) {
        if gathered.len() >= self.packed_bytes_min.max(self.seen + self.part_bytes_min) {
            self.seen = gathered.len();
            self.read_on(gathered, self.row_bytes_max);
        }
    }

    /// Reads the rest of a window that is whole; the next one follows. Returns its packed form, if it is worth it.
    pub(crate) fn finish(&mut self, window: &[u8]) -> Option<Vec<u8>> {
        if window.len() < self.packed_bytes_min {
            self.columns.close();
        }
        self.read_on(window, 0);
        (self.read, self.seen) = (0, 0);
        self.columns.finish(window)
    }

    fn read_on(&mut self, window: &[u8], row_bytes_max: usize) {
        while self.packs && self.columns.is_open() && self.read < window.len() {
            if !self.watcher.is_between_rows() {
                self.read += self.watcher.step(&window[self.read..]);
                continue;
            }
            let before = self.columns.rows();
            self.read = self.columns.take(window, self.read);
            self.watcher.pass_rows(self.columns.rows() - before);
            if self.columns.is_open() {
                if window.len() - self.read < row_bytes_max {
                    return;
                }
                self.columns.close();
            }
        }
        self.watcher.push(&window[self.read..]);
        self.read = window.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RowColumns;
    use ledger::Unpacking;
    use proptest::prelude::*;

    /// Reads a body in parts and windows, and checks each window's packed form. Returns how many windows had one.
    fn read(mut packer: Packer, body: &[u8], part: usize, parts_in_window: usize) -> (Packer, usize) {
        let mut packed = 0;
        for window in body.chunks(part * parts_in_window) {
            for end in (1..=parts_in_window).map(|parts| (parts * part).min(window.len())) {
                packer.read(&window[..end]);
            }
            if let Some(form) = packer.finish(window) {
                assert!(form.len() < window.len());
                assert!(RowColumns.unpack(&form).unwrap() == window, "rows come back as they were");
                packed += 1;
            }
        }
        (packer, packed)
    }

    fn watched(body: &[u8]) -> Watcher {
        let mut watcher = Watcher::default();
        watcher.push(body);
        watcher
    }

    fn body(rows: &[&str]) -> String {
        format!(r#"{{"schema":{{"fields":[]}},"rows":[{}],"totalRows":"20"}}"#, rows.join(","))
    }

    #[test]
    fn windows_are_packed_wherever_they_are_cut() {
        let row = r#"{"f":[{"v":"a \" b"},{"v":null},{"v":{"f":[{"v":"1"},{"v":[{"v":"x}"}]}]}}]}"#;
        let body = body(&vec![row; 10_000]);
        for part in [997, 50_021, 90_000, body.len()] {
            let (packer, packed) = read(Packer::packing(), body.as_bytes(), part, (200_000 / part).max(1));
            assert!(packed >= 1, "{part}");
            assert_eq!(packer.watcher().rows(), Some(10_000));
            assert_eq!(packer.watcher().skeleton(), watched(body.as_bytes()).skeleton());
        }
    }

    #[test]
    fn what_is_short_or_written_otherwise_stays() {
        let pretty = r#"{ "f": [ { "v": "1" } ] }"#;
        let long = format!(r#"{{"f":[{{"v":"{}"}}]}}"#, "x".repeat(ROW_BYTES_MAX));
        for (row, rows) in
            [(pretty, 10_000), (r#"{"f":[]}"#, 20_000), (r#"{"f":[{"v":1}]}"#, 100), (&long, 5)]
        {
            let body = body(&vec![row; rows]);
            let (packer, packed) = read(Packer::packing(), body.as_bytes(), 60_000, 4);
            assert_eq!((packed, packer.watcher().rows()), (0, Some(rows as u64)), "{row:.30}");
        }
    }

    #[test]
    fn rows_that_are_only_counted_are_not_packed() {
        let body = body(&vec![r#"{"f":[{"v":"1"}]}"#; 10_000]);
        let mut packer = Packer::counting();
        packer.read(body.as_bytes());
        assert_eq!(packer.finish(body.as_bytes()), None);
        assert_eq!(packer.watcher().rows(), Some(10_000));
    }

    #[test]
    fn long_cells_come_back() {
        let cells: Vec<String> = (250..700)
            .map(|len| format!(r#"{{"f":[{{"v":"{}"}},{{"v":"{}"}}]}}"#, "x".repeat(len), len))
            .collect();
        let body = body(&cells.iter().map(String::as_str).collect::<Vec<_>>());
        let (packer, packed) = read(Packer::packing(), body.as_bytes(), body.len(), 1);
        assert_eq!((packed, packer.watcher().rows()), (1, Some(450)));
    }

    proptest! {
        #[test]
        fn any_text_around_and_in_rows(
            rows in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![
                r#"{"v":"a"}"#, r#"{"v":"ab"}"#, r#"{"v":null}"#, r#"{"v":"\\"}"#, r#"{"v":"]}],\"x\":[{"}"#, "{\"v\":{\"a\":\n1}}",
                r#"{"v":1.5}"#, r#"{"v":null }"#, r#"{"v": "b"}"#, r#"{"v":{"f":[{"v":"1"},{"v":[{"v":"x"},{"v":{"f":[]}}]}]}}"#, r#"{}"#,
            ]), 3), 1..6),
            odd in prop::collection::vec((0usize..300, prop::sample::select(vec![
                r#"{"f":[]}"#, r#"{"f": [{"v":"a"}]}"#, r#"{"f":[{"v":"a"}]}"#, "7", "{", "]",
            ])), 0..3),
            part in 1usize..3_000, parts in 1usize..4,
        ) {
            let rows: Vec<_> = rows.iter().map(|cells| format!(r#"{{"f":[{}]}}"#, cells.join(","))).collect();
            let mut rows: Vec<&str> = (0..300).map(|at| rows[at % rows.len()].as_str()).collect();
            for (at, row) in odd {
                rows[at] = row;
            }
            let body = body(&rows);
            let (packer, _) = read(Packer::eager(), body.as_bytes(), part, parts);
            let watched = watched(body.as_bytes());
            prop_assert_eq!(packer.watcher().rows(), watched.rows());
            prop_assert_eq!(packer.watcher().skeleton(), watched.skeleton());
        }
    }
}
