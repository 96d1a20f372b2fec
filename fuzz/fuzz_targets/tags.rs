//! `tidegate::testing::fuzz::tags` says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::testing::fuzz::tags(bytes));
