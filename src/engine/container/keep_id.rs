//! `--userns=keep-id`: the user who runs the engine shows inside the container
//! under his own numbers, so that what is written into a bind mount is his. The
//! words are Podman's. Runs on the thread of the create or the start.
//!
//! The map is a swap in the engine's own user namespace: the container's K is the
//! engine's 0 (the user), the container's 0 the engine's K, all else as it is.
//! Where the engine has no K, its last id is the container's 0.
//!
//! Invariant: `Record::owners` never changes; it decides what the container
//! stands on, and how its owners are read and written from outside.

use super::record::Record;
use crate::api::container::HostConfig;
use crate::engine::Engine;
use crate::error::{Context, Error, Result};
use crate::image::digest::Digest;
use crate::runtime::spec::UserNamespace;
use crate::runtime::userns;
use crate::storage::RwOptions;
use crate::storage::owners::{self, Exchange, Owners};
use crate::sys::fs::open_in;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;

/// Says the mode where a client's `--userns` takes nothing but "host", as the
/// original's; the name is Podman's.
const ANNOTATION: &str = "io.podman.annotations.userns";

/// The ids that the user shall show as; none: his own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    uid: Option<u32>,
    gid: Option<u32>,
}

/// A user namespace mode; none: the engine's own.
pub fn parse(mode: &str) -> Result<Option<Asked>> {
    let refused = |why: String| Error::invalid(format!("invalid user namespace mode: {mode}: {why}"));
    let options = match mode.split_once(':') {
        _ if matches!(mode, "" | "host") => return Ok(None),
        None if mode == "keep-id" => "",
        Some(("keep-id", options)) => options,
        _ => {
            let why =
                "every container is in the engine's own: \"host\" is that, \"keep-id\" shows you under your own id";
            return Err(refused(why.into()));
        }
    };
    let mut asked = Asked::default();
    for option in options.split(',').filter(|o| !o.is_empty()) {
        let (name, value) = option.split_once('=').ok_or_else(|| refused(format!("{option} has no value")))?;
        let place = match name {
            "uid" => &mut asked.uid,
            "gid" => &mut asked.gid,
            _ => return Err(refused(format!("unknown option {name}: there are uid and gid"))),
        };
        // The kernel's -1 is no id.
        let number = value.parse().ok().filter(|n| *n < u32::MAX);
        *place = Some(number.ok_or_else(|| refused(format!("{value} is not an id")))?);
    }
    Ok(Some(asked))
}

/// The mode that a request means, if it names none: the annotation's or the daemon's.
pub fn default_mode(host: &HostConfig, daemon: &str) -> String {
    let annotated = host.annotations.as_ref().and_then(|a| a.get(ANNOTATION));
    annotated.map_or(daemon, String::as_str).to_owned()
}

/// What a new container's record says of its owners; sets the user whom its
/// processes are if neither the request nor the image names one.
pub fn settle(host: &HostConfig, user: &mut String, rootless: bool) -> Result<Option<Owners>> {
    let Some(asked) = parse(&host.userns_mode)? else { return Ok(None) };
    if !rootless {
        return Err(Error::invalid("keep-id is only supported in rootless mode: as root every id is what it is"));
    }
    if host.pid_mode.starts_with("container:") {
        return Err(Error::invalid(
            "conflicting options: --userns=keep-id and the PID namespace of another container, whose /proc could not \
             be shown",
        ));
    }
    let exchange = |file: &str, asked: Option<u32>| -> Result<Exchange> {
        let map = userns::current(file)?;
        let own = map.iter().find(|(inside, ..)| *inside == 0).map(|(_, outside, _)| *outside);
        exchange(&map, asked.or(own).unwrap_or(0)).ok_or_else(|| {
            Error::invalid("--userns=keep-id takes a second id for the container's root, and the engine has only one")
                .with_hint("docker system check says what this host lacks")
        })
    };
    let owners =
        Owners { uid: exchange("/proc/self/uid_map", asked.uid)?, gid: exchange("/proc/self/gid_map", asked.gid)? };
    if user.is_empty() {
        *user = format!("{}:{}", owners.uid.kept, owners.gid.kept);
    }
    Ok(Some(owners).filter(|o| o.uid.kept != 0 || o.gid.kept != 0))
}

/// `map` is the engine's own. None: there is no other id than 0.
fn exchange(map: &[(u32, u32, u32)], kept: u32) -> Option<Exchange> {
    let has = |id: u32| map.iter().any(|(first, _, count)| id.checked_sub(*first).is_some_and(|n| n < *count));
    let root = match kept {
        kept if has(kept) => kept,
        _ => map.iter().map(|(first, _, count)| first + (count - 1)).max()?,
    };
    (kept == 0 || root != 0).then_some(Exchange { kept, root })
}

/// The lines of a map: container, engine, count. Each lies in one line of the
/// engine's own map, as the kernel demands.
fn lines(map: &[(u32, u32, u32)], exchange: Exchange) -> Vec<(u32, u32, u32)> {
    let mut lines = Vec::new();
    let mut exchanged = [0, exchange.root];
    exchanged.sort_unstable();
    for (first, _, count) in map {
        let (mut at, end) = (*first, first + (count - 1));
        for id in exchanged.into_iter().filter(|id| (*first..=end).contains(id)) {
            if id > at {
                lines.push((at, at, id - at));
            }
            at = at.max(id + 1);
        }
        if at <= end {
            lines.push((at, at, end - at + 1));
        }
    }
    lines.push((exchange.kept, 0, 1));
    if exchange.kept != 0 {
        lines.push((0, exchange.root, 1));
    }
    lines
}

/// The user namespace of a container.
pub fn namespace(owners: &Owners) -> Result<UserNamespace> {
    Ok(UserNamespace {
        uid_map: lines(&userns::current("/proc/self/uid_map")?, owners.uid),
        gid_map: lines(&userns::current("/proc/self/gid_map")?, owners.gid),
    })
}

/// One copy is made at a time, and none is made while unused ones go.
static COPIES: Mutex<()> = Mutex::new(());

/// Makes the copy of an image that such a container stands on, unless it is there.
pub fn prepare(engine: &Engine, layers: &[String], owners: Option<&Owners>) -> Result<()> {
    let (Some(owners), Some(top)) = (owners, layers.last()) else { return Ok(()) };
    let pin = Digest::from_hex(top).and_then(|top| engine.images.layer(&top));
    let _one = super::lock(&COPIES);
    let made = owners::make(&*engine.driver, layers, owners);
    drop(pin);
    made
}

/// Removes the copies that no container stands on; the bytes that were freed.
pub fn prune(engine: &Engine) -> Result<u64> {
    let _one = super::lock(&COPIES);
    let mut used: HashSet<String> = HashSet::new();
    for container in engine.containers.all() {
        let record = container.record();
        used.extend(record.lowers());
        used.extend(record.mounts.iter().flat_map(|m| record.lowers_of(&m.layers)));
    }
    let mut freed = 0;
    for (name, size) in owners::copies(&*engine.driver)? {
        if !used.contains(&name) {
            engine.driver.remove_layer(&name)?;
            freed += size;
        }
    }
    Ok(freed)
}

/// Gives the user a name in the container's own files, if it knows none for him.
/// Who chose a number chose one that the image knows.
pub fn name_user(engine: &Engine, record: &Record) -> Result<()> {
    let (Some(owners), Some(Asked { uid: None, gid: None })) = (record.owners, parse(&record.host_config.userns_mode)?)
    else {
        return Ok(());
    };
    let root = engine.driver.mount_rw(&record.id, &record.lowers(), RwOptions { volatile: record.volatile })?;
    let (uid, gid) = (owners.uid.kept, owners.gid.kept);
    let host = |file: &str, id| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        userns::name(&text, id).map_or_else(|| id.to_string(), str::to_owned)
    };
    let name = host("/etc/passwd", uid);
    let home = if record.config.working_dir.is_empty() { "/" } else { &record.config.working_dir };
    add_line(root.as_fd(), c"/etc/passwd", &name, uid, &format!("{name}:*:{uid}:{gid}:{name}:{home}:/bin/sh"))?;
    let group = host("/etc/group", gid);
    add_line(root.as_fd(), c"/etc/group", &group, gid, &format!("{group}:x:{gid}:{name}"))
}

/// Appends a line to a file of accounts that has neither the name nor the id. An
/// image without such a file gets none.
fn add_line(root: BorrowedFd<'_>, path: &CStr, name: &str, id: u32, line: &str) -> Result<()> {
    const LIMIT: u64 = 16 << 20;
    let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NONBLOCK;
    let Ok(file) = open_in(root, path, flags, Mode::empty()) else { return Ok(()) };
    let mut file = File::from(file);
    let mut text = Vec::new();
    (&file).take(LIMIT).read_to_end(&mut text).with_context(|| path.to_string_lossy().into_owned())?;
    let text = String::from_utf8_lossy(&text);
    let named = text.lines().any(|l| l.split(':').next() == Some(name));
    if named || userns::name(&text, id).is_some() {
        return Ok(());
    }
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    file.write_all(format!("{gap}{line}\n").as_bytes()).with_context(|| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(parse("host").unwrap(), None);
        assert_eq!(parse("keep-id").unwrap(), Some(Asked::default()));
        assert_eq!(parse("keep-id:uid=5,gid=7").unwrap(), Some(Asked { uid: Some(5), gid: Some(7) }));
        for (mode, word) in
            [("auto", "own id"), ("keep-id:uid=x", "not an id"), ("keep-id:size=3", "unknown option size")]
        {
            assert!(parse(mode).unwrap_err().message().contains(word), "{mode}");
        }
    }

    const MAP: [(u32, u32, u32); 2] = [(0, 1001, 1), (1, 100_000, 65_536)];

    #[test]
    fn maps_are_swaps_within_the_engines_own_lines() {
        let made = |kept| lines(&MAP, exchange(&MAP, kept).unwrap());
        assert_eq!(made(1001), [(1, 1, 1000), (1002, 1002, 64_535), (1001, 0, 1), (0, 1001, 1)]);
        assert_eq!(made(1), [(2, 2, 65_535), (1, 0, 1), (0, 1, 1)]);
        assert_eq!(made(65_536), [(1, 1, 65_535), (65_536, 0, 1), (0, 65_536, 1)]);
        assert_eq!(made(0), [(1, 1, 65_536), (0, 0, 1)]);
        // An id that the engine has not: the last of its own is the root.
        assert_eq!(made(5_000_000), [(1, 1, 65_535), (5_000_000, 0, 1), (0, 65_536, 1)]);
        assert_eq!(exchange(&[(0, 1001, 1)], 1001), None);
        let split = [(0, 1001, 1), (1, 100_000, 10), (11, 500_000, 10)];
        assert_eq!(
            lines(&split, exchange(&split, 12).unwrap()),
            [(1, 1, 10), (11, 11, 1), (13, 13, 8), (12, 0, 1), (0, 12, 1)]
        );
    }
}
