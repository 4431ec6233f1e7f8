//! The journal's files: frames, leaves and the write-ahead log, torn, altered and forged.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ledger::fuzzing::journal(bytes));
