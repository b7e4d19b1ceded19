//! Loading a classic BPF filter.

use super::{Result, check};

/// One classic BPF instruction, as the kernel's `sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

impl Instruction {
    pub fn to_bytes(self) -> [u8; 8] {
        let mut b = [0; 8];
        b[..2].copy_from_slice(&self.code.to_ne_bytes());
        b[2] = self.jt;
        b[3] = self.jf;
        b[4..].copy_from_slice(&self.k.to_ne_bytes());
        b
    }
    pub fn from_bytes(b: [u8; 8]) -> Self {
        Self {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        }
    }
}

/// Installs `filter` on the calling thread. Without no_new_privs it takes
/// CAP_SYS_ADMIN. No speculation mitigation is asked for, as Docker does: the
/// filter is a border of system calls, not of side channels.
pub fn load(filter: &[Instruction]) -> Result<()> {
    let Ok(len) = u16::try_from(filter.len()) else { return Err(nix::errno::Errno::E2BIG) };
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut().cast() };
    let load = |flags: libc::c_ulong| {
        // SAFETY: `Instruction` has the layout of sock_filter; the kernel copies
        // `len` of them and writes nothing.
        let r = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        check(r).map(drop)
    };
    match load(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW) {
        // Kernels before 4.17 do not know the flag.
        Err(nix::errno::Errno::EINVAL) => load(0),
        other => other,
    }
}
