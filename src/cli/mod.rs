//! The client: argv → api types → HTTP → text. One command per process; this file
//! finds the command, reads its line, runs it and says what went wrong.

#![forbid(unsafe_code)]

pub mod attach;
pub mod builder;
pub mod checkpoint;
pub mod complete;
pub mod config;
pub mod container;
pub mod context;
pub mod context_store;
pub mod contexts;
pub mod copy;
pub mod credentials;
pub mod exit;
pub mod flags;
pub mod format;
pub mod help;
pub mod host;
pub mod image;
pub mod inspect;
pub mod lists;
pub mod manifest;
pub mod manual;
pub mod network;
pub mod output;
pub mod plugin;
pub mod printable;
pub mod progress;
pub mod registry;
pub mod swarm;
pub mod system;
pub mod tls;
pub mod tree;
pub mod volume;

use crate::error::Result;
use crate::util::argv::{self, Line, Syntax};
use argh::ArgsInfo;
use context::{Context, Globals};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use tree::{Args, Command};

/// Hidden old names of flags: old, new, whether to say so.
const ALIASES: &[(&str, &str, bool)] = &[
    ("net", "network", false),
    ("net-alias", "network-alias", false),
    ("dns-opt", "dns-option", false),
    ("time", "timeout", true),
];

/// What `--log-level` may be.
const LEVELS: &[&str] = &["trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"];

/// Entry point of `docker`; `args` without argv[0].
pub fn main(args: &[OsString]) -> ExitCode {
    // A password may be typed here: no core, also where Ctrl-\ ends us. Plugins may leave theirs.
    let _ = nix::sys::prctl::set_dumpable(false);
    // What is no UTF-8 cannot go into JSON either; Go's client replaces it likewise.
    let args: Vec<String> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let (code, mut cx) = start(&args);
    let flushed = cx.out.flush();
    if context::stdout_closed() || flushed.is_err() {
        return ExitCode::SUCCESS;
    }
    code
}

fn start(args: &[String]) -> (ExitCode, Context) {
    let info = Globals::get_args_info();
    let syntax = Syntax { flags: info.flags, without: &[], aliases: &[], options_first: true, check: argv::no_check };
    let line = match argv::parse(&syntax, args) {
        Ok(line) => line,
        Err(message) => {
            let mut cx = Context::new(Globals::default());
            let text = format!(
                "{message}\n\nUsage:  docker [OPTIONS] COMMAND [ARG...]\n\nRun 'docker --help' for more information\n"
            );
            let _ = cx.err.write_all(text.as_bytes());
            return (ExitCode::from(exit::USAGE), cx);
        }
    };
    let globals = match tree::fill::<Globals>(&line.argv(info.flags)) {
        Ok(globals) => globals,
        Err(e) => {
            let mut cx = Context::new(Globals::default());
            let _ = writeln!(cx.err, "{e}");
            return (ExitCode::from(exit::USAGE), cx);
        }
    };
    let mut cx = Context::new(globals);
    cx.args = args.to_vec();
    let code = root(&mut cx, &line).unwrap_or(ExitCode::FAILURE);
    (code, cx)
}

/// `Err` only when nothing can be printed any more.
fn root(cx: &mut Context, line: &Line) -> std::io::Result<ExitCode> {
    for notice in &line.notices {
        writeln!(cx.err, "{notice}")?;
    }
    let words = &line.positionals;
    if let Some(level) = cx.globals.log_level.as_deref()
        && !LEVELS.contains(&level.to_ascii_lowercase().as_str())
    {
        writeln!(cx.err, "Unable to parse logging level: {level}")?;
        return Ok(ExitCode::FAILURE);
    }
    if cx.globals.version {
        writeln!(cx.out, "Docker version {}, build coracle", version())?;
        return Ok(ExitCode::SUCCESS);
    }
    match words.first().map(String::as_str) {
        None if line.help => {
            let text = root_help(cx);
            cx.out.write_all(text.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        None => {
            let text = root_help(cx);
            cx.err.write_all(text.as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        Some("help") => return help_command(cx, &words[1..]),
        Some(system::check::TRIAL) => return Ok(system::check::trial()),
        Some("completion") => return completion(cx, &words[1..]),
        Some("__complete" | "__completeNoDesc") => return complete::run(cx, &words[1..]),
        Some(_) => {}
    }
    if let Some((command, used)) = tree::find(words) {
        let path = tree::shown(command, used);
        cx.command = format!("docker {path}");
        return one(cx, command, path, &words[used.split(' ').count()..]);
    }
    if let Some(group) = tree::find_group(words) {
        return group_command(cx, group, &words[group.name.split(' ').count()..]);
    }
    let word = &words[0];
    if let Some(result) = plugin::try_run(cx, word) {
        return told(cx, result);
    }
    write!(cx.err, "docker: unknown command: docker {word}\n\nRun 'docker --help' for more information\n")?;
    Ok(ExitCode::FAILURE)
}

/// The version that `docker --version` prints.
pub fn version() -> &'static str {
    crate::api::version::PRODUCT
}

/// `docker completion SHELL`.
fn completion(cx: &mut Context, words: &[String]) -> std::io::Result<ExitCode> {
    let scripts = [("bash", complete::BASH), ("fish", complete::FISH), ("zsh", complete::ZSH)];
    if words.iter().any(|w| w == "--help") {
        let text = "Usage:  docker completion SHELL\n\nPrint the completion script of a shell: bash, fish or zsh\n";
        cx.out.write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    match words.first().and_then(|w| scripts.iter().find(|(shell, _)| shell == w)) {
        Some((_, script)) => {
            cx.out.write_all(script.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            writeln!(cx.err, "docker: 'docker completion' requires the name of a shell: bash, fish or zsh")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn root_help(cx: &Context) -> String {
    let (plugins, broken) = plugin::entries(cx);
    help::root(Globals::get_args_info().flags, &cx.config_dir().display().to_string(), &plugins, &broken)
}

fn help_command(cx: &mut Context, words: &[String]) -> std::io::Result<ExitCode> {
    if words == ["--help"] {
        let text = "Usage:  docker help [COMMAND]\n\nShow the help of a command\n";
        cx.out.write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if words.is_empty() {
        let text = root_help(cx);
        cx.out.write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = match tree::find(words) {
        Some((command, used)) if used.split(' ').count() == words.len() => {
            help::command(command, tree::shown(command, used))
        }
        _ => match tree::find_group(words) {
            Some(group) if group.name.split(' ').count() == words.len() => help::group(group),
            _ => {
                if let Some(result) = plugin::try_run(cx, &words[0]) {
                    return told(cx, result);
                }
                let last = words.last().map_or("", String::as_str);
                writeln!(cx.err, "unknown help topic: {last}")?;
                return Ok(ExitCode::FAILURE);
            }
        },
    };
    cx.out.write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// `docker container`, `docker container --help`, `docker container nosuch`.
fn group_command(cx: &mut Context, group: &tree::Group, args: &[String]) -> std::io::Result<ExitCode> {
    let info = swarm::Raw::get_args_info();
    let syntax = Syntax { flags: info.flags, without: &[], aliases: &[], options_first: false, check: argv::no_check };
    let name = group.name;
    // The original's own: two of its groups name the argument.
    let command = if matches!(name, "volume" | "manifest") { " COMMAND" } else { "" };
    let tail = format!("Usage:  docker {name}{command}\n\nRun 'docker {name} --help' for more information\n");
    match argv::parse(&syntax, args) {
        Err(message) => {
            write!(cx.err, "{message}\n\n{tail}")?;
            Ok(ExitCode::from(exit::USAGE))
        }
        Ok(line) => {
            for notice in &line.notices {
                writeln!(cx.err, "{notice}")?;
            }
            let text = help::group(group);
            match line.positionals.first() {
                _ if line.help => cx.out.write_all(text.as_bytes())?,
                None => cx.err.write_all(text.as_bytes())?,
                Some(word) => {
                    write!(cx.err, "docker: unknown command: docker {name} {word}\n\n{tail}")?;
                    return Ok(ExitCode::FAILURE);
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Reads the line of one command and runs it.
fn one(cx: &mut Context, command: &Command, path: &str, args: &[String]) -> std::io::Result<ExitCode> {
    let info = (command.info)();
    let line = if command.raw && !args.iter().any(|a| a == "--help") {
        Line { positionals: args.to_vec(), ..Line::default() }
    } else {
        let syntax = Syntax {
            flags: info.flags,
            without: command.without,
            aliases: ALIASES,
            options_first: command.options_first,
            check: command.check,
        };
        match argv::parse(&syntax, args) {
            Ok(line) => line,
            Err(message) => {
                let usage = help::usage_line(path, command.usage);
                write!(cx.err, "{message}\n\nUsage:  {usage}\n\nRun 'docker {path} --help' for more information\n")?;
                return Ok(ExitCode::from(exit::USAGE));
            }
        }
    };
    for notice in &line.notices {
        writeln!(cx.err, "{notice}")?;
    }
    if line.help {
        cx.out.write_all(help::command(command, path).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(problem) = count(command.args, line.positionals.len()) {
        let usage = help::usage_line(path, command.usage);
        let verb = if problem.contains("at least") && !problem.contains("at most") { "See" } else { "Run" };
        write!(
            cx.err,
            "docker: 'docker {path}' {problem}\n\nUsage:  {usage}\n\n{verb} 'docker {path} --help' for more information\n"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    let result = (command.run)(&line.argv(info.flags), cx);
    told(cx, result)
}

/// Says what went wrong, unless nobody listens any more.
fn told(cx: &mut Context, result: Result<ExitCode>) -> std::io::Result<ExitCode> {
    match result {
        Ok(code) => Ok(code),
        Err(_) if context::stdout_closed() => Ok(ExitCode::SUCCESS),
        Err(e) => {
            cx.out.flush()?;
            writeln!(cx.err, "{e}")?;
            if let Some(hint) = e.hint() {
                writeln!(cx.err, "{hint}")?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What is wrong with `n` arguments.
fn count(args: Args, n: usize) -> Option<String> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    match args {
        Args::None if n > 0 => Some("accepts no arguments".into()),
        Args::Exactly(k) if n != k => Some(format!("requires {k} {}", plural(k))),
        Args::AtLeast(k) if n < k => Some(format!("requires at least {k} {}", plural(k))),
        Args::AtMost(k) if n > k => Some(format!("requires at most {k} {}", plural(k))),
        Args::Between(a, b) if n < a || n > b => Some(format!("requires at least {a} and at most {b} {}", plural(b))),
        _ => None,
    }
}
