//! Framing: length, CRC32C, bytes. A reader can tell a torn or altered frame from a whole one.

/// Bytes before a frame's payload.
pub(crate) const HEADER_BYTES: usize = 8;
/// The longest payload: a window, sealed, with room for what doesn't compress.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 40 * 1024 * 1024;

/// Appends a frame to `out`.
pub(crate) fn push(out: &mut Vec<u8>, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("payloads are bounded by PAYLOAD_BYTES_MAX");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&checksum(len, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Makes a frame of a buffer whose first `HEADER_BYTES` were left free.
pub(crate) fn finish(buffer: &mut [u8]) {
    let (header, payload) = buffer.split_at_mut(HEADER_BYTES);
    let len = u32::try_from(payload.len()).expect("payloads are bounded");
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4..].copy_from_slice(&checksum(len, payload).to_le_bytes());
}

/// The frame at the head of `bytes`: its payload and whole length.
pub(crate) fn first(bytes: &[u8], payload_bytes_max: usize) -> Option<(&[u8], usize)> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let crc = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let size = len as usize;
    if size == 0 || size > payload_bytes_max {
        return None;
    }
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + size)?;
    (checksum(len, payload) == crc).then_some((payload, HEADER_BYTES + size))
}

/// Covers the length too, so that a run of zeros is no frame.
fn checksum(len: u32, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&len.to_le_bytes()), payload)
}

/// Walks the frames of a buffer; `offset` is where the next one begins.
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    pub(crate) offset: usize,
    payload_bytes_max: usize,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(bytes: &'a [u8], offset: usize, payload_bytes_max: usize) -> Self {
        Self { bytes, offset, payload_bytes_max }
    }

    /// Whether every byte was part of a whole frame.
    pub(crate) fn at_end(&self) -> bool {
        self.offset == self.bytes.len()
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (payload, len) = first(self.bytes.get(self.offset..)?, self.payload_bytes_max)?;
        let at = self.offset;
        self.offset += len;
        Some((at, payload))
    }
}
