//! `tidegate::testing::fuzz::discovery` says what is checked.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate::testing::fuzz::discovery(bytes));
