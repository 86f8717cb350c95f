//! Gives a fuzzer's bytes to [`fuzz_targets::text`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_targets::text(bytes));
