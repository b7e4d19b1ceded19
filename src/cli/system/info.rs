//! `docker info`.

use crate::api::system::Info as Wire;
use crate::cli::context::Context;
use crate::cli::credentials;
use crate::cli::format::value::Value;
use crate::cli::format::{human, object_template, print_object, shape};
use crate::cli::inspect::BAD_TEMPLATE;
use crate::cli::plugin::{self, Plugin};
use crate::cli::system::version::about;
use crate::cli::tree::Verb;
use crate::error::Result;
use crate::util::json;
use argh::{ArgsInfo, FromArgs};
use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;
use std::rc::Rc;

/// Show what the daemon and this machine are like
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Info {
    /// output as "json", or by a Go template
    #[argh(option, short = 'f', arg_name = "string")]
    pub format: Option<String>,
}

fn client_info(debug: bool, context: &str, plugins: &[Plugin]) -> Value {
    let a = about();
    let api = crate::api::version::MAX.to_string();
    let text = |name: &str, value: &str| (Rc::from(name), Value::str(value));
    Value::map(vec![
        (Rc::from("Debug"), Value::Bool(debug)),
        text("Version", a.version),
        text("DefaultAPIVersion", &api),
        text("GitCommit", a.commit),
        text("GoVersion", a.toolchain),
        text("Os", a.os),
        text("Arch", a.arch),
        text("BuildTime", &a.built),
        text("Context", context),
        (Rc::from("Plugins"), Value::list(plugins.iter().map(plugin_value).collect())),
        (Rc::from("Warnings"), Value::NilList),
    ])
}

fn plugin_value(plugin: &Plugin) -> Value {
    let text = |name: &str, value: &str| (Rc::from(name), Value::str(value));
    let m = &plugin.metadata;
    let mut fields = vec![
        text("SchemaVersion", &m.schema_version),
        text("Vendor", &m.vendor),
        text("Version", &m.version),
        text("ShortDescription", &m.short_description),
        text("URL", &m.url),
        text("Name", &plugin.name),
        text("Path", &plugin.path.display().to_string()),
        text("Err", plugin.error.as_deref().unwrap_or_default()),
    ];
    fields.retain(|(_, value)| value.truth());
    Value::map(fields)
}

/// The plugins as `info` shows them to people, and its warnings of those that cannot
/// be used.
fn plugin_lines(plugins: &[Plugin]) -> (String, String) {
    let (mut out, mut warnings) = (String::new(), String::new());
    let (usable, broken): (Vec<_>, Vec<_>) = plugins.iter().partition(|p| p.error.is_none());
    if !usable.is_empty() {
        out.push_str(" Plugins:\n");
    }
    for plugin in usable {
        let m = &plugin.metadata;
        let _ = writeln!(out, "  {}: {} ({})", plugin.name, m.short_description, m.vendor);
        if !m.version.is_empty() {
            let _ = writeln!(out, "    Version:  {}", m.version);
        }
        let _ = writeln!(out, "    Path:     {}", plugin.path.display());
    }
    for plugin in broken {
        let why = plugin.error.as_deref().unwrap_or_default();
        let _ = writeln!(warnings, "WARNING: Plugin \"{}\" is not valid: {why}", plugin.path.display());
    }
    (out, warnings)
}

/// One struct of the daemon's fields and the client's.
fn merged(server: Value, client: Value) -> Value {
    let mut fields = match server {
        Value::Map(m) => m.to_vec(),
        _ => Vec::new(),
    };
    fields.push((Rc::from("ClientInfo"), client));
    shape::object(Value::map(fields)).into_struct("system.dockerInfo")
}

/// The part below `Server:`.
fn server(info: &Wire, user: Option<&str>) -> String {
    let mut out = String::new();
    counts(&mut out, info);
    drivers(&mut out, info);
    let swarm = &info.swarm;
    line(&mut out, "Swarm", if swarm.local_node_state.is_empty() { "inactive" } else { &swarm.local_node_state });
    let runtimes: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
    line(&mut out, "Runtimes", &runtimes.join(" "));
    line(&mut out, "Default Runtime", &info.default_runtime);
    line(&mut out, "Init Binary", &info.init_binary);
    line(&mut out, "containerd version", &info.containerd_commit.id);
    line(&mut out, "runc version", &info.runc_commit.id);
    line(&mut out, "init version", &info.init_commit.id);
    security(&mut out, info);
    machine(&mut out, info);
    for (name, value) in
        [("HTTP Proxy", &info.http_proxy), ("HTTPS Proxy", &info.https_proxy), ("No Proxy", &info.no_proxy)]
    {
        filled(&mut out, name, value);
    }
    filled(&mut out, "Username", user.unwrap_or_default());
    block(&mut out, "Labels", info.labels.iter());
    line(&mut out, "Experimental", &info.experimental_build.to_string());
    if let Some(registry) = &info.registry_config {
        let insecure = registry.index_configs.values().filter(|i| !i.secure).map(|i| &i.name);
        block(&mut out, "Insecure Registries", insecure.chain(&registry.insecure_registry_cidrs));
        block(&mut out, "Registry Mirrors", registry.mirrors.iter().flatten());
    }
    line(&mut out, "Live Restore Enabled", &info.live_restore_enabled.to_string());
    filled(&mut out, "Product License", &info.product_license);
    block(
        &mut out,
        "Default Address Pools",
        info.default_address_pools.iter().map(|p| format!("Base: {}, Size: {}", p.base, p.size)),
    );
    if let Some(firewall) = &info.firewall_backend {
        line(&mut out, "Firewall Backend", &firewall.driver);
        for [name, value] in &firewall.info {
            let _ = writeln!(out, "  {name}: {value}");
        }
    }
    out.push('\n');
    out
}

fn line(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, " {name}: {value}");
}
/// Left out when there is nothing to say.
fn filled(out: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        line(out, name, value);
    }
}
fn block(out: &mut String, name: &str, values: impl Iterator<Item = impl std::fmt::Display>) {
    let mut values = values.peekable();
    if values.peek().is_some() {
        let _ = writeln!(out, " {name}:");
        for value in values {
            let _ = writeln!(out, "  {value}");
        }
    }
}

fn counts(out: &mut String, info: &Wire) {
    let _ = write!(
        out,
        " Containers: {}\n  Running: {}\n  Paused: {}\n  Stopped: {}\n Images: {}\n",
        info.containers, info.containers_running, info.containers_paused, info.containers_stopped, info.images
    );
}

fn drivers(out: &mut String, info: &Wire) {
    filled(out, "Server Version", &info.server_version);
    filled(out, "Storage Driver", &info.driver);
    for [name, value] in info.driver_status.iter().chain(info.system_status.iter().flatten()) {
        let _ = writeln!(out, "  {name}: {value}");
    }
    filled(out, "Logging Driver", &info.logging_driver);
    filled(out, "Cgroup Driver", &info.cgroup_driver);
    filled(out, "Cgroup Version", &info.cgroup_version);
    let plugins = &info.plugins;
    let _ =
        write!(out, " Plugins:\n  Volume: {}\n  Network: {}\n", plugins.volume.join(" "), plugins.network.join(" "));
    if let Some(authorization) = plugins.authorization.as_ref().filter(|a| !a.is_empty()) {
        let _ = writeln!(out, "  Authorization: {}", authorization.join(" "));
    }
    let _ = writeln!(out, "  Log: {}", plugins.log.join(" "));
    block(out, "CDI spec directories", info.cdi_spec_dirs.iter());
}

/// `name=seccomp,profile=builtin` as a name with its properties below.
fn security(out: &mut String, info: &Wire) {
    if info.security_options.is_empty() {
        return;
    }
    out.push_str(" Security Options:\n");
    for option in &info.security_options {
        let pairs: Vec<(&str, &str)> = option.split(',').filter_map(|p| p.split_once('=')).collect();
        if let Some((_, name)) = pairs.iter().find(|(k, _)| *k == "name") {
            let _ = writeln!(out, "  {name}");
        }
        for (key, value) in pairs.iter().filter(|(k, _)| *k != "name") {
            let key = if *key == "profile" { "Profile" } else { key };
            let _ = writeln!(out, "   {key}: {value}");
        }
    }
}

fn machine(out: &mut String, info: &Wire) {
    filled(out, "Kernel Version", &info.kernel_version);
    filled(out, "Operating System", &info.operating_system);
    filled(out, "OSType", &info.os_type);
    filled(out, "Architecture", &info.architecture);
    line(out, "CPUs", &info.ncpu.to_string());
    line(out, "Total Memory", &human::binary_size(info.mem_total as f64));
    filled(out, "Name", &info.name);
    filled(out, "ID", &info.id);
    line(out, "Docker Root Dir", &info.docker_root_dir);
    line(out, "Debug Mode", &info.debug.to_string());
    if info.debug {
        let _ = writeln!(out, "  File Descriptors: {}", info.n_fd);
        let _ = writeln!(out, "  Goroutines: {}", info.n_goroutines);
        let _ = writeln!(out, "  System Time: {}", info.system_time);
        let _ = writeln!(out, "  EventsListeners: {}", info.n_events_listener);
    }
}

impl Verb for Info {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let template = match object_template(self.format.as_deref().unwrap_or_default(), "") {
            Ok(template) => template,
            Err(message) => {
                writeln!(cx.err, "{message}")?;
                return Ok(ExitCode::from(BAD_TEMPLATE));
            }
        };
        let context = crate::cli::host::context_name(cx)?;
        // Each plugin is a program to run: only where it is going to be shown.
        let format = self.format.as_deref().unwrap_or_default();
        let shown = matches!(format, "" | "json") || format.contains("ClientInfo") || format.contains("json .}}");
        let plugins = if shown { plugin::list(cx) } else { Vec::new() };
        let (bytes, failure) = match cx.client()?.get("/info").bytes() {
            Ok(bytes) => (Some(bytes), None),
            Err(e) => (None, Some(e)),
        };
        if let Some(template) = template {
            let server = match &bytes {
                Some(bytes) => json::from_slice(bytes)?,
                None => Value::from_serialize(&Wire::default())?,
            };
            let all = merged(server, client_info(cx.globals.debug, &context, &plugins));
            print_object(&mut cx.out, &template, &all)?;
        } else {
            let about = about();
            let debug = cx.globals.debug;
            let (plugins, warnings) = plugin_lines(&plugins);
            write!(
                cx.out,
                "Client:\n Version:    {}\n Context:    {context}\n Debug Mode: {debug}\n{plugins}",
                about.version
            )?;
            cx.out.flush()?;
            write!(cx.err, "{warnings}")?;
            write!(cx.out, "\nServer:\n")?;
            if let Some(bytes) = &bytes {
                let info: Wire = crate::api::decode::from_slice(bytes)?;
                let user = credentials::get(cx.config(), "docker.io").ok().flatten().map(|c| c.username);
                let text = server(&info, user.as_deref());
                cx.out.write_all(text.as_bytes())?;
                cx.out.flush()?;
                for warning in info.warnings.unwrap_or_default() {
                    writeln!(cx.err, "{warning}")?;
                }
            }
        }
        match failure {
            Some(e) => Err(e),
            None => Ok(ExitCode::SUCCESS),
        }
    }
}
