//! The list of a large context, for a daemon that has kept what it was at the last
//! build and asks only for what has changed (`POST /build/context`). A daemon that
//! does not know how is sent everything.
//!
//! Invariant: what is sent is what was listed. A file that comes meanwhile waits
//! for the next build, one that changes meanwhile will then have another identity.

use super::context::{Visit, Walk};
use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use serde::Deserialize;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Below this a list costs more than it saves.
const MIN_FILES: usize = 1000;
const MIN_BYTES: u64 = 32 << 20;
/// The daemon takes no more.
const MAX_LIST: usize = 60 << 20;
/// A change sooner than this after another may bear the same time: the kernel's
/// clock for files ticks every 1 to 10 ms, coarse file systems every 2 s.
const TICK: i128 = 100_000_000;
const COARSE_TICK: i128 = 2_000_000_000;

/// A folder as it was listed, and which of its files go out.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) key: String,
    list: String,
    /// First and last number among its files.
    needed: Vec<(usize, usize)>,
}

impl Listed {
    /// What is sent of `root`, as it is now. What went away is missed by the daemon, and
    /// so is all below a folder that is none any more: it might lead out of the context.
    pub(super) fn each(&self, root: &Path, visit: &mut Visit<'_>) -> Result<()> {
        let mut needed = self.needed.iter().peekable();
        let mut number = 0;
        let mut lost = String::from("\0");
        for entry in self.list.split_terminator('\0') {
            let (kind, path) = (entry.split(' ').next(), entry.splitn(3, ' ').last().unwrap_or_default());
            if kind == Some("f") {
                while needed.next_if(|(_, last)| *last < number).is_some() {}
                let wanted = needed.peek().is_some_and(|(first, _)| *first <= number);
                number += 1;
                if !wanted {
                    continue;
                }
            }
            if path.strip_prefix(&lost).is_some_and(|rest| rest.starts_with('/')) {
                continue;
            }
            let full = root.join(path);
            match std::fs::symlink_metadata(&full) {
                Ok(meta) if kind != Some("d") || meta.is_dir() => visit(path, &full, &meta)?,
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::from(e).context(format_args!("error checking context: {}", full.display())));
                }
                _ => path.clone_into(&mut lost),
            }
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
struct Answer {
    needed: Option<Vec<(usize, usize)>>,
}

/// Lists the folder and asks. None: send everything.
pub(super) fn ask(client: &Client, build: &str, walk: &Walk<'_>, dockerfile: &str) -> Result<Option<Listed>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
    let (mut list, mut files, mut bytes) = (String::new(), 0, 0);
    walk.folder(
        &mut |path: &str, _: &Path, meta: &Metadata| {
            if list.len() > MAX_LIST {
                return Ok(());
            }
            // These two the daemon may take out of its tree.
            let special = path == dockerfile || path == ".dockerignore";
            let (kind, identity) = match meta {
                m if m.is_dir() => ("d", String::new()),
                m if m.is_symlink() => ("l", String::new()),
                m if m.is_file() => {
                    (files, bytes) = (files + 1, bytes + m.len());
                    ("f", if special { String::new() } else { identity(m, now) })
                }
                _ => return Ok(()),
            };
            let identity = if identity.is_empty() { "-" } else { &identity };
            list.extend([kind, " ", identity, " ", path, "\0"]);
            Ok(())
        },
        "",
    )?;
    if (files < MIN_FILES && bytes < MIN_BYTES) || list.len() > MAX_LIST {
        return Ok(None);
    }
    let key = key(walk.root);
    let mut body = list.as_bytes();
    let request = client.post("/build/context").query("id", build).query("key", &key);
    let answer: Answer = match request.stream_body("application/octet-stream", &mut body).json() {
        Ok(answer) => answer,
        // The original, or an older daemon of ours.
        Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Invalid) => return Ok(None),
        Err(e) => return Err(e),
    };
    Ok(answer.needed.map(|needed| Listed { key, list, needed }))
}

/// This folder of this machine.
fn key(root: &Path) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let host = nix::unistd::gethostname().unwrap_or_default();
    let parts = [machine.trim().as_bytes(), host.as_encoded_bytes(), root.as_os_str().as_encoded_bytes()];
    Digest::of(&parts.join(&0)).hex()
}

/// What changes whenever a file's content or mode does; empty if that is not sure.
fn identity(meta: &Metadata, now: i128) -> String {
    let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
    let tick = if meta.ctime_nsec() == 0 { COARSE_TICK } else { TICK };
    if now - changed < tick {
        return String::new();
    }
    let all = format!(
        "{}:{:o}:{}.{}:{changed}:{}:{}",
        meta.len(),
        meta.mode(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.dev(),
        meta.ino()
    );
    // A third of that, for lists of a million files; 96 bits meet by no accident.
    Digest::of(all.as_bytes()).hex()[..24].to_owned()
}
