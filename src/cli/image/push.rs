//! `docker push`.

use crate::cli::context::Context;
use crate::cli::tree::Verb;
use crate::cli::{credentials, progress};
use crate::error::{Error, Result};
use crate::image::manifest::Platform;
use crate::image::reference::Reference;
use crate::util::json;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Send an image to a registry
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Push {
    /// send every tag of the repository
    #[argh(switch, short = 'a')]
    pub all_tags: bool,
    /// skip signing; there is none (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub disable_content_trust: bool,
    /// send one platform of several
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    /// print nothing but the name
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    #[argh(positional)]
    pub reference: String,
}

const PLATFORM_NOTE: &str = "
 Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.
         Other components, like attestations, will not be included.
         To push the complete multi-platform image, remove the --platform flag.
         
";

impl Verb for Push {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let platform = match &self.platform {
            None => None,
            Some(text) => {
                let platform = Platform::parse(text)
                    .map_err(|e| Error::invalid(format!("Invalid platform {text}{}", e.message())))?;
                if !self.quiet {
                    write!(cx.out, "{PLATFORM_NOTE}")?;
                }
                Some(json::to_string(&platform)?)
            }
        };
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
        let header = credentials::offered(cx, reference.domain()).map_or_else(|| "e30=".to_owned(), |c| c.header());
        let client = cx.client()?;
        let path = format!("/images/{}/push", crate::client::segment(&reference.familiar_name()));
        let reply = client
            .post(path)
            .query_opt("tag", reference.tag())
            .query_opt("platform", platform)
            .header("X-Registry-Auth", header)
            .send()?;
        if self.quiet {
            progress::discard(reply)?;
            writeln!(cx.out, "{}", reference.familiar())?;
        } else {
            progress::show(cx, reply)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
