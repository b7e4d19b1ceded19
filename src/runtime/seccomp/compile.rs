//! Profile → classic BPF. Pure; see the module's theory of operation.

use super::syscalls::{self, Abi, TABLE};
use super::{Action, Condition, ENOSYS, Operator, Profile, Rule};
use crate::error::{Error, Result};
use crate::sys::seccomp::Instruction;
use std::collections::BTreeMap;

/// BPF_MAXINSNS of the kernel.
const MAX_INSTRUCTIONS: usize = 4096;

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// Opcodes of linux/bpf_common.h: class, size or operation, source.
mod op {
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const AND: u16 = 0x54;
    pub(super) const JUMP: u16 = 0x05;
    pub(super) const IF_EQUAL: u16 = 0x15;
    pub(super) const IF_GREATER: u16 = 0x25;
    pub(super) const IF_GREATER_OR_EQUAL: u16 = 0x35;
    pub(super) const RETURN: u16 = 0x06;
}

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn give(action: Action) -> Instruction {
    plain(op::RETURN, action.value())
}

/// AUDIT_ARCH_* of linux/audit.h and the ABI behind it.
#[cfg(target_arch = "aarch64")]
const NATIVE: (u32, Abi) = (0xc000_00b7, Abi::Aarch64);
#[cfg(target_arch = "aarch64")]
const COMPAT: (u32, Abi) = (0x4000_0028, Abi::Arm);
#[cfg(not(target_arch = "aarch64"))]
const NATIVE: (u32, Abi) = (0xc000_003e, Abi::X86_64);
#[cfg(not(target_arch = "aarch64"))]
const COMPAT: (u32, Abi) = (0x4000_0003, Abi::X86);

pub(super) fn compile(profile: &Profile) -> Result<Vec<u8>> {
    let program = program(profile);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::invalid(format!(
            "seccomp profile is too large: {} instructions, the kernel takes {MAX_INSTRUCTIONS}",
            program.len()
        )));
    }
    Ok(program.into_iter().flat_map(Instruction::to_bytes).collect())
}

pub(super) fn program(profile: &Profile) -> Vec<Instruction> {
    let mut out = vec![plain(op::LOAD_WORD, ARCH)];
    let mut sections = vec![NATIVE];
    if profile.compat {
        sections.push(COMPAT);
    }
    for (arch, abi) in sections {
        let section = section(profile, abi);
        // Sections are longer than a conditional jump reaches.
        out.push(Instruction { code: op::IF_EQUAL, jt: 1, jf: 0, k: arch });
        out.push(plain(op::JUMP, section.len() as u32));
        out.extend(section);
    }
    out.push(give(Action::KillProcess));
    out
}

/// A verdict on a number: an action, or rules to try.
type Verdict = Vec<Instruction>;

fn section(profile: &Profile, abi: Abi) -> Vec<Instruction> {
    let mut by_name: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        by_name.entry(rule.name.as_str()).or_default().push(rule);
    }
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    for (name, _) in TABLE {
        if let Some(number) = syscalls::number(name, abi) {
            let rules = by_name.get(name).map_or(&[][..], Vec::as_slice);
            verdicts.insert(number, verdict(rules, profile.default));
        }
    }
    // Whoever made the profile could not know what is newer than the table;
    // ENOSYS lets programs fall back. Where everything is allowed by default, so is this.
    let open = matches!(profile.default, Action::Allow | Action::Log | Action::Trace(_));
    let unknown = vec![give(if open { profile.default } else { Action::Errno(ENOSYS) })];
    let gap = vec![give(profile.default)];
    let mut runs: Vec<(u32, Verdict)> = Vec::new();
    let mut next = 0;
    let mut push = |from: u32, verdict: &Verdict| {
        if runs.last().is_none_or(|(_, last)| last != verdict) {
            runs.push((from, verdict.clone()));
        }
    };
    for (number, verdict) in &verdicts {
        if *number > next {
            // Arm's private calls lie far above the rest.
            push(next, if *number >= 0xf0000 { &unknown } else { &gap });
        }
        push(*number, verdict);
        next = number + 1;
    }
    push(next, &unknown);
    let mut out = vec![plain(op::LOAD_WORD, NR)];
    out.extend(tree(&runs));
    out
}

/// First unconditional rule wins over all; else rules in order, then the default.
fn verdict(rules: &[&Rule], default: Action) -> Verdict {
    if let Some(rule) = rules.iter().find(|r| r.conditions.is_empty()) {
        return vec![give(rule.action)];
    }
    let mut out: Vec<Instruction> = rules.iter().flat_map(|r| conditional(&r.conditions, r.action)).collect();
    out.push(give(default));
    out
}

/// Comparisons that fall out of the end unless all hold.
fn conditional(conditions: &[Condition], action: Action) -> Vec<Instruction> {
    let mut out = vec![give(action)];
    // Built from the back, so that the distance to the end is known.
    for condition in conditions.iter().rev() {
        let mut test = comparison(condition, out.len());
        test.extend(out);
        out = test;
    }
    out
}

/// Goes on to the next instruction behind it if the comparison holds, else
/// skips `rest` more. Arguments are 64 bits, the machine's words 32: the high
/// word decides unless it is equal.
fn comparison(condition: &Condition, rest: usize) -> Vec<Instruction> {
    let comparison = condition.comparison;
    let at = ARGS + 8 * u32::from(condition.argument);
    let (high_at, low_at) = if cfg!(target_endian = "big") { (at, at + 4) } else { (at + 4, at) };
    let (high, low) = ((comparison.value >> 32) as u32, comparison.value as u32);
    // A condition has at most six instructions and a rule at most six of them.
    let miss = rest as u8;
    let load = |at| plain(op::LOAD_WORD, at);
    let branch = |code, k, jt, jf| Instruction { code, jt, jf, k };
    let ordered = |code, negated: bool| {
        // high greater: true; high smaller: false; equal: the low word decides.
        let (yes, no) = if negated { (miss, 0) } else { (0, miss) };
        vec![
            load(high_at),
            branch(op::IF_GREATER, high, yes + 3, 0),
            branch(op::IF_EQUAL, high, 0, no + 2),
            load(low_at),
            branch(code, low, yes, no),
        ]
    };
    match comparison.operator {
        Operator::Eq => vec![
            load(high_at),
            branch(op::IF_EQUAL, high, 0, miss + 2),
            load(low_at),
            branch(op::IF_EQUAL, low, 0, miss),
        ],
        Operator::Ne => {
            vec![load(high_at), branch(op::IF_EQUAL, high, 0, 2), load(low_at), branch(op::IF_EQUAL, low, miss, 0)]
        }
        Operator::MaskedEq(mask) => vec![
            load(high_at),
            plain(op::AND, (mask >> 32) as u32),
            branch(op::IF_EQUAL, high, 0, miss + 3),
            load(low_at),
            plain(op::AND, mask as u32),
            branch(op::IF_EQUAL, low, 0, miss),
        ],
        Operator::Gt => ordered(op::IF_GREATER, false),
        Operator::Ge => ordered(op::IF_GREATER_OR_EQUAL, false),
        Operator::Lt => ordered(op::IF_GREATER_OR_EQUAL, true),
        Operator::Le => ordered(op::IF_GREATER, true),
    }
}

/// A binary search for the run that a number lies in. The number is in the
/// accumulator; leaves may overwrite it.
fn tree(runs: &[(u32, Verdict)]) -> Vec<Instruction> {
    let [(_, verdict)] = runs else {
        let (left, right) = runs.split_at(runs.len() / 2);
        let (from, below, above) = (right[0].0, tree(left), tree(right));
        let mut out = match u8::try_from(below.len()) {
            Ok(jt) => vec![Instruction { code: op::IF_GREATER_OR_EQUAL, jt, jf: 0, k: from }],
            Err(_) => vec![
                Instruction { code: op::IF_GREATER_OR_EQUAL, jt: 0, jf: 1, k: from },
                plain(op::JUMP, below.len() as u32),
            ],
        };
        out.extend(below);
        out.extend(above);
        return out;
    };
    verdict.clone()
}

#[cfg(test)]
mod tests {
    use super::super::{Profile, cap};
    use super::*;

    /// What the kernel's interpreter would return.
    fn judge(program: &[Instruction], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let mut data = [nr, arch, 0, 0].to_vec();
        data.extend(args.iter().flat_map(|a| [*a as u32, (a >> 32) as u32]));
        let (mut a, mut pc) = (0, 0);
        loop {
            let i = program[pc];
            pc += 1;
            let taken = match i.code {
                op::LOAD_WORD => {
                    a = data[(i.k / 4) as usize];
                    continue;
                }
                op::AND => {
                    a &= i.k;
                    continue;
                }
                op::JUMP => {
                    pc += i.k as usize;
                    continue;
                }
                op::RETURN => return i.k,
                op::IF_EQUAL => a == i.k,
                op::IF_GREATER => a > i.k,
                op::IF_GREATER_OR_EQUAL => a >= i.k,
                other => panic!("opcode {other:#x}"),
            };
            pc += usize::from(if taken { i.jt } else { i.jf });
        }
    }

    const ALLOW: u32 = 0x7fff_0000;
    const DOCKER: u64 = 0xa804_25fb;

    fn native(profile: &Profile, name: &str, args: [u64; 6]) -> u32 {
        judge(&program(profile), NATIVE.0, syscalls::number(name, NATIVE.1).unwrap(), args)
    }

    #[test]
    fn the_default_profile() {
        let p = Profile::builtin(DOCKER);
        let code = program(&p);
        assert!(code.len() < 1500, "{}", code.len());
        let eperm = Action::Errno(1).value();
        let enosys = Action::Errno(38).value();
        for name in ["read", "write", "execve", "openat", "mmap", "chroot", "ptrace", "openat2", "faccessat2"] {
            assert_eq!(native(&p, name, [0; 6]), ALLOW, "{name}");
        }
        for name in
            ["mount", "keyctl", "setns", "unshare", "bpf", "kexec_load", "io_uring_setup", "reboot", "init_module"]
        {
            assert_eq!(native(&p, name, [0; 6]), eperm, "{name}");
        }
        assert_eq!(native(&p, "clone3", [0; 6]), enosys);
        assert_eq!(native(&p, "clone", [0x11, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(native(&p, "clone", [0x1000_0011, 0, 0, 0, 0, 0]), eperm, "a user namespace");
        assert_eq!(native(&p, "socket", [2, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(native(&p, "socket", [40, 0, 0, 0, 0, 0]), eperm, "vsock");
        assert_eq!(native(&p, "personality", [0x20000, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(native(&p, "personality", [0x40000, 0, 0, 0, 0, 0]), eperm);
        assert_eq!(judge(&code, NATIVE.0, 5000, [0; 6]), enosys, "newer than we know");
        assert_eq!(judge(&code, NATIVE.0, 0x4000_0001, [0; 6]), enosys, "x32");
        assert_eq!(judge(&code, 0x1234, 0, [0; 6]), Action::KillProcess.value());
        let open = syscalls::number("openat", COMPAT.1).unwrap();
        assert_eq!(judge(&code, COMPAT.0, open, [0; 6]), ALLOW);
    }

    #[test]
    fn capabilities_open_calls() {
        let p = Profile::builtin(DOCKER | cap::SYS_ADMIN);
        for name in ["mount", "clone3", "setns", "bpf", "syslog"] {
            assert_eq!(native(&p, name, [0; 6]), ALLOW, "{name}");
        }
        assert_eq!(native(&p, "clone", [0x1000_0011, 0, 0, 0, 0, 0]), ALLOW);
    }

    #[test]
    fn every_call_as_a_list_would_judge_it() {
        let p = Profile::builtin(DOCKER);
        let code = program(&p);
        for (name, _) in TABLE {
            let Some(number) = syscalls::number(name, NATIVE.1) else { continue };
            let plain = p.rules.iter().find(|r| r.name == *name && r.conditions.is_empty());
            if let Some(rule) = plain {
                assert_eq!(judge(&code, NATIVE.0, number, [7; 6]), rule.action.value(), "{name}");
            }
        }
    }

    #[test]
    fn comparisons_on_64_bits() {
        let with = |op: &str, value: u64| {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",
                "args":[{{"index":1,"value":{value},"op":"{op}"}},{{"index":2,"value":9,"op":"SCMP_CMP_EQ"}}]}}]}}"#
            );
            Profile::from_json(&text, 0, (6, 1)).unwrap()
        };
        let big = 0x1_0000_0005u64;
        let values = [0, 4, 5, 6, big - 1, big, big + 1, u64::MAX];
        type Compare = fn(u64, u64) -> bool;
        let all: [(&str, Compare); 6] = [
            ("SCMP_CMP_NE", |a, b| a != b),
            ("SCMP_CMP_LT", |a, b| a < b),
            ("SCMP_CMP_LE", |a, b| a <= b),
            ("SCMP_CMP_EQ", |a, b| a == b),
            ("SCMP_CMP_GE", |a, b| a >= b),
            ("SCMP_CMP_GT", |a, b| a > b),
        ];
        for (op, holds) in all {
            for datum in [5, big] {
                let p = with(op, datum);
                for value in values {
                    assert_eq!(
                        native(&p, "read", [0, value, 9, 0, 0, 0]) == ALLOW,
                        holds(value, datum),
                        "{value} {op} {datum}"
                    );
                    assert_ne!(native(&p, "read", [0, value, 8, 0, 0, 0]), ALLOW, "the second condition");
                }
            }
        }
    }

    #[test]
    fn json_profiles() {
        let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_AARCH64","SCMP_ARCH_ARM"],
            "syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO","errnoRet":13},{"names":["mkdirat","nosuchcall"],"action":"SCMP_ACT_KILL",
            "excludes":{"caps":["CAP_SYS_ADMIN"]}},{"names":["ptrace"],"action":"SCMP_ACT_ERRNO","includes":{"minKernel":"9.0"}}]}"#;
        let p = Profile::from_json(text, 0, (6, 1)).unwrap();
        assert_eq!(native(&p, "mkdirat", [0; 6]), 0);
        assert_eq!(native(&p, "ptrace", [0; 6]), ALLOW);
        assert_eq!(judge(&program(&p), NATIVE.0, 5000, [0; 6]), ALLOW);
        assert!(p.compat);
        let p = Profile::from_json(text, cap::SYS_ADMIN, (6, 1)).unwrap();
        assert_eq!(native(&p, "mkdirat", [0; 6]), ALLOW);
        for bad in ["", "{", r#"{"defaultAction":"X"}"#, r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#] {
            assert!(Profile::from_json(bad, 0, (6, 1)).is_err(), "{bad}");
        }
    }
}
