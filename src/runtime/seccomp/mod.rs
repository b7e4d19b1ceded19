//! Seccomp: profiles and their compilation to classic BPF. Runs in dockerd while
//! a container's spec is made; the child only loads the finished program.
//!
//! Theory of operation. The program sees `struct seccomp_data`: number,
//! architecture, arguments. It picks the section of the architecture (a process
//! may change it at every call, so every section must judge), refuses what is
//! newer than our table with ENOSYS, and finds the number's verdict in a binary
//! tree over runs of equal verdicts: some ten comparisons instead of hundreds.
//! Rules on arguments are tried in order at the leaf.
//!
//! Invariant: a call that no rule names gets the profile's default action, on
//! every architecture; an architecture without a section is killed.

mod compile;
mod json;
mod profile;
pub mod syscalls;

use crate::error::Result;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// Capabilities that gate system calls, as bits.
mod cap {
    pub(super) const DAC_READ_SEARCH: u64 = 1 << 2;
    pub(super) const SYS_MODULE: u64 = 1 << 16;
    pub(super) const SYS_RAWIO: u64 = 1 << 17;
    pub(super) const SYS_CHROOT: u64 = 1 << 18;
    pub(super) const SYS_PTRACE: u64 = 1 << 19;
    pub(super) const SYS_PACCT: u64 = 1 << 20;
    pub(super) const SYS_ADMIN: u64 = 1 << 21;
    pub(super) const SYS_BOOT: u64 = 1 << 22;
    pub(super) const SYS_NICE: u64 = 1 << 23;
    pub(super) const SYS_TIME: u64 = 1 << 25;
    pub(super) const SYS_TTY_CONFIG: u64 = 1 << 26;
    pub(super) const SYSLOG: u64 = 1 << 34;
    pub(super) const PERFMON: u64 = 1 << 38;
    pub(super) const BPF: u64 = 1 << 39;
}

/// What the kernel does with a call (seccomp(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Allow,
    Errno(u16),
    KillThread,
    KillProcess,
    Trap,
    Trace(u16),
    Log,
}

impl Action {
    /// The value the filter returns: SECCOMP_RET_* and its data.
    fn value(self) -> u32 {
        match self {
            Action::Allow => 0x7fff_0000,
            Action::Errno(n) => 0x0005_0000 | u32::from(n),
            Action::KillThread => 0,
            Action::KillProcess => 0x8000_0000,
            Action::Trap => 0x0003_0000,
            Action::Trace(n) => 0x7ff0_0000 | u32::from(n),
            Action::Log => 0x7ffc_0000,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    /// Equal after masking with this.
    MaskedEq(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Comparison {
    operator: Operator,
    value: u64,
}

/// On one of the six arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Condition {
    argument: u8,
    comparison: Comparison,
}

/// All conditions must hold; none is always.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    name: String,
    action: Action,
    conditions: Vec<Condition>,
}

/// A profile with its capability and kernel conditions already decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    default: Action,
    rules: Vec<Rule>,
    /// Also judge the 32-bit calls of this architecture; else they are killed.
    compat: bool,
}

impl Profile {
    /// The default profile for a process whose bounding set is `caps`.
    pub fn builtin(caps: u64) -> Self {
        profile::builtin(caps)
    }

    /// The compiled default profile; kept, because nearly every container of a
    /// daemon has the same capabilities.
    pub fn builtin_program(caps: u64) -> Result<Vec<u8>> {
        static KEPT: Mutex<BTreeMap<u64, Vec<u8>>> = Mutex::new(BTreeMap::new());
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = kept.get(&caps) {
            return Ok(program.clone());
        }
        let program = Self::builtin(caps).compile()?;
        kept.insert(caps, program.clone());
        Ok(program)
    }

    /// A profile in Docker's or the OCI runtime's JSON, for a bounding set and
    /// the running kernel's `(major, minor)`. Errors are the caller's to show.
    pub fn from_json(text: &str, caps: u64, kernel: (u32, u32)) -> Result<Self> {
        json::parse(text, caps, kernel)
    }

    /// Classic BPF for this machine: 8 bytes an instruction, native order.
    pub fn compile(&self) -> Result<Vec<u8>> {
        compile::compile(self)
    }
}
