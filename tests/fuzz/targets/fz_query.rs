//! Query strings, paths, versions and filters.

#![no_main]

use coracle::api::build::Options;
use coracle::api::filters::Filters;
use coracle::server::http::head;
use coracle::server::router;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fuzz_target!(|data: &[u8]| {
    let Some(text) = coracle_fuzz::text(data) else { return };
    let (version, path) = router::split_version(text);
    let _ = version.map(|v| (router::is_ancient(v), router::requested(v, coracle::api::version::MIN).is_ok()));
    let _ = router::matches("/containers/{name}/json", path);
    let _ = router::matches("/images/{name:*}/json", path);
    let query = head::query(text);
    let decoded = Options::decode(|key| query.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect());
    if let Ok(options) = decoded {
        let _ = options.encode();
    }
    let filters = query.iter().find(|(k, _)| k == "filters").map_or(text, |(_, v)| v);
    if let Ok(filters) = Filters::parse(filters) {
        let again = Filters::parse(&filters.encode()).unwrap();
        assert_eq!(again.encode(), filters.encode());
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        for key in ["name", "label", "until", "status", "id"] {
            let _ = filters.regex(key, "a-name");
            let _ = filters.exact(key, "a-name");
            let _ = filters.prefix(key, "a-name");
            let _ = filters.pairs(key, &labels);
            let _ = filters.bool(key, true);
        }
    }
    let _ = coracle::util::time::parse_rfc3339(text);
    let _ = coracle::util::units::parse_duration(text);
    let _ = coracle::util::units::parse_bytes(text);
    let _ = coracle::util::units::parse_nano_cpus(text);
});
