//! Where files come from: the image or stage below a stage, and the trees that
//! `--from` names. Runs on the thread of its stage.

use crate::api::build::NamedContext;
use crate::engine::build::execute::{Build, host_platform};
use crate::engine::build::language::parser::Node;
use crate::engine::build::report::Progress;
use crate::engine::build::stage::{Base, Stage, stage_named};
use crate::engine::build::state::State;
use crate::engine::build::transfer::{Root, everything, stream};
use crate::engine::image::{login, progress::Lines, pull};
use crate::error::{Error, Kind, Result};
use crate::image::digest::Digest;
use crate::image::manifest::Platform;
use crate::image::reference::Reference;
use crate::image::registry::auth::Credentials;
use crate::image::store::Image;
use crate::util::json;
use std::io::Write;
use std::sync::{Arc, PoisonError};

/// A finished stage, or what one begins with.
pub struct Made {
    pub state: State,
    /// How long the history of the image below was.
    pub inherited: usize,
}

/// What `--from` names.
pub struct Source {
    pub root: Root,
    /// Its layers, if it has any: mounts use them, and they stand for its content.
    pub layers: Option<Vec<String>>,
}

impl Build<'_> {
    pub fn base(&self, stage: &Stage, progress: &Progress<'_>) -> Result<Made> {
        let options = &self.request.options;
        let platform = stage.platform.as_deref().unwrap_or(&self.platform);
        match &stage.base {
            Base::Scratch => {
                let platform = if platform.is_empty() { host_platform() } else { platform.to_owned() };
                Ok(Made { state: State::scratch(&platform, self.plan.escape), inherited: 0 })
            }
            Base::Stage(index) => {
                let made = self.stage(*index)?;
                Ok(self.on_stage(&made))
            }
            Base::Image(name) => match options.contexts.get(&name.to_ascii_lowercase()) {
                Some(NamedContext::Image(image)) => self.on_image(image, (platform, &stage.from), progress),
                Some(NamedContext::Layout(_, wanted)) => self.on_layout(name, wanted, platform),
                Some(NamedContext::Target(target)) => {
                    let index = stage_named(&self.plan.stages, stage.index, target)
                        .ok_or_else(|| Error::invalid(format!("build context {name}: no stage {target}")))?;
                    let made = self.stage(index)?;
                    Ok(self.on_stage(&made))
                }
                Some(NamedContext::Uploaded(_) | NamedContext::Remote(_)) => self.on_folder(name, platform),
                None => self.on_image(name, (platform, &stage.from), progress),
            },
        }
    }

    /// Stages that begin with a stage see its arguments.
    fn on_stage(&self, made: &Made) -> Made {
        let below = &made.state;
        let mut state =
            State::begin(below.config.clone(), below.chain_ids.clone(), below.base_id.clone(), self.plan.escape);
        state.args.clone_from(&below.args);
        Made { state, inherited: made.inherited }
    }

    fn on_image(&self, name: &str, (platform, from): (&str, &Node), progress: &Progress<'_>) -> Result<Made> {
        let image = self.image(name, platform, progress)?;
        let wanted = if platform.is_empty() { Platform::host() } else { pull::platform(platform)? };
        let have = image.platform();
        if have.rank(&wanted).is_none() {
            let message = format!(
                "Base image {name} was pulled with platform \"{have}\", expected \"{wanted}\" for current build"
            );
            self.warn(from, "InvalidBaseImagePlatform", message);
        }
        let mut config = image.config.clone();
        config.raw.clear();
        let inherited = config.history.len();
        let state = State::begin(config, image.chain_ids.clone(), Some(image.id.clone()), self.plan.escape);
        Ok(Made { state, inherited })
    }

    /// A folder as a root file system: one layer with nothing below it.
    fn on_folder(&self, name: &str, platform: &str) -> Result<Made> {
        let root = self.context.named.get(&name.to_ascii_lowercase());
        let root = root.ok_or_else(|| Error::not_found(format!("build context {name} was not sent")))?;
        let platform = if platform.is_empty() { host_platform() } else { platform.to_owned() };
        let mut state = State::scratch(&platform, self.plan.escape);
        let made = self.ingest(&mut stream(everything(root)?, self.rewriting()?)?, "")?;
        state.chain_ids.push(made.chain_id.hex());
        state.config.rootfs.diff_ids.push(made.layer.diff_id);
        state.record("", format!("FROM {name}"), false);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(made);
        Ok(Made { state, inherited: 0 })
    }

    /// An image that is here, or that its registry has.
    pub fn image(&self, name: &str, platform: &str, progress: &Progress<'_>) -> Result<Arc<Image>> {
        let here = self.engine.images.resolve(name);
        let store = &self.engine.images;
        let wanted = if platform.is_empty() { None } else { Some(pull::platform(platform)?) };
        let fits = |image: Arc<Image>| match &wanted {
            None => Ok(Some(image)),
            Some(wanted) => store.for_platform(image, wanted),
        };
        let here = match here {
            Ok(image) if !self.request.options.pull => fits(image)?,
            Err(e) if e.kind() != Kind::NotFound => return Err(e),
            _ => None,
        };
        let image = match here {
            Some(image) => image,
            None => {
                self.pull(name, platform, progress)?;
                let image = store.resolve(name)?;
                fits(image.clone())?.unwrap_or(image)
            }
        };
        let image = store.unpack(image)?;
        if let Some(top) = image.top().and_then(Digest::from_hex)
            && let Some(layer) = self.engine.images.layer(&top)
        {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).push(layer);
        }
        Ok(image)
    }

    /// What the client knows of a registry.
    pub fn credentials(&self, reference: &Reference) -> Credentials {
        let auths = &self.request.auths;
        let auth = match reference.domain() {
            "docker.io" => auths.get("https://index.docker.io/v1/").or_else(|| auths.get("docker.io")),
            other => auths.get(other).or_else(|| auths.get(&format!("https://{other}"))),
        };
        auth.map(|a| login::credentials(&a.clone().split_auth())).unwrap_or_default()
    }

    fn pull(&self, name: &str, platform: &str, progress: &Progress<'_>) -> Result<()> {
        let reference = pull::reference(name, "")?.or_latest();
        let request = pull::Request {
            platform: if platform.is_empty() { None } else { Some(pull::platform(platform)?) },
            whole: false,
            credentials: self.credentials(&reference),
            reference,
        };
        let mut told = Told::new(progress);
        pull::pull(self.engine, &request, &mut Lines::new(&mut told), &self.abort.cancel)?;
        match told.error {
            Some(message) => Err(Error::not_found(message)),
            None => Ok(()),
        }
    }

    /// A stage, a named context or an image.
    pub fn source(&self, index: usize, from: &str, progress: &Progress<'_>) -> Result<Source> {
        let options = &self.request.options;
        if let Some(named) = options.contexts.get(&from.to_ascii_lowercase()) {
            return match named {
                NamedContext::Uploaded(_) | NamedContext::Remote(_) => {
                    match self.context.named.get(&from.to_ascii_lowercase()) {
                        Some(root) => Ok(Source { root: root.clone(), layers: None }),
                        None => Err(Error::not_found(format!("build context {from} was not sent"))),
                    }
                }
                NamedContext::Image(image) => self.image_source(image, progress),
                NamedContext::Layout(_, wanted) => self.layout_source(from, wanted),
                NamedContext::Target(target) => match stage_named(&self.plan.stages, index, target) {
                    Some(stage) => self.stage_source(stage),
                    None => Err(Error::invalid(format!("build context {from}: no stage {target}"))),
                },
            };
        }
        if let Some(stage) = stage_named(&self.plan.stages, index, from) {
            return self.stage_source(stage);
        }
        let own = self.plan.stages[index].name.as_deref();
        if own == Some(&from.to_ascii_lowercase()) || from == index.to_string() {
            return Err(Error::invalid(format!("circular dependency: stage {from} copies from itself")));
        }
        if from.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::invalid(format!("invalid from flag value {from}: invalid stage index {from}")));
        }
        self.image_source(from, progress)
    }

    fn stage_source(&self, index: usize) -> Result<Source> {
        let made = self.stage(index)?;
        let name = self.plan.stages[index].name.clone().unwrap_or_else(|| index.to_string());
        self.tree(&made.state.chain_ids, &format!("stage {name}"))
    }

    fn image_source(&self, name: &str, progress: &Progress<'_>) -> Result<Source> {
        let image = self.image(name, &self.platform, progress)?;
        self.tree(&image.chain_ids, &format!("image {name}"))
    }

    pub fn tree(&self, layers: &[String], name: &str) -> Result<Source> {
        let root = match layers {
            [] => self.context.folder("empty")?,
            layers => Root { fd: Arc::new(self.engine.driver.mount_ro(layers)?), name: name.into() },
        };
        Ok(Source { root: Root { name: name.into(), ..root }, layers: Some(layers.to_vec()) })
    }
}

/// A pull's or push's stream of lines, told as lines of a step. Progress bars are
/// left out.
pub struct Told<'a, 'b> {
    progress: &'a Progress<'b>,
    pub error: Option<String>,
    /// Of the manifest that was pushed.
    pub digest: Option<String>,
    rest: Vec<u8>,
}

impl<'a, 'b> Told<'a, 'b> {
    pub fn new(progress: &'a Progress<'b>) -> Self {
        Self { progress, error: None, digest: None, rest: Vec::new() }
    }
}

impl Write for Told<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let Ok(value) = json::from_slice::<serde_json::Value>(&line) else { continue };
            if let Some(error) = value["error"].as_str() {
                self.error = Some(error.to_owned());
            }
            if let Some(digest) = value["aux"]["Digest"].as_str() {
                self.digest = Some(digest.to_owned());
            }
            let quiet = matches!(
                value["status"].as_str(),
                Some("Downloading" | "Extracting" | "Waiting" | "Preparing" | "Pushing")
            );
            if let Some(status) = value["status"].as_str().filter(|_| !quiet) {
                let id = value["id"].as_str().map(|id| format!("{id}: ")).unwrap_or_default();
                self.progress.log(format!("{id}{status}\n"));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
