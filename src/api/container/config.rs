//! The portable half of a container's configuration, shared with images.

use crate::api::{Empty, omit};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "omit")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "strings")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "omit")]
    pub args_escaped: bool,
    pub image: String,
    pub volumes: Option<BTreeMap<String, Empty>>,
    pub working_dir: String,
    #[serde(deserialize_with = "strings")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "omit")]
    pub network_disabled: bool,
    #[serde(skip_serializing_if = "omit")]
    pub mac_address: String,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "omit")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "omit")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "omit", deserialize_with = "strings")]
    pub shell: Option<Vec<String>>,
}

/// Durations are nanoseconds; zero means "inherit", the empty test likewise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    #[serde(skip_serializing_if = "omit")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "omit")]
    pub interval: i64,
    #[serde(skip_serializing_if = "omit")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "omit")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "omit")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "omit")]
    pub retries: i64,
}

/// Docker takes `"sh"` for `["sh"]` in Cmd, Entrypoint and Shell.
pub fn strings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct Strings;
    impl<'de> Visitor<'de> for Strings {
        type Value = Option<Vec<String>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
            d.deserialize_any(self)
        }
        fn visit_str<E>(self, s: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![s.to_owned()]))
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(s) = seq.next_element::<String>()? {
                list.push(s);
            }
            Ok(Some(list))
        }
    }
    deserializer.deserialize_any(Strings)
}
