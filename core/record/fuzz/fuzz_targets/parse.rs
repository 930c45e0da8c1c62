#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omnilog_record_fuzz::parse(data));
