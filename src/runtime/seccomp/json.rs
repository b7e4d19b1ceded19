//! Profiles in JSON: Docker's form (`includes`, `excludes`, `archMap`) and the
//! OCI runtime specification's. Pure.

use super::{Action, Comparison, Condition, EPERM, Operator, Profile, Rule};
use crate::error::{Error, Result};
use crate::runtime::caps::number;
use crate::util::json;
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u16>,
    architectures: Vec<String>,
    arch_map: Vec<ArchMap>,
    listener_path: String,
    syscalls: Vec<Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    name: String,
    names: Vec<String>,
    action: String,
    errno_ret: Option<u16>,
    args: Option<Vec<Argument>>,
    includes: Filter,
    excludes: Filter,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
const SCMP_ARCH: &str = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
const SCMP_COMPAT: &str = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_ARM" } else { "SCMP_ARCH_X86" };

pub(super) fn parse(text: &str, caps: u64, kernel: (u32, u32)) -> Result<Profile> {
    let bad = |e: String| Error::invalid(format!("Decoding seccomp profile failed: {e}"));
    let document: Document = json::from_str(text).map_err(|e| bad(e.to_string()))?;
    if !document.listener_path.is_empty() {
        return Err(Error::not_implemented("seccomp profile: listenerPath (user notification) is not supported"));
    }
    let default = action(&document.default_action, document.default_errno_ret).map_err(bad)?;
    let mut rules = Vec::new();
    for entry in &document.syscalls {
        if !applies(entry, caps, kernel) {
            continue;
        }
        let action = action(&entry.action, entry.errno_ret).map_err(bad)?;
        let conditions =
            entry.args.iter().flatten().map(condition).collect::<std::result::Result<Vec<_>, _>>().map_err(bad)?;
        let names = entry.names.iter().chain((!entry.name.is_empty()).then_some(&entry.name));
        rules.extend(names.map(|name| Rule { name: name.clone(), action, conditions: conditions.clone() }));
    }
    Ok(Profile { default, rules, compat: compat(&document) })
}

/// Whether the 32-bit architecture is named; a profile that names none means the native one.
fn compat(document: &Document) -> bool {
    let mapped = document.arch_map.iter().filter(|m| m.architecture == SCMP_ARCH);
    let mut subs = mapped.flat_map(|m| m.sub_architectures.iter().flatten());
    subs.any(|s| s == SCMP_COMPAT) || document.architectures.iter().any(|a| a == SCMP_COMPAT)
}

fn applies(entry: &Entry, caps: u64, kernel: (u32, u32)) -> bool {
    let has = |name: &String| number(name).is_some_and(|bit| caps & (1 << bit) != 0);
    let here = |arches: &[String]| arches.iter().any(|a| a == ARCH || (ARCH == "amd64" && a == "x86"));
    let recent = |version: &String| {
        let mut parts = version.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
        kernel >= (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    let (inc, exc) = (&entry.includes, &entry.excludes);
    inc.caps.iter().all(has)
        && (inc.arches.is_empty() || here(&inc.arches))
        && inc.min_kernel.iter().all(recent)
        && !exc.caps.iter().any(has)
        && !here(&exc.arches)
        && !exc.min_kernel.iter().any(recent)
}

fn action(name: &str, errno: Option<u16>) -> std::result::Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(EPERM)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(EPERM)),
        "SCMP_ACT_LOG" => Action::Log,
        other => return Err(format!("unknown or unsupported action {other:?}")),
    })
}

fn condition(argument: &Argument) -> std::result::Result<Condition, String> {
    if argument.index > 5 {
        return Err(format!("there is no argument {}", argument.index));
    }
    let (operator, value) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (Operator::Ne, argument.value),
        "SCMP_CMP_LT" => (Operator::Lt, argument.value),
        "SCMP_CMP_LE" => (Operator::Le, argument.value),
        "SCMP_CMP_EQ" => (Operator::Eq, argument.value),
        "SCMP_CMP_GE" => (Operator::Ge, argument.value),
        "SCMP_CMP_GT" => (Operator::Gt, argument.value),
        "SCMP_CMP_MASKED_EQ" => (Operator::MaskedEq(argument.value), argument.value_two),
        other => return Err(format!("unknown comparison {other:?}")),
    };
    Ok(Condition { argument: argument.index, comparison: Comparison { operator, value } })
}
