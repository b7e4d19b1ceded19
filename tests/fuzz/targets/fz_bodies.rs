//! Every type of a request's body, by our reader of JSON.

#![no_main]

use coracle::api::decode;
use coracle::api::{build, container, exec, image, network, registry, volume};
use coracle::util::json;
use libfuzzer_sys::fuzz_target;

/// What was read is written, read and written again: nothing may change.
fn twice<T: serde::de::DeserializeOwned + serde::Serialize>(bytes: &[u8]) {
    let Ok(first) = decode::from_slice::<T>(bytes) else { return };
    let text = json::to_vec(&first).unwrap();
    let second: T = decode::from_slice(&text).unwrap_or_else(|e| panic!("{e} in {}", String::from_utf8_lossy(&text)));
    assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&json::to_vec(&second).unwrap()));
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    match kind % 14 {
        0 | 1 => twice::<container::CreateRequest>(body),
        2 => twice::<container::UpdateConfig>(body),
        3 => twice::<exec::ExecCreate>(body),
        4 => twice::<exec::ExecStart>(body),
        5 => twice::<network::NetworkCreateRequest>(body),
        6 => twice::<network::NetworkConnectRequest>(body),
        7 => twice::<network::NetworkDisconnectRequest>(body),
        8 => twice::<volume::VolumeCreate>(body),
        9 => drop(decode::from_slice::<registry::AuthConfig>(body)),
        10 => twice::<build::Message>(body),
        11 => twice::<image::ImageInspect>(body),
        // Fractions lose their last digit by the way, which no type of ours has.
        12 => drop(decode::from_slice::<serde_json::Value>(body)),
        _ => drop(json::check(body)),
    }
});
