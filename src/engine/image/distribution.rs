//! `GET /distribution/{name}/json`: what a registry has under a name, without
//! pulling it. Runs in dockerd on the request's thread.

use super::login::credentials;
use crate::api::registry::{AuthConfig, Descriptor, DistributionInspect, Platform};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::config::ImageConfig;
use crate::image::manifest;
use crate::image::reference::AnyReference;
use crate::image::registry::transport::Cancel;
use crate::image::registry::{blob, document, service};
use std::sync::Arc;

pub fn inspect(engine: &Engine, name: &str, auth: &AuthConfig, cancel: &Arc<Cancel>) -> Result<DistributionInspect> {
    let AnyReference::Named(reference) = AnyReference::parse(name)? else {
        return Err(Error::invalid(format!("unknown image reference format: {name}")));
    };
    let reference = reference.or_latest();
    let settings = engine.registries.settings();
    let wanted = service::wanted(&reference);
    let (client, fetched) =
        service::at_endpoint(&settings, &reference, "pull", &credentials(auth), cancel, |client| {
            service::find_manifest(client, &wanted)?.whole(client)
        })?;
    let platforms = match document::parse(&fetched, &reference.familiar())? {
        document::Document::Index(index) => index.manifests.into_iter().filter_map(|m| m.platform).map(wire).collect(),
        document::Document::Image(image) => {
            let config = ImageConfig::parse(blob::document(&client, image.config.digest, image.config.size)?)?;
            vec![Platform {
                architecture: config.architecture,
                os: config.os,
                os_version: config.os_version,
                os_features: config.os_features,
                variant: config.variant,
            }]
        }
    };
    let descriptor = Descriptor {
        media_type: fetched.media_type,
        digest: fetched.digest.to_string(),
        size: fetched.bytes.len() as i64,
    };
    Ok(DistributionInspect { descriptor, platforms })
}

fn wire(p: manifest::Platform) -> Platform {
    Platform {
        architecture: p.architecture,
        os: p.os,
        os_version: p.os_version,
        os_features: p.os_features,
        variant: p.variant,
    }
}
