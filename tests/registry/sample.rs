//! Small images made on the spot, and a scripted registry that serves them.

use super::scripted::{Ask, Reply, Scripted};
use crate::harness::image::Tar;
use coracle::image::digest::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use std::io::Write;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image's documents and its layers, packed.
#[derive(Clone)]
pub struct Sample {
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
}

/// Bytes that hardly compress, so that a layer stays large enough to cut.
pub fn noise(seed: u32, bytes: usize) -> Vec<u8> {
    let line = |n: u32| Digest::of(&[seed.to_le_bytes(), n.to_le_bytes()].concat()).hex().into_bytes();
    (0..bytes as u32 / 64 + 1).flat_map(line).take(bytes).collect()
}

/// A tar of one file.
pub fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = Tar::default();
    tar.file(name, 0o644, content);
    tar.finish()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

impl Sample {
    /// Of plain tars, for linux on `architecture`.
    pub fn of(architecture: &str, tars: &[Vec<u8>]) -> Self {
        let diff_ids: Vec<String> = tars.iter().map(|t| Digest::of(t).to_string()).collect();
        Self::claiming(architecture, tars, &diff_ids)
    }

    /// With diff IDs that need not be true.
    pub fn claiming(architecture: &str, tars: &[Vec<u8>], diff_ids: &[String]) -> Self {
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Self::packed(config.to_string().into_bytes(), tars.iter().map(|t| gzip(t)).collect(), OCI_LAYER)
    }

    /// Of layers that are packed already.
    pub fn packed(config: Vec<u8>, layers: Vec<Vec<u8>>, media_type: &str) -> Self {
        let entry = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry(OCI_CONFIG, &config),
            "layers": layers.iter().map(|l| entry(media_type, l)).collect::<Vec<_>>(),
        });
        Self { layers, config, manifest: manifest.to_string().into_bytes() }
    }

    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    pub fn layer(&self, n: usize) -> Digest {
        Digest::of(&self.layers[n])
    }
}

/// `bytes` as far as the request's range says.
pub fn ranged(ask: &Ask, bytes: &[u8]) -> Reply {
    match ask.range() {
        Some(from) => Reply::new(206, &bytes[from..])
            .with("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
        None => Reply::new(200, bytes),
    }
}

/// Serves documents by tag or digest and blobs by digest below any repository;
/// `blob` answers for the layers.
pub fn registry(
    tags: Vec<(String, Vec<u8>, &'static str)>,
    samples: Vec<Sample>,
    blob: impl Fn(&Ask, &[u8]) -> Reply + Send + Sync + 'static,
) -> Scripted {
    Scripted::start(move |ask| {
        let Some((_, rest)) = ask.target.split_once("/manifests/") else {
            let wanted = ask.target.rsplit('/').next().unwrap_or_default();
            for sample in &samples {
                if sample.id().to_string() == wanted {
                    return Reply::new(200, sample.config.clone());
                }
                if let Some(layer) = sample.layers.iter().find(|l| Digest::of(l).to_string() == wanted) {
                    return blob(ask, layer);
                }
            }
            return Reply::new(404, "");
        };
        let manifest =
            samples.iter().find(|s| s.digest().to_string() == rest).map(|s| (s.manifest.clone(), OCI_MANIFEST));
        let named = |(tag, bytes, kind): &(String, Vec<u8>, &'static str)| {
            (tag == rest || Digest::of(bytes).to_string() == rest).then(|| (bytes.clone(), *kind))
        };
        match tags.iter().find_map(named).or(manifest) {
            Some((bytes, kind)) => {
                let digest = Digest::of(&bytes).to_string();
                Reply::new(200, bytes).with("Content-Type", kind).with("Docker-Content-Digest", digest)
            }
            None => Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#),
        }
    })
}

/// One image as `v1`.
pub fn serve(sample: &Sample, blob: impl Fn(&Ask, &[u8]) -> Reply + Send + Sync + 'static) -> Scripted {
    registry(vec![("v1".into(), sample.manifest.clone(), OCI_MANIFEST)], vec![sample.clone()], blob)
}

/// How a blob was asked for: where each request began.
pub fn asked_for(server: &Scripted, blob: &Digest) -> Vec<usize> {
    let of = |a: &Ask| a.method == "GET" && a.target.ends_with(&blob.hex());
    server.asked().iter().filter(|a| of(a)).map(|a| a.range().unwrap_or(0)).collect()
}
