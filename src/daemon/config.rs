//! The daemon's configuration: flags and daemon.json put together by dockerd's
//! rules, defaults, checks. Main thread, before anything else exists; again on
//! SIGHUP.
//!
//! Invariant: an option given in both places is an error, never a merge (only
//! runtimes may be), and so is a key that nobody knows.

use super::flags::Flags;
use super::host::{self, Host};
use super::options::{self, Kind, OPTIONS, Tier};
use super::places::Places;
use super::value;
use crate::engine::container::keep_id;
use crate::error::{Error, Result, errno_text};
use crate::util::argv::{self, Line, Syntax};
use crate::util::json;
use crate::util::order;
use argh::ArgsInfo;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, Clone)]
pub struct Config {
    values: BTreeMap<&'static str, Value>,
    pub places: Places,
    pub file: PathBuf,
    /// What the command line said, kept for reloads.
    flags: BTreeMap<&'static str, Value>,
    explicit_file: bool,
    pub validate: bool,
}

/// Reads the line as pflag does.
pub fn line(args: &[String], default_socket: &str) -> Result<Line, String> {
    let info = Flags::get_args_info();
    let syntax = Syntax { flags: info.flags, without: &[], aliases: &[], options_first: false, check };
    let line = argv::parse(&syntax, args)?;
    // The check above cannot know the default path; the grammar is the same.
    for (name, text) in &line.options {
        if name == "--host" {
            host::parse(text, default_socket)?;
        }
    }
    Ok(line)
}

fn check(flag: &str, text: &str) -> Result<(), String> {
    match flag {
        "--host" => host::parse(text, "/").map(drop),
        "--dns" => match text.parse::<std::net::IpAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("invalid string being converted to IP address: {text}")),
        },
        "--ip" | "--default-gateway" | "--default-gateway-v6" => match text.parse::<std::net::IpAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("failed to parse IP: {text:?}")),
        },
        "--label" if !text.contains('=') || text.starts_with('=') => Err(format!("bad attribute format: {text}")),
        "--registry-mirror" => mirror(text),
        "--node-generic-resource" if !text.contains('=') => {
            Err(format!("invalid node-generic-resource format `{text}` expected `name=value`"))
        }
        _ => match options::by_flag(flag) {
            Some(option) => value::add(option.kind, None, text).map(drop),
            None => Ok(()),
        },
    }
}

fn mirror(text: &str) -> Result<(), String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!(
            "invalid mirror: no scheme specified for {text:?}: must use either 'https://' or 'http://'"
        ));
    };
    if scheme != "http" && scheme != "https" {
        return Err(format!(
            "invalid mirror: unsupported scheme {scheme:?} in {text:?}: must use either 'https://' or 'http://'"
        ));
    }
    if rest.contains(['?', '#']) {
        return Err(format!("invalid mirror: {text:?} must not have a query or fragment"));
    }
    Ok(())
}

/// The values of a daemon.json, each of its option's kind.
pub fn document(bytes: &[u8]) -> Result<BTreeMap<&'static str, Value>, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(BTreeMap::new());
    }
    let document: Value = json::from_slice(bytes).map_err(|e| format!("invalid JSON: {e}"))?;
    let Value::Object(map) = document else {
        return Err("invalid JSON: json: cannot unmarshal array into Go value of type map[string]interface {}".into());
    };
    let mut pairs: Vec<(String, Value)> = Vec::new();
    for (key, value) in map {
        match value {
            Value::Object(inner) if key == "proxies" => {
                pairs.extend(inner.into_iter().map(|(k, v)| (format!("proxies.{k}"), v)));
            }
            Value::Object(inner) if inner.is_empty() && options::by_key(&key).is_none() => {}
            Value::Null => {}
            value => pairs.push((key, value)),
        }
    }
    let known = |key: &str| OPTIONS.iter().any(|o| o.key == key);
    let unknown: Vec<&str> =
        pairs.iter().map(|(k, _)| k.as_str()).filter(|k| !known(k)).map(|k| k.trim_start_matches("proxies.")).collect();
    if !unknown.is_empty() {
        return Err(format!("the following directives don't match any configuration option: {}", unknown.join(", ")));
    }
    let mut values = BTreeMap::new();
    for (key, raw) in pairs {
        let Some(option) = options::by_key(&key) else { continue };
        values.insert(option.key, value::check(option.kind, &key, raw)?);
    }
    Ok(values)
}

impl Config {
    pub fn load(line: &Line, places: Places) -> Result<Self> {
        let mut flags: BTreeMap<&'static str, Value> = BTreeMap::new();
        for (name, text) in &line.options {
            if let Some(option) = options::by_flag(name) {
                let before = flags.remove(option.key);
                flags.insert(option.key, value::add(option.kind, before, text).map_err(Error::invalid)?);
            }
        }
        let explicit = line.last("--config-file").map(PathBuf::from);
        let mut config = Self {
            values: BTreeMap::new(),
            file: explicit.clone().unwrap_or_else(|| places.config_file()),
            explicit_file: explicit.is_some(),
            places,
            flags,
            validate: line.last("--validate") == Some("true"),
        };
        config.read()?;
        Ok(config)
    }

    /// Reads the file again and replaces everything, or nothing.
    pub fn reread(&self) -> Result<Self> {
        let mut fresh = self.clone();
        fresh.read()?;
        Ok(fresh)
    }

    fn read(&mut self) -> Result<()> {
        let in_file = |why: String| {
            Error::invalid(format!("unable to configure the Docker daemon with file {}: {why}", self.file.display()))
        };
        let mut values = match std::fs::read(&self.file) {
            Ok(bytes) => self.parse_file(&bytes).map_err(in_file)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !self.explicit_file => BTreeMap::new(),
            Err(e) => return Err(in_file(format!("open {}: {}", self.file.display(), errno_text(&e)))),
        };
        for (key, flag) in &self.flags {
            match (values.get_mut(key), flag) {
                // The one option that may stand in both.
                (Some(Value::Object(map)), Value::Object(more)) => map.extend(more.clone()),
                _ => {
                    values.insert(key, flag.clone());
                }
            }
        }
        if let Some(old) = values.remove("host-gateway-ip") {
            values.entry("host-gateway-ips").or_insert(Value::Array(vec![old]));
        }
        self.values = values;
        self.judge()
    }

    fn parse_file(&self, bytes: &[u8]) -> Result<BTreeMap<&'static str, Value>, String> {
        let values = document(bytes)?;
        let mut conflicts: Vec<(&str, String)> = Vec::new();
        for (key, checked) in &values {
            let Some(option) = options::by_key(key) else { continue };
            if let Some(flag) = self.flags.get(option.key).filter(|_| option.kind != Kind::Runtimes) {
                let name = key.trim_start_matches("proxies.");
                conflicts.push((
                    option.flag,
                    format!("{name}: (from flag: {}, from file: {})", value::go(flag), value::go(checked)),
                ));
            }
        }
        order::sort(&mut conflicts);
        if !conflicts.is_empty() {
            let list: Vec<String> = conflicts.into_iter().map(|(_, text)| text).collect();
            return Err(format!(
                "the following directives are specified both as a flag and in the configuration file: {}",
                list.join(", ")
            ));
        }
        Ok(values)
    }

    /// What is wrong with the values themselves, in dockerd's words.
    fn judge(&self) -> Result<()> {
        let bad = |text: String| Err(Error::invalid(text));
        let level = self.text("log-level", "info");
        if !matches!(level, "debug" | "info" | "warn" | "warning" | "error" | "fatal" | "panic" | "trace") {
            return bad(format!("invalid logging level: {level}"));
        }
        let format = self.text("log-format", "text");
        if !matches!(format, "text" | "json" | "") {
            return bad(format!("invalid log format: {format}"));
        }
        self.labels()?;
        for (key, what) in [
            ("mtu", "default MTU"),
            ("max-concurrent-downloads", "max concurrent downloads"),
            ("max-concurrent-uploads", "max concurrent uploads"),
            ("max-download-attempts", "max download attempts"),
            ("default-stop-timeout", "default stop timeout"),
        ] {
            let n = self.int(key, 0);
            if n < 0 {
                return bad(format!("invalid {what}: {n}"));
            }
        }
        for dns in self.list("dns") {
            if dns.parse::<std::net::IpAddr>().is_err() {
                return bad(format!("invalid DNS address: {dns:?}: {dns} is not an ip address"));
            }
        }
        for mirror_url in self.list("registry-mirrors") {
            mirror(&mirror_url).or_else(bad)?;
        }
        let ipc = self.text("default-ipc-mode", "private");
        if !matches!(ipc, "private" | "shareable") {
            return bad(format!("default IPC mode setting ({ipc}) is invalid; use \"shareable\" or \"private\""));
        }
        let cgroupns = self.text("default-cgroupns-mode", "private");
        if !matches!(cgroupns, "private" | "host") {
            return bad(format!("invalid default cgroup namespace ({cgroupns}): use \"host\" or \"private\""));
        }
        let userns = keep_id::parse(self.text("default-userns-mode", ""));
        userns.map(drop).or_else(|e| bad(e.message().to_owned()))?;
        for option in self.list("exec-opts") {
            let why = match option.split_once('=') {
                Some(("native.cgroupdriver", "cgroupfs" | "systemd" | "none")) => continue,
                Some(("native.cgroupdriver", _)) => "unknown cgroup driver".to_owned(),
                Some((name, _)) => format!("unknown option: '{name}'"),
                None => "invalid format".to_owned(),
            };
            return bad(format!("invalid exec-opt ({option}): {why}"));
        }
        match self.text("storage-driver", "") {
            "" | "overlay2" | "overlay" | "fuse-overlayfs" | "vfs" => {}
            other => return bad(format!("driver not supported: {other}: choose overlay2, fuse-overlayfs or vfs")),
        }
        let version = self.text("min-api-version", "");
        if !version.is_empty() {
            super::minimum_version(version)?;
        }
        self.refused()?;
        self.hosts().map(drop)
    }

    fn labels(&self) -> Result<()> {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for label in self.list("labels") {
            let Some((key, value)) = label.split_once('=').filter(|(k, _)| !k.is_empty()) else {
                return Err(Error::invalid(format!("bad attribute format: {label}")));
            };
            if let Some(other) = seen.insert(key.to_owned(), value.to_owned()).filter(|other| other != value) {
                return Err(Error::invalid(format!("conflict labels for {label} and {key}={other}")));
            }
        }
        Ok(())
    }

    fn refused(&self) -> Result<()> {
        for option in OPTIONS.iter().filter(|o| o.tier == Tier::Refused) {
            let given = match self.values.get(option.key) {
                None | Some(Value::Null) => false,
                Some(Value::String(s)) => !s.is_empty(),
                Some(Value::Number(n)) => n.as_i64() != Some(0),
                Some(Value::Array(list)) => !list.is_empty(),
                Some(_) => true,
            };
            if given {
                let name = if option.flag.is_empty() { option.key } else { option.flag };
                let reason = options::reason(option.key);
                return Err(Error::invalid(if option.key.starts_with("cpu-rt") {
                    reason.to_owned()
                } else {
                    format!("{name} is refused: {reason}")
                }));
            }
        }
        Ok(())
    }

    /// Options that were given and do nothing, with the reason.
    pub fn without_effect(&self) -> Vec<(&'static str, &'static str)> {
        OPTIONS
            .iter()
            .filter(|o| o.tier == Tier::Unused && self.values.contains_key(o.key))
            .map(|o| (if o.flag.is_empty() { o.key } else { o.flag }, options::reason(o.key)))
            .collect()
    }

    /// Sorted and each once.
    pub fn hosts(&self) -> Result<Vec<Host>> {
        let socket = self.places.socket();
        let mut hosts = Vec::new();
        for text in self.list("hosts") {
            hosts.push(host::parse(&text, &socket).map_err(Error::invalid)?);
        }
        if hosts.is_empty() {
            hosts.push(if self.tls_asked() {
                Host::Tcp { host: "localhost".into(), port: 2376 }
            } else {
                Host::Unix(socket)
            });
        }
        order::sort(&mut hosts);
        hosts.dedup();
        Ok(hosts)
    }

    /// `--tls`, or `--tlsverify` mentioned at all.
    pub fn tls_asked(&self) -> bool {
        self.bool("tls", false)
            || self.values.contains_key("tlsverify")
            || std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|v| !v.is_empty())
    }

    /// Given at all, whatever its value.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }
    pub fn bool(&self, key: &str, default: bool) -> bool {
        self.values.get(key).and_then(Value::as_bool).unwrap_or(default)
    }
    pub fn int(&self, key: &str, default: i64) -> i64 {
        self.values.get(key).and_then(Value::as_i64).unwrap_or(default)
    }
    pub fn text<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.values.get(key).and_then(Value::as_str).unwrap_or(default)
    }
    pub fn list(&self, key: &str) -> Vec<String> {
        let list = self.values.get(key).and_then(Value::as_array);
        list.map_or_else(Vec::new, |l| l.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
    }
    pub fn map(&self, key: &str) -> Vec<(String, String)> {
        let map = self.values.get(key).and_then(Value::as_object);
        map.map_or_else(Vec::new, |m| {
            m.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect()
        })
    }
    /// Name, soft, hard.
    pub fn ulimits(&self) -> Vec<(String, i64, i64)> {
        let map = self.values.get("default-ulimits").and_then(Value::as_object);
        map.map_or_else(Vec::new, |m| {
            let number = |v: &Value, key: &str| v.get(key).and_then(Value::as_i64).unwrap_or(0);
            m.iter().map(|(name, v)| (name.clone(), number(v, "Soft"), number(v, "Hard"))).collect()
        })
    }

    /// What a reload may change, as `Reloaded configuration` prints it.
    pub fn reloadable(&self) -> Value {
        let pairs =
            OPTIONS.iter().filter(|o| o.reload).filter_map(|o| Some((o.key.to_owned(), self.get(o.key)?.clone())));
        Value::Object(pairs.collect())
    }

    /// Itself with what a reload may take from `fresh`.
    pub fn with_reloadable(&self, fresh: &Self) -> Self {
        let mut config = self.clone();
        config.adopt_reloadable(fresh);
        config
    }

    /// Keeps what only a start may change.
    pub fn adopt_reloadable(&mut self, fresh: &Self) -> Vec<&'static str> {
        let mut changed = Vec::new();
        for option in OPTIONS.iter().filter(|o| o.reload) {
            if self.values.get(option.key) == fresh.values.get(option.key) {
                continue;
            }
            changed.push(option.key);
            match fresh.values.get(option.key) {
                Some(value) => {
                    self.values.insert(option.key, value.clone());
                }
                None => {
                    self.values.remove(option.key);
                }
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(args: &[&str], file: Option<&str>) -> Result<Config> {
        let dir =
            std::env::temp_dir().join(format!("coracle-config-{}-{}", std::process::id(), crate::util::id::random()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("daemon.json");
        let mut all: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
            all.push(format!("--config-file={}", path.display()));
        }
        let line = line(&all, "/run/docker.sock").map_err(Error::invalid)?;
        let result = Config::load(&line, Places::of(&dir));
        std::fs::remove_dir_all(&dir).unwrap();
        result
    }
    fn refusal(args: &[&str], file: Option<&str>) -> String {
        let text = load(args, file).unwrap_err().to_string();
        match text.split_once("daemon.json: ") {
            Some((_, after)) => after.to_owned(),
            None => text,
        }
    }

    #[test]
    fn conflicts_and_unknown_keys_read_as_the_original() {
        assert_eq!(
            refusal(&["-D"], Some(r#"{"debug":true}"#)),
            "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: true)"
        );
        assert_eq!(
            refusal(
                &["-H", "unix:///y", "-Htcp://2", "--label=c=d", "--log-opt", "max-file=3"],
                Some(r#"{"hosts":["tcp://1.2.3.4:5","unix:///x"],"labels":["a=b"],"log-opts":{"max-size":"1m"}}"#)
            ),
            "the following directives are specified both as a flag and in the configuration file: hosts: (from flag: [unix:///y tcp://2], from file: [tcp://1.2.3.4:5 unix:///x]), labels: (from flag: [c=d], from file: [a=b]), log-opts: (from flag: map[max-file:3], from file: map[max-size:1m])"
        );
        assert_eq!(
            refusal(&[], Some(r#"{"foo":1,"bar":{}}"#)),
            "the following directives don't match any configuration option: foo"
        );
        assert!(refusal(&["--config-file=/nope"], None).ends_with("open /nope: no such file or directory"));
    }

    #[test]
    fn values_are_judged_in_the_originals_words() {
        for (args, want) in [
            (&["--log-level=foo"][..], "invalid logging level: foo"),
            (&["--label", "a=b", "--label", "a=c"], "conflict labels for a=c and a=b"),
            (&["--mtu=-1"], "invalid default MTU: -1"),
            (&["--log-format=foo"], "invalid log format: foo"),
            (&["--exec-opt=foo=bar"], "invalid exec-opt (foo=bar): unknown option: 'foo'"),
            (
                &["--dns", "x"],
                "invalid argument \"x\" for \"--dns\" flag: invalid string being converted to IP address: x",
            ),
            (&["--ip=x"], "invalid argument \"x\" for \"--ip\" flag: failed to parse IP: \"x\""),
            (&["--label", "foo"], "invalid argument \"foo\" for \"--label\" flag: bad attribute format: foo"),
            (&["--foo"], "unknown flag: --foo"),
        ] {
            assert_eq!(refusal(args, None), want);
        }
        assert!(refusal(&["--authorization-plugin=x"], None).contains("security control"));
        assert!(refusal(&["--userns-remap=default"], None).contains("refused"));
    }

    #[test]
    fn both_spellings_give_the_same() {
        let a =
            load(&["--icc=false", "--dns=1.1.1.1", "--default-shm-size=1m", "--http-proxy=http://p"], None).unwrap();
        let b = load(
            &[],
            Some(r#"{"icc":false,"dns":["1.1.1.1"],"default-shm-size":"1m","proxies":{"http-proxy":"http://p"}}"#),
        )
        .unwrap();
        for c in [a, b] {
            assert!(!c.bool("icc", true) && c.int("default-shm-size", 0) == 1 << 20);
            assert_eq!((c.list("dns"), c.text("proxies.http-proxy", "")), (vec!["1.1.1.1".to_owned()], "http://p"));
        }
        assert!(load(&[], Some(" \n")).unwrap().without_effect().is_empty());
        assert_eq!(load(&["--containerd=x"], None).unwrap().without_effect()[0].0, "--containerd");
    }

    #[test]
    fn hosts_are_sorted_and_each_once() {
        let c = load(&["-H", "unix:///b", "-H", "tcp://:1", "-H", "unix:///b", "-H", "fd://"], None).unwrap();
        let text: Vec<String> = c.hosts().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(text, ["fd://", "tcp://localhost:1", "unix:///b"]);
        let c = load(&["--tls"], None).unwrap();
        assert_eq!(c.hosts().unwrap()[0].to_string(), "tcp://localhost:2376");
    }
}
