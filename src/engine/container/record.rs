//! What the daemon keeps of a container on disk: `config.json` in its folder.
//! Plain data; whoever changes it holds the container's small lock.

use super::state::{Nanos, State};
use crate::api::container::{ContainerConfig, Health, HostConfig, MountPoint};
use crate::api::network::{EndpointSettings, PortMap};
use crate::storage::owners::Owners;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub id: String,
    /// Without the slash.
    pub name: String,
    pub created: Nanos,
    /// `sha256:…`
    pub image_id: String,
    /// Chain IDs, bottom first.
    pub layers: Vec<String>,
    /// It is in a user namespace in which these have changed places.
    #[serde(default)]
    pub owners: Option<Owners>,
    /// The storage driver that made the writable layer.
    pub driver: String,
    /// `os` of the image, and what else its platform says.
    pub platform: String,
    /// The command as it is executed: entrypoint and cmd joined.
    pub path: String,
    pub args: Vec<String>,
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    pub mounts: Vec<MountRecord>,
    pub state: State,
    pub health: Option<Health>,
    pub restart_count: i64,
    /// hosts, hostname and resolv.conf exist: it was started once.
    pub has_files: bool,
    /// The overlay of its writable layer is mounted without syncing.
    pub volatile: bool,
    pub networks: BTreeMap<String, EndpointSettings>,
    /// Hardware addresses that the user chose, by network; others change with
    /// every start.
    #[serde(default)]
    pub asked_macs: BTreeMap<String, String>,
    pub ports: PortMap,
    pub sandbox_id: String,
    pub sandbox_key: String,
    /// It runs one step of a build, and ends with it.
    #[serde(default)]
    pub build_step: bool,
}

impl Record {
    /// What the writable layer lies on, bottom first: the image's layers, or the
    /// copy of them that has the container's owners.
    pub fn lowers(&self) -> Vec<String> {
        self.lowers_of(&self.layers)
    }

    /// The same of another image that the container mounts.
    pub fn lowers_of(&self, layers: &[String]) -> Vec<String> {
        self.owners.map_or_else(|| layers.to_vec(), |o| o.lowers(layers))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    #[default]
    Bind,
    Volume,
    Tmpfs,
    Image,
}

impl MountKind {
    pub fn as_str(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Image => "image",
        }
    }
}

/// A resolved mount. `HostConfig` keeps what was asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MountRecord {
    pub kind: MountKind,
    /// Of a volume.
    pub name: String,
    /// Host path; of an image mount its id.
    pub source: String,
    pub destination: String,
    pub driver: String,
    pub mode: String,
    pub rw: bool,
    pub propagation: String,
    pub no_copy: bool,
    /// Inside the volume or image.
    pub subpath: String,
    /// Layers of an image mount.
    pub layers: Vec<String>,
    pub non_recursive: bool,
    pub read_only_non_recursive: bool,
    /// A missing source becomes a directory (`-v`, not `--mount`).
    pub create_source: bool,
    /// Data of a tmpfs, and its flags as words.
    pub tmpfs_options: String,
    /// Made for this container by an image's VOLUME or `-v /x`.
    pub anonymous: bool,
}

impl MountRecord {
    /// As `inspect` shows it.
    pub fn to_api(&self) -> MountPoint {
        MountPoint {
            kind: self.kind.as_str().into(),
            name: self.name.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            driver: self.driver.clone(),
            mode: self.mode.clone(),
            rw: self.rw,
            propagation: self.propagation.clone(),
        }
    }
}
