//! Descriptions of devices: YAML, and the edits in them.

#![no_main]

use coracle::engine::container::cdi;
use coracle::util::yaml;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(text) = coracle_fuzz::text(data) else { return };
    let _ = yaml::parse(text);
    let _ = cdi::parse(text, "yaml");
    let _ = cdi::parse(text, "json");
});
