//! Rows by column: whatever was packed comes back as it was; whatever is unpacked ends.
#![no_main]

libfuzzer_sys::fuzz_target!(|payload: &[u8]| bigquery::fuzzing::rows(payload));
