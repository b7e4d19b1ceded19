//! `docker cp`.

use crate::cli::context::Context;
use crate::cli::copy::{self, Destination, pack, unpack};
use crate::cli::format::human;
use crate::cli::output;
use crate::cli::tree::Verb;
use crate::client::Client;
use crate::error::{Context as _, Error, Result};
use crate::util::path;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Copy files between a container and this machine
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Cp {
    /// keep user and group of each file
    #[argh(switch, short = 'a')]
    pub archive: bool,
    /// copy what a symbolic link as SRC_PATH points to
    #[argh(switch, short = 'L')]
    pub follow_link: bool,
    /// do not show progress
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    #[argh(positional)]
    pub source: String,
    #[argh(positional)]
    pub destination: String,
}

/// The type bits of Go's os.FileMode.
const DIR: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const IRREGULAR: u32 = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21;

impl Verb for Cp {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        for (name, value) in [("source", &self.source), ("destination", &self.destination)] {
            if value.is_empty() {
                return Err(Error::invalid(format!("{name} can not be empty")));
            }
        }
        let (from, to) = (split(&self.source), split(&self.destination));
        // Told to people, not to programs.
        let quiet = self.quiet || !cx.out.is_terminal();
        match (from, to) {
            ((Some(container), path), (None, local)) => self.copy_out(cx, container, path, local, quiet)?,
            ((None, local), (Some(container), path)) => self.copy_in(cx, local, container, path, quiet)?,
            ((Some(_), _), (Some(_), _)) => {
                return Err(Error::invalid("copying between containers is not supported"));
            }
            _ => return Err(Error::invalid("must specify at least one container source")),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `CONTAINER:PATH`, or a path of this machine: one that starts with a slash or a dot,
/// or has no colon.
fn split(arg: &str) -> (Option<&str>, &str) {
    match arg.split_once(':') {
        Some((container, path)) if !arg.starts_with('/') && !container.starts_with('.') => (Some(container), path),
        _ => (None, arg),
    }
}

/// From the root of the container, a slash or dot at the end kept.
fn rooted(path: &str) -> String {
    path::with_end(path, path::absolute(path))
}

/// From the current folder.
fn absolute(path: &str) -> Result<String> {
    if path.starts_with('/') {
        return Ok(path::with_end(path, path::clean(path)));
    }
    let here = std::env::current_dir().context("getwd")?;
    Ok(path::with_end(path, path::clean(&format!("{}/{path}", here.display()))))
}

impl Cp {
    fn copy_out(&self, cx: &mut Context, container: &str, path: &str, local: &str, quiet: bool) -> Result<()> {
        let local = if local == "-" { local.to_owned() } else { absolute(local)? };
        if local != "-" {
            check_output(&local)?;
        }
        let client = cx.client()?;
        let given = rooted(path);
        let mut from = given.clone();
        if self.follow_link
            && let Ok(stat) = client.archive_stat(container, &from)
            && stat.mode & SYMLINK != 0
        {
            from = beside(&from, &stat.link_target);
        }
        let (mut reply, stat) = client.archive_get(container, &from)?;
        if local == "-" {
            std::io::copy(&mut reply, &mut cx.out)?;
            return Ok(cx.out.flush()?);
        }
        let is_dir = stat.mode & DIR != 0;
        let local = behind_links(local);
        let to = match std::fs::metadata(&local) {
            Ok(there) => Destination { path: local.clone(), exists: true, is_dir: there.is_dir() },
            Err(_) => Destination { path: local.clone(), ..Destination::default() },
        };
        let target = copy::target(&from, is_dir, &to)?;
        // The archive's first part is named as the path that was read; what is
        // wanted is the name that was typed, or the new one.
        let (_, inside) = copy::split(&from);
        let (_, typed) = copy::split(&given);
        let name = target.rename.clone().or_else(|| (typed != inside).then_some(typed));
        let rename = |entry: &str| match &name {
            Some(name) => copy::rebase(entry, &inside, name),
            None => entry.to_owned(),
        };
        let bytes = unpack::read(&mut reply, &target.dir, &rename)?;
        self.told(cx, bytes, &self.destination, quiet)
    }

    fn copy_in(&self, cx: &mut Context, local: &str, container: &str, path: &str, quiet: bool) -> Result<()> {
        let client = cx.client()?;
        let to = destination(&client, container, &rooted(path))?;
        if local == "-" {
            if !to.is_dir {
                let path = &to.path;
                return Err(Error::invalid(format!("destination \"{container}:{path}\" must be a directory")));
            }
            let mut stdin = std::io::stdin();
            return client.archive_put(container, &to.path, self.archive, &mut stdin);
        }
        let source = pack::Source::look(&absolute(local)?, self.follow_link)?;
        let target = copy::target(local, source.is_dir, &to)?;
        let (mut reading, writing) = std::io::pipe()?;
        let rename = target.rename.as_deref();
        let (sent, packed) = std::thread::scope(|scope| {
            let packer = scope.spawn(move || {
                let mut out = std::io::BufWriter::with_capacity(64 * 1024, writing);
                let bytes = pack::write(&source, rename, &mut out)?;
                out.flush()?;
                std::io::Result::Ok(bytes)
            });
            let sent = client.archive_put(container, &target.dir, self.archive, &mut reading);
            // The packer stops when nobody reads.
            drop(reading);
            (sent, packer.join())
        });
        sent?;
        let bytes = packed.map_err(|_| Error::system("packing did not finish"))??;
        let shown = format!("{container}:{path}");
        self.told(cx, bytes, &shown, quiet)
    }

    fn told(&self, cx: &mut Context, bytes: u64, to: &str, quiet: bool) -> Result<()> {
        if !quiet {
            let size = human::size3((bytes.div_ceil(512) * 512 + 1536) as f64);
            writeln!(cx.err, "Successfully copied {size} to {to}")?;
        }
        Ok(())
    }
}

/// What a local destination names once links are looked through, also when the last
/// one leads to nothing yet.
fn behind_links(mut local: String) -> String {
    // As many as the kernel follows.
    for _ in 0..40 {
        match std::fs::read_link(local.trim_end_matches('/')) {
            Ok(link) => local = path::with_end(&local, beside(local.trim_end_matches('/'), &link.to_string_lossy())),
            Err(_) => break,
        }
    }
    local
}

/// Where a link in the folder of `path` points to.
fn beside(path: &str, link: &str) -> String {
    if link.starts_with('/') {
        return link.to_owned();
    }
    let (dir, _) = copy::split(path);
    path::clean(&format!("{dir}/{link}"))
}

/// What stands at a path of the container; a link is looked through once.
fn destination(client: &Client, container: &str, path: &str) -> Result<Destination> {
    let mut to = Destination { path: path.to_owned(), ..Destination::default() };
    let mut stat = match client.archive_stat(container, path) {
        Ok(stat) => stat,
        // A container that is not there is told when the copy is sent.
        Err(_) => return Ok(to),
    };
    if stat.mode & SYMLINK != 0 {
        to.path = path::with_end(path, beside(path, &stat.link_target));
        match client.archive_stat(container, &to.path) {
            Ok(behind) => stat = behind,
            Err(_) => return Ok(to),
        }
    }
    if stat.mode & IRREGULAR != 0 {
        let text = format!("destination \"{container}:{path}\" must be a directory or a regular file");
        return Err(Error::invalid(text));
    }
    to.exists = true;
    to.is_dir = stat.mode & DIR != 0;
    Ok(to)
}

/// The folder that the destination lies in must be there.
fn check_output(local: &str) -> Result<()> {
    let path = Path::new(local.trim_end_matches('/'));
    let dir = output::parent(path);
    if !local.trim_end_matches('/').is_empty() && !dir.exists() {
        let text = format!(
            "invalid output path: directory {} does not exist",
            crate::util::units::quote(&dir.display().to_string())
        );
        return Err(Error::invalid(text));
    }
    Ok(())
}
