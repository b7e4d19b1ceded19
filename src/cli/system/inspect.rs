//! `docker inspect`.

use crate::cli::context::Context;
use crate::cli::inspect;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::{Error, Kind, Result};
use crate::util::order;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Show all there is to know about objects
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
    /// add file sizes of containers
    #[argh(switch, short = 's')]
    pub size: bool,
    /// look at objects of this type alone
    #[argh(option, long = "type", arg_name = "string")]
    pub kind: Option<String>,
    #[argh(positional, greedy)]
    pub names: Vec<String>,
}

/// In the order in which a name is looked up.
const KINDS: &[(&str, &str)] = &[
    ("container", "/containers/{}/json"),
    ("image", "/images/{}/json"),
    ("network", "/networks/{}"),
    ("volume", "/volumes/{}"),
    ("service", "/services/{}"),
    ("task", "/tasks/{}"),
    ("node", "/nodes/{}"),
    ("plugin", "/plugins/{}/json"),
    ("secret", "/secrets/{}"),
    ("config", "/configs/{}"),
];

fn unknown(kind: &str) -> Error {
    let mut names: Vec<String> = KINDS.iter().map(|(name, _)| format!("{name:?}")).collect();
    order::sort(&mut names);
    let names = names.join(", ");
    match kind {
        "" => Error::invalid(format!("type is empty: must be one of {names}")),
        _ => Error::invalid(format!("unknown type: {kind:?}: must be one of {names}")),
    }
}

/// Whether to look for the next kind: it is not there, or its kind is none of this
/// engine's (swarm mode off), or the name cannot be one.
fn absent(e: &Error) -> bool {
    match e.kind() {
        Kind::NotFound | Kind::Unavailable | Kind::NotImplemented => true,
        Kind::Invalid => e.message().contains("invalid reference format"),
        Kind::System => e.message().contains("invalid reference format") || e.message().contains("no such image"),
        _ => false,
    }
}

impl Verb for Inspect {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        let kinds: Vec<&(&str, &str)> = match self.kind.as_deref() {
            None => KINDS.iter().collect(),
            Some(kind) => match KINDS.iter().find(|(name, _)| *name == kind) {
                Some(found) => vec![found],
                None => return Err(unknown(kind)),
            },
        };
        if self.size && !kinds.iter().any(|(name, _)| *name == "container") {
            writeln!(cx.err, "WARNING: --size ignored for {}", kinds[0].0)?;
        }
        let single = self.kind.is_some();
        inspect::run(cx, self.format.as_deref(), &self.names, |_, name| {
            for (kind, path) in &kinds {
                let request = client.get(path.replace("{}", &segment(name)));
                match request.query_if("size", self.size && *kind == "container").bytes() {
                    Err(e) if !single && absent(&e) => {}
                    other => return Ok((kind, other?)),
                }
            }
            Err(Error::not_found(format!("Error: No such object: {name}")))
        })
    }
}
