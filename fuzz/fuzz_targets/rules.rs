//! A rule's condition: any text compiles or says why not, and what compiles answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|when: &str| hansard::fuzzing::rule(when));
