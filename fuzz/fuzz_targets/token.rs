//! A credential: a line of `Authorization`, then a token's header and claims, a line each.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (authorization, header, claims) = (line(), line(), line());
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    identity::fuzzing::token(authorization, text(header), text(claims));
});
