//! What a fetched manifest is: an image or an index, told safely apart. Pure.
//!
//! Invariant: the kind comes from the media type the server declares; only
//! where that says nothing the document's own word counts, and a document that
//! could be read in two ways is refused (CVE-2021-41190).

use super::client::Fetched;
use super::fault::{Class, Fault, Result};
use crate::image::manifest::{
    DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST,
    Platform,
};
use crate::util::json;
use serde::Deserialize;
use serde::de::IgnoredAny;

const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Image(Box<Manifest>),
    Index(Index),
}

/// What the body claims to be, and what it looks like.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Probe {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
}

/// Reads a manifest; `familiar` names it in the refusal of schema 1.
pub fn parse(fetched: &Fetched, familiar: &str) -> Result<Document> {
    let corrupt = |why: String| Fault::new(Class::Corrupt, why);
    let unreadable = |e: json::Wrong| corrupt(format!("manifest {} is not readable: {e}", fetched.digest));
    let probe: Probe = json::from_stranger(&fetched.bytes).map_err(unreadable)?;
    let own = probe.media_type.as_deref().unwrap_or("");
    let declared = if known(&fetched.media_type) { fetched.media_type.as_str() } else { own };
    if known(declared) && known(own) && declared != own {
        return Err(corrupt(format!("mediaType in manifest should be '{declared}' not '{own}'")));
    }
    let index = match declared {
        t if t.starts_with(SCHEMA1) => return Err(schema1(familiar)),
        OCI_INDEX | DOCKER_LIST => true,
        OCI_MANIFEST | DOCKER_MANIFEST => false,
        _ if probe.schema_version == 1 => return Err(schema1(familiar)),
        _ => probe.manifests.is_some() && probe.config.is_none(),
    };
    let image_parts = probe.layers.is_some() || probe.config.is_some();
    if (index && image_parts) || (!index && probe.manifests.is_some()) {
        return Err(corrupt(format!("manifest {} is an image and an index at once", fetched.digest)));
    }
    if index {
        return Ok(Document::Index(json::from_stranger(&fetched.bytes).map_err(unreadable)?));
    }
    let image: Manifest = json::from_stranger(&fetched.bytes).map_err(unreadable)?;
    match image.config.media_type.as_str() {
        // The odd ones come from registries that lost the type long ago.
        DOCKER_CONFIG | OCI_CONFIG | "application/octet-stream" | "text/html" | "" => {
            Ok(Document::Image(Box::new(image)))
        }
        "application/vnd.docker.plugin.v1+json" => Err(Fault::new(
            Class::Refused,
            format!("Encountered remote \"{}\"(plugin) when fetching image", image.config.media_type),
        )),
        other => Err(Fault::new(Class::Refused, format!("Encountered remote \"{other}\"(unknown) when fetching"))),
    }
}

fn known(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST) || media_type.starts_with(SCHEMA1)
}

fn schema1(familiar: &str) -> Fault {
    Fault::new(
        Class::Refused,
        format!(
            "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 support is disabled by default and will be removed in an upcoming release. Suggest the author of {familiar} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
        ),
    )
}

/// The entry for `wanted`, by Docker's sentence if there is none.
pub fn choose<'a>(index: &'a Index, wanted: &Platform) -> Result<&'a Descriptor> {
    index.choose(wanted).ok_or_else(|| {
        Fault::new(Class::Absent, format!("no matching manifest for {wanted} in the manifest list entries"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::digest::Digest;

    fn fetched(media_type: &str, body: &str) -> Fetched {
        Fetched { media_type: media_type.into(), digest: Digest::of(body.as_bytes()), bytes: body.as_bytes().to_vec() }
    }

    fn image(config: &str) -> String {
        let digest = Digest::of(b"");
        format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"{digest}","size":0}},"layers":[]}}"#)
    }

    #[test]
    fn kinds() {
        let image = image(OCI_CONFIG);
        assert!(matches!(parse(&fetched(OCI_MANIFEST, &image), "x").unwrap(), Document::Image(_)));
        assert!(matches!(parse(&fetched("", &image), "x").unwrap(), Document::Image(_)));
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(parse(&fetched(DOCKER_LIST, index), "x").unwrap(), Document::Index(_)));
        assert!(matches!(parse(&fetched("text/plain", index), "x").unwrap(), Document::Index(_)));
    }

    #[test]
    fn refusals() {
        let text = |t: &str, b: &str| parse(&fetched(t, b), "r/x:1").unwrap_err().message;
        assert!(text("", r#"{"schemaVersion":1}"#).contains("Suggest the author of r/x:1"));
        assert!(text(&format!("{SCHEMA1}prettyjws"), "{}").starts_with("[DEPRECATION NOTICE]"));
        assert!(text(OCI_INDEX, r#"{"manifests":[],"layers":[],"config":{}}"#).contains("at once"));
        assert!(text(OCI_MANIFEST, &format!(r#"{{"mediaType":"{OCI_INDEX}","manifests":[]}}"#)).contains("mediaType"));
        assert!(text(OCI_MANIFEST, "<html>").contains("not readable"));
        assert!(text(DOCKER_MANIFEST, &image("application/vnd.docker.plugin.v1+json")).contains("(plugin)"));
        let index = Index { schema_version: 2, media_type: String::new(), manifests: vec![], annotations: None };
        assert_eq!(
            choose(&index, &Platform::parse("linux/s390x").unwrap()).unwrap_err().message,
            "no matching manifest for linux/s390x in the manifest list entries"
        );
    }
}
