//! What a stage has become so far: its image configuration, its variables, its
//! layers. Instructions that change nothing but the configuration are carried out
//! here. Pure.

use super::language::expand;
use super::language::instruction::{Command, Healthcheck, Instruction};
use super::stage::PREDEFINED;
use crate::engine::container::merge::DEFAULT_PATH;
use crate::image::config::{Empty, Healthcheck as ImageHealthcheck, History, ImageConfig, RunConfig};
use crate::util::json;
use crate::util::path;
use crate::util::units;
use std::collections::BTreeMap;

/// What went wrong, without position.
pub type Result<T> = std::result::Result<T, String>;

#[derive(Debug, Clone)]
pub struct State {
    pub config: ImageConfig,
    /// Chain IDs, bottom first, as storage names them.
    pub chain_ids: Vec<String>,
    /// ARG values in scope.
    pub args: BTreeMap<String, String>,
    /// Id of the base image, if the stage began with one that is here.
    pub base_id: Option<String>,
    pub escape: char,
    /// CMD was set in this stage: a later ENTRYPOINT keeps it.
    cmd_set: bool,
}

impl State {
    /// An empty image for the platform.
    pub fn scratch(platform: &str, escape: char) -> Self {
        let mut parts = platform.splitn(3, '/');
        let mut next = || parts.next().unwrap_or("").to_owned();
        let (os, architecture, variant) = (next(), next(), next());
        let run = RunConfig { env: Some(vec![DEFAULT_PATH.into()]), working_dir: "/".into(), ..RunConfig::default() };
        let config = ImageConfig { os, architecture, variant, run, ..ImageConfig::default() };
        Self::begin(config, Vec::new(), None, escape)
    }

    /// On top of an image or of another stage's result.
    pub fn begin(config: ImageConfig, chain_ids: Vec<String>, base_id: Option<String>, escape: char) -> Self {
        Self { config, chain_ids, args: BTreeMap::new(), base_id, escape, cmd_set: false }
    }

    pub fn env(&self) -> &[String] {
        self.config.run.env.as_deref().unwrap_or_default()
    }

    /// Names of all variables that have a value.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let env = self.env().iter().filter_map(|e| e.split('=').next()).map(str::to_owned);
        env.chain(self.args.keys().cloned())
    }

    /// ENV shadows ARG.
    pub fn lookup(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}=");
        let env = self.env().iter().find_map(|e| e.strip_prefix(&prefix));
        env.map(str::to_owned).or_else(|| self.args.get(name).cloned())
    }

    pub fn word(&self, text: &str) -> Result<String> {
        expand::word(text, self.escape, &|name| self.lookup(name))
    }

    pub fn words(&self, text: &str) -> Result<Vec<String>> {
        expand::words(text, self.escape, &|name| self.lookup(name))
    }

    pub fn heredoc(&self, text: &str) -> Result<String> {
        expand::heredoc(text, self.escape, &|name| self.lookup(name))
    }

    pub fn shell(&self) -> Vec<String> {
        self.config.run.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()])
    }

    /// An instruction without a layer. `None`: it is one that makes a layer.
    /// Else what stands in the history, `Some(None)` for ARG without a trace.
    pub fn configure(&mut self, instruction: &Instruction, scope: &Scope<'_>) -> Result<Option<String>> {
        let text = match instruction {
            Instruction::Env(pairs) => self.env_pairs(pairs)?,
            Instruction::Label(pairs) => self.labels(pairs)?,
            Instruction::Arg(args) => return self.arguments(args, scope).map(|()| None),
            Instruction::Cmd(command) => {
                self.cmd_set = true;
                self.config.run.cmd = Some(self.argv(command));
                format!("CMD {}", json(self.config.run.cmd.as_deref().unwrap_or_default()))
            }
            Instruction::Entrypoint(command) => {
                if !self.cmd_set {
                    self.config.run.cmd = None;
                }
                self.config.run.entrypoint = Some(self.argv(command));
                format!("ENTRYPOINT {}", json(self.config.run.entrypoint.as_deref().unwrap_or_default()))
            }
            Instruction::Expose(ports) => self.expose(ports)?,
            Instruction::Volume(volumes) => {
                let volumes = volumes.iter().map(|v| self.word(v)).collect::<Result<Vec<_>>>()?;
                if volumes.iter().any(String::is_empty) {
                    return Err("VOLUME specified can not be an empty string".to_owned());
                }
                let all = self.config.run.volumes.get_or_insert_default();
                all.extend(volumes.iter().map(|v| (v.clone(), Empty {})));
                format!("VOLUME [{}]", volumes.join(" "))
            }
            Instruction::User(user) => {
                self.config.run.user = self.word(user)?;
                format!("USER {}", self.config.run.user)
            }
            Instruction::Stopsignal(signal) => {
                self.config.run.stop_signal = self.word(signal)?;
                format!("STOPSIGNAL {}", self.config.run.stop_signal)
            }
            Instruction::Shell(words) => {
                self.config.run.shell = Some(words.clone());
                format!("SHELL [{}]", words.join(" "))
            }
            Instruction::Maintainer(name) => {
                self.config.author.clone_from(name);
                format!("MAINTAINER {name}")
            }
            Instruction::Onbuild(trigger) => {
                self.config.run.on_build.get_or_insert_default().push(trigger.clone());
                format!("ONBUILD {trigger}")
            }
            Instruction::Healthcheck(check) => self.healthcheck(check)?,
            Instruction::From { .. }
            | Instruction::Run(_)
            | Instruction::Copy(_)
            | Instruction::Add(_)
            | Instruction::Workdir(_) => {
                return Err("this instruction is carried out elsewhere".into());
            }
        };
        Ok(Some(text))
    }

    /// The new working directory, joined to the old one and cleaned.
    pub fn workdir(&mut self, path: &str) -> Result<String> {
        let path = self.word(path)?;
        let base = match self.config.run.working_dir.as_str() {
            "" => "/",
            dir => dir,
        };
        let joined = if path.starts_with('/') { path } else { format!("{base}/{path}") };
        self.config.run.working_dir = path::absolute(&joined);
        Ok(self.config.run.working_dir.clone())
    }

    /// Exec form as it is, shell form behind the shell.
    pub fn argv(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) if text.is_empty() => Vec::new(),
            Command::Shell(text) => self.shell().into_iter().chain([text.clone()]).collect(),
        }
    }

    pub fn record(&mut self, created: &str, created_by: String, empty_layer: bool) {
        let created = (!created.is_empty()).then(|| created.to_owned());
        self.config.history.push(History { created, created_by, empty_layer, ..History::default() });
    }

    /// Values all see the environment before the instruction.
    fn env_pairs(&mut self, pairs: &[(String, String)]) -> Result<String> {
        let mut expanded = Vec::new();
        for (key, value) in pairs {
            expanded.push((self.word(key)?, self.word(value)?));
        }
        let mut env = self.env().to_vec();
        for (key, value) in &expanded {
            let prefix = format!("{key}=");
            let entry = format!("{key}={value}");
            match env.iter_mut().find(|e| e.starts_with(&prefix)) {
                Some(old) => *old = entry,
                None => env.push(entry),
            }
        }
        self.config.run.env = Some(env);
        let words: Vec<String> = expanded.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Ok(format!("ENV {}", words.join(" ")))
    }

    fn labels(&mut self, pairs: &[(String, String)]) -> Result<String> {
        let mut words = Vec::new();
        for (key, value) in pairs {
            let (key, value) = (self.word(key)?, self.word(value)?);
            words.push(format!("{key}={value}"));
            self.config.run.labels.get_or_insert_default().insert(key, value);
        }
        Ok(format!("LABEL {}", words.join(" ")))
    }

    /// Given value, else default, else the global of that name.
    fn arguments(&mut self, args: &[(String, Option<String>)], scope: &Scope<'_>) -> Result<()> {
        for (name, default) in args {
            let given = scope.build_args.get(name).cloned().flatten();
            let default = default.as_ref().map(|d| self.word(d)).transpose()?;
            if let Some(value) = given.or(default).or_else(|| scope.globals.get(name).cloned()) {
                self.args.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    /// Variables for RUN beyond ENV: what ARG declared, and the proxies that may
    /// be given without a declaration. Second: those that count for the cache.
    pub fn run_args(&self, scope: &Scope<'_>) -> (Vec<String>, Vec<String>) {
        let declared: Vec<String> = self.args.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut all = declared.clone();
        let given = |name: &str| scope.build_args.get(name).and_then(Option::as_deref);
        for names in PREDEFINED.chunks(2) {
            // As BuildKit: who gives one spelling gives both.
            for name in names.iter().filter(|name| !self.args.contains_key(**name)) {
                let value = given(name).or_else(|| names.iter().find_map(|other| given(other)));
                all.extend(value.map(|value| format!("{name}={value}")));
            }
        }
        (all, declared)
    }

    fn expose(&mut self, ports: &[String]) -> Result<String> {
        let mut shown = Vec::new();
        for port in ports {
            for word in self.words(port)? {
                let (range, proto) = word.split_once('/').unwrap_or((&word, "tcp"));
                // An address or a port of the host says nothing here (and is warned of).
                let range = range.rsplit(':').next().unwrap_or(range);
                let proto = proto.to_ascii_lowercase();
                let bad = || format!("invalid containerPort: {word}");
                if !matches!(proto.as_str(), "tcp" | "udp" | "sctp") {
                    return Err(format!("invalid proto: {proto}"));
                }
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
                if last < first {
                    return Err(bad());
                }
                let all = self.config.run.exposed_ports.get_or_insert_default();
                all.extend((first..=last).map(|p| (format!("{p}/{proto}"), Empty {})));
                shown.push(format!("{range}/{proto}"));
            }
        }
        Ok(format!("EXPOSE [{}]", shown.join(" ")))
    }

    fn healthcheck(&mut self, check: &Healthcheck) -> Result<String> {
        let duration = |name: &str, text: &Option<String>| -> Result<i64> {
            let Some(text) = text else { return Ok(0) };
            let parsed = units::parse_duration(&self.word(text)?).map_err(|e| format!("{name}: {e}"))?;
            if parsed != 0 && parsed < 1_000_000 {
                return Err(format!("{name}: interval \"{text}\" cannot be less than 1ms"));
            }
            Ok(parsed)
        };
        let retries = match &check.retries {
            None => 0,
            Some(text) => match self.word(text)?.parse::<i64>() {
                Ok(n) if n >= 0 => n,
                _ => return Err(format!("--retries cannot be negative ({text})")),
            },
        };
        let found = ImageHealthcheck {
            test: Some(check.test.clone()),
            interval: duration("--interval", &check.interval)?,
            timeout: duration("--timeout", &check.timeout)?,
            start_period: duration("--start-period", &check.start_period)?,
            start_interval: duration("--start-interval", &check.start_interval)?,
            retries,
        };
        self.config.run.healthcheck = Some(found);
        Ok(format!("HEALTHCHECK {}", json(&check.test)))
    }
}

/// What lies around a stage.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    pub build_args: &'a BTreeMap<String, Option<String>>,
    pub globals: &'a BTreeMap<String, String>,
}

fn json(words: &[String]) -> String {
    json::to_string(words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::language::instruction::interpret;
    use super::super::language::parser::parse;
    use super::*;

    fn after(lines: &str) -> State {
        let build_args = BTreeMap::from([
            ("V".to_owned(), Some("given".to_owned())),
            ("http_proxy".to_owned(), Some("p".to_owned())),
        ]);
        let globals = BTreeMap::from([("TARGETARCH".to_owned(), "amd64".to_owned())]);
        let scope = Scope { build_args: &build_args, globals: &globals };
        let mut state = State::scratch("linux/amd64", '\\');
        for node in parse(lines).unwrap().nodes {
            match interpret(&node, '\\').unwrap() {
                Instruction::Workdir(path) => drop(state.workdir(&path).unwrap()),
                other => drop(state.configure(&other, &scope).unwrap()),
            }
        }
        state
    }

    #[test]
    fn variables() {
        let s = after("ENV a=1\nENV a=2 b=$a\nARG V=default\nARG W=$b\nARG TARGETARCH\nENV c=$V$W$TARGETARCH");
        assert_eq!(s.env()[1..], ["a=2", "b=1", "c=given1amd64"]);
        let build_args = BTreeMap::from([("http_proxy".to_owned(), Some("p".to_owned()))]);
        let (all, counted) = s.run_args(&Scope { build_args: &build_args, globals: &BTreeMap::new() });
        assert!(all.contains(&"HTTP_PROXY=p".to_owned()));
        assert!(all.contains(&"http_proxy=p".to_owned()) && !counted.contains(&"http_proxy=p".to_owned()));
    }

    #[test]
    fn configuration() {
        let s = after(
            "WORKDIR a\nWORKDIR ../b/./c/\nEXPOSE 80 53/udp 8000-8001\nVOLUME /v\nUSER u:g\nLABEL k=\"v w\"\nCMD x\nENTRYPOINT [\"e\"]\n\
             HEALTHCHECK --interval=5s --retries=2 CMD true\nSTOPSIGNAL 9",
        );
        let run = &s.config.run;
        assert_eq!(run.working_dir, "/b/c");
        let ports: Vec<&String> = run.exposed_ports.as_ref().unwrap().keys().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp"]);
        assert_eq!(run.cmd.as_deref().unwrap(), ["/bin/sh", "-c", "x"]);
        assert_eq!(run.entrypoint.as_deref().unwrap(), ["e"]);
        assert_eq!(run.labels.as_ref().unwrap()["k"], "v w");
        assert_eq!(run.healthcheck.as_ref().unwrap().interval, 5_000_000_000);
        let s = after("SHELL [\"/bin/bash\",\"-c\"]\nCMD y");
        assert_eq!(s.config.run.cmd.as_deref().unwrap(), ["/bin/bash", "-c", "y"]);
    }
}
