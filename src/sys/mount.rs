//! The file-descriptor mount API (kernel 5.2, attributes 5.12). pivot_root and
//! umount2 are nix's.

use super::{Result, check};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub const ATTR_RDONLY: u64 = 0x1;
pub const ATTR_NOSUID: u64 = 0x2;
pub const ATTR_NODEV: u64 = 0x4;
pub const ATTR_NOEXEC: u64 = 0x8;
pub const ATTR_NOATIME: u64 = 0x10;

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const OPEN_TREE_CLONE: u32 = 1;

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: called with the fresh result of a call that makes descriptors.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

const fn cwd() -> RawFd {
    libc::AT_FDCWD
}

fn dir_number(dir: Option<BorrowedFd<'_>>) -> RawFd {
    dir.map_or(cwd(), |d| d.as_raw_fd())
}

/// A detached copy of the mount at `path` (empty: of `dir` itself), with all
/// below it if `recursive`.
pub fn clone_tree(dir: Option<BorrowedFd<'_>>, path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | libc::AT_EMPTY_PATH as u32;
    if recursive {
        flags |= libc::AT_RECURSIVE as u32;
    }
    // SAFETY: `path` is a live C string; the rest are integers.
    check(unsafe { libc::syscall(libc::SYS_open_tree, dir_number(dir), path.as_ptr(), flags) }).map(owned)
}

/// Attaches a detached mount on what `target` names.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_raw_fd(), target.as_raw_fd(), c"", flags)
}

/// Attaches a detached mount at a path that only the caller controls.
pub fn attach_at(mount: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    move_mount(mount.as_raw_fd(), cwd(), path, MOVE_MOUNT_F_EMPTY_PATH)
}

fn move_mount(from: RawFd, to: RawFd, to_path: &CStr, flags: u32) -> Result<()> {
    // SAFETY: both paths are live C strings; the rest are integers.
    check(unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, to_path.as_ptr(), flags) }).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Sets attributes (and propagation, an MS_* flag, 0 for none) of the mount
/// that `mount` is the root of.
pub fn set_attributes(mount: BorrowedFd<'_>, set: u64, propagation: u64, recursive: bool) -> Result<()> {
    if set == 0 && propagation == 0 {
        return Ok(());
    }
    let attr = MountAttr { set, propagation, ..Default::default() };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads one mount_attr of the stated size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// A file system that is being configured.
pub struct Context(OwnedFd);

impl From<OwnedFd> for Context {
    fn from(begun: OwnedFd) -> Self {
        Self(begun)
    }
}

impl AsFd for Context {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Context {
    pub fn open(fstype: &CStr) -> Result<Self> {
        const FSOPEN_CLOEXEC: u32 = 1;
        // SAFETY: `fstype` is a live C string.
        check(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) }).map(|fd| Self(owned(fd)))
    }
    pub fn flag(&self, key: &CStr) -> Result<()> {
        self.config(FSCONFIG_SET_FLAG, Some(key), std::ptr::null(), 0)
    }
    pub fn string(&self, key: &CStr, value: &CStr) -> Result<()> {
        self.config(FSCONFIG_SET_STRING, Some(key), value.as_ptr().cast(), 0)
    }
    /// Makes the file system and a detached mount of it.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        self.config(FSCONFIG_CMD_CREATE, None, std::ptr::null(), 0)?;
        const FSMOUNT_CLOEXEC: u32 = 1;
        // SAFETY: integers.
        check(unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attributes as u32) })
            .map(owned)
    }
    /// What the file system said about the last failure ("overlay: ..."), if anything.
    pub fn explanation(&self) -> Option<String> {
        let mut buffer = [0u8; 512];
        let n = nix::unistd::read(&self.0, &mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..n]).trim().to_owned();
        // "e msg", "w msg", "i msg"
        (!text.is_empty()).then(|| text.get(2..).unwrap_or(&text).to_owned())
    }
    fn config(&self, command: u32, key: Option<&CStr>, value: *const libc::c_void, aux: RawFd) -> Result<()> {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: key and value are null or live C strings, as each command asks.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, aux) }).map(drop)
    }
}

/// Changes the propagation of everything below "/" in this mount namespace.
pub fn set_root_propagation(flag: u64) -> Result<()> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: literals and nulls; a propagation change reads only the target.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, flag | libc::MS_REC, std::ptr::null()) }).map(drop)
}

/// Whether this kernel has what the runtime is built on.
pub fn supported() -> bool {
    // SAFETY: an invalid descriptor and a null attribute: answers EBADF or
    // EINVAL where the call exists, ENOSYS where not.
    let r = unsafe { libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), 0, std::ptr::null::<u8>(), 0) };
    !(r == -1 && Errno::last() == Errno::ENOSYS)
}
