#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omnilog_kafka_fuzz::requests(data));
