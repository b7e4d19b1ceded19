//! `docker build`.

mod calls;
mod context;
mod display;
mod keys;
mod listing;
mod session;

use crate::api::build::{Options, Output, SECRETS_HEADER, Secrets, Ulimit};
use crate::cli::context::Context;
use crate::cli::credentials;
use crate::cli::format::value::Value;
use crate::cli::tree::Verb;
use crate::error::{Context as _, Error, Result};
use crate::util::json;
use crate::util::order;
use argh::{ArgsInfo, FromArgs};
use base64::Engine as _;
use keys::Keys;
use session::{Agent, Session};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};

/// Build an image from a Dockerfile
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Build {
    /// extra line for the hosts file, as host:ip
    #[argh(option, arg_name = "list")]
    pub add_host: Vec<String>,
    /// variables for the build
    #[argh(option, arg_name = "list")]
    pub build_arg: Vec<String>,
    /// entitlements, as network.host or security.insecure
    #[argh(option, arg_name = "strings")]
    pub allow: Vec<String>,
    /// annotations for the image
    #[argh(option, arg_name = "list")]
    pub annotation: Vec<String>,
    /// further contexts, as name=path
    #[argh(option, arg_name = "list")]
    pub build_context: Vec<String>,
    /// images or folders to take cached steps from
    #[argh(option, arg_name = "strings")]
    pub cache_from: Vec<String>,
    /// where to put the cache of this build
    #[argh(option, arg_name = "strings")]
    pub cache_to: Vec<String>,
    /// what to do: build, check, outline or targets (default "build")
    #[argh(option, arg_name = "string")]
    pub call: Option<String>,
    /// check the Dockerfile and build nothing, same as --call=check
    #[argh(switch)]
    pub check: bool,
    /// cgroup under which the container gets its own
    #[argh(option, arg_name = "string")]
    pub cgroup_parent: Option<String>,
    /// compress the context with gzip (no effect here)
    #[argh(switch)]
    pub compress: bool,
    /// length of a CFS period in microseconds
    #[argh(option, arg_name = "int")]
    pub cpu_period: Option<i64>,
    /// CPU time per CFS period in microseconds
    #[argh(option, arg_name = "int")]
    pub cpu_quota: Option<i64>,
    /// CPU shares, relative to other containers
    #[argh(option, short = 'c', arg_name = "int")]
    pub cpu_shares: Option<i64>,
    /// CPUs it may run on (0-3, 0,1)
    #[argh(option, arg_name = "string")]
    pub cpuset_cpus: Option<String>,
    /// memory nodes it may use (0-3, 0,1)
    #[argh(option, arg_name = "string")]
    pub cpuset_mems: Option<String>,
    /// skip signature checks; there are none (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub disable_content_trust: bool,
    /// name of the Dockerfile (default "PATH/Dockerfile")
    #[argh(option, short = 'f', arg_name = "string")]
    pub file: Option<String>,
    /// remove intermediate containers also when it fails
    #[argh(switch)]
    pub force_rm: bool,
    /// file to write the image ID to
    #[argh(option, arg_name = "string")]
    pub iidfile: Option<String>,
    /// isolation technology
    #[argh(option, arg_name = "string")]
    pub isolation: Option<String>,
    /// labels for the image
    #[argh(option, arg_name = "list")]
    pub label: Vec<String>,
    /// same as --output=type=docker
    #[argh(switch)]
    pub load: bool,
    /// memory limit
    #[argh(option, short = 'm', arg_name = "bytes")]
    pub memory: Option<i64>,
    /// limit of memory and swap together; -1 for no limit on swap
    #[argh(option, arg_name = "bytes")]
    pub memory_swap: Option<i64>,
    /// file to write facts of the result to, as JSON
    #[argh(option, arg_name = "string")]
    pub metadata_file: Option<String>,
    /// network for RUN (default "default")
    #[argh(option, arg_name = "string")]
    pub network: Option<String>,
    /// take no step from the cache
    #[argh(switch)]
    pub no_cache: bool,
    /// stages that take no step from the cache
    #[argh(option, arg_name = "strings")]
    pub no_cache_filter: Vec<String>,
    /// where the result goes (type=local,dest=path)
    #[argh(option, short = 'o', arg_name = "list")]
    pub output: Vec<String>,
    /// platforms to build for; several give an index
    #[argh(option, arg_name = "strings")]
    pub platform: Vec<String>,
    /// way of showing progress (auto, plain, tty, quiet, rawjson) (default "auto")
    #[argh(option, arg_name = "string")]
    pub progress: Option<String>,
    /// provenance is not made; only false is accepted
    #[argh(option, arg_name = "string")]
    pub provenance: Option<String>,
    /// always look for a newer base image
    #[argh(switch)]
    pub pull: bool,
    /// same as --output=type=registry
    #[argh(switch)]
    pub push: bool,
    /// print nothing but the image ID
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// remove intermediate containers after success (default true)
    #[argh(option, arg_name = "bool", default = "true")]
    pub rm: bool,
    /// a bill of materials is not made; only false is accepted
    #[argh(option, arg_name = "string")]
    pub sbom: Option<String>,
    /// secret for the build (id=mysecret[,src=/local/secret])
    #[argh(option, arg_name = "list")]
    pub secret: Vec<String>,
    /// security options
    #[argh(option, arg_name = "strings")]
    pub security_opt: Vec<String>,
    /// size of /dev/shm
    #[argh(option, arg_name = "bytes")]
    pub shm_size: Option<i64>,
    /// agent socket or keys for the build (default|<id>[=<socket>|<key>[,<key>]])
    #[argh(option, arg_name = "list")]
    pub ssh: Vec<String>,
    /// make one layer of the new ones
    #[argh(switch)]
    pub squash: bool,
    /// name and tag as name:tag
    #[argh(option, short = 't', arg_name = "list")]
    pub tag: Vec<String>,
    /// stage to build
    #[argh(option, arg_name = "string")]
    pub target: Option<String>,
    /// resource limits (default [])
    #[argh(option, arg_name = "ulimit")]
    pub ulimit: Vec<String>,
    #[argh(positional)]
    pub context: String,
}

impl Verb for Build {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        for (flag, value) in [("provenance", &self.provenance), ("sbom", &self.sbom)] {
            if value.as_deref().is_some_and(|v| v != "false") {
                return Err(Error::not_implemented(format!(
                    "--{flag} is not supported: this builder makes no attestations"
                )));
            }
        }
        let mode = self.mode(cx)?;
        let call = self.call()?;
        let mut source = context::open(&self.context, self.file.as_deref())?;
        for (name, target) in pairs("build-context", &self.build_context)? {
            source.add_named(&name, &target)?;
        }
        let cache_from = self.cache_from.iter().map(|c| source.cache_folder(c)).collect::<Result<_>>()?;
        let mut options = self.options(&source)?;
        (options.cache_from, options.call) = (cache_from, call.0.to_owned());
        let (mut secrets, agents) = (secrets(&self.secret)?, agents(&self.ssh)?);
        secrets.ssh = agents.keys().cloned().collect();
        let client = cx.client()?;
        options.build_id = crate::util::id::random();
        options.kept = source.offer(&client, &options.build_id)?;
        let mut session = Session::new(&client, &options.build_id, agents, &mut options.outputs, &options.cache_to)?;
        let mut request = client.post("/build");
        for (key, value) in options.encode() {
            request = request.query(key, value);
        }
        if !self.security_opt.is_empty() {
            request = request.query("securityopt", json::to_string(&self.security_opt)?);
        }
        if !secrets.secrets.is_empty() || !secrets.ssh.is_empty() {
            let header = base64::engine::general_purpose::URL_SAFE.encode(json::to_vec(&secrets)?);
            request = request.header(SECRETS_HEADER, header);
        }
        if let Some(auths) = registry_config(cx)? {
            request = request.header("X-Registry-Config", auths);
        }
        let trouble = context::Trouble::default();
        let mut body = source.into_tar(&trouble)?;
        let sent = request.stream_body("application/x-tar", &mut *body).send();
        let reply = match trouble.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reason) => return Err(reason),
            None => sent?,
        };
        let outcome = display::show(cx, reply, mode, &mut session)?;
        session.finish()?;
        self.finish(cx, &outcome)
    }
}

impl Build {
    fn mode(&self, cx: &Context) -> Result<display::Mode> {
        if self.quiet {
            return Ok(display::Mode::Quiet);
        }
        match self.progress.as_deref().unwrap_or("auto") {
            "auto" if cx.err.is_terminal() => Ok(display::Mode::Terminal),
            "auto" | "plain" => Ok(display::Mode::Plain),
            "tty" => Ok(display::Mode::Terminal),
            "quiet" => Ok(display::Mode::Quiet),
            "rawjson" => Ok(display::Mode::Json),
            other => {
                Err(Error::invalid(format!("invalid progress mode {other:?}: auto, plain, tty, quiet or rawjson")))
            }
        }
    }

    /// What the daemon is to do instead of building, and whether it is shown as JSON.
    fn call(&self) -> Result<(&str, bool)> {
        let text = self.call.as_deref().unwrap_or(if self.check { "check" } else { "build" });
        let (call, format) = text.split_once(',').unwrap_or((text, ""));
        match (call, format) {
            ("build", "") => Ok(("", false)),
            ("check" | "lint", "") => Ok(("check", false)),
            ("outline" | "targets", "" | "format=text") => Ok((call, false)),
            ("outline" | "targets", "format=json") => Ok((call, true)),
            _ => Err(Error::not_implemented(format!(
                "--call={text} is not supported: build, check, outline and targets are, and the last two with ,format=json"
            ))),
        }
    }

    /// The Dockerfile as the caller would name it.
    fn shown_file(&self, name: &str) -> String {
        match (self.file.as_deref(), self.context.as_str()) {
            (Some("-"), _) => "stdin".into(),
            (Some(file), _) => file.to_owned(),
            (None, "." | "-") => name.to_owned(),
            (None, context) if context::is_remote(context) => name.to_owned(),
            (None, context) => std::path::Path::new(context).join(name).display().to_string(),
        }
    }

    fn options(&self, source: &context::Source) -> Result<Options> {
        let mut outputs: Vec<Output> = self.output.iter().map(|o| output(o)).collect::<Result<_>>()?;
        if self.load {
            outputs.push(output("type=docker")?);
        }
        if self.push {
            match outputs.iter_mut().find(|o| o.r#type == "image") {
                Some(image) => drop(image.attrs.insert("push".into(), "true".into())),
                None => outputs.push(output("type=registry")?),
            }
        }
        Ok(Options {
            tags: self.tag.clone(),
            dockerfile: source.dockerfile.clone(),
            remote: source.remote.clone().unwrap_or_default(),
            target: self.target.clone().unwrap_or_default(),
            platform: list(&self.platform).join(","),
            quiet: self.quiet,
            no_cache: self.no_cache,
            no_cache_filter: list(&self.no_cache_filter),
            pull: self.pull,
            squash: self.squash,
            keep_intermediate: !self.rm && !self.force_rm,
            network_mode: self.network.clone().unwrap_or_default(),
            extra_hosts: self.add_host.iter().map(|h| h.replacen('=', ":", 1)).collect(),
            build_args: self.build_args(),
            labels: order::map(self.label.iter().map(|l| split(l))),
            annotations: order::map(pairs("annotation", &self.annotation)?),
            allow: list(&self.allow),
            cache_from: self.cache_from.clone(),
            cache_to: self.cache_to.clone(),
            outputs,
            contexts: source.named.clone(),
            shm_size: self.shm_size.unwrap_or(0),
            memory: self.memory.unwrap_or(0),
            memory_swap: self.memory_swap.unwrap_or(0),
            cpu_shares: self.cpu_shares.unwrap_or(0),
            cpu_period: self.cpu_period.unwrap_or(0),
            cpu_quota: self.cpu_quota.unwrap_or(0),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            cgroup_parent: self.cgroup_parent.clone().unwrap_or_default(),
            ulimits: self.ulimit.iter().map(|u| ulimit(u)).collect::<Result<_>>()?,
            build_id: String::new(),
            call: String::new(),
            kept: String::new(),
            structured: true,
        })
    }

    /// `--build-arg K` takes the value of our own environment; the proxies of
    /// ours are not handed on unasked.
    fn build_args(&self) -> std::collections::BTreeMap<String, Option<String>> {
        let one = |arg: &String| match arg.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (arg.clone(), std::env::var(arg).ok()),
        };
        order::map(self.build_arg.iter().map(one))
    }

    fn finish(&self, cx: &mut Context, outcome: &display::Outcome) -> Result<ExitCode> {
        if let Some((findings, strict)) = &outcome.findings {
            return calls::findings(cx, findings, *strict, &|name| self.shown_file(name));
        }
        if let Some((call, answer)) = &outcome.answer {
            return calls::answer(cx, call, answer, self.call()?.1);
        }
        if let Some(path) = &self.iidfile {
            std::fs::write(path, &outcome.id).with_context(|| format!("write {path}"))?;
        }
        if let Some(path) = &self.metadata_file {
            let text = json::to_vec_pretty(&outcome.metadata)?;
            std::fs::write(path, text).with_context(|| format!("write {path}"))?;
        }
        if self.quiet && !outcome.id.is_empty() {
            writeln!(cx.out, "{}", outcome.id)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Everything that `docker login` knows, for the base images of private registries.
fn registry_config(cx: &mut Context) -> Result<Option<String>> {
    let all = match credentials::all(cx.config()) {
        Ok(all) => all,
        // A public base image needs none.
        Err(e) => {
            writeln!(cx.err, "WARNING: {e}")?;
            return Ok(None);
        }
    };
    if all.is_empty() {
        return Ok(None);
    }
    let map = Value::map(all.iter().map(|c| (c.server.as_str().into(), c.to_value())).collect());
    Ok(Some(base64::engine::general_purpose::URL_SAFE.encode(map.to_json(false))))
}

fn split(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

fn pairs(flag: &str, values: &[String]) -> Result<Vec<(String, String)>> {
    let pair = |v: &String| match v.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Error::invalid(format!("invalid value {v:?} for --{flag}: expected key=value"))),
    };
    values.iter().map(pair).collect()
}

fn list(values: &[String]) -> Vec<String> {
    values.iter().flat_map(|v| v.split(',')).map(str::to_owned).collect()
}

/// `type=local,dest=out`, or a bare folder; `-` is a tar on stdout.
fn output(text: &str) -> Result<Output> {
    if text == "-" {
        return Ok(Output { r#type: "tar".into(), attrs: [("dest".to_owned(), "-".to_owned())].into() });
    }
    if !text.contains('=') {
        return Ok(Output { r#type: "local".into(), attrs: [("dest".to_owned(), text.to_owned())].into() });
    }
    let mut attrs: std::collections::BTreeMap<_, _> = order::map(text.split(',').map(split));
    let kind = attrs.remove("type").ok_or_else(|| Error::invalid(format!("type is required for output: {text:?}")))?;
    Ok(Output { r#type: kind, attrs })
}

fn ulimit(text: &str) -> Result<Ulimit> {
    let bad = || Error::invalid(format!("invalid ulimit argument: {text}"));
    let (name, limits) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |s: &str| s.parse().map_err(|_| bad());
    Ok(Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? })
}

/// `id=x,src=file`, `id=x,env=NAME`; without a source the environment, then a file of that name.
fn secrets(secrets: &[String]) -> Result<Secrets> {
    let mut found = Secrets::default();
    for text in secrets {
        let attrs: std::collections::BTreeMap<_, _> = order::map(text.split(',').map(split));
        let get = |names: &[&str]| names.iter().find_map(|n| attrs.get(*n)).cloned();
        let source = get(&["src", "source"]);
        let id = get(&["id"])
            .or_else(|| source.clone())
            .ok_or_else(|| Error::invalid(format!("secret needs an id: {text:?}")))?;
        let variable =
            get(&["env"]).or_else(|| (source.is_none() && std::env::var_os(&id).is_some()).then(|| id.clone()));
        let value = match (variable, source) {
            (Some(name), _) => std::env::var(&name).unwrap_or_default().into_bytes(),
            (None, source) => {
                let path = source.unwrap_or_else(|| id.clone());
                std::fs::read(&path).with_context(|| format!("read secret {id} from {path}"))?
            }
        };
        found.secrets.insert(id, base64::engine::general_purpose::STANDARD.encode(value));
    }
    Ok(found)
}

/// `default`, `id`, `id=socket`, `id=key,key`: what answers for each id.
fn agents(ssh: &[String]) -> Result<BTreeMap<String, Agent>> {
    let mut found = BTreeMap::new();
    for text in ssh {
        let (id, places) = split(text);
        let own;
        let places: Vec<&str> = match places.as_str() {
            "" => {
                own = std::env::var("SSH_AUTH_SOCK")
                    .map_err(|_| Error::invalid("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set"))?;
                vec![&own]
            }
            places => places.split(',').collect(),
        };
        let is_socket = |path: &str| -> Result<bool> {
            let meta = std::fs::metadata(path).with_context(|| format!("ssh agent {id}: {path}"))?;
            Ok(meta.file_type().is_socket())
        };
        let sockets = places.iter().map(|p| is_socket(p)).collect::<Result<Vec<_>>>()?;
        let agent = match (places.as_slice(), sockets.contains(&true)) {
            ([socket], true) => Agent::Socket(socket.into()),
            (_, true) => return Err(Error::invalid(format!("ssh agent {id}: only a single socket is allowed"))),
            (keys, false) => Agent::Keys(Arc::new(Keys::read(keys)?)),
        };
        found.insert(id, agent);
    }
    Ok(found)
}
