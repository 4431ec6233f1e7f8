//! A query's body: what the record says was asked is what BigQuery reads in what is forwarded.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    bigquery::fuzzing::statement(false, body);
    bigquery::fuzzing::statement(true, body);
});
