//! A request's line and body: routed, checked and spliced without a panic; what is spliced stays JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8])| {
    let (path, body) = input;
    bigquery::fuzzing::request(path, body);
});
