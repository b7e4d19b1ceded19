//! `docker import`.

use crate::cli::context::Context;
use crate::cli::image::open;
use crate::cli::progress;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use crate::image::reference::Reference;
use argh::{ArgsInfo, FromArgs};
use std::io::Read;
use std::process::ExitCode;

/// Make an image of a file system in a tar archive
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Import {
    /// dockerfile instruction to apply to the image
    #[argh(option, short = 'c', arg_name = "list")]
    pub change: Vec<String>,
    /// message for the history
    #[argh(option, short = 'm', arg_name = "string")]
    pub message: Option<String>,
    /// platform to note in the image
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    #[argh(positional)]
    pub source: String,
    #[argh(positional)]
    pub reference: Option<String>,
}

impl Verb for Import {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let remote = self.source.starts_with("http://") || self.source.starts_with("https://");
        let mut body: Option<Box<dyn Read + Send>> = match self.source.as_str() {
            "-" => Some(Box::new(std::io::stdin())),
            _ if remote => None,
            path => Some(Box::new(open(path)?)),
        };
        let mut repository = String::new();
        if let Some(name) = self.reference.as_deref().filter(|n| !n.is_empty()) {
            Reference::parse(name).map_err(|e| Error::invalid(e.message().to_owned()))?;
            repository = name.to_owned();
        }
        let client = cx.client()?;
        let mut request = client.post("/images/create");
        request = request.query("fromSrc", if remote { self.source.as_str() } else { "-" }).query("repo", repository);
        for change in &self.change {
            request = request.query("changes", change);
        }
        request = request.query_opt("message", self.message).query_opt("platform", self.platform);
        let answer = match &mut body {
            Some(body) => request.stream_body("application/x-tar", body).send()?,
            None => request.send()?,
        };
        progress::show(cx, answer)?;
        Ok(ExitCode::SUCCESS)
    }
}
