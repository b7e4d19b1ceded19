//! `docker create`, and what `run` and it do alike: a container made from their flags,
//! its image fetched where it is missing.

use super::run::Run;
use crate::api::container::{BindOptions, CreateRequest, Mount};
use crate::cli::context::Context;
use crate::cli::format::value::Value;
use crate::cli::image::pull::{self, Show};
use crate::cli::{exit, flags};
use crate::error::{Context as _, Error, Kind, Result, errno_text};
use crate::image::manifest::Platform;
use crate::image::reference::{AnyReference, Reference};
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// The words and the status of a container that could not be started.
pub fn refuse(cx: &mut Context, verb: &str, e: &Error) -> Result<ExitCode> {
    cx.out.flush()?;
    let message = e.message().trim_end();
    write!(cx.err, "docker: {message}\n\nRun 'docker {verb} --help' for more information\n")?;
    Ok(ExitCode::from(exit::of_start(message)))
}

/// `docker create`: the same flags without those of running.
pub fn create(args: &[&str], cx: &mut Context) -> Result<ExitCode> {
    let run = crate::cli::tree::fill::<Run>(args)?;
    let checked = check_pull(&run).and_then(|()| flags::request(&run));
    let request = match checked {
        Ok(request) => request,
        Err(e) => {
            let _ = refuse(cx, "create", &e)?;
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    let id = new_container(&run, request, cx)?;
    writeln!(cx.out, "{id}")?;
    Ok(ExitCode::SUCCESS)
}

pub fn check_pull(run: &Run) -> Result<()> {
    match run.pull.as_deref().unwrap_or("missing") {
        "always" | "missing" | "never" | "" => Ok(()),
        other => Err(Error::invalid(format!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ))),
    }
}

/// Makes the container, with its image when that is missing, and gives its id.
pub fn new_container(run: &Run, mut request: CreateRequest, cx: &mut Context) -> Result<String> {
    let platform = run.platform.clone().or_else(pull::default_platform).unwrap_or_default();
    if !platform.is_empty() {
        Platform::parse(&platform).map_err(|e| e.context("error parsing specified platform"))?;
    }
    let dns = request.host_config.iter().flat_map(|h| h.dns.iter().flatten());
    if let Some(local) = dns.into_iter().find(|d| d.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())) {
        writeln!(cx.err, "WARNING: Localhost DNS ({local}) may fail in containers.")?;
    }
    let mut cidfile = CidFile::open(run.cidfile.as_deref())?;
    let named = match AnyReference::parse(&run.image)? {
        AnyReference::Named(name) => Some(name.or_latest()),
        _ => None,
    };
    let fetch = |cx: &mut Context| match &named {
        Some(name) => {
            let show = if run.quiet { Show::Nothing } else { Show::Err };
            pull::pull(cx, name, (!platform.is_empty()).then_some(platform.as_str()), show)
        }
        None => Ok(()),
    };
    let policy = run.pull.as_deref().unwrap_or("missing");
    proxies(cx, &mut request.config.env)?;
    if run.use_api_socket {
        api_socket(cx, &mut request)?;
    }
    if policy == "always" {
        fetch(cx)?;
    }
    let client = cx.client()?;
    let name = run.name.clone().unwrap_or_default();
    let response = match client.container_create(&name, &platform, &request) {
        Err(e) if e.kind() == Kind::NotFound && named.is_some() && matches!(policy, "missing" | "") => {
            if !run.quiet {
                let familiar = named.as_ref().map(Reference::familiar).unwrap_or_default();
                writeln!(cx.err, "Unable to find image '{familiar}' locally")?;
            }
            fetch(cx)?;
            client.container_create(&name, &platform, &request)?
        }
        other => other?,
    };
    for warning in &response.warnings {
        writeln!(cx.err, "WARNING: {warning}")?;
    }
    cidfile.write(&response.id)?;
    Ok(response.id)
}

/// Adds the proxies that the configuration has for this daemon to the environment,
/// in upper and lower case, where the command line does not set them.
fn proxies(cx: &Context, env: &mut Option<Vec<String>>) -> Result<()> {
    let Some(all) = cx.config().get("proxies") else { return Ok(()) };
    let host = cx.client()?.host().to_owned();
    let Some(one) = all.get(&host).or_else(|| all.get("default")) else { return Ok(()) };
    let names = [
        ("HTTP_PROXY", "httpProxy"),
        ("HTTPS_PROXY", "httpsProxy"),
        ("NO_PROXY", "noProxy"),
        ("FTP_PROXY", "ftpProxy"),
        ("ALL_PROXY", "allProxy"),
    ];
    for (variable, key) in names {
        let Some(value) = one.get(key).and_then(Value::as_str).filter(|v| !v.is_empty()) else { continue };
        let list = env.get_or_insert_default();
        for name in [variable.to_owned(), variable.to_ascii_lowercase()] {
            if !list.iter().any(|e| e.split('=').next() == Some(&name)) {
                list.push(format!("{name}={value}"));
            }
        }
    }
    Ok(())
}

/// Binds the socket of the daemon that is asked into the container.
fn api_socket(cx: &Context, request: &mut CreateRequest) -> Result<()> {
    let client = cx.client()?;
    let Some(path) = client.host().strip_prefix("unix://") else {
        let host = client.host();
        return Err(Error::invalid(format!(
            "flag --use-api-socket can only be used with unix sockets: docker endpoint {host} incompatible"
        )));
    };
    let mount = Mount {
        kind: "bind".into(),
        source: path.to_owned(),
        target: "/var/run/docker.sock".into(),
        bind_options: Some(BindOptions::default()),
        ..Mount::default()
    };
    if let Some(host) = &mut request.host_config {
        host.mounts.get_or_insert_default().push(mount);
    }
    Ok(())
}

/// The file that gets the container's id; gone again if there is none to write.
struct CidFile {
    path: Option<PathBuf>,
    written: bool,
}

impl CidFile {
    fn open(path: Option<&str>) -> Result<Self> {
        let Some(path) = path.filter(|p| !p.is_empty()).map(PathBuf::from) else {
            return Ok(Self { path: None, written: false });
        };
        if path.exists() {
            let path = path.display();
            let text = format!("container ID file found, make sure the other container isn't running or delete {path}");
            return Err(Error::invalid(text));
        }
        let file = std::fs::File::create_new(&path);
        file.map_err(|e| {
            let why = errno_text(&e);
            Error::system(format!("failed to create the container ID file: open {}: {why}", path.display()))
        })?;
        Ok(Self { path: Some(path), written: false })
    }

    fn write(&mut self, id: &str) -> Result<()> {
        if let Some(path) = &self.path {
            std::fs::write(path, id).context("failed to write the container ID to the file")?;
            self.written = true;
        }
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if let (Some(path), false) = (&self.path, self.written) {
            let _ = std::fs::remove_file(path);
        }
    }
}
