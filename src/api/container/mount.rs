//! Mounts: as asked for (`HostConfig.Mounts`) and as resolved (`MountPoint`).

use crate::api::omit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Mount {
    /// bind, volume, tmpfs, image, npipe, cluster.
    #[serde(rename = "Type", skip_serializing_if = "omit")]
    pub kind: String,
    #[serde(skip_serializing_if = "omit")]
    pub source: String,
    #[serde(skip_serializing_if = "omit")]
    pub target: String,
    #[serde(skip_serializing_if = "omit")]
    pub read_only: bool,
    #[serde(skip_serializing_if = "omit")]
    pub consistency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_options: Option<crate::api::Empty>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BindOptions {
    #[serde(skip_serializing_if = "omit")]
    pub propagation: String,
    #[serde(skip_serializing_if = "omit")]
    pub non_recursive: bool,
    #[serde(skip_serializing_if = "omit")]
    pub create_mountpoint: bool,
    #[serde(skip_serializing_if = "omit")]
    pub read_only_non_recursive: bool,
    #[serde(skip_serializing_if = "omit")]
    pub read_only_force_recursive: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeOptions {
    #[serde(skip_serializing_if = "omit")]
    pub no_copy: bool,
    #[serde(skip_serializing_if = "omit")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "omit")]
    pub subpath: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<DriverConfig>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DriverConfig {
    #[serde(skip_serializing_if = "omit")]
    pub name: String,
    #[serde(skip_serializing_if = "omit")]
    pub options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageOptions {
    #[serde(skip_serializing_if = "omit")]
    pub subpath: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TmpfsOptions {
    #[serde(skip_serializing_if = "omit")]
    pub size_bytes: i64,
    /// Permission bits as Go's os.FileMode.
    #[serde(skip_serializing_if = "omit")]
    pub mode: u32,
    #[serde(skip_serializing_if = "omit")]
    pub options: Option<Vec<Vec<String>>>,
}

/// One resolved mount in `inspect` and in lists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountPoint {
    #[serde(rename = "Type", skip_serializing_if = "omit")]
    pub kind: String,
    #[serde(skip_serializing_if = "omit")]
    pub name: String,
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "omit")]
    pub driver: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
}
