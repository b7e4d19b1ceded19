//! The little languages of the client's flags: ports, mounts, volumes, limits.

#![no_main]

use coracle::cli::flags::{device, list, mount, network, port, volume};
use coracle::util::{git, path, units};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let Some(text) = coracle_fuzz::text(data) else { return };
    let one = [text.to_owned()];
    match kind % 12 {
        0 => drop(port::published(&one)),
        1 => drop(port::exposed(&one)),
        2 => drop(mount::parse(text)),
        3 => drop(volume::binds(&one)),
        4 => drop((path::clean(text), volume::absolute(text))),
        5 => drop(network::parse(text)),
        6 => drop((network::check_mac(text), list::extra_host(text))),
        7 => drop((list::ulimit(text), list::csv(text))),
        8 => drop((device::gpus(text), device::weight(text), device::rate(text, true), device::rate(text, false))),
        9 => drop((device::cgroup_rule(text), coracle::cli::flags::restart_policy(text))),
        10 => drop((git::GitUrl::parse(text), units::quote(text), units::parse_int(text, 64))),
        _ => {
            for flag in ["--add-host", "--env", "--link", "--sysctl", "--dns-search", "--mount", "--gpus", "--device"] {
                let _ = list::check(flag, text);
            }
        }
    }
});
