//! Capability sets of the calling thread, as bit sets (bit n = capability n).

use super::{Result, check};

const VERSION_3: u32 = 0x2008_0522;
/// An argument that prctl wants to be zero. It is variadic and reads whole longs: an
/// int would leave the upper half to chance.
const NONE: libc::c_ulong = 0;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// (effective, permitted, inheritable)
pub fn get() -> Result<(u64, u64, u64)> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 asks for one header and two data words, both live here.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |f: fn(&Data) -> u32| u64::from(f(&data[0])) | u64::from(f(&data[1])) << 32;
    Ok((join(|d| d.effective), join(|d| d.permitted), join(|d| d.inheritable)))
}

pub fn set(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: as in `get`; the kernel only reads the data.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// Removes one capability from the bounding set.
pub fn bounding_drop(capability: u32) -> Result<()> {
    // SAFETY: prctl with longs.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), NONE, NONE, NONE) }).map(drop)
}

/// Whether the bounding set has it; an error for numbers the kernel does not know.
pub fn bounding_has(capability: u32) -> Result<bool> {
    // SAFETY: prctl with longs.
    check(unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability), NONE, NONE, NONE) })
        .map(|r| r == 1)
}

pub fn ambient_clear() -> Result<()> {
    ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)
}

pub fn ambient_raise(capability: u32) -> Result<()> {
    ambient(libc::PR_CAP_AMBIENT_RAISE, capability)
}

fn ambient(what: libc::c_int, capability: u32) -> Result<()> {
    // SAFETY: prctl with longs.
    check(unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, what as libc::c_ulong, libc::c_ulong::from(capability), NONE, NONE)
    })
    .map(drop)
}

/// Keeps the permitted set over a change from uid 0 to another uid.
pub fn keep_over_setuid(on: bool) -> Result<()> {
    // SAFETY: prctl with longs.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(on), NONE, NONE, NONE) }).map(drop)
}
