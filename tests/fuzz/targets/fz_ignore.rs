//! `.dockerignore` files and the patterns of COPY: one line of input is the path.

#![no_main]

use coracle::util::glob::Pattern;
use coracle::util::ignore::Ignore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(text) = coracle_fuzz::text(data) else { return };
    let (path, rules) = text.split_once('\n').unwrap_or(("a/b.log", text));
    if let Ok(rules) = Ignore::parse(rules) {
        let _ = rules.excludes(path);
        let _ = rules.excludes("a/b/c.log");
        let _ = rules.has_exceptions();
    }
    for line in rules.lines().take(4) {
        for pattern in [Pattern::new(line), Pattern::plain(line)].into_iter().flatten() {
            let _ = pattern.matches(path);
            let _ = pattern.matches_or_parent(path);
        }
    }
});
