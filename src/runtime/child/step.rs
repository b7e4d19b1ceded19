//! Where a failure between clone and exec happened, and how it travels to the
//! shim: eight bytes on the close-on-exec socket. Written by the child, read by
//! the shim, which has the plan and makes the sentence.

use nix::errno::Errno;

/// Where a failure happened; the number travels on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    Namespaces,
    Loopback,
    Hostname,
    Root,
    /// Index into the mounts: the target could not be made or found.
    Target,
    /// Index into the mounts: the mount was refused.
    Mount,
    Console,
    Stdio,
    /// Index into the sysctls.
    Sysctl,
    /// Index into the masked paths.
    Mask,
    /// Index into the readonly paths.
    Readonly,
    RootReadonly,
    /// Index into the rlimits.
    Rlimit,
    Seccomp,
    /// No such user, or a bad one.
    User,
    /// No such group; index 0 is the one beside the user, 1.. additional groups.
    Group,
    /// The ids are not mapped on this host.
    Identity,
    Cwd,
    /// The working directory lies outside the root.
    CwdOutside,
    Capabilities,
    NotInPath,
    IsDirectory,
    NotExecutable,
    NoSuchFile,
    Oom,
}

impl Step {
    const ALL: [Step; 25] = [
        Step::Namespaces,
        Step::Loopback,
        Step::Hostname,
        Step::Root,
        Step::Target,
        Step::Mount,
        Step::Console,
        Step::Stdio,
        Step::Sysctl,
        Step::Mask,
        Step::Readonly,
        Step::RootReadonly,
        Step::Rlimit,
        Step::Seccomp,
        Step::User,
        Step::Group,
        Step::Identity,
        Step::Cwd,
        Step::CwdOutside,
        Step::Capabilities,
        Step::NotInPath,
        Step::IsDirectory,
        Step::NotExecutable,
        Step::NoSuchFile,
        Step::Oom,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    pub step: Step,
    pub index: u16,
    pub errno: i32,
}

impl Failure {
    pub fn to_bytes(self) -> [u8; 8] {
        let mut b = [b'F', self.step as u8, 0, 0, 0, 0, 0, 0];
        b[2..4].copy_from_slice(&self.index.to_le_bytes());
        b[4..].copy_from_slice(&self.errno.to_le_bytes());
        b
    }
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        let [b'F', step, i0, i1, e0, e1, e2, e3] = *b else { return None };
        let step = *Step::ALL.get(usize::from(step))?;
        Some(Self { step, index: u16::from_le_bytes([i0, i1]), errno: i32::from_le_bytes([e0, e1, e2, e3]) })
    }
}

pub(super) fn at(step: Step, index: usize) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { step, index: index as u16, errno: errno as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_travel_as_eight_bytes() {
        for step in Step::ALL {
            let failure = Failure { step, index: 513, errno: 2 };
            assert_eq!(Failure::from_bytes(&failure.to_bytes()), Some(failure));
        }
        assert_eq!(Failure::from_bytes(b"F\xff......"), None);
    }
}
