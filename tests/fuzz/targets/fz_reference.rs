//! Names of images, digests, platforms, URLs and challenges of registries.

#![no_main]

use coracle::image::digest::Digest;
use coracle::image::manifest::Platform;
use coracle::image::reference::{AnyReference, Reference};
use coracle::image::registry::{challenge, url};
use coracle::util::query;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(text) = coracle_fuzz::text(data) else { return };
    if let Ok(reference) = Reference::parse(text) {
        // A domain may be as long as it likes, as with Go's package.
        assert!(reference.path().len() <= 255);
        let familiar = reference.familiar();
        let again = Reference::parse(&familiar).unwrap_or_else(|e| panic!("{familiar}: {e}"));
        assert_eq!(again, reference);
        // It becomes part of a path and of a request's line.
        assert!(!familiar.contains("..") || !familiar.contains('/') || !familiar.contains("/../"));
        assert!(familiar.bytes().all(|b| b.is_ascii_graphic()));
        let _ = (reference.or_latest().familiar(), reference_parts(&again));
    }
    let _ = AnyReference::parse(text);
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = Platform::parse(text) {
        let _ = platform.clone().normalised().rank(&Platform::host());
    }
    for challenge in challenge::parse(text) {
        let _ = (challenge.param("realm"), challenge.param("scope"));
    }
    if let Some(one) = url::Url::parse(text) {
        let _ = (one.host(), one.port());
        let base = url::Url::parse("https://registry.example/v2/a/blobs/uploads/1").unwrap();
        let _ = base.join(text).map(|joined| joined.same_origin(&base));
        let _ = one.join(text);
    }
    let escaped = query::escape(text);
    assert!(escaped.bytes().all(|b| b.is_ascii_graphic()));
});

fn reference_parts(reference: &Reference) -> String {
    format!("{}{}{:?}{:?}", reference.domain(), reference.path(), reference.tag(), reference.digest())
}
