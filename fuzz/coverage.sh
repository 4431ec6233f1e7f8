#!/bin/sh
# Compiles the project's own crates with what libFuzzer wants to see of them (clang's documentation of
# SanitizerCoverage), and a little optimised: more inputs a second. Cargo calls it as RUSTC_WORKSPACE_WRAPPER, so libraries are those of every other build.
exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Copt-level=1
