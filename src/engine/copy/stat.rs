//! What a copy is told about a path before it begins: `X-Docker-Container-Path-Stat`.

use super::path::{absolute, base, follows};
use super::view::{View, path_error};
use crate::api::container::PathStat;
use crate::error::Result;
use crate::util::time::{Timestamp, rfc3339_nano};
use nix::sys::stat::{FileStat, SFlag, fstat};

/// Go's os.FileMode of a stat.
fn go_mode(mode: u32) -> u32 {
    let kind = match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => 1 << 31,
        SFlag::S_IFLNK => 1 << 27,
        SFlag::S_IFBLK => 1 << 26,
        SFlag::S_IFCHR => 1 << 26 | 1 << 21,
        SFlag::S_IFIFO => 1 << 25,
        SFlag::S_IFSOCK => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let bits = special.iter().filter(|(unix, _)| mode & unix != 0).map(|(_, go)| go).sum::<u32>();
    mode & 0o777 | kind | bits
}

pub fn is_dir(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

/// `container` is the reference that the client used, for the error text.
pub fn stat(view: &View, path: &str, container: &str) -> Result<(PathStat, FileStat)> {
    let full = absolute(path);
    let found = view.find(&full, follows(&full)).map_err(|e| path_error(e, path, container))?;
    let stat = fstat(&found)?;
    let is_link = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK;
    let link_target =
        if is_link { view.resolve(&full).unwrap_or_else(|_| dangling(view, &full)) } else { String::new() };
    let mtime = Timestamp::from_parts(stat.st_mtime, stat.st_mtime_nsec as u32);
    let described = PathStat {
        name: base(&full).to_owned(),
        size: stat.st_size,
        mode: go_mode(stat.st_mode),
        mtime: rfc3339_nano(mtime),
        link_target,
    };
    Ok((described, stat))
}

/// Where a link to nothing points, as far as it can be told: its own text, made
/// absolute inside the container.
fn dangling(view: &View, full: &str) -> String {
    let Ok(found) = view.find(full, false) else { return String::new() };
    let Ok(text) = nix::fcntl::readlinkat(&found, c"") else { return String::new() };
    let text = text.to_string_lossy();
    let parent = full.rsplit_once('/').map_or("", |(p, _)| p);
    crate::util::path::absolute(&if text.starts_with('/') { text.into_owned() } else { format!("{parent}/{text}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(0o040_755), 1 << 31 | 0o755);
        assert_eq!(go_mode(0o120_777), 1 << 27 | 0o777);
        assert_eq!(go_mode(0o104_755), 1 << 23 | 0o755);
        assert_eq!(go_mode(0o020_620), 1 << 26 | 1 << 21 | 0o620);
        assert_eq!(go_mode(0o041_777), 1 << 31 | 1 << 20 | 0o777);
    }
}
