//! What the engine says about itself and its host: version, info, disk usage.
//! Request threads.

pub mod host;
mod info;
mod usage;

pub use host::{go_arch, hostname, kernel_version};
pub use info::{containers_by_state, engine_id, info};
pub use usage::disk_usage;

use crate::api::system::{Component, VersionInfo};
use crate::api::version::{self, Version};
use crate::engine::Engine;
use crate::error::Result;
use crate::util::order;

pub fn version(_engine: &Engine, _asked: Version) -> Result<VersionInfo> {
    let detail =
        |pairs: &[(&str, &str)]| Some(order::map(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))));
    let (max, min, kernel) = (version::MAX.to_string(), version::MIN.to_string(), kernel_version());
    let own = env!("CARGO_PKG_VERSION");
    let part = |name: &str| Component {
        name: name.to_owned(),
        version: own.to_owned(),
        details: detail(&[("GitCommit", version::COMMIT)]),
    };
    Ok(VersionInfo {
        platform: crate::api::system::Platform { name: format!("Coracle {own}") },
        components: vec![
            Component {
                name: "Engine".into(),
                version: version::PRODUCT.into(),
                details: detail(&[
                    ("ApiVersion", &max),
                    ("Arch", go_arch()),
                    ("BuildTime", version::BUILD_TIME),
                    ("Experimental", "false"),
                    ("GitCommit", version::COMMIT),
                    ("GoVersion", "none"),
                    ("KernelVersion", &kernel),
                    ("MinAPIVersion", &min),
                    ("Os", "linux"),
                ]),
            },
            part("coracle"),
            part("docker-init"),
        ],
        version: version::PRODUCT.into(),
        api_version: max.clone(),
        min_api_version: min.clone(),
        git_commit: version::COMMIT.into(),
        go_version: "none".into(),
        os: "linux".into(),
        arch: go_arch().into(),
        kernel_version: kernel.clone(),
        experimental: false,
        build_time: version::BUILD_TIME.into(),
    })
}
