//! Documents of a registry or an archive: manifests, indexes, configurations.

#![no_main]

use coracle::image::config::ImageConfig;
use coracle::image::digest::Digest;
use coracle::image::manifest::{Index, Manifest, Platform};
use coracle::image::registry::client::Fetched;
use coracle::image::registry::document::{Document, choose, parse};
use coracle::util::json;
use libfuzzer_sys::fuzz_target;

const TYPES: [&str; 6] = [
    "",
    "application/json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    let media_type = TYPES[usize::from(*kind) % TYPES.len()].to_owned();
    let fetched = Fetched { media_type, digest: Digest::of(body), bytes: body.to_vec() };
    match parse(&fetched, "busybox") {
        Ok(Document::Index(index)) => {
            let _ = choose(&index, &Platform::host());
            let _ = index.main();
            let text = json::to_vec(&index).unwrap();
            assert_eq!(json::from_slice::<Index>(&text).unwrap(), index);
        }
        Ok(Document::Image(image)) => {
            let text = json::to_vec(&image).unwrap();
            assert_eq!(&json::from_slice::<Manifest>(&text).unwrap(), &*image);
        }
        Err(_) => {}
    }
    if let Ok(mut config) = ImageConfig::parse(body.to_vec()) {
        let _ = (config.id(), config.platform(), config.diff_ids().len());
        let _ = config.encode();
    }
});
