//! `docker image inspect`.

use crate::cli::context::Context;
use crate::cli::image::platform;
use crate::cli::inspect;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::Result;
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Show all there is to know about images
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Inspect {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
    /// platform to show where there are several
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    #[argh(positional, greedy)]
    pub images: Vec<String>,
}

impl Verb for Inspect {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        let platform = platform(self.platform.as_deref())?;
        inspect::run(cx, self.format.as_deref(), &self.images, |_, name| {
            let request = client.get(format!("/images/{}/json", segment(name)));
            Ok(("image", request.query_opt("platform", platform.as_deref()).bytes()?))
        })
    }
}
