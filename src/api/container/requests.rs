//! Bodies of the smaller container calls.

use crate::api::container::{ContainerConfig, HostConfig};
use crate::api::network::NetworkingConfig;
use crate::util::json::{self, Node};
use serde::{Deserialize, Deserializer, Serialize};

/// `POST /containers/create`: the configuration with two more members beside it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CreateRequest {
    #[serde(flatten)]
    pub config: ContainerConfig,
    #[serde(rename = "HostConfig")]
    pub host_config: Option<HostConfig>,
    #[serde(rename = "NetworkingConfig")]
    pub networking_config: Option<NetworkingConfig>,
}

impl<'de> Deserialize<'de> for CreateRequest {
    /// Two passes over one document: serde's own `flatten` would lose the case rule.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Beside {
            host_config: Option<HostConfig>,
            networking_config: Option<NetworkingConfig>,
        }
        use serde::de::Error;
        let node = Node::deserialize(deserializer)?;
        let wrong = |e: json::Wrong| D::Error::custom(e.embedded());
        let config = json::from_node(&node).map_err(wrong)?;
        let beside: Beside = json::from_node(&node).map_err(wrong)?;
        Ok(Self { config, host_config: beside.host_config, networking_config: beside.networking_config })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateResponse {
    pub id: String,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateResponse {
    pub warnings: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TopResponse {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitResponse {
    pub status_code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitError {
    pub message: String,
}

/// One line of `GET /containers/{id}/changes`. Kind 0 modified, 1 added, 2 deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Change {
    pub path: String,
    pub kind: u8,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainersPruned {
    pub containers_deleted: Option<Vec<String>>,
    pub space_reclaimed: u64,
}

/// `X-Docker-Container-Path-Stat`, base64 of this. `mode` is Go's os.FileMode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    pub mode: u32,
    pub mtime: String,
    pub link_target: String,
}

/// `POST /commit` and friends answer with an id alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IdResponse {
    pub id: String,
}
