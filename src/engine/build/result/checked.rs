//! `docker build --check`: nothing is built, the file is read and judged. Runs on
//! the build's thread.
//!
//! Variables are looked for in what the file says and in the configuration of base
//! images that are here; of others nothing is fetched and nothing is claimed.

use crate::api::build::Finding;
use crate::engine::build::execute::Build;
use crate::engine::build::language::check::{self, Warning};
use crate::engine::build::language::instruction::Instruction;
use crate::engine::build::language::parser::parse;
use crate::engine::build::stage::{Base, Stage};
use crate::engine::build::state::State;
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};

pub fn check(build: &Build<'_>) -> Result<()> {
    let mut found: BTreeSet<Warning> = build.plan.checks.iter().cloned().collect();
    let mut states: BTreeMap<usize, State> = BTreeMap::new();
    for index in &build.plan.needed {
        if let Some(state) = stage(build, &build.plan.stages[*index], &states, &mut found) {
            states.insert(*index, state);
        }
    }
    let policy = &build.plan.policy;
    found.retain(|w| policy.lets(w.rule));
    let text = &build.context.dockerfile;
    let lines: Vec<&str> = text.split('\n').collect();
    let nodes = parse(text).map(|file| file.nodes).unwrap_or_default();
    let finding = |w: &Warning| {
        let end = nodes.iter().find(|n| n.at.line == w.line).map_or(w.line, |n| n.end_line.max(w.line));
        let (first, last) = around(w.line, end, lines.len());
        Finding {
            rule: w.rule.into(),
            message: w.message.clone(),
            file: build.context.dockerfile_name.clone(),
            line: w.line,
            end,
            first,
            source: (first..=last).filter_map(|n| Some((*lines.get(n - 1)?).to_owned())).collect(),
        }
    };
    build.report.findings(found.iter().map(finding).collect(), policy.error);
    Ok(())
}

/// The lines that BuildKit shows with those that are meant: two on each side of one, one
/// on each side of several, more on one side where the other has none.
fn around(start: usize, end: usize, count: usize) -> (usize, usize) {
    let (mut first, mut last) = (start, end.min(count));
    let room = if start == end { 4 } else { 2 };
    let mut used = 0;
    while used < room {
        if first > 1 {
            first -= 1;
            used += 1;
        }
        if last != count {
            last += 1;
            used += 1;
        }
        used += 1;
    }
    (first, last)
}

/// What the stage's variables are at its end. None: nobody here knows.
fn stage(
    build: &Build<'_>,
    stage: &Stage,
    states: &BTreeMap<usize, State>,
    found: &mut BTreeSet<Warning>,
) -> Option<State> {
    let escape = build.plan.escape;
    let mut state = match &stage.base {
        Base::Scratch => State::scratch("", escape),
        Base::Stage(index) => states.get(index)?.clone(),
        Base::Image(name) if build.request.options.contexts.contains_key(&name.to_ascii_lowercase()) => return None,
        Base::Image(name) => {
            let image = build.engine.images.resolve(name).ok()?;
            State::begin(image.config.clone(), Vec::new(), None, escape)
        }
    };
    let mut declared: BTreeSet<String> = BTreeSet::new();
    for line in &stage.lines {
        if let Instruction::Arg(args) = &line.instruction {
            declared.extend(args.iter().map(|(name, _)| name.clone()));
        }
        let known = state.names().chain(declared.iter().cloned()).collect();
        found.extend(check::undefined(&line.node, &line.instruction, escape, &known));
        if matches!(line.instruction, Instruction::Env(_) | Instruction::Arg(_)) {
            // A value that cannot be had is the build's to complain about.
            let _ = state.configure(&line.instruction, &build.scope());
        }
    }
    Some(state)
}
