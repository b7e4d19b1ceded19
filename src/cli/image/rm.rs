//! `docker rmi`.

use crate::cli::context::Context;
use crate::cli::image::platforms;
use crate::cli::tree::Verb;
use crate::client::segment;
use crate::error::{Error, Kind, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Remove images
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Rm {
    /// remove it also when containers use it
    #[argh(switch, short = 'f')]
    pub force: bool,
    /// keep untagged parents
    #[argh(switch)]
    pub no_prune: bool,
    /// remove this platform alone, in the form os[/arch[/variant]]
    #[argh(option, arg_name = "strings")]
    pub platform: Vec<String>,
    #[argh(positional, greedy)]
    pub images: Vec<String>,
}

/// One step of a removal on the wire.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Removed {
    pub untagged: String,
    pub deleted: String,
}

fn tell(cx: &mut Context, removed: &[Removed]) -> Result<()> {
    for step in removed {
        if step.deleted.is_empty() {
            writeln!(cx.out, "Untagged: {}", step.untagged)?;
        } else {
            writeln!(cx.out, "Deleted: {}", step.deleted)?;
        }
    }
    Ok(())
}

impl Verb for Rm {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let client = cx.client()?;
        let platforms = platforms(&self.platform)?;
        let mut failures = Vec::new();
        let mut fatal = !self.force;
        for name in &self.images {
            let mut request = client.delete(format!("/images/{}", segment(name)));
            request = request.query_if("force", self.force).query_if("noprune", self.no_prune);
            for platform in &platforms {
                request = request.query("platforms", platform);
            }
            match request.json::<Vec<Removed>>() {
                Ok(removed) => tell(cx, &removed)?,
                Err(e) => {
                    fatal |= e.kind() != Kind::NotFound;
                    failures.push(e.message().to_owned());
                }
            }
        }
        if failures.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        if fatal {
            return Err(Error::system(failures.join("\n")));
        }
        writeln!(cx.err, "{}", failures.join("\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}
