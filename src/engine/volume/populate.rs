//! Copy-up: an empty volume over a directory of the image gets that directory's
//! content, owner and mode. Runs in dockerd on the thread of the create.
//!
//! Invariant: every path is resolved inside the image's root by the kernel, and
//! below the volume only plain names relative to open directories are used, so
//! that neither side's symlinks lead anywhere.

use crate::error::{Context, Result};
use crate::storage::tree;
use crate::sys::fs::{Root, fgetxattr, flistxattr, fsetxattr};
use crate::util::id;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Files with several links, by device and inode of the source: the first copy.
type Links = HashMap<(u64, u64), (OwnedFd, CString)>;

/// Prefix of the folder beside the volume in which it is filled.
pub const FILLING: &str = ".filling-";

/// Fills `volume` from `path` inside `root`. Nothing happens if the volume is not
/// empty or the image has no such directory. True if something was copied.
///
/// A volume that is filled by half would never be filled again. So the content
/// comes whole, by one rename; where somebody may look into the directory already
/// (`shared`) it is copied in place, and taken out again if that fails.
pub fn populate(root: OwnedFd, path: &str, volume: &Path, shared: bool) -> Result<bool> {
    if std::fs::read_dir(volume).with_context(|| format!("read {}", volume.display()))?.next().is_some() {
        return Ok(false);
    }
    let path = CString::new(path).unwrap_or_default();
    let root = Root::new(root);
    let from: OwnedFd = match root.open(&path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()) {
        Ok(fd) => fd.into(),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(false),
        Err(e) => return Err(e).context("open the image's directory"),
    };
    let aside = volume.with_file_name(format!("{FILLING}{}", &id::random()[..12]));
    if !shared && std::fs::create_dir(&aside).is_ok() {
        let filled = open_volume(&aside).and_then(|to| fill(&from, &to, &mut Vec::new()));
        let filled = filled.map(|()| std::fs::rename(&aside, volume));
        match filled {
            Ok(Ok(())) => return Ok(true),
            // Mounted, or somebody was first: then it is empty or not as it is.
            Ok(Err(_)) => discard(&aside),
            Err(e) => {
                discard(&aside);
                return Err(e);
            }
        }
    }
    populate_in_place(&from, volume)
}

fn populate_in_place(from: &OwnedFd, volume: &Path) -> Result<bool> {
    if std::fs::read_dir(volume)?.next().is_some() {
        return Ok(false);
    }
    fill_or_undo(from, &open_volume(volume)?).map(|()| true)
}

/// What fails takes away what it brought, and nothing that another container has
/// written into the volume meanwhile.
fn fill_or_undo(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let mut made = Vec::new();
    fill(from, to, &mut made).inspect_err(|_| {
        for name in &made {
            let _ = tree::remove(to.as_fd(), name);
        }
    })
}

fn open_volume(volume: &Path) -> Result<OwnedFd> {
    Ok(File::open(volume).with_context(|| format!("open {}", volume.display()))?.into())
}

/// `made` gets the names in `to` that are ours.
fn fill(from: &OwnedFd, to: &OwnedFd, made: &mut Vec<CString>) -> Result<()> {
    let mut links = Links::new();
    copy_content(from.as_fd(), to.as_fd(), &mut links, made).context("copy the image's content into the volume")?;
    copy_attributes(from.as_fd(), to.as_fd())
}

/// Removes what a copy that failed, or was cut short, left.
pub fn discard(aside: &Path) {
    let (Some(parent), Some(name)) = (aside.parent(), aside.file_name()) else { return };
    let name = CString::new(name.as_encoded_bytes()).unwrap_or_default();
    let removed = File::open(parent).map_err(Into::into).and_then(|dir| tree::remove(dir.as_fd(), &name));
    if let Err(e) = removed {
        crate::warn!("cannot remove what was to fill a volume", "path" = aside.display(), "error" = e);
    }
}

fn copy_content(from: BorrowedFd<'_>, to: BorrowedFd<'_>, links: &mut Links, made: &mut Vec<CString>) -> Result<()> {
    let list = openat(from, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut dir = nix::dir::Dir::from_fd(list)?;
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        if fstatat(to, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_err() {
            made.push(name.to_owned());
        }
        copy_entry(from, to, name, links).with_context(|| name.to_string_lossy().into_owned())?;
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, links: &mut Links) -> Result<()> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let nofollow = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    if kind != SFlag::S_IFDIR && stat.st_nlink > 1 {
        if let Some((dir, first)) = links.get(&(stat.st_dev, stat.st_ino)) {
            linkat(dir, first.as_c_str(), to, name, AtFlags::empty())?;
            return Ok(());
        }
        let dir = openat(to, c".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        links.insert((stat.st_dev, stat.st_ino), (dir, name.to_owned()));
    }
    match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::from_bits_truncate(0o700))?;
            let source = openat(from, name, nofollow | OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
            let target = openat(to, name, nofollow | OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
            copy_content(source.as_fd(), target.as_fd(), links, &mut Vec::new())?;
            copy_attributes(source.as_fd(), target.as_fd())
        }
        SFlag::S_IFREG => {
            let source = openat(from, name, nofollow | OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())?;
            let create = nofollow | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
            let target = openat(to, name, create, Mode::from_bits_truncate(0o600))?;
            let (mut source, mut target) = (File::from(source), File::from(target));
            io::copy(&mut source, &mut target)?;
            copy_attributes(source.as_fd(), target.as_fd())
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name)?;
            symlinkat(target.as_os_str(), to, name)?;
            own_and_date(to, name, &stat)
        }
        _ => {
            // Devices cannot be made in a user namespace, and none was asked for.
            match mknodat(to, name, kind, Mode::from_bits_truncate(stat.st_mode & 0o7777), stat.st_rdev) {
                Err(Errno::EPERM) => Ok(()),
                Err(e) => Err(e.into()),
                Ok(()) => own_and_date(to, name, &stat),
            }
        }
    }
}

fn own_and_date(dir: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    tolerate(fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW))?;
    utimensat(dir, name, &accessed(stat), &modified(stat), UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

fn accessed(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_atime, stat.st_atime_nsec)
}

fn modified(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}

/// Owner, mode, extended attributes and times; the owner first, for it clears
/// the set-id bits.
fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let stat = fstat(from)?;
    tolerate(fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid))))?;
    fchmod(to, Mode::from_bits_truncate(stat.st_mode & 0o7777))?;
    for name in flistxattr(from).unwrap_or_default() {
        // The overlay's own marks stay with the overlay.
        if name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.") {
            continue;
        }
        let Ok(name) = CString::new(name) else { continue };
        if let Ok(value) = fgetxattr(from, &name) {
            let _ = fsetxattr(to, &name, &value);
        }
    }
    nix::sys::stat::futimens(to, &accessed(&stat), &modified(&stat))?;
    Ok(())
}

/// In single-id mode no owner can be given; the content matters more.
fn tolerate(result: nix::Result<()>) -> Result<()> {
    match result {
        Err(Errno::EPERM | Errno::EINVAL) | Ok(()) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn content_mode_and_links_arrive_and_symlinks_stay_inside() {
        let base = std::env::temp_dir().join(format!("coracle-populate-{}", std::process::id()));
        let (root, volume) = (base.join("root"), base.join("volume"));
        fs::create_dir_all(root.join("data/sub")).unwrap();
        fs::create_dir_all(&volume).unwrap();
        fs::write(root.join("data/sub/f"), b"x").unwrap();
        fs::hard_link(root.join("data/sub/f"), root.join("data/g")).unwrap();
        symlink("/etc/passwd", root.join("data/l")).unwrap();
        symlink("/data", root.join("alias")).unwrap();
        fs::set_permissions(root.join("data"), fs::Permissions::from_mode(0o751)).unwrap();
        let open = || -> OwnedFd { File::open(&root).unwrap().into() };
        assert!(!populate(open(), "/nosuch", &volume, false).unwrap());
        assert!(populate(open(), "/alias", &volume, false).unwrap());
        assert_eq!(fs::metadata(&volume).unwrap().permissions().mode() & 0o777, 0o751);
        assert_eq!(fs::read(volume.join("sub/f")).unwrap(), b"x");
        assert_eq!(fs::metadata(volume.join("g")).unwrap().ino(), fs::metadata(volume.join("sub/f")).unwrap().ino());
        assert_eq!(fs::read_link(volume.join("l")).unwrap(), Path::new("/etc/passwd"));
        assert!(!populate(open(), "/data", &volume, false).unwrap(), "a filled volume is left alone");
        // In place, for a directory that somebody has mounted.
        let mounted = base.join("mounted");
        fs::create_dir_all(&mounted).unwrap();
        let before = fs::metadata(&mounted).unwrap().ino();
        assert!(populate(open(), "/data", &mounted, true).unwrap());
        assert_eq!(fs::metadata(&mounted).unwrap().ino(), before);
        assert_eq!(fs::read(mounted.join("sub/f")).unwrap(), b"x");
        assert_eq!(fs::read_dir(&base).unwrap().count(), 3, "nothing is left beside the volumes");
        // Somebody wrote there first: that stays, and what came beside it goes.
        let raced = base.join("raced");
        fs::create_dir_all(&raced).unwrap();
        fs::write(raced.join("g"), b"theirs").unwrap();
        let opened = |path: &Path| -> OwnedFd { File::open(path).unwrap().into() };
        assert!(fill_or_undo(&opened(&root.join("data")), &opened(&raced)).is_err());
        assert_eq!(fs::read(raced.join("g")).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(&raced).unwrap().count(), 1);
        fs::remove_dir_all(&base).unwrap();
    }
}
