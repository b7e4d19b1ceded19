//! The classic mistakes of Dockerfiles, under the names of BuildKit's checks, so
//! that what people find about them on the web fits. Pure; what depends on the
//! base image's environment is asked while the stage is built.

use super::expand;
use super::instruction::{Command, Instruction, Run, distance, interpret};
use super::parser::{Dockerfile, Node};
use crate::engine::build::stage::{Inputs, PREDEFINED, Plan, Stage, platform_args};
use crate::image::reference::Reference;
use crate::util::ignore::Ignore;
use crate::util::order;
use std::cell::RefCell;
use std::collections::BTreeSet;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub line: usize,
    pub rule: &'static str,
    pub message: String,
}

/// Rules that come first of a line, as BuildKit tells them.
const FIRST: &[&str] = &["ConsistentInstructionCasing", "StageNameCasing", "FromAsCasing"];

impl Ord for Warning {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |w: &Self| (w.line, FIRST.iter().position(|r| *r == w.rule).unwrap_or(FIRST.len()), w.rule);
        key(self).cmp(&key(other)).then_with(|| self.message.cmp(&other.message))
    }
}

impl PartialOrd for Warning {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
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
    /// Rules that are only tried on request.
    experimental: BTreeSet<String>,
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
                Some(("experimental", rules)) => {
                    policy.experimental.extend(rules.split(',').map(|r| r.trim().to_ascii_lowercase()));
                }
                Some(("error", value)) => policy.error = matches!(value.trim(), "true" | "1"),
                _ => {}
            }
        }
        policy
    }

    fn tries(&self, rule: &str) -> bool {
        self.experimental.contains("all") || self.experimental.contains(&rule.to_ascii_lowercase())
    }

    pub fn lets(&self, rule: &str) -> bool {
        !self.skip_all && !self.skip.contains(&rule.to_ascii_lowercase())
    }
}

/// What can be said from the file alone, in order of lines.
pub fn check(file: &Dockerfile, plan: &Plan, inputs: &Inputs<'_>) -> Vec<Warning> {
    let mut found: Vec<Warning> = file
        .empty_continuations
        .iter()
        .map(|line| Warning { line: *line, rule: "NoEmptyContinuation", message: "Empty continuation line".into() })
        .collect();
    casing(file, &mut found);
    global(file, &mut found);
    defaults(file, plan, inputs, &mut found);
    if plan.policy.tries("InvalidDefinitionDescription") {
        descriptions(file, &mut found);
    }
    for stage in &plan.stages {
        from(stage, plan, &mut found);
        if plan.needed.contains(&stage.index) {
            lines(stage, &mut found);
            if plan.policy.tries("CopyIgnoredFile") {
                ignored(stage, inputs.ignore, &mut found);
            }
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

/// FROM with nothing but the defaults of its arguments must name an image, too.
fn defaults(file: &Dockerfile, plan: &Plan, inputs: &Inputs<'_>, found: &mut Vec<Warning>) {
    let escape = file.directives.escape;
    let mut values = platform_args(inputs);
    for node in file.nodes.iter().take_while(|n| n.keyword != "FROM") {
        let Ok(Instruction::Arg(args)) = interpret(node, escape) else { continue };
        for (name, default) in args {
            let value = default.and_then(|d| expand::word(&d, escape, &|key| values.get(key).cloned()).ok());
            values.extend(value.map(|v| (name, v)));
        }
    }
    for stage in &plan.stages {
        let written = stage.from.args.split_whitespace().next().unwrap_or_default();
        let Ok(name) = expand::word(written, escape, &|key| values.get(key).cloned()) else { continue };
        if written.contains('$') && Reference::parse(&name).is_err() {
            let message = format!("Default value for ARG {written} results in empty or invalid base image name");
            warn(found, &stage.from, "InvalidDefaultArgInFrom", message);
        }
    }
}

/// A comment right above an argument or a named stage describes it.
fn descriptions(file: &Dockerfile, found: &mut Vec<Warning>) {
    for node in &file.nodes {
        let words: Vec<&str> = node.args.split_whitespace().collect();
        let names: Vec<&str> = match node.keyword.as_str() {
            "ARG" => words.iter().filter_map(|w| w.split('=').next()).collect(),
            "FROM" => words.get(2).copied().into_iter().collect(),
            _ => continue,
        };
        let Some(comment) = file.comments.get(&node.at.line.saturating_sub(1)) else { continue };
        if let [first, rest @ ..] = names.as_slice()
            && !names.contains(&comment.split(' ').next().unwrap_or_default())
        {
            let name = if rest.is_empty() { first } else { "<arg_key>" };
            let message = format!("Comment for {} should follow the format: `# {name} <description>`", node.keyword);
            warn(found, node, "InvalidDefinitionDescription", message);
        }
    }
}

/// Sources that `.dockerignore` leaves out. Where it brings something back with
/// `!`, a folder may be there in part, and nothing is said.
fn ignored(stage: &Stage, ignore: &Ignore, found: &mut Vec<Warning>) {
    for line in &stage.lines {
        let (copy, word) = match &line.instruction {
            Instruction::Copy(copy) => (copy, "Copy"),
            Instruction::Add(add) => (add, "Add"),
            _ => continue,
        };
        if copy.from.is_some() || ignore.has_exceptions() {
            continue;
        }
        for source in &copy.sources {
            let path = source.trim_start_matches("./").trim_matches('/');
            if !source.contains("://") && !source.contains('$') && !path.is_empty() && ignore.excludes(path) {
                let message = format!("Attempting to {word} file {source:?} that is excluded by .dockerignore");
                warn(found, &line.node, "CopyIgnoredFile", message);
            }
        }
    }
}

pub fn is_platform(name: &str) -> bool {
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
        if stage.name.as_deref().is_some_and(|n| matches!(n, "scratch" | "context")) {
            let name = stage.name.as_deref().unwrap_or_default();
            let message = format!("Stage name should not use the same name as reserved stage {name:?}");
            warn(found, node, "ReservedStageName", message);
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

/// What needs no other line to be judged.
fn line_alone(node: &Node, instruction: &Instruction, found: &mut Vec<Warning>) {
    match instruction {
        Instruction::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label".into();
            warn(found, node, "MaintainerDeprecated", message);
        }
        Instruction::Env(pairs) => sensitive(found, node, pairs.iter().map(|(k, _)| k)),
        Instruction::Arg(args) => sensitive(found, node, args.iter().map(|(k, _)| k)),
        Instruction::Expose(ports) => {
            for port in ports.iter().filter(|p| p.contains(':') && !p.contains('$')) {
                let message =
                    format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'");
                warn(found, node, "ExposeInvalidFormat", message);
            }
            let shouts = |p: &&String| p.split_once('/').is_some_and(|(_, proto)| proto != proto.to_lowercase());
            for port in ports.iter().filter(shouts) {
                let message = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                warn(found, node, "ExposeProtoCasing", message);
            }
        }
        _ => {}
    }
    legacy(found, node);
}

fn lines(stage: &Stage, found: &mut Vec<Warning>) {
    let (mut shell, mut absolute) = (false, false);
    let mut last: [Option<&Node>; 3] = [None; 3];
    for line in &stage.lines {
        let node = &line.node;
        line_alone(node, &line.instruction, found);
        match &line.instruction {
            Instruction::Shell(_) => shell = true,
            Instruction::Workdir(path) => {
                if !absolute && !path.starts_with(['/', '$', '"']) {
                    let message =
                        format!("Relative workdir {path:?} can have unexpected results if the base image changes");
                    warn(found, node, "WorkdirRelativePath", message);
                }
                absolute = true;
            }
            _ => {}
        }
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
pub fn names(text: &str, escape: char) -> Vec<String> {
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
    use crate::engine::build::stage::plan;
    use std::collections::BTreeMap;

    fn checked(text: &str, ignore: &str) -> Vec<String> {
        let file = parse(text).unwrap();
        let build_args = BTreeMap::from([("GIVEN".to_owned(), Some("x".to_owned()))]);
        let inputs = Inputs {
            build_args: &build_args,
            target: "",
            target_platform: "linux/amd64",
            build_platform: "linux/amd64",
            contexts: &[],
            ignore: &Ignore::parse(ignore).unwrap(),
        };
        plan(&file, &inputs).unwrap().checks.iter().map(ToString::to_string).collect()
    }

    /// Recorded: BuildKit's words of 28.5 for the same file.
    #[test]
    fn classic_mistakes() {
        let text = "ARG IMG=x\nFROM busybox as Base\nmaintainer me\nRUN echo \\\n\n  x\nWORKDIR rel\nCMD echo a\nCMD [\"b\"]\n\
            ENV a b\nARG PASSWORD=x\nEXPOSE 80/TCP\nFROM --platform=$TARGETPLATFORM busybox AS base\nCOPY --from=0 / /\n\
            FROM --platform=linux/amd64 busybox${UNDECL}\nFROM base\n";
        let shown = checked(text, "");
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

    /// In the words of BuildKit's documentation.
    #[test]
    fn newer_checks() {
        let text = "# check=experimental=all\n# for the version\nARG TAG\nARG GIVEN\n# OK as it is\nARG OK=1\n\
            FROM busybox:${TAG} AS scratch\nFROM ${GIVEN} AS b\nFROM x:$OK\nCOPY --from=b / /\nCOPY --from=scratch / /\n\
            EXPOSE 127.0.0.1:80:80 5000:5000/tcp 90\nCOPY ./a.log b/ /x/\nADD https://h/a.log /\n";
        let shown = checked(text, "*.log\nb\n");
        for wanted in [
            "InvalidDefinitionDescription: Comment for ARG should follow the format: `# TAG <description>` (line 3)",
            "InvalidDefaultArgInFrom: Default value for ARG busybox:${TAG} results in empty or invalid base image name (line 7)",
            "InvalidDefaultArgInFrom: Default value for ARG ${GIVEN} results in empty or invalid base image name (line 8)",
            "ReservedStageName: Stage name should not use the same name as reserved stage \"scratch\" (line 7)",
            "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80' (line 12)",
            "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '5000:5000/tcp' (line 12)",
            "CopyIgnoredFile: Attempting to Copy file \"./a.log\" that is excluded by .dockerignore (line 13)",
            "CopyIgnoredFile: Attempting to Copy file \"b/\" that is excluded by .dockerignore (line 13)",
        ] {
            assert!(shown.iter().any(|s| s == wanted), "{wanted}\n{shown:#?}");
        }
        assert_eq!(shown.len(), 8, "{shown:#?}");
        assert!(checked("FROM x\nCOPY b /\n", "b\n!b/c\n").is_empty());
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
