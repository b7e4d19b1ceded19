//! Manifest lists in the making: one directory per list under the client's
//! `manifests`, one file per entry, named and written as Docker's client does,
//! so that both can continue each other's work.

use crate::cli::context::Context;
use crate::cli::credentials;
use crate::error::{Context as _, Error, Result};
use crate::image::digest::Digest;
use crate::image::manifest::{DOCKER_LIST, Manifest, OCI_INDEX, OCI_MANIFEST, Platform};
use crate::image::reference::Reference;
use crate::image::registry::auth::Credentials;
use crate::image::registry::client::{Client, Fetched};
use crate::image::registry::document::{self, Document};
use crate::image::registry::endpoint::Settings;
use crate::image::registry::fault::{Class, Fault};
use crate::image::registry::{blob, service};
use crate::util::atomic_file::{self, Durability};
use crate::util::json;
use crate::util::order;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// An image as an entry of a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Entry {
    #[serde(rename = "Ref")]
    pub reference: String,
    #[serde(rename = "Descriptor")]
    pub descriptor: EntryDescriptor,
    #[serde(rename = "Raw", default)]
    pub raw: String,
    /// One of these two is `raw` as a document; written for other readers.
    #[serde(rename = "SchemaV2Manifest", skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub docker: Option<Box<RawValue>>,
    #[serde(rename = "OCIManifest", skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub oci: Option<Box<RawValue>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryDescriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Entry {
    fn new(reference: &Reference, fetched: &Fetched, media_type: &str, platform: Platform) -> Result<Self> {
        let entry = Self {
            reference: reference.to_string(),
            descriptor: EntryDescriptor {
                media_type: media_type.to_owned(),
                digest: fetched.digest,
                size: fetched.bytes.len() as u64,
                platform: Some(platform),
            },
            raw: STANDARD.encode(&fetched.bytes),
            docker: None,
            oci: None,
        };
        entry.with_document()
    }
    fn with_document(mut self) -> Result<Self> {
        let text = String::from_utf8(self.bytes()?)
            .map_err(|_| Error::invalid(format!("manifest {} is not text", self.descriptor.digest)))?;
        let document = Some(RawValue::from_string(text)?);
        if self.descriptor.media_type == OCI_MANIFEST {
            self.oci = document;
        } else {
            self.docker = document;
        }
        Ok(self)
    }
    /// The manifest's bytes as the registry has them.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        STANDARD.decode(&self.raw).map_err(|e| Error::invalid(format!("manifest of {}: {e}", self.reference)))
    }
    pub fn manifest(&self) -> Result<Manifest> {
        Ok(json::from_slice(&self.bytes()?)?)
    }
    pub fn document(&self) -> &str {
        self.docker.as_ref().or(self.oci.as_ref()).map_or("{}", |r| r.get())
    }
}

fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

pub fn parse(text: &str) -> Result<Reference> {
    Ok(Reference::parse(text)?.or_latest())
}

fn dir(cx: &Context, list: &Reference) -> PathBuf {
    cx.config_dir().join("manifests").join(file_name(list))
}

pub fn exists(cx: &Context, list: &Reference) -> bool {
    dir(cx, list).is_dir()
}

/// The entries of a list that is being made, by file name; none without one.
pub fn entries(cx: &Context, list: &Reference) -> Result<Vec<Entry>> {
    let Ok(found) = fs::read_dir(dir(cx, list)) else { return Ok(vec![]) };
    let mut paths: Vec<PathBuf> = found.filter_map(|e| Some(e.ok()?.path())).collect();
    order::sort(&mut paths);
    paths
        .iter()
        .map(|path| {
            let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
            json::from_slice::<Entry>(&text)
                .map_err(Error::from)
                .and_then(Entry::with_document)
                .map_err(|e| Error::invalid(format!("{}: {e}", path.display())))
        })
        .collect()
}

pub fn entry(cx: &Context, list: &Reference, manifest: &Reference) -> Result<Option<Entry>> {
    let wanted = manifest.to_string();
    Ok(entries(cx, list)?.into_iter().find(|e| e.reference == wanted))
}

pub fn save(cx: &Context, list: &Reference, manifest: &Reference, entry: &Entry) -> Result<()> {
    let dir = dir(cx, list);
    fs::create_dir_all(&dir).with_context(|| format!("mkdir {}", dir.display()))?;
    let path = dir.join(file_name(manifest));
    atomic_file::write(&path, &json::to_vec(entry)?, Durability::Renamed)
        .with_context(|| format!("write {}", path.display()))
}

pub fn remove(cx: &Context, list: &Reference) -> Result<()> {
    match fs::remove_dir_all(dir(cx, list)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(no_such(list)),
        other => other.with_context(|| format!("remove {}", dir(cx, list).display())),
    }
}

pub fn no_such(list: &Reference) -> Error {
    Error::not_found(format!("No such manifest: {list}"))
}

/// The text of the list that the entries make up, as it is pushed.
pub fn list_text(entries: &[Entry]) -> Result<(&'static str, String)> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item<'a> {
        media_type: &'a str,
        size: u64,
        digest: Digest,
        platform: Option<&'a Platform>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List<'a> {
        schema_version: u32,
        media_type: &'a str,
        manifests: Vec<Item<'a>>,
    }
    let oci = !entries.is_empty() && entries.iter().all(|e| e.descriptor.media_type == OCI_MANIFEST);
    let media_type = if oci { OCI_INDEX } else { DOCKER_LIST };
    let manifests = entries
        .iter()
        .map(|e| &e.descriptor)
        .map(|d| Item { media_type: &d.media_type, size: d.size, digest: d.digest, platform: d.platform.as_ref() })
        .collect();
    let compact = json::to_string(&List { schema_version: 2, media_type, manifests })?;
    Ok((media_type, indent(&compact, "   ")))
}

/// Go's json.Indent: fields stay in their order, which a parsed document would
/// lose.
pub fn indent(json: &str, by: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    // An opening bracket waits: `{}` and `[]` stay on one line.
    let mut opened = false;
    for c in json.chars() {
        if quoted {
            out.push(c);
            match (escaped, c) {
                (true, _) => escaped = false,
                (false, '\\') => escaped = true,
                (false, '"') => quoted = false,
                _ => {}
            }
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        if matches!(c, '}' | ']') {
            depth = depth.saturating_sub(1);
            if !opened {
                out.push('\n');
                out.push_str(&by.repeat(depth));
            }
            opened = false;
            out.push(c);
            continue;
        }
        if opened {
            out.push('\n');
            out.push_str(&by.repeat(depth));
            opened = false;
        }
        out.push(c);
        match c {
            '"' => quoted = true,
            '{' | '[' => {
                depth += 1;
                opened = true;
            }
            ',' => {
                out.push('\n');
                out.push_str(&by.repeat(depth));
            }
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

/// What a registry has under a name.
pub enum Remote {
    Image(Box<Entry>),
    List(Vec<Entry>),
}

fn settings(reference: &Reference, insecure: bool) -> Arc<Settings> {
    let mut settings = Settings::default();
    if insecure {
        settings.insecure.push(reference.domain().to_owned());
    }
    Arc::new(settings)
}

fn explain(fault: Fault, reference: &Reference) -> Error {
    match fault.class {
        Class::ManifestUnknown | Class::NameUnknown | Class::Absent | Class::Denied => {
            Error::not_found(format!("no such manifest: {}", reference.familiar()))
        }
        Class::Dial | Class::Tls => {
            Error::system(format!("failed to configure transport: error pinging v2 registry: {}", fault.text()))
        }
        _ => fault.into(),
    }
}

/// A client for the repository, with what is stored of credentials.
pub fn connect(cx: &Context, reference: &Reference, insecure: bool, actions: &str) -> Result<Arc<Client>> {
    let stored = credentials::get(cx.config(), reference.domain())?.unwrap_or_default();
    let credentials = Credentials {
        username: stored.username,
        password: stored.password,
        identity_token: stored.identity_token,
        registry_token: stored.registry_token,
    };
    let settings = settings(reference, insecure);
    let (client, ()) = service::at_endpoint(&settings, reference, actions, &credentials, &Arc::default(), |_| Ok(()))
        .map_err(|f| explain(f, reference))?;
    Ok(client)
}

pub fn fetch(cx: &Context, reference: &Reference, insecure: bool) -> Result<Remote> {
    let client = connect(cx, reference, insecure, "pull")?;
    let unknown = |f: Fault| explain(f, reference);
    let fetched = client.manifest(&service::wanted(reference)).map_err(unknown)?;
    match document::parse(&fetched, &reference.familiar())? {
        Document::Image(image) => Ok(Remote::Image(Box::new(image_entry(&client, reference, &fetched, &image, None)?))),
        Document::Index(index) => {
            let mut entries = Vec::new();
            for item in &index.manifests {
                let pinned = reference.with_digest(item.digest);
                let fetched = client.manifest(&item.digest.to_string()).map_err(unknown)?;
                let Document::Image(image) = document::parse(&fetched, &reference.familiar())? else { continue };
                entries.push(image_entry(&client, &pinned, &fetched, &image, item.platform.clone())?);
            }
            Ok(Remote::List(entries))
        }
    }
}

fn image_entry(
    client: &Arc<Client>,
    reference: &Reference,
    fetched: &Fetched,
    image: &Manifest,
    platform: Option<Platform>,
) -> Result<Entry> {
    let platform = match platform {
        Some(platform) => platform,
        // The configuration's first members are the platform's.
        None => json::from_slice(&blob::document(client, image.config.digest, image.config.size)?)?,
    };
    let media_type = if fetched.media_type.is_empty() { &image.media_type } else { &fetched.media_type };
    Entry::new(reference, fetched, media_type, platform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_dockers_client_makes_them() {
        let name = |t: &str| file_name(&parse(t).unwrap());
        assert_eq!(name("127.0.0.1:5000/registry-l:1"), "127.0.0.1-5000_registry-l-1");
        assert_eq!(name("busybox"), "docker.io_library_busybox-latest");
    }

    #[test]
    fn indents_as_go() {
        let text = indent(r#"{"a":[1,{"b":"x: {\", y"}],"c":{},"d":[],"e":null}"#, "  ");
        assert_eq!(
            text,
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"x: {\\\", y\"\n    }\n  ],\n  \"c\": {},\n  \"d\": [],\n  \"e\": null\n}"
        );
    }
}
