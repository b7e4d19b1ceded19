//! `docker import`: a plain (or packed) tar of a root file system becomes an
//! image of one layer.

use crate::error::Result;
use crate::image::config::{History, ImageConfig, RootFs, RunConfig};
use crate::image::layer::{Expected, Ingest};
use crate::image::manifest::Platform;
use crate::image::store::{Image, NewImage, Store};
use crate::util::time;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub struct Import<'a> {
    /// The `--change` instructions, applied by the caller.
    pub run: RunConfig,
    pub message: String,
    pub platform: Platform,
    pub cancel: &'a AtomicBool,
    /// Bytes read so far.
    pub progress: &'a mut dyn FnMut(u64),
}

pub fn import(store: &Store, input: &mut dyn Read, import: Import<'_>) -> Result<Arc<Image>> {
    let ingest = Ingest::new(Expected::default(), import.cancel, import.progress);
    let mut staged = store.ingest(input, Some(None), ingest)?;
    // How the user packed it says nothing about the layer.
    staged.discard_blob();
    let diff_id = staged.diff_id;
    let _layer = store.commit_layer(staged, None)?;
    let now = time::rfc3339_nano(time::now());
    let mut config = ImageConfig {
        architecture: import.platform.architecture,
        os: import.platform.os,
        variant: import.platform.variant,
        created: Some(now.clone()),
        comment: import.message.clone(),
        run: import.run,
        history: vec![History { created: Some(now), comment: import.message, ..History::default() }],
        rootfs: RootFs { diff_ids: vec![diff_id], ..RootFs::default() },
        ..ImageConfig::default()
    };
    config.encode()?;
    store.put(NewImage { config: config.raw, ..NewImage::default() })
}
