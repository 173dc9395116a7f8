#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flumen_server::fuzzing::metadata_image(data));
