//! The graph at work: each needed stage on a thread of its own (for the classic
//! client one after the other), each instruction in its turn.
//!
//! A stage that needs another asks for it with [`Build::stage`]: the first who
//! asks builds it, the others wait. Dependencies point backwards, so nobody
//! waits in a circle.

use super::cache::spread::{Imported, Trail};
use super::context::Context;
use super::language::check::{self, Warning};
use super::language::instruction::{Instruction, interpret};
use super::language::parser::{Node, parse};
use super::report::{Progress, Report, shown};
use super::result::{checked, finish, outline};
use super::session::Session;
use super::stage::{self, Inputs, Line, Plan};
use super::state::{Scope, State};
use super::steps::base::Made;
use super::{Abort, Fault, Request};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Platform;
use crate::image::store::LayerRef;
use crate::util::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Everything that the steps of one build share.
pub struct Build<'a> {
    pub engine: &'a Arc<Engine>,
    pub request: &'a Request,
    pub context: &'a Context,
    pub plan: Plan,
    /// `os/arch[/variant]` as the request has it; empty: this machine's.
    pub platform: String,
    pub report: &'a Report,
    pub abort: &'a Arc<Abort>,
    pub session: &'a Arc<Session>,
    /// Layers that must not go while this build may stand on them.
    pub held: Mutex<Vec<LayerRef>>,
    /// Caches that `--cache-from` names.
    pub imported: Arc<Vec<Imported>>,
    /// Every step that has a layer, for `--cache-to`.
    pub trail: Arc<Mutex<Vec<Trail>>>,
    checks: Mutex<BTreeSet<Warning>>,
    slots: Mutex<BTreeMap<usize, Slot>>,
    ready: Condvar,
    fault: Mutex<Option<Fault>>,
    steps: AtomicUsize,
    total: usize,
}

enum Slot {
    Running,
    Done(Arc<Made>),
    Failed,
}

/// `os/arch` of this machine.
pub fn host_platform() -> String {
    let host = Platform::host();
    match host.variant.as_str() {
        "" => format!("{}/{}", host.os, host.architecture),
        variant => format!("{}/{}/{variant}", host.os, host.architecture),
    }
}

/// Reads the Dockerfile for one platform; empty is this machine's.
pub fn plan(request: &Request, context: &Context, platform: &str) -> std::result::Result<Plan, Fault> {
    let options = &request.options;
    let fault = |e: super::language::parser::SyntaxError| Fault {
        message: if options.structured { e.message.clone() } else { e.to_string() },
        line: e.at.line,
        column: e.at.column,
        source: e.source,
        code: None,
    };
    let file = parse(&context.dockerfile).map_err(fault)?;
    let platform = if platform.is_empty() { host_platform() } else { platform.to_owned() };
    let names: Vec<&str> = options.contexts.keys().map(String::as_str).collect();
    let inputs = Inputs {
        build_args: &options.build_args,
        target: &options.target,
        target_platform: &platform,
        build_platform: &host_platform(),
        contexts: &names,
        ignore: &context.ignore,
    };
    stage::plan(&file, &inputs).map_err(fault)
}

/// A whole build, one platform after the other; `Some` is why it failed.
pub fn run(mut builds: Vec<Build<'_>>) -> Result<Option<Fault>> {
    let imported = builds.first().map(|b| Arc::new(b.import_caches())).unwrap_or_default();
    let trail = Arc::default();
    for build in &mut builds {
        (build.imported, build.trail) = (Arc::clone(&imported), Arc::clone(&trail));
    }
    let result = together(&builds);
    let fault = |b: &Build<'_>| b.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (result, builds.iter().find_map(fault)) {
        (Ok(()), _) => Ok(None),
        (Err(_), Some(fault)) => Ok(Some(fault)),
        (Err(e), None) => Ok(Some(Fault { message: e.message().to_owned(), ..Fault::default() })),
    }
}

fn together(builds: &[Build<'_>]) -> Result<()> {
    let Some(first) = builds.first() else { return Ok(()) };
    match first.request.options.call.as_str() {
        "" => {}
        "check" => return checked::check(first),
        "outline" => return outline::outline(first),
        "targets" => return outline::targets(first),
        other => return Err(Error::invalid(format!("unsupported request {other}"))),
    }
    let made = builds.iter().map(Build::stages).collect::<Result<Vec<_>>>()?;
    tell_checks(builds, first)?;
    first.context.discard();
    finish::finish(builds, &made)
}

/// Likely mistakes, when all have been seen.
fn tell_checks(builds: &[Build<'_>], first: &Build<'_>) -> Result<()> {
    let mut found = BTreeSet::new();
    for build in builds {
        found.append(&mut build.checks.lock().unwrap_or_else(PoisonError::into_inner));
        found.extend(build.plan.checks.iter().cloned());
    }
    let policy = &first.plan.policy;
    found.retain(|w| policy.lets(w.rule));
    if found.is_empty() {
        return Ok(());
    }
    first.report.warnings(&found);
    if policy.error {
        let rules: BTreeSet<&str> = found.iter().map(|w| w.rule).collect();
        let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Error::invalid(format!("lint violation found for rules: {rules}")));
    }
    Ok(())
}

/// A stage while it is built.
pub struct Ongoing {
    pub state: State,
    /// How long the history of the image below was.
    pub inherited: usize,
    pub index: usize,
    /// Its layers were all taken from the cache so far.
    pub name: String,
    /// Names of ARG, with a value or without.
    declared: BTreeSet<String>,
    position: usize,
    length: usize,
}

impl<'a> Build<'a> {
    pub fn new(
        engine: &'a Arc<Engine>,
        request: &'a Request,
        context: &'a Context,
        (platform, plan): (String, Plan),
        report: &'a Report,
        (abort, session): (&'a Arc<Abort>, &'a Arc<Session>),
    ) -> Self {
        let total = plan.needed.iter().map(|i| plan.stages[*i].lines.len() + 1).sum();
        Self {
            engine,
            request,
            context,
            plan,
            platform,
            report,
            abort,
            session,
            held: Mutex::default(),
            imported: Arc::default(),
            trail: Arc::default(),
            checks: Mutex::default(),
            slots: Mutex::default(),
            ready: Condvar::new(),
            fault: Mutex::default(),
            steps: AtomicUsize::new(0),
            total,
        }
    }

    fn stages(&self) -> Result<Arc<Made>> {
        for warning in &self.plan.warnings {
            self.report.say(format!("{warning}\n"));
        }
        if !self.report.structured() {
            for index in &self.plan.needed {
                self.stage(*index)?;
            }
            return self.stage(self.plan.target);
        }
        std::thread::scope(|scope| {
            for index in self.plan.needed.iter().filter(|i| **i != self.plan.target) {
                // The target's thread builds what no thread could be had for.
                let _ = std::thread::Builder::new().spawn_scoped(scope, move || self.stage(*index).map(|_| ()));
            }
            self.stage(self.plan.target)
        })
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<usize, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a stage has become; built now if nobody did.
    pub fn stage(&self, index: usize) -> Result<Arc<Made>> {
        let mut slots = self.slots();
        loop {
            match slots.get(&index) {
                Some(Slot::Done(made)) => return Ok(made.clone()),
                Some(Slot::Failed) => return Err(Error::cancelled()),
                Some(Slot::Running) => slots = self.ready.wait(slots).unwrap_or_else(PoisonError::into_inner),
                None => break,
            }
        }
        slots.insert(index, Slot::Running);
        drop(slots);
        let made = self.whole_stage(index).map(Arc::new);
        let slot = match &made {
            Ok(made) => Slot::Done(made.clone()),
            Err(_) => {
                // The others have no use any more.
                self.abort.fire(self.engine);
                Slot::Failed
            }
        };
        self.slots().insert(index, slot);
        self.ready.notify_all();
        made
    }

    fn whole_stage(&self, index: usize) -> Result<Made> {
        let stage = &self.plan.stages[index];
        let name = match (&stage.name, self.plan.needed.len()) {
            (Some(name), _) => name.clone(),
            (None, 1) => String::new(),
            (None, _) => format!("stage-{index}"),
        };
        let length = stage.lines.len() + 1;
        let placeholder = State::scratch(&host_platform(), self.plan.escape);
        let mut ongoing =
            Ongoing { state: placeholder, inherited: 0, index, name, declared: BTreeSet::new(), position: 0, length };
        let progress = self.begin(&mut ongoing, &stage.from);
        let base = self.base(stage, &progress);
        let made = self.judge(&stage.from, &progress, base)?;
        progress.done(&short(&made.state));
        ongoing.state = made.state;
        ongoing.inherited = made.inherited;
        let triggers = ongoing.state.config.run.on_build.take().unwrap_or_default();
        if !triggers.is_empty() {
            let many = if triggers.len() == 1 { "trigger" } else { "triggers" };
            self.report.classic(format!("# Executing {} build {many}\n", triggers.len()));
        }
        for trigger in triggers {
            for line in self.trigger(&trigger, &stage.from)? {
                self.line(&mut ongoing, &line)?;
            }
        }
        for line in &stage.lines {
            self.line(&mut ongoing, line)?;
        }
        Ok(Made { state: ongoing.state, inherited: ongoing.inherited })
    }

    fn trigger(&self, text: &str, from: &Node) -> Result<Vec<Line>> {
        let read = || -> std::result::Result<Vec<Line>, String> {
            let nodes = parse(text).map_err(|e| e.message)?.nodes;
            let line = |mut node: Node| {
                let instruction = interpret(&node, self.plan.escape)?;
                node.at = from.at;
                Ok(Line { node, instruction })
            };
            nodes.into_iter().map(line).collect()
        };
        read().map_err(|message| self.fail(from, Error::invalid(format!("ONBUILD {text}: {message}"))))
    }

    fn begin(&self, ongoing: &mut Ongoing, node: &Node) -> Progress<'_> {
        ongoing.position += 1;
        let several = if self.request.options.platform.contains(',') { self.platform.as_str() } else { "" };
        let place = format!("{several} {} {}/{}", ongoing.name, ongoing.position.min(ongoing.length), ongoing.length);
        let place = place.trim_start().replace("  ", " ");
        let step = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        self.report.begin(place.trim(), (step, self.total.max(step)), &shown(node))
    }

    fn line(&self, ongoing: &mut Ongoing, line: &Line) -> Result<()> {
        self.abort.check()?;
        self.check_variables(ongoing, line);
        let progress = self.begin(ongoing, &line.node);
        let result = self.instruction(ongoing, line, &progress);
        self.judge(&line.node, &progress, result)?;
        progress.done(&short(&ongoing.state));
        Ok(())
    }

    fn check_variables(&self, ongoing: &mut Ongoing, line: &Line) {
        if let Instruction::Arg(args) = &line.instruction {
            ongoing.declared.extend(args.iter().map(|(name, _)| name.clone()));
        }
        let known = ongoing.state.names().chain(ongoing.declared.iter().cloned()).collect();
        let found = check::undefined(&line.node, &line.instruction, self.plan.escape, &known);
        if !found.is_empty() {
            self.checks.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        }
    }

    fn instruction(&self, ongoing: &mut Ongoing, line: &Line, progress: &Progress<'_>) -> Result<()> {
        match &line.instruction {
            Instruction::Run(run) => self.run_step(ongoing, run, progress),
            Instruction::Copy(copy) => self.copy_step(ongoing, &line.node, copy, false, progress),
            Instruction::Add(add) => self.copy_step(ongoing, &line.node, add, true, progress),
            Instruction::Workdir(path) => self.workdir_step(ongoing, path, progress),
            other => {
                let scope = self.scope();
                let text = ongoing.state.configure(other, &scope).map_err(Error::invalid)?;
                let args = |args: &[(String, Option<String>)]| {
                    let shown = |(k, v): &(String, Option<String>)| match v {
                        Some(v) => format!("{k}={v}"),
                        None => k.clone(),
                    };
                    format!("ARG {}", args.iter().map(shown).collect::<Vec<_>>().join(" "))
                };
                let text = match (text, other) {
                    (Some(text), _) => text,
                    (None, Instruction::Arg(list)) => args(list),
                    (None, _) => return Ok(()),
                };
                ongoing.state.record("", text, true);
                Ok(())
            }
        }
    }

    /// One more likely mistake.
    pub fn warn(&self, node: &Node, rule: &'static str, message: String) {
        let warning = Warning { line: node.at.line, rule, message };
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).insert(warning);
    }

    pub fn scope(&self) -> Scope<'_> {
        Scope { build_args: &self.request.options.build_args, globals: &self.plan.globals }
    }

    /// Whether a stage may take steps from the cache.
    fn may_use_cache(&self, ongoing: &Ongoing) -> bool {
        let options = &self.request.options;
        let named = |name: &String| {
            self.plan.stages[ongoing.index].name.as_deref() == Some(&name.to_ascii_lowercase())
                || *name == ongoing.index.to_string()
        };
        !options.no_cache && !options.no_cache_filter.iter().any(named)
    }

    /// What an earlier run of a step gave, here or in a cache that was named.
    pub fn earlier(&self, ongoing: &Ongoing, key: &Digest, parent: &str) -> Option<LayerRef> {
        if !self.may_use_cache(ongoing) {
            return None;
        }
        self.engine.builds.cache.find(self.engine, key).or_else(|| self.from_afar(key, parent))
    }

    /// Puts a layer on top of a stage.
    pub fn stack(&self, ongoing: &mut Ongoing, layer: LayerRef, created_by: String) {
        ongoing.state.chain_ids.push(layer.chain_id.hex());
        ongoing.state.config.rootfs.diff_ids.push(layer.layer.diff_id);
        ongoing.state.record("", created_by, false);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(layer);
    }

    fn judge<T>(&self, node: &Node, progress: &Progress<'_>, result: Result<T>) -> Result<T> {
        result.map_err(|e| {
            progress.failed(&e);
            self.fail(node, e)
        })
    }

    /// Keeps the first error with its place.
    fn fail(&self, node: &Node, e: Error) -> Error {
        if e.kind() != Kind::Cancelled {
            let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
            let fault = fault.get_or_insert_with(Fault::default);
            if fault.line == 0 {
                if fault.message.is_empty() {
                    fault.message = e.told();
                }
                (fault.line, fault.column) = (node.at.line, node.at.column);
                fault.source.clone_from(&node.original);
            }
        }
        e
    }

    /// The command of a RUN ended with this code.
    pub fn failed_command(&self, command: &str, code: i32, more: &str) -> Error {
        let message = if self.report.structured() {
            format!("process {command:?} did not complete successfully: exit code: {code}{more}")
        } else {
            format!("The command '{command}' returned a non-zero code: {code}{more}")
        };
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert_with(|| Fault { message: message.clone(), code: Some(code), ..Fault::default() });
        Error::system(message)
    }
}

/// The id that an image of this state would have.
fn short(state: &State) -> String {
    let text = json::to_vec(&state.config).unwrap_or_default();
    Digest::of(&text).hex()[..12].to_owned()
}
