//! Seccomp profiles and their way to a filter.

#![no_main]

use coracle::runtime::seccomp::Profile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(text) = coracle_fuzz::text(data) else { return };
    for (caps, kernel) in [(0, (6, 1)), (u64::MAX, (4, 7))] {
        if let Ok(profile) = Profile::from_json(text, caps, kernel)
            && let Ok(program) = profile.compile()
        {
            assert!(program.len().is_multiple_of(8) && program.len() / 8 <= 4096);
        }
    }
});
