//! Takes members out of JSON that passes, in bounded memory.
//!
//! Everything that is kept is kept byte for byte. A member that is taken out goes with its comma.

use super::mask::Mask;

/// What to do with a body.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// Keep what the mask selects.
    Narrow(Mask),
    /// Take these keys out of the `labels` object below each of these paths; take `labels` itself out if
    /// nothing else is in it. `*` stands for the items of an array.
    Unlabel { paths: &'static [&'static [&'static str]], keys: &'static [&'static str] },
}

/// A `labels` object is held whole while it is looked at; BigQuery allows 64 labels of 126 characters.
const HELD_BYTES_MAX: usize = 256 * 1024;
const KEY_BYTES_MAX: usize = 4 * 1024;
const DEPTH_MAX: usize = 256;

/// The text can't be edited: it is not JSON, or out of bounds.
#[derive(Debug)]
pub(crate) struct CannotEdit;

/// A streaming editor: push bytes in, take edited bytes out.
pub(crate) struct Editor {
    edit: Edit,
    stack: Vec<Level>,
    state: State,
    /// What stands between the last kept member and the next key, not yet written.
    gap: Vec<u8>,
    key: Vec<u8>,
    held: Vec<u8>,
    sink: Sink,
    /// How the value that comes next is treated.
    next: Treat,
}

/// An open object or array that is descended into.
struct Level {
    is_object: bool,
    at: Place,
    kept_one: bool,
}

/// Where a value stands, as far as the edit cares.
#[derive(Clone)]
enum Place {
    Masked(Mask),
    /// Steps taken so far of each path that still fits.
    Path(Vec<(usize, usize)>),
}

#[derive(Clone)]
enum Treat {
    Pass,
    Drop,
    Hold,
    Descend(Place),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value is about to begin.
    Value,
    /// After `{` or a comma in an object: white space, a key, or `}`.
    Key,
    InKey {
        escaped: bool,
    },
    Colon,
    /// After a value: white space, a comma, or the end of what it stands in.
    After,
    /// Inside a value that is not descended into.
    Skip {
        depth: u32,
        string: bool,
        escaped: bool,
        scalar: bool,
    },
    /// After the outermost value.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    Out,
    Nowhere,
    Held,
}

impl Editor {
    pub(crate) fn new(edit: Edit) -> Self {
        let place = match &edit {
            Edit::Narrow(mask) => Place::Masked(mask.clone()),
            Edit::Unlabel { paths, .. } => Place::Path((0..paths.len()).map(|path| (path, 0)).collect()),
        };
        Self {
            edit,
            stack: Vec::new(),
            state: State::Value,
            gap: Vec::new(),
            key: Vec::new(),
            held: Vec::new(),
            sink: Sink::Out,
            next: Treat::Descend(place),
        }
    }

    /// Edits a part; what can be written of it goes to `out`.
    pub(crate) fn push(&mut self, part: &[u8], out: &mut Vec<u8>) -> Result<(), CannotEdit> {
        let mut at = 0;
        while at < part.len() {
            if let State::Skip { .. } = self.state {
                at += self.skip(&part[at..], out)?;
                continue;
            }
            self.byte(part[at], out)?;
            at += 1;
        }
        Ok(())
    }

    /// Whether the outermost value has ended, or never began: an answer may have no body.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done || (self.state == State::Value && self.stack.is_empty())
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), CannotEdit> {
        let space = matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        match self.state {
            State::Value if space => self.between(byte, out),
            State::Value => return self.begin_value(byte, out),
            State::Key if space => self.gap.push(byte),
            State::Key => match byte {
                b'"' => {
                    self.key.clear();
                    self.state = State::InKey { escaped: false };
                }
                b'}' => self.close(byte, out)?,
                _ => return Err(CannotEdit),
            },
            State::InKey { escaped } => {
                if byte == b'"' && !escaped {
                    self.state = State::Colon;
                } else {
                    self.key.push(byte);
                    if self.key.len() > KEY_BYTES_MAX {
                        return Err(CannotEdit);
                    }
                    self.state = State::InKey { escaped: byte == b'\\' && !escaped };
                }
            }
            State::Colon if space => {}
            State::Colon if byte == b':' => self.begin_member(out)?,
            State::Colon => return Err(CannotEdit),
            State::After if space => self.gap.push(byte),
            State::After => match byte {
                b',' => self.comma(out)?,
                b'}' | b']' => self.close(byte, out)?,
                _ => return Err(CannotEdit),
            },
            State::Done => out.push(byte),
            State::Skip { .. } => unreachable!("skipped by push"),
        }
        Ok(())
    }

    /// White space before a value.
    fn between(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.stack.is_empty() || self.sink == Sink::Out && !matches!(self.next, Treat::Drop | Treat::Hold)
        {
            out.push(byte);
        }
    }

    fn begin_member(&mut self, out: &mut Vec<u8>) -> Result<(), CannotEdit> {
        let text = [b"\"".as_slice(), &self.key, b"\""].concat();
        let key: String = serde_json::from_slice(&text).map_err(|_| CannotEdit)?;
        let level = self.stack.last().ok_or(CannotEdit)?;
        let treat = self.treat(&level.at.clone(), &key);
        match treat {
            Treat::Drop => self.gap.clear(),
            Treat::Hold => {
                self.held.clear();
                self.held.extend_from_slice(&text);
                self.held.push(b':');
            }
            Treat::Pass | Treat::Descend(_) => {
                self.write_gap(out);
                out.extend_from_slice(&text);
                out.push(b':');
            }
        }
        self.next = treat;
        self.state = State::Value;
        Ok(())
    }

    /// The comma and white space before a member that is kept.
    fn write_gap(&mut self, out: &mut Vec<u8>) {
        if let Some(level) = self.stack.last_mut() {
            if level.kept_one {
                out.push(b',');
            }
            level.kept_one = true;
        }
        out.append(&mut self.gap);
    }

    fn treat(&self, place: &Place, key: &str) -> Treat {
        match (place, &self.edit) {
            (Place::Masked(mask), _) => match mask.member(key) {
                None => Treat::Drop,
                Some(Mask::All) => Treat::Pass,
                Some(below) => Treat::Descend(Place::Masked(below.clone())),
            },
            (Place::Path(steps), Edit::Unlabel { paths, .. }) => {
                let ends = steps.iter().any(|(path, taken)| paths[*path].len() == *taken);
                if ends && key == "labels" {
                    return Treat::Hold;
                }
                let further = advance(steps, paths, key);
                if further.is_empty() { Treat::Pass } else { Treat::Descend(Place::Path(further)) }
            }
            (Place::Path(_), Edit::Narrow(_)) => Treat::Pass,
        }
    }

    fn begin_value(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), CannotEdit> {
        match (std::mem::replace(&mut self.next, Treat::Pass), byte) {
            (Treat::Descend(place), b'{' | b'[') => {
                if self.stack.len() >= DEPTH_MAX {
                    return Err(CannotEdit);
                }
                let is_object = byte == b'{';
                let at = match (&place, &self.edit, is_object) {
                    (Place::Path(steps), Edit::Unlabel { paths, .. }, false) => {
                        Place::Path(advance(steps, paths, "*"))
                    }
                    _ => place,
                };
                out.push(byte);
                self.next = if is_object { Treat::Pass } else { Treat::Descend(at.clone()) };
                self.stack.push(Level { is_object, at, kept_one: false });
                self.state = if is_object { State::Key } else { State::Value };
                Ok(())
            }
            // The end of an empty array.
            (_, b']') => self.close(byte, out),
            (treat, _) => {
                self.sink = match treat {
                    Treat::Drop => Sink::Nowhere,
                    Treat::Hold => Sink::Held,
                    Treat::Pass | Treat::Descend(_) => Sink::Out,
                };
                let opens = matches!(byte, b'{' | b'[');
                self.state = State::Skip {
                    depth: u32::from(opens),
                    string: byte == b'"',
                    escaped: false,
                    scalar: !opens && byte != b'"',
                };
                self.write(&[byte], out)
            }
        }
    }

    /// Skips over the bytes of a value; returns how many of `part` belong to it.
    fn skip(&mut self, part: &[u8], out: &mut Vec<u8>) -> Result<usize, CannotEdit> {
        let State::Skip { mut depth, mut string, mut escaped, scalar } = self.state else { return Ok(0) };
        let mut end = None;
        for (at, byte) in part.iter().enumerate() {
            if string {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => {
                        string = false;
                        if depth == 0 {
                            end = Some(at + 1);
                        }
                    }
                    _ => {}
                }
            } else if scalar && depth == 0 {
                if matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t') {
                    end = Some(at);
                }
            } else {
                match byte {
                    b'"' => string = true,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth = depth.checked_sub(1).ok_or(CannotEdit)?;
                        if depth == 0 {
                            end = Some(at + 1);
                        }
                    }
                    _ => {}
                }
            }
            if end.is_some() {
                break;
            }
        }
        let taken = end.unwrap_or(part.len());
        self.write(&part[..taken], out)?;
        self.state = State::Skip { depth, string, escaped, scalar };
        if end.is_some() {
            self.end_value(out);
        }
        Ok(taken)
    }

    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CannotEdit> {
        match self.sink {
            Sink::Out => out.extend_from_slice(bytes),
            Sink::Nowhere => {}
            Sink::Held => {
                self.held.extend_from_slice(bytes);
                if self.held.len() > HELD_BYTES_MAX {
                    return Err(CannotEdit);
                }
            }
        }
        Ok(())
    }

    fn end_value(&mut self, out: &mut Vec<u8>) {
        if self.sink == Sink::Held {
            let held = std::mem::take(&mut self.held);
            match self.without_our_labels(&held) {
                Some(rest) => {
                    self.write_gap(out);
                    out.extend_from_slice(&rest);
                }
                None => self.gap.clear(),
            }
        }
        self.sink = Sink::Out;
        self.state = if self.stack.is_empty() { State::Done } else { State::After };
    }

    /// The member `"labels":{...}` without our keys; none if nothing is left of it.
    fn without_our_labels(&self, member: &[u8]) -> Option<Vec<u8>> {
        let Edit::Unlabel { keys, .. } = &self.edit else { return Some(member.to_vec()) };
        let text = [b"{", member, b"}"].concat();
        let outer = super::spans::members(&text, 0)?;
        let Some(labels) = super::spans::members(&text, outer.first()?.1.start) else {
            return Some(member.to_vec());
        };
        let kept: Vec<_> = labels.iter().filter(|(key, _)| !keys.contains(&key.as_str())).collect();
        if kept.len() == labels.len() {
            return Some(member.to_vec());
        }
        if kept.is_empty() {
            return None;
        }
        let members: Vec<String> = kept
            .iter()
            .map(|(key, span)| {
                let key = serde_json::to_string(key).expect("a string is JSON");
                format!("{key}:{}", String::from_utf8_lossy(&text[span.clone()]))
            })
            .collect();
        Some(format!("\"labels\":{{{}}}", members.join(",")).into_bytes())
    }

    fn comma(&mut self, out: &mut Vec<u8>) -> Result<(), CannotEdit> {
        let level = self.stack.last().ok_or(CannotEdit)?;
        if level.is_object {
            // White space before the comma goes; the comma comes with the next kept member.
            self.gap.clear();
            self.state = State::Key;
        } else {
            self.next = Treat::Descend(level.at.clone());
            out.append(&mut self.gap);
            out.push(b',');
            self.state = State::Value;
        }
        Ok(())
    }

    fn close(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), CannotEdit> {
        let level = self.stack.pop().ok_or(CannotEdit)?;
        if level.is_object != (byte == b'}') {
            return Err(CannotEdit);
        }
        out.append(&mut self.gap);
        out.push(byte);
        self.state = if self.stack.is_empty() { State::Done } else { State::After };
        Ok(())
    }
}

fn advance(steps: &[(usize, usize)], paths: &[&[&str]], key: &str) -> Vec<(usize, usize)> {
    steps
        .iter()
        .filter(|(path, taken)| paths[*path].get(*taken) == Some(&key))
        .map(|(path, taken)| (*path, taken + 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNLABEL: Edit = Edit::Unlabel {
        paths: &[&["configuration"], &["jobs", "*", "configuration"]],
        keys: &["h_a", "h_b"],
    };

    #[test]
    fn fields_are_narrowed() {
        let body = r#"{"kind":"k","rows":[{"f":[{"v":"1"},{"v":null}]}], "jobReference" : {"jobId":"j","location":"US"},"etag":"e"}"#;
        narrow("kind,jobReference/jobId", body, r#"{"kind":"k", "jobReference": {"jobId":"j"}}"#);
        narrow("etag", body, r#"{"etag":"e"}"#);
        narrow("rows/f", body, r#"{"rows":[{"f":[{"v":"1"},{"v":null}]}]}"#);
        narrow("nothing", body, "{}");
        narrow("*", body, &body.replace(" : ", ": "));
        narrow("rows(f(w))", body, r#"{"rows":[{"f":[{},{}]}]}"#);
        narrow("a/b", r#"{"a":3,"c":[]}"#, r#"{"a":3}"#);
        narrow("a/b", r#"{"a":[],"c":[]}"#, r#"{"a":[]}"#);
    }

    #[test]
    fn our_labels_are_taken_out_and_no_others() {
        unlabel(
            r#"{"configuration":{"labels":{"h_a":"1","h_b":"2"},"q":1}}"#,
            r#"{"configuration":{"q":1}}"#,
        );
        unlabel(
            r#"{"configuration":{"q":1,"labels":{"h_a":"1","x":"y"}}}"#,
            r#"{"configuration":{"q":1,"labels":{"x":"y"}}}"#,
        );
        unlabel(r#"{"configuration":{"labels":{}}}"#, r#"{"configuration":{"labels":{}}}"#);
        unlabel(r#"{"labels":{"h_a":"1"}}"#, r#"{"labels":{"h_a":"1"}}"#);
        unlabel(
            r#"{"jobs":[{"configuration":{"labels":{"h_a":"1"}}},{"configuration":{"labels":{"z":"1"}}}]}"#,
            r#"{"jobs":[{"configuration":{}},{"configuration":{"labels":{"z":"1"}}}]}"#,
        );
        unlabel(
            r#"{"a":{"configuration":{"labels":{"h_a":"1"}}}}"#,
            r#"{"a":{"configuration":{"labels":{"h_a":"1"}}}}"#,
        );
    }

    #[test]
    fn every_cut_of_the_input_gives_the_same() {
        let body = r#"{"a":"x\\\"","configuration":{ "n":-1.5e3 ,"labels":{"h_a":"\"}","k":"v"},"t":true},"z":[[],{}]}"#;
        let whole = run(UNLABEL, &[body.as_bytes()]);
        for cut in 0..body.len() {
            assert_eq!(
                run(UNLABEL, &[&body.as_bytes()[..cut], &body.as_bytes()[cut..]]),
                whole,
                "cut at {cut}"
            );
        }
    }

    fn narrow(fields: &str, body: &str, expected: &str) {
        assert_eq!(run(Edit::Narrow(Mask::parse(fields).unwrap()), &[body.as_bytes()]), expected, "{fields}");
    }

    fn unlabel(body: &str, expected: &str) {
        assert_eq!(run(UNLABEL, &[body.as_bytes()]), expected);
    }

    fn run(edit: Edit, parts: &[&[u8]]) -> String {
        let mut editor = Editor::new(edit);
        let mut out = Vec::new();
        for part in parts {
            editor.push(part, &mut out).expect("JSON");
        }
        assert!(editor.is_done());
        String::from_utf8(out).unwrap()
    }
}
