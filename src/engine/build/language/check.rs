//! The classic mistakes of Dockerfiles, under the names of BuildKit's checks, so
//! that what people find about them on the web fits. Pure; what depends on the
//! base image's environment is asked while the stage is built.

use super::expand;
use super::instruction::{Command, Instruction, Run, distance};
use super::parser::{Dockerfile, Node};
use crate::engine::build::stage::{PREDEFINED, Plan, Stage};
use crate::util::order;
use std::cell::RefCell;
use std::collections::BTreeSet;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    pub line: usize,
    pub rule: &'static str,
    pub message: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} (line {})", self.rule, self.message, self.line)
    }
}

/// `# check=skip=RULE,…;error=true`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    skip: BTreeSet<String>,
    skip_all: bool,
    /// A warning fails the build.
    pub error: bool,
}

impl Policy {
    pub fn parse(text: &str) -> Self {
        let mut policy = Self::default();
        for part in text.split(';') {
            match part.trim().split_once('=') {
                Some(("skip", rules)) => {
                    policy.skip.extend(rules.split(',').map(|r| r.trim().to_ascii_lowercase()));
                    policy.skip_all |= policy.skip.contains("all");
                }
                Some(("error", value)) => policy.error = matches!(value.trim(), "true" | "1"),
                _ => {}
            }
        }
        policy
    }

    pub fn lets(&self, rule: &str) -> bool {
        !self.skip_all && !self.skip.contains(&rule.to_ascii_lowercase())
    }
}

/// What can be said from the file alone, in order of lines.
pub fn check(file: &Dockerfile, plan: &Plan) -> Vec<Warning> {
    let mut found: Vec<Warning> = file
        .empty_continuations
        .iter()
        .map(|line| Warning { line: *line, rule: "NoEmptyContinuation", message: "Empty continuation line".into() })
        .collect();
    casing(file, &mut found);
    global(file, &mut found);
    for stage in &plan.stages {
        from(stage, plan, &mut found);
        if plan.needed.contains(&stage.index) {
            lines(stage, &mut found);
        }
    }
    order::sort(&mut found);
    found
}

fn warn(found: &mut Vec<Warning>, node: &Node, rule: &'static str, message: String) {
    found.push(Warning { line: node.at.line, rule, message });
}

fn written(node: &Node) -> &str {
    node.original.split_whitespace().next().unwrap_or_default()
}

fn casing(file: &Dockerfile, found: &mut Vec<Warning>) {
    let lower = |node: &&Node| written(node).chars().all(|c| c.is_ascii_lowercase());
    let lowers = file.nodes.iter().filter(lower).count();
    let (majority, most) = if lowers * 2 > file.nodes.len() { ("lowercase", true) } else { ("uppercase", false) };
    for node in &file.nodes {
        let word = written(node);
        let fits = if most { lower(&node) } else { word.chars().all(|c| c.is_ascii_uppercase()) };
        if !fits {
            let message = format!("Command '{word}' should match the case of the command majority ({majority})");
            warn(found, node, "ConsistentInstructionCasing", message);
        }
    }
}

/// Arguments in FROM.
fn global(file: &Dockerfile, found: &mut Vec<Warning>) {
    let mut declared: BTreeSet<String> = BTreeSet::new();
    for node in file.nodes.iter() {
        match node.keyword.as_str() {
            "ARG" if !file.nodes.iter().any(|n| n.keyword == "FROM" && n.at.line < node.at.line) => {
                declared.extend(node.args.split_whitespace().filter_map(|w| w.split('=').next()).map(str::to_owned));
            }
            "FROM" => {
                let words = std::iter::once(node.args.as_str()).chain(node.flags.iter().map(String::as_str));
                for name in words.flat_map(|w| names(w, file.directives.escape)) {
                    if !declared.contains(&name) && !is_platform(&name) {
                        let message = format!("FROM argument '{name}' is not declared");
                        warn(found, node, "UndefinedArgInFrom", message);
                    }
                }
            }
            _ => {}
        }
    }
}

fn is_platform(name: &str) -> bool {
    let rest = name.strip_prefix("TARGET").or_else(|| name.strip_prefix("BUILD"));
    matches!(rest, Some("PLATFORM" | "OS" | "ARCH" | "VARIANT" | "STAGE")) || PREDEFINED.contains(&name)
}

fn from(stage: &Stage, plan: &Plan, found: &mut Vec<Warning>) {
    let node = &stage.from;
    let words: Vec<&str> = node.args.split_whitespace().collect();
    if let [_, keyword, name] = words.as_slice() {
        let lower = |s: &str| s.chars().all(|c| c.is_ascii_lowercase());
        if lower(keyword) != lower(written(node)) {
            let message = format!("'{keyword}' and '{}' keywords' casing do not match", written(node));
            warn(found, node, "FromAsCasing", message);
        }
        if name.chars().any(|c| c.is_ascii_uppercase()) {
            warn(found, node, "StageNameCasing", format!("Stage name '{name}' should be lowercase"));
        }
        let twin = |s: &Stage| s.index < stage.index && s.name == stage.name;
        if plan.stages.iter().any(twin) {
            let name = stage.name.as_deref().unwrap_or_default();
            let message = format!("Duplicate stage name {name:?}, stage names should be unique");
            warn(found, node, "DuplicateStageName", message);
        }
    }
    for platform in node.flags.iter().filter_map(|f| f.strip_prefix("--platform=")) {
        if matches!(platform, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            let message = format!(
                "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
            );
            warn(found, node, "RedundantTargetPlatform", message);
        } else if !platform.contains('$') {
            let message = format!("FROM --platform flag should not use constant value {platform:?}");
            warn(found, node, "FromPlatformFlagConstDisallowed", message);
        }
    }
}

fn lines(stage: &Stage, found: &mut Vec<Warning>) {
    let (mut shell, mut absolute) = (false, false);
    let mut last: [Option<&Node>; 3] = [None; 3];
    for line in &stage.lines {
        let node = &line.node;
        match &line.instruction {
            Instruction::Maintainer(_) => {
                let message = "Maintainer instruction is deprecated in favor of using label".into();
                warn(found, node, "MaintainerDeprecated", message);
            }
            Instruction::Shell(_) => shell = true,
            Instruction::Workdir(path) => {
                if !absolute && !path.starts_with(['/', '$', '"']) {
                    let message =
                        format!("Relative workdir {path:?} can have unexpected results if the base image changes");
                    warn(found, node, "WorkdirRelativePath", message);
                }
                absolute = true;
            }
            Instruction::Env(pairs) => sensitive(found, node, pairs.iter().map(|(k, _)| k)),
            Instruction::Arg(args) => sensitive(found, node, args.iter().map(|(k, _)| k)),
            Instruction::Expose(ports) => {
                for port in
                    ports.iter().filter(|p| p.split_once('/').is_some_and(|(_, proto)| proto != proto.to_lowercase()))
                {
                    let message = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                    warn(found, node, "ExposeProtoCasing", message);
                }
            }
            _ => {}
        }
        legacy(found, node);
        let slot = match &line.instruction {
            Instruction::Cmd(_) => 0,
            Instruction::Entrypoint(_) => 1,
            Instruction::Healthcheck(_) => 2,
            _ => continue,
        };
        if let Instruction::Cmd(Command::Shell(text)) | Instruction::Entrypoint(Command::Shell(text)) =
            &line.instruction
            && !shell
            && !text.is_empty()
        {
            let message = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                node.keyword
            );
            warn(found, node, "JSONArgsRecommended", message);
        }
        if let Some(before) = last[slot].replace(node) {
            let message = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                node.keyword
            );
            warn(found, before, "MultipleInstructionsDisallowed", message);
        }
    }
}

fn legacy(found: &mut Vec<Warning>, node: &Node) {
    let old = matches!(node.keyword.as_str(), "ENV" | "LABEL")
        && node.args.split_whitespace().next().is_some_and(|w| !w.contains('='));
    if old {
        let word = &node.keyword;
        let message = format!("\"{word} key=value\" should be used instead of legacy \"{word} key value\" format");
        warn(found, node, "LegacyKeyValueFormat", message);
    }
}

/// Words of names that hold what nobody should find in an image.
const SECRETS: &[&str] =
    &["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];

fn sensitive<'a>(found: &mut Vec<Warning>, node: &Node, names: impl Iterator<Item = &'a String>) {
    for name in names {
        let lower = name.to_ascii_lowercase();
        let mut words = lower.split('_');
        if !lower.contains("public") && words.any(|w| SECRETS.contains(&w)) {
            let message = format!("Do not use ARG or ENV instructions for sensitive data ({} {name:?})", node.keyword);
            warn(found, node, "SecretsUsedInArgOrEnv", message);
        }
    }
}

/// Names of variables in a text.
fn names(text: &str, escape: char) -> Vec<String> {
    let found = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        found.borrow_mut().push(name.to_owned());
        // A value: `${v:?}` must not end the search.
        Some("x".to_owned())
    };
    let _ = expand::word(text, escape, &lookup);
    found.into_inner()
}

/// Variables that an instruction uses and nobody has set. `known` are all names
/// that could have been meant.
pub fn undefined(node: &Node, instruction: &Instruction, escape: char, known: &BTreeSet<String>) -> Vec<Warning> {
    let mut texts: Vec<&str> = Vec::new();
    match instruction {
        Instruction::Env(pairs) | Instruction::Label(pairs) => texts.extend(pairs.iter().map(|(_, v)| v.as_str())),
        Instruction::Copy(copy) | Instruction::Add(copy) => {
            texts.extend(copy.sources.iter().map(String::as_str));
            texts.push(&copy.destination);
        }
        Instruction::Expose(list) | Instruction::Volume(list) => texts.extend(list.iter().map(String::as_str)),
        Instruction::User(text) | Instruction::Workdir(text) | Instruction::Stopsignal(text) => texts.push(text),
        Instruction::Run(Run { mounts, .. }) => texts.extend(mounts.iter().map(String::as_str)),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for name in texts.into_iter().flat_map(|t| names(t, escape)) {
        if known.contains(&name) || is_platform(&name) || !seen.insert(name.clone()) {
            continue;
        }
        let near = known.iter().filter(|k| distance(k, &name) <= 2).min_by_key(|k| distance(k, &name));
        let hint = near.map(|k| format!(" (did you mean ${k}?)")).unwrap_or_default();
        warn(&mut found, node, "UndefinedVar", format!("Usage of undefined variable '${name}'{hint}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::parser::parse;
    use super::*;
    use crate::engine::build::stage::{Inputs, plan};
    use std::collections::BTreeMap;

    /// Recorded: BuildKit's words of 28.5 for the same file.
    #[test]
    fn classic_mistakes() {
        let text = "ARG IMG=x\nFROM busybox as Base\nmaintainer me\nRUN echo \\\n\n  x\nWORKDIR rel\nCMD echo a\nCMD [\"b\"]\n\
            ENV a b\nARG PASSWORD=x\nEXPOSE 80/TCP\nFROM --platform=$TARGETPLATFORM busybox AS base\nCOPY --from=0 / /\n\
            FROM --platform=linux/amd64 busybox${UNDECL}\nFROM base\n";
        let file = parse(text).unwrap();
        let build_args = BTreeMap::new();
        let inputs = Inputs {
            build_args: &build_args,
            target: "",
            target_platform: "linux/amd64",
            build_platform: "linux/amd64",
            contexts: &[],
        };
        let shown: Vec<String> = check(&file, &plan(&file, &inputs).unwrap()).iter().map(ToString::to_string).collect();
        for wanted in [
            "NoEmptyContinuation: Empty continuation line (line 6)",
            "StageNameCasing: Stage name 'Base' should be lowercase (line 2)",
            "FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 2)",
            "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 3)",
            "ConsistentInstructionCasing: Command 'maintainer' should match the case of the command majority (uppercase) (line 3)",
            "WorkdirRelativePath: Relative workdir \"rel\" can have unexpected results if the base image changes (line 7)",
            "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 8)",
            "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 8)",
            "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format (line 10)",
            "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"PASSWORD\") (line 11)",
            "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 12)",
            "DuplicateStageName: Duplicate stage name \"base\", stage names should be unique (line 13)",
            "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior (line 13)",
            "UndefinedArgInFrom: FROM argument 'UNDECL' is not declared (line 15)",
            "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/amd64\" (line 15)",
        ] {
            assert!(shown.iter().any(|s| s == wanted), "{wanted}\n{shown:#?}");
        }
    }

    #[test]
    fn variables_that_nobody_set() {
        let node = &parse("COPY $nope ${PTHH}x ${D:-y} /$PTH").unwrap().nodes[0];
        let instruction = super::super::instruction::interpret(node, '\\').unwrap();
        let known = BTreeSet::from(["PTH".to_owned()]);
        let shown: Vec<String> = undefined(node, &instruction, '\\', &known).into_iter().map(|w| w.message).collect();
        assert_eq!(
            shown,
            [
                "Usage of undefined variable '$nope'",
                "Usage of undefined variable '$PTHH' (did you mean $PTH?)",
                "Usage of undefined variable '$D'"
            ]
        );
    }

    #[test]
    fn policies() {
        let policy = Policy::parse("skip=StageNameCasing,JSONArgsRecommended;error=true");
        assert!(policy.error && !policy.lets("StageNameCasing") && policy.lets("FromAsCasing"));
        assert!(!Policy::parse("skip=all").lets("FromAsCasing"));
    }
}
