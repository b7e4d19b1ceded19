//! Broken Dockerfiles and `.dockerignore` files by the thousand, the same ones in
//! every run: nothing may panic, hang or be taken for more than it is.

use super::check;
use super::instruction::interpret;
use super::parser::parse;
use crate::engine::build::stage::{Inputs, plan};
use crate::engine::build::state::{Scope, State};
use crate::util::glob::Pattern;
use crate::util::ignore::Ignore;
use std::collections::BTreeMap;

const SEEDS: &[&str] = &[
    include_str!("../../../../tests/build/corpus/from.txt"),
    include_str!("../../../../tests/build/corpus/config.txt"),
    include_str!("../../../../tests/build/corpus/files.txt"),
    include_str!("../../../../tests/build/corpus/run.txt"),
    include_str!("../../../../tests/build/corpus/errors.txt"),
];

/// What means something to the parser.
const TOKENS: &[&str] = &[
    "\\\n", "\n", " ", "\t", "\r\n", "#", "# escape=`\n", "`", "\"", "'", "$", "${", "}", ":-", ":+", ":?", "##", "%%",
    "//", "<<EOF", "<<-\"E\"", "\nEOF\n", "--", "--from=", "--mount=type=", ",", "=", "[", "]", "[\"a\",", "FROM ",
    "ARG ", "ONBUILD ", "AS ", "\u{feff}", "\0", "é", "*", "**", "?", "!", "/", "..", "[a-", "[^", "\\",
];

/// A generator with a period beyond anything used here (Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides.max(1)
    }
}

/// The files of the corpus.
fn seeds() -> Vec<Vec<char>> {
    let sections = SEEDS.iter().flat_map(|s| s.split("\n--- "));
    let files =
        sections.filter_map(|s| s.strip_prefix("Dockerfile\n").or_else(|| s.strip_prefix("file .dockerignore\n")));
    files.map(|s| s.split("\n===").next().unwrap_or(s).chars().collect()).collect()
}

/// A seed, cut, doubled, and with tokens in places where they should not be.
fn broken(dice: &mut Dice, seeds: &[Vec<char>]) -> String {
    let mut text = seeds[dice.roll(seeds.len())].clone();
    for _ in 0..dice.roll(8) {
        let at = dice.roll(text.len() + 1);
        match dice.roll(8) {
            0..4 => drop(text.splice(at..at, TOKENS[dice.roll(TOKENS.len())].chars())),
            4 | 5 if at < text.len() => drop(text.remove(at)),
            6 => text.truncate(at.max(1)),
            _ => {
                let piece: Vec<char> = text.iter().skip(at).take(dice.roll(40)).copied().collect();
                text.splice(at..at, piece);
            }
        }
    }
    text.into_iter().collect()
}

#[test]
fn dockerfiles() {
    let build_args = BTreeMap::from([("V".to_owned(), Some("1".to_owned())), ("NONE".to_owned(), None)]);
    let inputs = Inputs {
        build_args: &build_args,
        target: "",
        target_platform: "linux/amd64",
        build_platform: "linux/amd64",
        contexts: &["ctx"],
        ignore: &Default::default(),
    };
    let (mut dice, seeds) = (Dice(1), seeds());
    let mut good = 0;
    for _ in 0..4000 {
        let text = broken(&mut dice, &seeds);
        let Ok(file) = parse(&text) else { continue };
        for node in &file.nodes {
            assert!(
                node.at.line >= 1 && node.end_line >= node.at.line && node.end_line <= text.lines().count(),
                "{text:?}"
            );
            let _ = interpret(node, file.directives.escape);
        }
        let Ok(plan) = plan(&file, &inputs) else { continue };
        good += 1;
        let _ = check::check(&file, &plan, &inputs);
        let mut state = State::scratch("linux/amd64", plan.escape);
        let scope = Scope { build_args: &build_args, globals: &plan.globals };
        for line in plan.stages.iter().flat_map(|s| &s.lines) {
            let _ = state.configure(&line.instruction, &scope);
        }
    }
    // The mutations are not so wild that only the first check is ever met.
    assert!(good > 300, "{good}");
}

#[test]
fn ignore_files() {
    let paths = ["a", "a/b.log", "dir/sub/file.txt", "é/[x]", ".dockerignore", "a/b/c/d/e/f/g/h"];
    let (mut dice, seeds) = (Dice(2), seeds());
    for _ in 0..4000 {
        let text = broken(&mut dice, &seeds);
        if let Ok(rules) = Ignore::parse(&text) {
            for path in paths {
                let _ = rules.excludes(path);
            }
        }
        for line in text.lines().take(20) {
            if let Ok(pattern) = Pattern::new(line) {
                for path in paths {
                    let _ = pattern.matches_or_parent(path);
                }
            }
        }
    }
}

/// What would take other matchers years.
#[test]
fn patterns_that_explode() {
    let long = "a".repeat(400);
    for pattern in ["*a".repeat(60) + "b", "**/".repeat(60) + "b", "[a-z]*".repeat(60) + "!", "?*".repeat(80) + "b"] {
        assert!(!Pattern::new(&pattern).unwrap().matches(&long), "{pattern}");
    }
    let deep = "${v:-".repeat(5000);
    let file = parse(&format!("FROM x\nENV a={deep}\n")).unwrap();
    let instruction = interpret(&file.nodes[1], '\\').unwrap();
    let (args, globals) = (BTreeMap::new(), BTreeMap::new());
    let scope = Scope { build_args: &args, globals: &globals };
    assert!(State::scratch("linux/amd64", '\\').configure(&instruction, &scope).is_err());
}
