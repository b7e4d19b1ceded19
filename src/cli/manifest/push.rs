//! `docker manifest push`.

use crate::cli::context::Context;
use crate::cli::manifest::lists::{self, Entry};
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::image::registry::client::Client;
use crate::image::registry::upload::Mount;
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// Send a manifest list to a registry
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Push {
    /// allow a registry without TLS
    #[argh(switch)]
    pub insecure: bool,
    /// remove the local list afterwards
    #[argh(switch, short = 'p')]
    pub purge: bool,
    #[argh(positional)]
    pub list: String,
}

impl Verb for Push {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let list = lists::parse(&self.list)?;
        let entries = lists::entries(cx, &list)?;
        if entries.is_empty() {
            return Err(lists::no_such(&list));
        }
        let client = lists::connect(cx, &list, self.insecure, "push,pull")?;
        for entry in &entries {
            let source = Reference::parse(&entry.reference)?;
            if source.domain() != list.domain() {
                return Err(Error::invalid(format!(
                    "cannot use source images from a different registry than the target image: {} != {}",
                    source.domain(),
                    list.domain()
                )));
            }
            if source.path() != list.path() {
                bring_blobs(&client, entry, &source)?;
            }
            let digest = entry.descriptor.digest;
            client.put_manifest(&digest.to_string(), &entry.descriptor.media_type, &entry.bytes()?)?;
            writeln!(cx.out, "Pushed ref {} with digest: {digest}", list.with_digest(digest))?;
        }
        let (media_type, text) = lists::list_text(&entries)?;
        client.put_manifest(list.tag().unwrap_or("latest"), media_type, text.as_bytes())?;
        writeln!(cx.out, "{}", Digest::of(text.as_bytes()))?;
        if self.purge {
            lists::remove(cx, &list)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The registry refuses a manifest whose content the repository lacks: each blob
/// is mounted from where the image lives.
fn bring_blobs(client: &Client, entry: &Entry, source: &Reference) -> Result<()> {
    let manifest = entry.manifest()?;
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        if client.blob_size(blob.digest)?.is_some() {
            continue;
        }
        match client.mount(blob.digest, source.path())? {
            Mount::Done => {}
            Mount::Upload(url) => {
                client.cancel_upload(url);
                return Err(Error::system(format!("registry does not mount {} from {}", blob.digest, source.path())));
            }
        }
    }
    Ok(())
}
