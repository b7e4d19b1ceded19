//! `docker tag`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::{Error, Result};
use crate::image::reference::{AnyReference, Reference};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Give SOURCE_IMAGE a further name
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Tag {
    #[argh(positional)]
    pub source: String,
    #[argh(positional)]
    pub target: String,
}

impl Verb for Tag {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let wrong = |text: &str, e: Error| {
            Error::invalid(format!("Error parsing reference: {text:?} is not a valid repository/tag: {}", e.message()))
        };
        AnyReference::parse(&self.source).map_err(|e| wrong(&self.source, e))?;
        let target = Reference::parse(&self.target).map_err(|e| wrong(&self.target, e))?;
        if target.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        let target = target.or_latest();
        cx.client()?
            .post(format!("/images/{}/tag", segment(&self.source)))
            .query("repo", target.familiar_name())
            .query_opt("tag", target.tag())
            .done()?;
        Ok(ExitCode::SUCCESS)
    }
}
