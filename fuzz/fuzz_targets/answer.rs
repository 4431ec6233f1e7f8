//! An answer that is narrowed, unlabelled and watched: never a panic, the same for every cut, and JSON stays JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8], usize)| {
    let (fields, body, cut) = input;
    bigquery::fuzzing::answer(fields, body, cut);
});
