//! Dockerfile text → nodes → instructions → stages → states, and the checks.

#![no_main]

use coracle::engine::build::language::instruction::interpret;
use coracle::engine::build::language::parser::parse;
use coracle::engine::build::language::{check, expand};
use coracle::engine::build::stage::{Inputs, dependencies, plan};
use coracle::engine::build::state::{Scope, State};
use coracle::util::ignore::Ignore;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fuzz_target!(|data: &[u8]| {
    let Some(text) = coracle_fuzz::text(data) else { return };
    let lookup = |name: &str| (name.len() == 1).then(|| format!("<{name}>"));
    for escape in ['\\', '`'] {
        let _ = expand::word(text, escape, &lookup);
        let _ = expand::words(text, escape, &lookup);
        let _ = expand::heredoc(text, escape, &lookup);
    }
    let build_args = BTreeMap::from([("V".to_owned(), Some("1".to_owned())), ("NONE".to_owned(), None)]);
    let ignore = Ignore::parse("b\n*.log\n").unwrap();
    let inputs = Inputs {
        build_args: &build_args,
        target: "",
        target_platform: "linux/amd64",
        build_platform: "linux/amd64",
        contexts: &["ctx"],
        ignore: &ignore,
    };
    let Ok(file) = parse(text) else { return };
    for node in &file.nodes {
        assert!(node.at.line >= 1 && node.end_line >= node.at.line && node.end_line <= text.lines().count());
        let _ = interpret(node, file.directives.escape);
    }
    let Ok(plan) = plan(&file, &inputs) else { return };
    for index in 0..plan.stages.len() {
        let _ = dependencies(&plan.stages, index);
    }
    let _ = check::check(&file, &plan, &inputs);
    let mut state = State::scratch("linux/amd64", plan.escape);
    let scope = Scope { build_args: &build_args, globals: &plan.globals };
    for line in plan.stages.iter().flat_map(|s| &s.lines) {
        let _ = state.configure(&line.instruction, &scope);
    }
});
