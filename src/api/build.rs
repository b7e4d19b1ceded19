//! `POST /build`: its query both ways, and what comes back. The client encodes
//! what the server decodes, from this one list.
//!
//! Beyond Docker's own parameters the query carries what its builder gets by a
//! session of its own: `contexts`, `nocachefilter`, `cacheto`, `annotations`.
//! Secrets never stand in it: a URL ends up in logs. They travel in the header
//! [`SECRETS_HEADER`].

use crate::error::{Error, Result};
use crate::util::json;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// base64url of the JSON of [`Secrets`].
pub const SECRETS_HEADER: &str = "X-Build-Secrets";

/// Values by id, base64 inside JSON because they may be binary.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Secrets {
    pub secrets: BTreeMap<String, String>,
    /// Agents that the client forwards: see `POST /build/attach`.
    pub ssh: BTreeSet<String>,
}

/// `--output`: `type` and the rest of its attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Output {
    pub r#type: String,
    pub attrs: BTreeMap<String, String>,
}

/// Where `--build-context NAME=SOURCE` points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamedContext {
    /// A folder of the uploaded tar.
    Uploaded(String),
    /// An image reference.
    Image(String),
    /// A stage of the same file.
    Target(String),
    /// A URL that the daemon fetches.
    Remote(String),
    /// An OCI layout in a folder of the uploaded tar, and which image of it: a
    /// tag, `@digest`, or nothing.
    Layout(String, String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub tags: Vec<String>,
    pub dockerfile: String,
    pub remote: String,
    pub target: String,
    pub platform: String,
    pub quiet: bool,
    pub no_cache: bool,
    pub no_cache_filter: Vec<String>,
    pub pull: bool,
    pub squash: bool,
    pub keep_intermediate: bool,
    pub network_mode: String,
    pub extra_hosts: Vec<String>,
    /// `None` = named with no value: taken from a predefined argument or left unset.
    pub build_args: BTreeMap<String, Option<String>>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Entitlements: `network.host`, `device`, `device=NAME`.
    pub allow: Vec<String>,
    pub cache_from: Vec<String>,
    pub cache_to: Vec<String>,
    pub outputs: Vec<Output>,
    pub contexts: BTreeMap<String, NamedContext>,
    pub shm_size: i64,
    pub memory: i64,
    pub memory_swap: i64,
    pub cpu_shares: i64,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub cgroup_parent: String,
    pub ulimits: Vec<Ulimit>,
    pub build_id: String,
    /// The context was listed by `POST /build/context` under this key, and only
    /// what was asked for is sent.
    pub kept: String,
    /// Nothing is built, something is told: `check` ([`Finding`]), `outline`
    /// ([`Outline`]), `targets` ([`Targets`]).
    pub call: String,
    /// The daemon answers with `Step N/M` lines (false) or with structured
    /// progress of parallel steps (true).
    pub structured: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

impl Options {
    /// A `--build-arg` that was given a value.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.build_args.get(name)?.as_deref()
    }

    /// Key and value pairs; what has its default is left out.
    pub fn encode(&self) -> Vec<(&'static str, String)> {
        let mut query = Vec::new();
        for tag in &self.tags {
            query.push(("t", tag.clone()));
        }
        for host in &self.extra_hosts {
            query.push(("extrahosts", host.clone()));
        }
        for (key, value) in self.texts() {
            if !value.is_empty() {
                query.push((key, value.clone()));
            }
        }
        for (key, value) in self.numbers() {
            if *value != 0 {
                query.push((key, value.to_string()));
            }
        }
        let switches = [("q", self.quiet), ("nocache", self.no_cache), ("pull", self.pull), ("squash", self.squash)];
        for (key, on) in switches {
            if on {
                query.push((key, "1".into()));
            }
        }
        query.push(("rm", if self.keep_intermediate { "0" } else { "1" }.into()));
        if self.structured {
            query.push(("structured", "1".into()));
        }
        json(&mut query, "buildargs", &self.build_args, self.build_args.is_empty());
        json(&mut query, "labels", &self.labels, self.labels.is_empty());
        json(&mut query, "annotations", &self.annotations, self.annotations.is_empty());
        json(&mut query, "allow", &self.allow, self.allow.is_empty());
        json(&mut query, "cachefrom", &self.cache_from, self.cache_from.is_empty());
        json(&mut query, "cacheto", &self.cache_to, self.cache_to.is_empty());
        json(&mut query, "nocachefilter", &self.no_cache_filter, self.no_cache_filter.is_empty());
        json(&mut query, "outputs", &self.outputs, self.outputs.is_empty());
        json(&mut query, "contexts", &self.contexts, self.contexts.is_empty());
        json(&mut query, "ulimits", &self.ulimits, self.ulimits.is_empty());
        query
    }

    /// Reads a query; `get` gives all values of a key. A key that is no part of
    /// it is ignored, as the original does.
    pub fn decode<'q>(get: impl Fn(&str) -> Vec<&'q str>) -> Result<Self> {
        let mut options =
            Options { tags: owned(&get("t")), extra_hosts: owned(&get("extrahosts")), ..Options::default() };
        let first = |key: &str| get(key).first().copied().unwrap_or("");
        let truth = |key: &str| !matches!(first(key).to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none");
        for (key, value) in options.texts_mut() {
            *value = first(key).to_owned();
        }
        for (key, value) in options.numbers_mut() {
            let text = first(key);
            if !text.is_empty() {
                *value = text.parse().map_err(|_| Error::invalid(format!("invalid value {text:?} for {key}")))?;
            }
        }
        (options.quiet, options.no_cache, options.pull, options.squash) =
            (truth("q"), truth("nocache"), truth("pull"), truth("squash"));
        options.structured = truth("structured");
        options.keep_intermediate = !get("rm").is_empty() && !truth("rm") && !truth("forcerm");
        options.build_args = parse("buildargs", first("buildargs"))?;
        options.labels = parse("labels", first("labels"))?;
        options.annotations = parse("annotations", first("annotations"))?;
        options.allow = parse("allow", first("allow"))?;
        options.cache_from = parse("cachefrom", first("cachefrom"))?;
        options.cache_to = parse("cacheto", first("cacheto"))?;
        options.no_cache_filter = parse("nocachefilter", first("nocachefilter"))?;
        options.outputs = parse("outputs", first("outputs"))?;
        options.contexts = parse("contexts", first("contexts"))?;
        options.ulimits = parse("ulimits", first("ulimits"))?;
        Ok(options)
    }

    fn texts(&self) -> [(&'static str, &String); 11] {
        [
            ("dockerfile", &self.dockerfile),
            ("remote", &self.remote),
            ("target", &self.target),
            ("platform", &self.platform),
            ("networkmode", &self.network_mode),
            ("cpusetcpus", &self.cpuset_cpus),
            ("cpusetmems", &self.cpuset_mems),
            ("cgroupparent", &self.cgroup_parent),
            ("buildid", &self.build_id),
            ("keptcontext", &self.kept),
            ("call", &self.call),
        ]
    }

    fn texts_mut(&mut self) -> [(&'static str, &mut String); 11] {
        [
            ("dockerfile", &mut self.dockerfile),
            ("remote", &mut self.remote),
            ("target", &mut self.target),
            ("platform", &mut self.platform),
            ("networkmode", &mut self.network_mode),
            ("cpusetcpus", &mut self.cpuset_cpus),
            ("cpusetmems", &mut self.cpuset_mems),
            ("cgroupparent", &mut self.cgroup_parent),
            ("buildid", &mut self.build_id),
            ("keptcontext", &mut self.kept),
            ("call", &mut self.call),
        ]
    }

    fn numbers(&self) -> [(&'static str, &i64); 6] {
        [
            ("shmsize", &self.shm_size),
            ("memory", &self.memory),
            ("memswap", &self.memory_swap),
            ("cpushares", &self.cpu_shares),
            ("cpuperiod", &self.cpu_period),
            ("cpuquota", &self.cpu_quota),
        ]
    }

    fn numbers_mut(&mut self) -> [(&'static str, &mut i64); 6] {
        [
            ("shmsize", &mut self.shm_size),
            ("memory", &mut self.memory),
            ("memswap", &mut self.memory_swap),
            ("cpushares", &mut self.cpu_shares),
            ("cpuperiod", &mut self.cpu_period),
            ("cpuquota", &mut self.cpu_quota),
        ]
    }
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().filter(|v| !v.is_empty()).map(|v| (*v).to_owned()).collect()
}

fn json(query: &mut Vec<(&'static str, String)>, key: &'static str, value: &impl Serialize, empty: bool) {
    if !empty && let Ok(text) = json::to_string(value) {
        query.push((key, text));
    }
}

fn parse<T: serde::de::DeserializeOwned + Default>(key: &str, text: &str) -> Result<T> {
    if text.is_empty() || text == "null" {
        return Ok(T::default());
    }
    json::from_str(text).map_err(|e| Error::invalid(format!("invalid value for {key}: {e}")))
}

/// One line of the answer's stream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Structured progress, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
}

/// What `--check` has to say of some lines; `aux` has a list of them as `checked`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding {
    /// As BuildKit names it.
    pub rule: String,
    pub message: String,
    pub file: String,
    pub line: usize,
    /// The last line that is meant.
    pub end: usize,
    /// The number of the first line in `source`.
    pub first: usize,
    /// The lines and those around them.
    pub source: Vec<String>,
}

/// Lines of the Dockerfile, as BuildKit's answers name them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Location {
    pub ranges: Vec<Range>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Range {
    pub start: Position,
    pub end: Position,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Position {
    pub line: usize,
}

/// `--call=outline`: what the target takes; `aux` has it as `outline`. Field names and
/// order are BuildKit's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outline {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Parameter>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Parameter>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<Parameter>,
    /// The Dockerfile, base64.
    pub sources: Vec<String>,
}

/// An argument, a secret or an agent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Parameter {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    pub location: Location,
}

/// `--call=targets`; `aux` has it as `targets`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Targets {
    pub targets: Vec<Target>,
    /// The Dockerfile, base64.
    pub sources: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub base: String,
    pub location: Location,
}

impl Location {
    pub fn lines(first: usize, last: usize) -> Self {
        Self { ranges: vec![Range { start: Position { line: first }, end: Position { line: last } }] }
    }

    pub fn first(&self) -> usize {
        self.ranges.first().map_or(0, |r| r.start.line)
    }
}

/// What happened to one step of the graph.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    pub number: usize,
    /// `[stage 2/5] RUN make`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// Milliseconds it took, with the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_round_trips() {
        let options = Options {
            tags: vec!["a:1".into(), "b".into()],
            dockerfile: "d/Dockerfile".into(),
            no_cache: true,
            build_args: [("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)].into(),
            contexts: [("x".to_owned(), NamedContext::Image("busybox".into()))].into(),
            memory: 7,
            ..Options::default()
        };
        let query = options.encode();
        let get = |key: &str| query.iter().filter(|(k, _)| *k == key).map(|(_, v)| v.as_str()).collect();
        assert_eq!(Options::decode(get).unwrap(), options);
        assert!(Options::decode(|key| if key == "memory" { vec!["x"] } else { vec![] }).is_err());
        assert!(Options::decode(|key| if key == "buildargs" { vec!["["] } else { vec![] }).is_err());
    }
}
