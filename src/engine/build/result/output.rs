//! Where a result goes: the image store, a registry, or files of the client.
//! Runs on the build's thread.

use crate::api::build::{Options, Output};
use crate::engine::build::execute::Build;
use crate::engine::build::report::Progress;
use crate::engine::build::session;
use crate::engine::build::steps::base::Made;
use crate::engine::image::progress::Lines;
use crate::engine::image::push::{self, Form};
use crate::error::{Error, Result};
use crate::image::archive::save::{Archive, Saved};
use crate::image::reference::Reference;
use crate::image::store::Image;
use crate::storage::diff::Packer;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Attributes that each type knows. What only changes how something is packed on
/// its way is in the third list: accepted, without effect.
const KNOWN: &[(&str, &[&str], &[&str])] = &[
    ("image", &["name", "push", "store", "oci-mediatypes", "rewrite-timestamp"], &["unpack", "dangling-name-prefix"]),
    ("registry", &["name", "oci-mediatypes", "rewrite-timestamp"], &["push", "unpack"]),
    ("docker", &["name", "dest", "tar", "rewrite-timestamp", "oci-mediatypes"], &["context"]),
    ("oci", &["name", "dest", "tar", "rewrite-timestamp", "oci-mediatypes"], &[]),
    ("local", &["dest", "rewrite-timestamp", "platform-split"], &["mode"]),
    ("tar", &["dest", "rewrite-timestamp", "platform-split"], &[]),
    ("cacheonly", &[], &[]),
];

/// The attribute is there and not turned off.
pub fn truth(output: &Output, key: &str) -> bool {
    output.attrs.get(key).is_some_and(|v| !matches!(v.as_str(), "false" | "0"))
}

/// Goes to the client's own disk.
pub fn is_sent(output: &Output) -> bool {
    matches!(output.r#type.as_str(), "local" | "tar" | "oci")
        || (output.r#type == "docker" && output.attrs.contains_key("dest"))
}

/// The image is to be in the store afterwards.
pub fn is_stored(options: &Options) -> bool {
    let stored = |o: &Output| match o.r#type.as_str() {
        "image" => o.attrs.get("store").is_none_or(|s| s != "false"),
        "registry" => true,
        "docker" => !is_sent(o),
        _ => false,
    };
    options.outputs.is_empty() || options.outputs.iter().any(stored)
}

fn is_pushed(output: &Output) -> bool {
    output.r#type == "registry" || (output.r#type == "image" && truth(output, "push"))
}

/// Refuses before anything is uploaded what cannot be done.
pub fn check(options: &Options) -> Result<()> {
    for output in &options.outputs {
        let kind = output.r#type.as_str();
        let Some((_, known, idle)) = KNOWN.iter().find(|(k, _, _)| *k == kind) else {
            return Err(Error::invalid(format!("no exporter for type {kind:?}")));
        };
        for (key, value) in &output.attrs {
            let compression = matches!(key.as_str(), "compression" | "compression-level" | "force-compression");
            if compression && kind != "local" && kind != "tar" {
                let fits = if is_sent(output) { value == "uncompressed" } else { value == "gzip" };
                if key == "compression" && !fits {
                    return Err(Error::not_implemented(format!(
                        "output type {kind}: compression={value} is not supported: what is pushed is gzip, archives are uncompressed"
                    )));
                }
            } else if !known.contains(&key.as_str()) && !idle.contains(&key.as_str()) && !key.starts_with("annotation")
            {
                return Err(Error::invalid(format!("output type {kind}: unknown attribute {key:?}")));
            }
        }
        if kind == "docker" && is_sent(output) && options.platform.contains(',') {
            return Err(Error::invalid("docker exporter does not currently support exporting manifest lists")
                .with_hint("use --output type=oci"));
        }
        if is_sent(output) && options.build_id.is_empty() {
            return Err(Error::invalid(format!(
                "output type {kind} needs a client that takes files: use docker build"
            )));
        }
        if is_pushed(output) && names(options, output)?.is_empty() {
            return Err(Error::invalid("tag is needed when pushing to registry"));
        }
        if kind == "image" && output.attrs.get("store").is_some_and(|s| s == "false") && is_pushed(output) {
            return Err(Error::not_implemented("store=false is not supported together with push"));
        }
    }
    Ok(())
}

/// The names of an output: its own, else those of `-t`.
pub fn names(options: &Options, output: &Output) -> Result<Vec<Reference>> {
    match output.attrs.get("name").filter(|n| !n.is_empty()) {
        Some(own) => own.split(',').map(super::finish::reference).collect(),
        None => options.tags.iter().map(|t| super::finish::reference(t)).collect(),
    }
}

/// `--annotation [TYPE:]KEY=VALUE` and the outputs' `annotation.KEY`, as far as
/// they are for the manifest.
fn annotations(options: &Options, output: &Output) -> BTreeMap<String, String> {
    let manifest = |key: &str| match key.split_once(':') {
        Some((kinds, rest)) if kinds.split(',').any(|k| k.starts_with("manifest")) => Some(rest.to_owned()),
        Some((kinds, _)) if kinds.split(',').all(|k| k.starts_with("index")) => None,
        _ => Some(key.to_owned()),
    };
    let own = |(k, v): (&String, &String)| {
        let key = k.strip_prefix("annotation.").or_else(|| k.strip_prefix("annotation-manifest."))?;
        Some((key.to_owned(), v.clone()))
    };
    let given = options.annotations.iter().filter_map(|(k, v)| Some((manifest(k)?, v.clone())));
    given.chain(output.attrs.iter().filter_map(own)).collect()
}

/// Annotations of the manifests of several platforms, which are made once for all outputs.
pub fn annotations_of_manifests(options: &Options) -> BTreeMap<String, String> {
    match options.outputs.as_slice() {
        [] => annotations(options, &Output::default()),
        outputs => outputs.iter().flat_map(|o| annotations(options, o)).collect(),
    }
}

/// `--annotation index:KEY=VALUE`.
pub fn annotations_of_index(options: &Options) -> BTreeMap<String, String> {
    let index = |(k, v): (&String, &String)| {
        let (kinds, key) = k.split_once(':')?;
        kinds.split(',').any(|k| k == "index").then(|| (key.to_owned(), v.clone()))
    };
    options.annotations.iter().filter_map(index).collect()
}

impl Build<'_> {
    /// Carries out every output that is more than the store. `metadata` is what
    /// the client writes with `--metadata-file`.
    pub fn deliver(&self, made: &[Arc<Made>], images: &[Arc<Image>], metadata: &mut serde_json::Value) -> Result<()> {
        let options = &self.request.options;
        for (n, output) in options.outputs.iter().enumerate() {
            if is_sent(output) {
                let progress = self.report.phase(&format!("exporting to {}", shown(output)));
                let result = self.send(n, output, made, images);
                self.end(&progress, result)?;
            }
            if is_pushed(output) {
                for name in names(options, output)? {
                    let progress = self.report.phase(&format!("pushing {}", name.familiar()));
                    let result = self.push(&name, output, metadata, &progress);
                    self.end(&progress, result)?;
                }
            }
        }
        Ok(())
    }

    fn end(&self, progress: &Progress<'_>, result: Result<()>) -> Result<()> {
        match &result {
            Ok(()) => progress.done(""),
            Err(e) => progress.failed(e),
        }
        result
    }

    fn send(&self, n: usize, output: &Output, made: &[Arc<Made>], images: &[Arc<Image>]) -> Result<()> {
        let socket = self.session.take(&format!("output:{n}"), self.abort)?;
        let several = images.len() > 1;
        match output.r#type.as_str() {
            "local" | "tar" => {
                // A folder for each platform, unless there is but one.
                let split = output.attrs.get("platform-split").map_or(several, |_| truth(output, "platform-split"));
                let mut roots = Vec::new();
                for (made, image) in made.iter().zip(images) {
                    let folder = if split { image.platform().to_string().replace('/', "_") } else { String::new() };
                    if let layers @ [_, ..] = made.state.chain_ids.as_slice() {
                        roots.push((self.engine.driver.mount_ro(layers)?, folder));
                    }
                }
                let write = |out: &mut dyn Write| {
                    let mut packer = Packer::new(out);
                    packer.epoch = self.rewriting()?;
                    for (root, folder) in &roots {
                        packer.tree(root.as_fd(), b"", folder.as_bytes())?;
                    }
                    packer.finish()
                };
                session::send(socket, write, self.abort)
            }
            kind => {
                let options = &self.request.options;
                let own = names(options, output)?;
                let saved = |image: &Arc<Image>| Saved {
                    image: image.clone(),
                    names: if several { Vec::new() } else { own.clone() },
                };
                let mut archive = Archive::new(&self.engine.images, images.iter().map(saved).collect())?;
                archive.docker = kind == "docker";
                archive.joined = several.then_some(own);
                archive.annotations = annotations(options, output);
                session::send(socket, |out| archive.write(out), self.abort)
            }
        }
    }

    fn push(
        &self,
        name: &Reference,
        output: &Output,
        metadata: &mut serde_json::Value,
        progress: &Progress<'_>,
    ) -> Result<()> {
        let annotations = annotations(&self.request.options, output);
        let oci = truth(output, "oci-mediatypes") || !annotations.is_empty();
        let form = (oci || output.attrs.contains_key("oci-mediatypes")).then_some(Form { oci, annotations });
        let request =
            push::Request { reference: name.clone(), platform: None, credentials: self.credentials(name), form };
        let mut told = crate::engine::build::steps::base::Told::new(progress);
        push::push(self.engine, &request, &mut Lines::new(&mut told), &self.abort.cancel)?;
        if let Some(digest) = told.digest.take() {
            metadata["containerimage.digest"] = json!(digest);
        }
        match told.error {
            Some(message) => Err(Error::system(format!("failed to push {}: {message}", name.familiar()))),
            None => Ok(()),
        }
    }
}

fn shown(output: &Output) -> String {
    match output.r#type.as_str() {
        "local" => "client directory".into(),
        "tar" => "client tarball".into(),
        kind => format!("{kind} image format"),
    }
}
