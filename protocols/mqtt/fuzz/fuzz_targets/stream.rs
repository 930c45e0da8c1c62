#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| omnilog_mqtt_fuzz::stream(data));
