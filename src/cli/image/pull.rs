//! `docker pull`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::cli::{credentials, progress};
use crate::error::{Error, Result};
use crate::image::reference::Reference;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Fetch an image from a registry
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Pull {
    /// fetch every tag of the repository
    #[argh(switch, short = 'a')]
    pub all_tags: bool,
    /// skip signature checks; there are none (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub disable_content_trust: bool,
    /// platform to fetch where there are several; "all" keeps every one, for pushing and saving
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    /// print nothing but the name
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    #[argh(positional)]
    pub reference: String,
}

impl Verb for Pull {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut reference = Reference::parse(&self.reference)?;
        if self.all_tags && !reference.is_name_only() {
            return Err(Error::invalid("tag can't be used with --all-tags/-a"));
        }
        if !self.all_tags && reference.is_name_only() {
            reference = reference.or_latest();
            if !self.quiet {
                writeln!(cx.out, "Using default tag: latest")?;
            }
        }
        let platform = self.platform.or_else(default_platform);
        pull(cx, &reference, platform.as_deref(), if self.quiet { Show::Nothing } else { Show::Out })?;
        writeln!(cx.out, "{}", reference.familiar())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// `DOCKER_DEFAULT_PLATFORM`
pub fn default_platform() -> Option<String> {
    std::env::var("DOCKER_DEFAULT_PLATFORM").ok().filter(|p| !p.is_empty())
}

/// Where a pull's progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    Out,
    Err,
    Nothing,
}

/// Has the daemon pull; a name without tag means all of its tags.
pub fn pull(cx: &mut Context, reference: &Reference, platform: Option<&str>, show: Show) -> Result<()> {
    let header = credentials::offered(cx, reference.domain()).map(|c| c.header());
    let version = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Some(digest.to_string()),
        (None, tag) => tag.map(str::to_owned),
    };
    let client = cx.client()?;
    let mut request = client
        .post("/images/create")
        .query("fromImage", reference.familiar_name())
        .query_opt("tag", version)
        .query_opt("platform", platform);
    if let Some(header) = header {
        request = request.header("X-Registry-Auth", header);
    }
    let reply = request.send()?;
    match show {
        Show::Out => progress::show(cx, reply),
        Show::Err => progress::show_on(&mut cx.err, reply),
        Show::Nothing => progress::discard(reply),
    }
}
