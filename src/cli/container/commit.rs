//! `docker commit`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use crate::image::reference::Reference;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Make an image of a container's changes
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Commit {
    /// who made it ("Jane Doe <jane@example.org>")
    #[argh(option, short = 'a', arg_name = "string")]
    pub author: Option<String>,
    /// dockerfile instruction to apply to the image
    #[argh(option, short = 'c', arg_name = "list")]
    pub change: Vec<String>,
    /// message for the history
    #[argh(option, short = 'm', arg_name = "string")]
    pub message: Option<String>,
    /// pause the container meanwhile (default true)
    #[argh(option, short = 'p', arg_name = "bool", default = "true")]
    pub pause: bool,
    /// do not pause the container meanwhile
    #[argh(switch)]
    pub no_pause: bool,
    #[argh(positional)]
    pub container: String,
    #[argh(positional)]
    pub reference: Option<String>,
}

impl Verb for Commit {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let mut query = vec![("container", self.container.clone())];
        if let Some(name) = &self.reference {
            let name = Reference::parse(name)?;
            if name.digest().is_some() {
                return Err(Error::invalid("refusing to create a tag with a digest reference"));
            }
            let name = name.or_latest();
            query.push(("repo", name.familiar_name()));
            query.push(("tag", name.tag().unwrap_or_default().to_owned()));
        }
        query.push(("comment", self.message.clone().unwrap_or_default()));
        query.push(("author", self.author.clone().unwrap_or_default()));
        if !self.pause || self.no_pause {
            query.push(("pause", "0".into()));
        }
        let id = cx.client()?.commit(&query, &self.change)?.id;
        writeln!(cx.out, "{id}")?;
        Ok(ExitCode::SUCCESS)
    }
}
