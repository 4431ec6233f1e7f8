//! Watches JSON that passes: counts the rows and keeps everything else, in bounded memory.

use super::scan::{cells_end, quote_or_escape};

/// The part of a body beside its rows that is kept, in bytes.
const SKELETON_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a body was like. The elements of the outermost object's `rows` are counted and left out of the
/// skeleton.
#[derive(Default)]
pub(crate) struct Watcher {
    depth: usize,
    string: bool,
    escaped: bool,
    /// The outermost object's current key, while it is read and after.
    key: Vec<u8>,
    in_key: bool,
    expects_key: bool,
    in_rows: bool,
    saw_rows: bool,
    rows: u64,
    skeleton: Vec<u8>,
    overflowed: bool,
}

impl Watcher {
    /// Watches a part.
    pub(crate) fn push(&mut self, part: &[u8]) {
        let mut at = 0;
        while at < part.len() {
            at += self.step(&part[at..]);
        }
    }

    /// Watches a part up to where the rows begin, or the row ends that it is in. Returns how much of it that was.
    pub(crate) fn step(&mut self, part: &[u8]) -> usize {
        if self.in_rows { self.rows_part(part) } else { self.kept_part(part) }
    }

    /// Whether a row may begin here, behind its comma.
    pub(crate) fn is_between_rows(&self) -> bool {
        self.in_rows && self.depth == 2 && !self.string
    }

    /// Counts rows that whoever read them whole passes over.
    pub(crate) fn pass_rows(&mut self, rows: usize) {
        self.rows += rows as u64;
    }

    /// Rows seen, if the body had a `rows` member.
    pub(crate) fn rows(&self) -> Option<u64> {
        self.saw_rows.then_some(self.rows)
    }

    /// `totalRows`, as far as it came already. A column may have that name, and is none.
    pub(crate) fn total_rows(&self) -> Option<u64> {
        const NAME: &[u8] = b"\"totalRows\"";
        let named = memchr::memmem::find_iter(&self.skeleton, NAME);
        named.filter_map(|at| number_after(&self.skeleton[at + NAME.len()..])).max()
    }

    /// The body without its rows; none if it was too long.
    pub(crate) fn skeleton(&self) -> Option<&[u8]> {
        (!self.overflowed).then_some(&self.skeleton)
    }

    /// What stands around the rows is kept. Returns how much of `part` that was.
    fn kept_part(&mut self, part: &[u8]) -> usize {
        let mut at = 0;
        while at < part.len() && !self.in_rows {
            if self.string && !self.in_key && !self.escaped {
                at = quote_or_escape(part, at);
            }
            if let Some(byte) = part.get(at) {
                self.byte(*byte);
                at += 1;
            }
        }
        self.keep(&part[..at]);
        at
    }

    fn byte(&mut self, byte: u8) {
        if self.string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => {
                    self.string = false;
                    self.in_key = false;
                    return;
                }
                _ => {}
            }
            if self.in_key && self.key.len() < 64 {
                self.key.push(byte);
            }
            return;
        }
        match byte {
            b'"' => {
                self.string = true;
                if self.depth == 1 && self.expects_key {
                    self.in_key = true;
                    self.expects_key = false;
                    self.key.clear();
                }
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.expects_key = self.depth == 1 && byte == b'{';
                if byte == b'[' && self.depth == 2 && self.key == b"rows" {
                    self.in_rows = true;
                    self.saw_rows = true;
                }
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' if self.depth == 1 => self.expects_key = true,
            _ => {}
        }
    }

    /// The bulk of a body: only strings and brackets matter. Returns how much of `part` was rows, to the end of one.
    fn rows_part(&mut self, part: &[u8]) -> usize {
        let mut at = 0;
        if self.escaped {
            (self.escaped, at) = (false, 1.min(part.len()));
        }
        while at < part.len() {
            if self.string {
                at = quote_or_escape(part, at);
                match part.get(at) {
                    Some(b'"') => (self.string, at) = (false, at + 1),
                    Some(_) if at + 1 == part.len() => (self.escaped, at) = (true, at + 1),
                    Some(_) => at += 2,
                    None => {}
                }
                continue;
            }
            match part[at] {
                b'"' => self.string = true,
                b'{' | b'[' => {
                    if self.depth == 2 {
                        self.rows += 1;
                    } else {
                        // Most of a body is cells, in which nothing is counted.
                        let end = cells_end(part, at);
                        if end > at {
                            at = end;
                            continue;
                        }
                    }
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 1 {
                        self.in_rows = false;
                        self.keep(b"]");
                    }
                    if self.depth <= 2 {
                        return at + 1;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        part.len()
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.overflowed {
            let room = SKELETON_BYTES_MAX - self.skeleton.len();
            self.skeleton.extend_from_slice(&bytes[..bytes.len().min(room)]);
            self.overflowed = bytes.len() > room;
        }
    }
}

/// The number behind a name and its colon, once it is whole.
fn number_after(text: &[u8]) -> Option<u64> {
    let value = text.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    value.get(digits)?;
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_are_counted_and_left_out() {
        let body = r#"{"schema":{"fields":[{"name":"rows"}]},"rows":[{"f":[{"v":"]\"}"},{"v":"a}]"},{"v":null},{"v":{"v":"b"}}]} , {"f":[]}],"totalRows":"2"}"#;
        for cut in 0..body.len() {
            let mut watcher = Watcher::default();
            watcher.push(&body.as_bytes()[..cut]);
            watcher.push(&body.as_bytes()[cut..]);
            assert_eq!(watcher.rows(), Some(2));
            assert_eq!(watcher.total_rows(), Some(2));
            let skeleton: serde_json::Value = serde_json::from_slice(watcher.skeleton().unwrap()).unwrap();
            assert_eq!(skeleton["totalRows"], "2");
            assert_eq!(skeleton["rows"], serde_json::json!([]));
            assert_eq!(skeleton["schema"]["fields"][0]["name"], "rows");
        }
    }

    #[test]
    fn a_column_named_like_the_total_is_none() {
        let mut watcher = Watcher::default();
        watcher.push(br#"{"totalRows" : "7","schema":{"fields":[{"name":"totalRows","description":"\"totalRows\":\"1\""}]}"#);
        assert_eq!(watcher.total_rows(), Some(7));
        let mut watcher = Watcher::default();
        watcher.push(br#"{"totalRows":"1"#);
        assert_eq!(watcher.total_rows(), None, "it is not whole");
    }

    #[test]
    fn of_a_body_that_is_too_long_the_beginning_is_kept() {
        let body = format!(r#"{{"totalRows":"7","a":"{}"}}"#, "x".repeat(SKELETON_BYTES_MAX));
        for cut in [body.len(), 100, 3] {
            let mut watcher = Watcher::default();
            watcher.push(&body.as_bytes()[..cut]);
            watcher.push(&body.as_bytes()[cut..]);
            assert_eq!((watcher.total_rows(), watcher.skeleton()), (Some(7), None));
        }
    }

    proptest! {
        #[test]
        fn rows_are_counted_as_a_parser_counts_them(
            rows in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![
                r#"{"v":"a"}"#, r#"{"v":null}"#, r#"{"v":"\\"}"#, r#"{"v":"]}],\"x\":[{"}"#, r#"{"v":"caf\u00e9 \n"}"#, r#"{"v":1.5}"#,
                r#"{"v":null }"#, r#"{"v": "b"}"#, r#"{"v":{"f":[{"v":"1"},{"v":[{"v":"x"},{"v":{"f":[]}}]}]}}"#, r#"{}"#,
            ]), 0..6), 0..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let rows: Vec<_> = rows.iter().map(|cells| format!(r#"{{"f":[{}]}}"#, cells.join(","))).collect();
            let body = format!(r#"{{"rows":[{}],"totalRows":"9"}}"#, rows.join(","));
            let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
            let cut = cut.index(body.len());
            let mut watcher = Watcher::default();
            watcher.push(&body.as_bytes()[..cut]);
            watcher.push(&body.as_bytes()[cut..]);
            prop_assert_eq!(watcher.rows(), parsed["rows"].as_array().map(|rows| rows.len() as u64));
            prop_assert_eq!(watcher.skeleton(), Some(br#"{"rows":[],"totalRows":"9"}"#.as_slice()));
        }
    }

    #[test]
    fn a_rows_member_elsewhere_is_no_result() {
        let mut watcher = Watcher::default();
        watcher.push(br#"{"a":{"rows":[1,2]},"b":["rows",[3]]}"#);
        assert_eq!(watcher.rows(), None);
    }
}
