//! A stream of gRPC messages, read as it passes: nothing of a message is kept but what was asked for.
//!
//! Sources: "Length-Prefixed-Message" in gRPC over HTTP/2; "Message Structure" in protobuf's encoding.

/// Bytes of one field that are kept at most; of a longer one, nothing is.
const KEPT_BYTES_MAX: u64 = 1024 * 1024;
/// Messages within messages.
const DEPTH_MAX: usize = 8;

/// What a field is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Skip,
    /// It is a message, whose fields are looked at.
    Enter,
    /// Its bytes are kept and given.
    Keep,
}

/// Who watches.
pub(crate) trait Watch {
    /// What the field at this path (its numbers, from the outside) is worth.
    fn want(&mut self, path: &[u32]) -> Want;
    /// A number was read.
    fn number(&mut self, path: &[u32], value: u64);
    /// Bytes that were wanted.
    fn bytes(&mut self, path: &[u32], value: &[u8]);
    /// A message is over.
    fn message(&mut self) {}
}

/// The bytes are no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged(pub(crate) &'static str);

/// Where in a field reading stands.
enum At {
    Tag(Varint),
    Number(Varint),
    Fixed(u8),
    Len(Varint),
    Bytes { left: u64, want: Want },
}

#[derive(Clone, Copy, Default)]
struct Varint {
    value: u64,
    shift: u32,
}

impl Varint {
    /// The number, once its last byte is there.
    fn push(&mut self, byte: u8) -> Result<Option<u64>, Damaged> {
        if self.shift > 63 {
            return Err(Damaged("a number is too long"));
        }
        self.value |= u64::from(byte & 0x7F) << self.shift;
        self.shift += 7;
        Ok((byte & 0x80 == 0).then_some(self.value))
    }
}

/// Reads messages out of bytes that come in any pieces.
pub(crate) struct Messages<W> {
    watch: W,
    prefix: Vec<u8>,
    /// Bytes of the message that are still to come; `None` between messages.
    left: Option<u64>,
    /// The ends of what is nested, as bytes of the message still to come by then.
    ends: Vec<u64>,
    path: Vec<u32>,
    at: At,
    kept: Vec<u8>,
}

impl<W: Watch> Messages<W> {
    pub(crate) fn new(watch: W) -> Self {
        Self {
            watch,
            prefix: Vec::with_capacity(5),
            left: None,
            ends: Vec::new(),
            path: Vec::new(),
            at: At::Tag(Varint::default()),
            kept: Vec::new(),
        }
    }

    pub(crate) fn watch(&self) -> &W {
        &self.watch
    }

    pub(crate) fn into_watch(self) -> W {
        self.watch
    }

    /// Whether the bytes so far are whole messages.
    pub(crate) fn is_between(&self) -> bool {
        self.left.is_none() && self.prefix.is_empty()
    }

    /// Reads on.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Damaged> {
        while !bytes.is_empty() {
            let taken = self.step(bytes)?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Reads the next few bytes; how many.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Damaged> {
        let Some(left) = self.left else { return self.prefix(bytes) };
        let byte = bytes[0];
        let taken = match &mut self.at {
            At::Tag(varint) => {
                if let Some(tag) = varint.push(byte)? {
                    self.field(tag)?;
                }
                1
            }
            At::Number(varint) => {
                if let Some(value) = varint.push(byte)? {
                    self.watch.number(&self.path, value);
                    self.field_ends();
                }
                1
            }
            At::Fixed(more) => {
                *more -= 1;
                if *more == 0 {
                    self.field_ends();
                }
                1
            }
            At::Len(varint) => {
                if let Some(len) = varint.push(byte)? {
                    self.length(len, left - 1)?;
                }
                1
            }
            At::Bytes { left: more, want } => {
                let taken = (*more).min(bytes.len() as u64) as usize;
                *more -= taken as u64;
                let is_over = *more == 0;
                if *want == Want::Keep {
                    self.kept.extend_from_slice(&bytes[..taken]);
                    if is_over {
                        self.watch.bytes(&self.path, &self.kept);
                        self.kept.clear();
                    }
                }
                if is_over {
                    self.field_ends();
                }
                taken
            }
        };
        self.spent(left, taken as u64)?;
        Ok(taken)
    }

    fn prefix(&mut self, bytes: &[u8]) -> Result<usize, Damaged> {
        let taken = (5 - self.prefix.len()).min(bytes.len());
        self.prefix.extend_from_slice(&bytes[..taken]);
        if let [flag, a, b, c, d] = self.prefix[..] {
            if flag != 0 {
                return Err(Damaged("a message is compressed, and nobody said that it might be"));
            }
            self.prefix.clear();
            self.left = Some(u64::from(u32::from_be_bytes([a, b, c, d])));
            self.spent(u64::from(u32::from_be_bytes([a, b, c, d])), 0)?;
        }
        Ok(taken)
    }

    fn field(&mut self, tag: u64) -> Result<(), Damaged> {
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        self.path.push(number.ok_or(Damaged("a field has no number"))?);
        self.at = match tag & 7 {
            0 => At::Number(Varint::default()),
            1 => At::Fixed(8),
            2 => At::Len(Varint::default()),
            5 => At::Fixed(4),
            _ => return Err(Damaged("a field is of no kind that is still in use")),
        };
        Ok(())
    }

    fn length(&mut self, len: u64, left: u64) -> Result<(), Damaged> {
        if len > left - self.ends.last().copied().unwrap_or(0).min(left) {
            return Err(Damaged("a field is longer than what it stands in"));
        }
        let mut want = self.watch.want(&self.path);
        if want == Want::Enter && self.ends.len() < DEPTH_MAX {
            self.ends.push(left - len);
            self.at = At::Tag(Varint::default());
            return Ok(());
        }
        if len > KEPT_BYTES_MAX {
            want = Want::Skip;
        }
        self.at = At::Bytes { left: len, want };
        if len == 0 {
            if want == Want::Keep {
                self.watch.bytes(&self.path, &[]);
            }
            self.field_ends();
        }
        Ok(())
    }

    fn field_ends(&mut self) {
        self.path.pop();
        self.at = At::Tag(Varint::default());
    }

    /// So many bytes of the message were read; whatever ends there, ends.
    fn spent(&mut self, left: u64, taken: u64) -> Result<(), Damaged> {
        let left = left - taken;
        self.left = Some(left);
        while self.ends.last().is_some_and(|end| *end >= left) {
            self.between_fields()?;
            self.ends.pop();
            self.field_ends();
        }
        if left == 0 {
            self.between_fields()?;
            self.left = None;
            self.watch.message();
        }
        Ok(())
    }

    fn between_fields(&self) -> Result<(), Damaged> {
        match self.at {
            At::Tag(Varint { shift: 0, .. }) => Ok(()),
            _ => Err(Damaged("a message ends within a field")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    #[derive(Default)]
    struct Seen(Vec<String>);

    impl Watch for Seen {
        fn want(&mut self, path: &[u32]) -> Want {
            match path {
                [2] | [2, 8] => Want::Enter,
                [1] | [2, 6] | [2, 8, 1] => Want::Keep,
                _ => Want::Skip,
            }
        }

        fn number(&mut self, path: &[u32], value: u64) {
            self.0.push(format!("{path:?}={value}"));
        }

        fn bytes(&mut self, path: &[u32], value: &[u8]) {
            self.0.push(format!("{path:?}={}", String::from_utf8_lossy(value)));
        }

        fn message(&mut self) {
            self.0.push("end".to_owned());
        }
    }

    fn framed(message: &impl Message) -> Vec<u8> {
        let body = message.encode_to_vec();
        [&[0], &(body.len() as u32).to_be_bytes()[..], &body].concat()
    }

    #[test]
    fn fields_are_found_in_any_pieces() {
        use crate::storage::messages::{CreateReadSessionRequest, ReadSession, TableReadOptions};
        let options =
            TableReadOptions { selected_fields: vec!["a".into(), "b".into()], row_restriction: "x".into() };
        let session = ReadSession {
            name: "n".into(),
            data_format: 2,
            table: "t".into(),
            read_options: Some(options),
            ..ReadSession::default()
        };
        let request =
            CreateReadSessionRequest { parent: "p".into(), read_session: Some(session), max_stream_count: 3 };
        let bytes =
            [framed(&request), framed(&CreateReadSessionRequest::default()), framed(&request)].concat();
        let one = ["[1]=p", "[2, 3]=2", "[2, 6]=t", "[2, 8, 1]=a", "[2, 8, 1]=b", "[3]=3", "end"];
        let expected: Vec<_> = one.iter().chain(&["end"]).chain(&one).map(|text| text.to_string()).collect();
        for size in 1..bytes.len() {
            let mut messages = Messages::new(Seen::default());
            for piece in bytes.chunks(size) {
                messages.push(piece).unwrap();
            }
            assert!(messages.is_between());
            assert_eq!(messages.into_watch().0, expected, "in pieces of {size}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), len in 0u32..60) {
            let mut messages = Messages::new(Seen::default());
            let _ = messages.push(&[&[0], &len.to_be_bytes()[..], &bytes].concat());
        }
    }
}
