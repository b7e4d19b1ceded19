//! Instructions → stages and what depends on what. Pure.
//!
//! Invariant: a stage depends only on earlier ones, so the graph has no cycle,
//! and what the target does not reach is never looked at again.

use super::language::check::{self, Policy, Warning};
use super::language::expand;
use super::language::instruction::{Instruction, interpret};
use super::language::parser::{Dockerfile, Node, Position, SyntaxError};
use crate::util::ignore::Ignore;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub node: Node,
    pub instruction: Instruction,
}

/// What a stage begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    Scratch,
    Image(String),
    Stage(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    pub index: usize,
    pub name: Option<String>,
    pub base: Base,
    /// Of `FROM --platform`, expanded.
    pub platform: Option<String>,
    pub from: Node,
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone)]
pub struct Plan {
    pub stages: Vec<Stage>,
    /// Global ARG values, for stages that import them.
    pub globals: BTreeMap<String, String>,
    pub target: usize,
    /// Stages that the target needs, itself among them.
    pub needed: BTreeSet<usize>,
    pub escape: char,
    pub warnings: Vec<String>,
    /// Likely mistakes, and what is to be done about them.
    pub checks: Vec<Warning>,
    pub policy: Policy,
}

/// What the request says of variables and names.
#[derive(Debug)]
pub struct Inputs<'a> {
    pub build_args: &'a BTreeMap<String, Option<String>>,
    pub target: &'a str,
    /// `os/arch[/variant]` that is built for, and of this machine.
    pub target_platform: &'a str,
    pub build_platform: &'a str,
    /// Names that `--build-context` gives.
    pub contexts: &'a [&'a str],
    /// What the context is without.
    pub ignore: &'a Ignore,
}

/// Builds the graph. An error carries its line.
pub fn plan(file: &Dockerfile, inputs: &Inputs<'_>) -> Result<Plan, SyntaxError> {
    let escape = file.directives.escape;
    let mut globals = platform_args(inputs);
    let mut stages: Vec<Stage> = Vec::new();
    for node in &file.nodes {
        let instruction = interpret(node, escape).map_err(|message| at(node, message))?;
        match (instruction, stages.last_mut()) {
            (Instruction::Arg(args), None) => {
                global_args(args, &mut globals, inputs, escape).map_err(|m| at(node, m))?;
            }
            (Instruction::From { image, platform, name }, _) => {
                let lookup = |key: &str| globals.get(key).cloned();
                let image_name = expand::word(&image, escape, &lookup).map_err(|m| at(node, m))?;
                if image_name.is_empty() {
                    return Err(at(node, format!("base name ({image}) should not be blank")));
                }
                let platform =
                    platform.map(|p| expand::word(&p, escape, &lookup)).transpose().map_err(|m| at(node, m))?;
                let base = base(&image_name, &stages, inputs);
                let index = stages.len();
                stages.push(Stage { index, name, base, platform, from: node.clone(), lines: Vec::new() });
            }
            (_, None) => return Err(at(node, "no build stage in current context".into())),
            (instruction, Some(stage)) => stage.lines.push(Line { node: node.clone(), instruction }),
        }
    }
    if stages.is_empty() {
        let last = file.nodes.last().map_or(Position { line: 1, column: 1 }, |n| n.at);
        return Err(SyntaxError {
            at: last,
            message: "no build stage in current context".into(),
            source: String::new(),
        });
    }
    let target = find_target(&stages, inputs.target)?;
    let needed = reach(&stages, target);
    let warnings = unused_args(file, &stages, inputs).into_iter().collect();
    let (checks, policy) = Default::default();
    let mut plan = Plan { stages, globals, target, needed, escape, warnings, checks, policy };
    let given = inputs.build_args.get("BUILDKIT_DOCKERFILE_CHECK").and_then(Option::as_deref);
    plan.policy = Policy::parse(given.or(file.directives.check.as_deref()).unwrap_or(""));
    plan.checks = check::check(file, &plan, inputs);
    Ok(plan)
}

fn at(node: &Node, message: String) -> SyntaxError {
    SyntaxError { at: node.at, message, source: node.original.clone() }
}

/// The predefined arguments of platforms, known in the global scope.
pub fn platform_args(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (prefix, platform) in [("TARGET", inputs.target_platform), ("BUILD", inputs.build_platform)] {
        let mut parts = platform.splitn(3, '/');
        args.insert(format!("{prefix}PLATFORM"), platform.to_owned());
        for key in ["OS", "ARCH", "VARIANT"] {
            args.insert(format!("{prefix}{key}"), parts.next().unwrap_or("").to_owned());
        }
    }
    let stage = if inputs.target.is_empty() { "default" } else { inputs.target };
    args.insert("TARGETSTAGE".into(), stage.to_owned());
    args
}

fn global_args(
    args: Vec<(String, Option<String>)>,
    globals: &mut BTreeMap<String, String>,
    inputs: &Inputs<'_>,
    escape: char,
) -> Result<(), String> {
    for (name, default) in args {
        let given = inputs.build_args.get(&name).cloned().flatten();
        let lookup = |key: &str| globals.get(key).cloned();
        let default = default.map(|d| expand::word(&d, escape, &lookup)).transpose()?;
        if let Some(value) = given.or(default) {
            globals.insert(name, value);
        }
    }
    Ok(())
}

/// A named context beats a stage, a stage beats an image.
fn base(name: &str, stages: &[Stage], inputs: &Inputs<'_>) -> Base {
    let lower = name.to_ascii_lowercase();
    if inputs.contexts.contains(&lower.as_str()) {
        return Base::Image(name.to_owned());
    }
    if name == "scratch" {
        return Base::Scratch;
    }
    match stages.iter().rposition(|s| s.name.as_deref() == Some(lower.as_str())) {
        Some(index) => Base::Stage(index),
        None => Base::Image(name.to_owned()),
    }
}

/// By name in any case, by number, or the last.
fn find_target(stages: &[Stage], target: &str) -> Result<usize, SyntaxError> {
    if target.is_empty() {
        return Ok(stages.len() - 1);
    }
    let lower = target.to_ascii_lowercase();
    let named = stages.iter().rposition(|s| s.name.as_deref() == Some(lower.as_str()));
    let found = named.or_else(|| target.parse::<usize>().ok().filter(|i| *i < stages.len()));
    found.ok_or_else(|| SyntaxError {
        at: Position { line: 1, column: 1 },
        message: format!("target stage {target:?} could not be found"),
        source: String::new(),
    })
}

/// The stage that `--from=NAME` means for stage `index`, if it is one.
pub fn stage_named(stages: &[Stage], index: usize, from: &str) -> Option<usize> {
    let lower = from.to_ascii_lowercase();
    stages[..index]
        .iter()
        .rposition(|s| s.name.as_deref() == Some(lower.as_str()))
        .or_else(|| from.parse::<usize>().ok().filter(|i| *i < index))
}

/// Stages that a stage names in its base, its copies and its mounts.
pub fn dependencies(stages: &[Stage], index: usize) -> BTreeSet<usize> {
    let stage = &stages[index];
    let mut found = BTreeSet::new();
    if let Base::Stage(base) = stage.base {
        found.insert(base);
    }
    for line in &stage.lines {
        match &line.instruction {
            Instruction::Copy(copy) => {
                found.extend(copy.from.as_deref().and_then(|from| stage_named(stages, index, from)));
            }
            Instruction::Run(run) => {
                let froms = run.mounts.iter().flat_map(|m| m.split(',')).filter_map(|kv| kv.strip_prefix("from="));
                found.extend(froms.filter_map(|from| stage_named(stages, index, from)));
            }
            _ => {}
        }
    }
    found
}

fn reach(stages: &[Stage], target: usize) -> BTreeSet<usize> {
    let mut needed = BTreeSet::from([target]);
    // Dependencies point backwards, so one pass from the end meets them all.
    for index in (0..=target).rev() {
        if needed.contains(&index) {
            needed.extend(dependencies(stages, index));
        }
    }
    needed
}

/// Names that may be given without an ARG line, in pairs of two spellings.
pub const PREDEFINED: &[&str] = &[
    "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy", "NO_PROXY", "no_proxy",
    "ALL_PROXY", "all_proxy",
];

fn unused_args(file: &Dockerfile, stages: &[Stage], inputs: &Inputs<'_>) -> Option<String> {
    let declared: BTreeSet<String> = file
        .nodes
        .iter()
        .filter(|n| n.keyword == "ARG")
        .flat_map(|n| {
            n.args.split_whitespace().map(|w| w.split('=').next().unwrap_or("").to_owned()).collect::<Vec<_>>()
        })
        .collect();
    let known = |name: &str| {
        declared.contains(name)
            || PREDEFINED.contains(&name)
            || name.starts_with("BUILDKIT_")
            || name == "SOURCE_DATE_EPOCH"
            || stages.is_empty()
    };
    let unused: Vec<&str> = inputs.build_args.keys().map(String::as_str).filter(|n| !known(n)).collect();
    (!unused.is_empty()).then(|| format!("[Warning] One or more build-args [{}] were not consumed", unused.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::super::language::parser::parse;
    use super::*;

    fn planned(text: &str, target: &str) -> Result<Plan, SyntaxError> {
        let build_args = BTreeMap::from([("V".to_owned(), Some("2".to_owned()))]);
        let inputs = Inputs {
            build_args: &build_args,
            target,
            target_platform: "linux/arm64/v8",
            build_platform: "linux/amd64",
            contexts: &["ctx"],
            ignore: &Ignore::default(),
        };
        plan(&parse(text).unwrap(), &inputs)
    }

    #[test]
    fn only_what_is_needed() {
        let text = "ARG V=1\nFROM a:$V AS One\nRUN x\nFROM b AS two\nFROM scratch\nCOPY --from=one /x /x\nFROM one\nRUN --mount=from=two,target=/m y";
        let p = planned(text, "2").unwrap();
        assert_eq!(p.stages[0].base, Base::Image("a:2".into()));
        assert_eq!(p.needed, BTreeSet::from([0, 2]));
        let p = planned(text, "").unwrap();
        assert_eq!((p.target, p.needed), (3, BTreeSet::from([0, 1, 3])));
        assert_eq!(planned(text, "TWO").unwrap().target, 1);
        assert!(planned(text, "nosuch").unwrap_err().message.contains("could not be found"));
    }

    #[test]
    fn platforms_and_contexts() {
        let p = planned("FROM --platform=$BUILDPLATFORM x\nFROM ctx AS ctx\nFROM ctx", "").unwrap();
        assert_eq!(p.stages[0].platform.as_deref(), Some("linux/amd64"));
        assert_eq!(p.stages[2].base, Base::Image("ctx".into()));
        assert_eq!(p.globals["TARGETVARIANT"], "v8");
    }

    #[test]
    fn errors_have_lines() {
        assert_eq!(planned("# c\nRUN x\nFROM a", "").unwrap_err().at.line, 2);
        assert!(planned("FROM $nothing", "").unwrap_err().message.contains("should not be blank"));
        let e = planned("FROM a\nFOO x", "").unwrap_err();
        assert_eq!((e.at.line, e.source.as_str()), (2, "FOO x"));
        assert!(planned("FROM a", "").unwrap().warnings[0].contains("[V] were not consumed"));
    }
}
