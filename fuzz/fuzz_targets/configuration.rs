//! `hansard.toml`: any text is a configuration, or an error that names a line of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| hansard::fuzzing::configuration(text));
