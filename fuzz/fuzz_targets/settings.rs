#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| backfill_watch_fuzz::settings::run(data));
