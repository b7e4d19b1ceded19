//! The shipped file itself: static, and a role for each of its names.

use crate::harness::daemon::binary;
use crate::harness::{Scratch, run};
use std::process::Command;

/// No interpreter and no library to find: the file runs on an empty root.
#[test]
fn is_static() {
    let elf = std::fs::read(binary()).unwrap();
    assert_eq!(&elf[..5], b"\x7fELF\x02", "a 64-bit ELF file");
    let word = |at: usize, n: usize| elf[at..at + n].iter().rev().fold(0u64, |a, b| a << 8 | u64::from(*b)) as usize;
    let (table, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    for header in (0..count).map(|i| table + i * size) {
        const PT_DYNAMIC: usize = 2;
        const PT_INTERP: usize = 3;
        const DT_NEEDED: usize = 1;
        match word(header, 4) {
            PT_INTERP => panic!("{} asks for an interpreter", binary().display()),
            PT_DYNAMIC => {
                let (offset, length) = (word(header + 8, 8), word(header + 32, 8));
                for entry in (offset..offset + length).step_by(16) {
                    assert_ne!(word(entry, 8), DT_NEEDED, "{} needs a library", binary().display());
                }
            }
            _ => {}
        }
    }
}

/// The exact name decides; whatever else is the client.
#[test]
fn role_is_the_exact_name() {
    let scratch = Scratch::new();
    let call = |name: &str, args: &[&str]| {
        let link = scratch.join(name);
        std::os::unix::fs::symlink(binary(), &link).unwrap();
        run(Command::new(link).args(args).env_clear().env("HOME", scratch.path()))
    };
    assert!(call("docker", &["--version"]).ok().starts_with("Docker version "));
    assert!(call("dockerd", &["--version"]).ok().starts_with("Docker version "));
    assert!(call("coracle", &["--version"]).ok().starts_with("Docker version "));
    // A prefix or suffix of a role's name is no role.
    call("dockerd-nightly", &["--version"]).contains("Docker version ").ok();
}
