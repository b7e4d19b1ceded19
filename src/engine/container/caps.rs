//! Capability names and Docker's default set. Pure.

use crate::error::{Error, Result};
use crate::runtime::caps::{self, NAMES};

/// CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP
/// NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE
pub const DEFAULT: u64 = 0xa804_25fb;

pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// `CAP_X`, upper case; `ALL` stays. Errors name the list, as Docker's do.
pub fn normalise(list: &[String], what: &str) -> Result<Vec<String>> {
    list.iter()
        .map(|name| {
            let upper = name.trim().to_ascii_uppercase();
            if upper == "ALL" {
                return Ok(upper);
            }
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            match bit(&full) {
                Some(_) => Ok(full),
                None => Err(Error::invalid(format!("invalid {what}: unknown capability: \"{full}\""))),
            }
        })
        .collect()
}

fn bit(full: &str) -> Option<u64> {
    full.strip_prefix("CAP_").and(caps::number(full)).map(|n| 1 << n)
}

/// The set of a container, by Docker's order: start from the default, or from
/// all (add ALL) or none (drop ALL), then add and drop the named ones.
pub fn tweak(add: &[String], drop: &[String], privileged: bool) -> Result<u64> {
    if privileged {
        return Ok(ALL);
    }
    let (add, drop) = (normalise(add, "CapAdd")?, normalise(drop, "CapDrop")?);
    let bits = |list: &[String]| list.iter().filter_map(|n| bit(n)).fold(0, |a, b| a | b);
    let has_all = |list: &[String]| list.iter().any(|n| n == "ALL");
    Ok(match (has_all(&add), has_all(&drop)) {
        (true, _) => ALL & !bits(&drop),
        (false, true) => bits(&add),
        (false, false) => (DEFAULT & !bits(&drop)) | bits(&add),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_follow_docker() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(tweak(&[], &[], false).unwrap(), DEFAULT);
        assert_eq!(tweak(&list(&["net_raw"]), &list(&["ALL"]), false).unwrap(), 1 << 13);
        assert_eq!(tweak(&list(&["ALL"]), &list(&["CAP_CHOWN"]), false).unwrap(), ALL & !1);
        assert_eq!(tweak(&[], &list(&["chown"]), false).unwrap(), DEFAULT & !1);
        assert_eq!(tweak(&[], &[], true).unwrap(), ALL);
        assert_eq!(
            tweak(&list(&["NOSUCH"]), &[], false).unwrap_err().message(),
            "invalid CapAdd: unknown capability: \"CAP_NOSUCH\""
        );
    }

    #[test]
    fn the_default_is_dockers_list() {
        let names = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE \
                     SYS_CHROOT KILL AUDIT_WRITE";
        let set = names.split_whitespace().map(|n| bit(&format!("CAP_{n}")).unwrap()).fold(0, |a, b| a | b);
        assert_eq!(set, DEFAULT);
    }
}
