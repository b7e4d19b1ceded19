//! `docker save`.

use crate::cli::context::Context;
use crate::cli::image::platform;
use crate::cli::tree::Verb;
use crate::error::{Context as _, Error, Result, errno_text};
use argh::{ArgsInfo, FromArgs};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write images to a tar archive, STDOUT by default
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Save {
    /// file to write in place of STDOUT
    #[argh(option, short = 'o', arg_name = "string")]
    pub output: Option<String>,
    /// platform to save where there are several
    #[argh(option, arg_name = "string")]
    pub platform: Option<String>,
    #[argh(positional, greedy)]
    pub images: Vec<String>,
}

/// Docker's judgement of `-o`.
pub fn check_output(path: &str) -> std::result::Result<(), String> {
    let dir = Path::new(path).parent().filter(|d| !d.as_os_str().is_empty());
    if let Some(dir) = dir
        && let Err(e) = std::fs::metadata(dir)
    {
        return Err(format!("invalid output path: stat {}: {}", dir.display(), errno_text(&e)));
    }
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Err("cannot write to a directory".into()),
        Ok(found) if !found.is_file() => Err(format!("cannot write to a {}", kind(&found))),
        _ => Ok(()),
    }
}

fn kind(found: &std::fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match found.file_type() {
        t if t.is_char_device() => "character device file",
        t if t.is_block_device() => "block device file",
        t if t.is_fifo() => "named pipe file",
        t if t.is_socket() => "socket file",
        _ => "special file",
    }
}

/// Beside the file first, so that a broken transfer leaves no half archive under
/// its name.
fn copy_to_file(source: &mut impl std::io::Read, path: &Path) -> Result<()> {
    let mut name = std::ffi::OsString::from(".docker_temp_");
    name.push(std::process::id().to_string());
    let temporary = path.with_file_name(name);
    let copy = || -> Result<()> {
        let mut file = File::create(&temporary).context(format!("open {}", temporary.display()))?;
        std::io::copy(source, &mut file)?;
        std::fs::rename(&temporary, path).context(format!("rename {}", path.display()))
    };
    let mut copy = copy;
    copy().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

impl Verb for Save {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let failed = |what: String| Error::invalid(format!("failed to save image: {what}"));
        let platform = platform(self.platform.as_deref())?;
        let output = match self.output.as_deref() {
            None | Some("") if cx.out.is_terminal() => {
                return Err(Error::invalid("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
            }
            None | Some("") => None,
            Some(path) => {
                check_output(path).map_err(failed)?;
                Some(PathBuf::from(path))
            }
        };
        let client = cx.client()?;
        let mut request = client.get("/images/get");
        for name in &self.images {
            request = request.query("names", name);
        }
        let mut answer = request.query_opt("platform", platform.as_deref()).send()?;
        match output {
            None => {
                std::io::copy(&mut answer, &mut cx.out)?;
            }
            Some(path) => copy_to_file(&mut answer, &path)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
