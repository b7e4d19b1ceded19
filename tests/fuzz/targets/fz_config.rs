//! daemon.json and the values of the daemon's flags.

#![no_main]

use coracle::daemon::{config, options, value};
use coracle::util::json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(text) = coracle_fuzz::text(data) else { return };
    if let Ok(values) = config::document(text.as_bytes()) {
        for value in values.values() {
            let _ = value::go(value);
        }
    }
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let _ = config::line(&words, "/run/docker.sock");
    if let Some((key, rest)) = text.split_once('=')
        && let Some(option) = options::by_key(key)
    {
        if let Ok(one) = value::add(option.kind, None, rest) {
            let _ = value::add(option.kind, Some(one), rest);
        }
        if let Ok(raw) = json::from_str(rest) {
            let _ = value::check(option.kind, key, raw);
        }
    }
});
