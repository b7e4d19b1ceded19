//! `docker build --call=outline` and `--call=targets`: nothing is built, the file is told
//! what it takes and what it makes. Runs on the build's thread.
//!
//! A comment right above an ARG or a FROM describes it if it begins with its name.

use crate::api::build::{Location, Outline, Parameter, Target, Targets};
use crate::engine::build::execute::Build;
use crate::engine::build::language::check::{is_platform, names};
use crate::engine::build::language::instruction::{Instruction, interpret};
use crate::engine::build::language::parser::{Dockerfile, Node, parse};
use crate::engine::build::stage::{Base, Stage};
use crate::engine::build::state::State;
use crate::engine::build::steps::mounts::Mount;
use crate::error::{Error, Result};
use crate::util::order;
use base64::Engine as _;
use std::collections::BTreeMap;

pub fn targets(build: &Build<'_>) -> Result<()> {
    let file = file(build)?;
    let default = build.plan.stages.len() - 1;
    let target = |stage: &Stage| {
        let name = stage.name.clone().unwrap_or_default();
        Target {
            default: stage.index == default,
            description: description(&file, &stage.from, &name),
            base: stage.from.args.split_whitespace().next().unwrap_or_default().to_owned(),
            location: place(&stage.from),
            name,
        }
    };
    let targets = build.plan.stages.iter().map(target).collect();
    build.report.answer("targets", &Targets { targets, sources: sources(build) })
}

pub fn outline(build: &Build<'_>) -> Result<()> {
    let file = file(build)?;
    let mut found = Found { build, file: &file, args: BTreeMap::new(), secrets: Vec::new(), ssh: Vec::new() };
    let mut states: BTreeMap<usize, State> = BTreeMap::new();
    for index in &build.plan.needed {
        let state = found.stage(&build.plan.stages[*index], &states)?;
        states.insert(*index, state);
    }
    let stage = &build.plan.stages[build.plan.target];
    let name = stage.name.clone().unwrap_or_default();
    let mut args: Vec<Parameter> = found.args.into_values().collect();
    order::sort_by_key(&mut args, |a| a.location.first());
    let answer = Outline {
        description: description(&file, &stage.from, &name),
        name,
        args,
        secrets: found.secrets,
        ssh: found.ssh,
        sources: sources(build),
    };
    build.report.answer("outline", &answer)
}

fn file(build: &Build<'_>) -> Result<Dockerfile> {
    parse(&build.context.dockerfile).map_err(|e| Error::invalid(e.to_string()))
}

fn sources(build: &Build<'_>) -> Vec<String> {
    vec![base64::engine::general_purpose::STANDARD.encode(&build.context.dockerfile)]
}

fn place(node: &Node) -> Location {
    Location::lines(node.at.line, node.end_line)
}

fn description(file: &Dockerfile, node: &Node, name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    let above = (1..node.at.line).rev().map_while(|line| file.comments.get(&line));
    let said = above.filter_map(|comment| comment.strip_prefix(name)?.strip_prefix(' '));
    said.last().unwrap_or_default().to_owned()
}

struct Found<'a> {
    build: &'a Build<'a>,
    file: &'a Dockerfile,
    /// What a later stage says of an argument counts.
    args: BTreeMap<String, Parameter>,
    secrets: Vec<Parameter>,
    ssh: Vec<Parameter>,
}

impl Found<'_> {
    fn stage(&mut self, stage: &Stage, states: &BTreeMap<usize, State>) -> Result<State> {
        let plan = &self.build.plan;
        let mut state = match &stage.base {
            Base::Stage(index) => states.get(index).cloned().unwrap_or_else(|| State::scratch("", plan.escape)),
            _ => State::scratch("", plan.escape),
        };
        let words = std::iter::once(&stage.from.args).chain(&stage.from.flags);
        for name in words.flat_map(|word| names(word, plan.escape)) {
            self.global(&name);
        }
        for line in &stage.lines {
            match &line.instruction {
                Instruction::Arg(args) => {
                    // A value that cannot be had is the build's to complain about.
                    let _ = state.configure(&line.instruction, &self.build.scope());
                    for (name, default) in args.iter().filter(|(name, _)| !is_platform(name)) {
                        if default.is_some() || !self.global(name) {
                            let value = state.args.get(name).cloned().unwrap_or_default();
                            self.argument(name, value, &line.node);
                        }
                    }
                }
                Instruction::Env(_) => drop(state.configure(&line.instruction, &self.build.scope())),
                Instruction::Run(run) => {
                    for text in &run.mounts {
                        self.mount(&state.word(text).map_err(Error::invalid)?, &line.node)?;
                    }
                }
                _ => {}
            }
        }
        Ok(state)
    }

    fn argument(&mut self, name: &str, value: String, node: &Node) {
        let description = description(self.file, node, name);
        let location = place(node);
        let parameter = Parameter { name: name.to_owned(), description, value, location, ..Parameter::default() };
        self.args.insert(name.to_owned(), parameter);
    }

    /// An ARG above the first FROM, and those that its default names. False: there is none.
    fn global(&mut self, name: &str) -> bool {
        let (escape, file) = (self.build.plan.escape, self.file);
        for node in file.nodes.iter().take_while(|n| n.keyword != "FROM") {
            let Ok(Instruction::Arg(args)) = interpret(node, escape) else { continue };
            let Some((_, default)) = args.into_iter().find(|(n, _)| n == name) else { continue };
            let value = self.build.plan.globals.get(name).cloned().unwrap_or_default();
            let known = self.args.contains_key(name);
            self.argument(name, value, node);
            let more = default.filter(|_| !known).map(|d| names(&d, escape)).unwrap_or_default();
            for name in more {
                self.global(&name);
            }
            return true;
        }
        false
    }

    fn mount(&mut self, text: &str, node: &Node) -> Result<()> {
        let mount = Mount::parse(text)?;
        let list = match mount.kind() {
            "secret" => &mut self.secrets,
            "ssh" => &mut self.ssh,
            _ => return Ok(()),
        };
        let (name, required) = (mount.id(), mount.truth("required"));
        match list.iter_mut().find(|p| p.name == name) {
            Some(known) => known.required |= required,
            None => list.push(Parameter { name, required, location: place(node), ..Parameter::default() }),
        }
        Ok(())
    }
}
