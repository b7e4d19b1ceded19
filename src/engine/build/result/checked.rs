//! `docker build --check`: nothing is built, the file is read and judged. Runs on
//! the build's thread.
//!
//! Variables are looked for in what the file says and in the configuration of base
//! images that are here; of others nothing is fetched and nothing is claimed.

use crate::api::build::Finding;
use crate::engine::build::execute::Build;
use crate::engine::build::language::check::{self, Warning};
use crate::engine::build::language::instruction::Instruction;
use crate::engine::build::stage::{Base, Stage};
use crate::engine::build::state::State;
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};

/// Lines shown around the one that is meant.
const AROUND: usize = 2;

pub fn check(build: &Build<'_>) -> Result<()> {
    let mut found: BTreeSet<Warning> = build.plan.checks.iter().cloned().collect();
    let mut states: BTreeMap<usize, State> = BTreeMap::new();
    for index in &build.plan.needed {
        if let Some(state) = stage(build, &build.plan.stages[*index], &states, &mut found) {
            states.insert(*index, state);
        }
    }
    found.retain(|w| build.plan.policy.lets(w.rule));
    let lines: Vec<&str> = build.context.dockerfile.lines().collect();
    let finding = |w: &Warning| {
        let (first, last) = (w.line.saturating_sub(AROUND).max(1), (w.line + AROUND).min(lines.len()));
        Finding {
            rule: w.rule.into(),
            message: w.message.clone(),
            file: build.context.dockerfile_name.clone(),
            line: w.line,
            first,
            source: (first..=last).filter_map(|n| Some((*lines.get(n - 1)?).to_owned())).collect(),
        }
    };
    build.report.findings(found.iter().map(finding).collect());
    Ok(())
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
