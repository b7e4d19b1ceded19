//! What the daemon keeps about registries between requests: the settings and
//! the transfers under way. One per engine, any thread.

use super::auth::Credentials;
use super::client::{Client, Fetched, Headline};
use super::endpoint::{Settings, endpoints};
use super::fault::{Class, Fault, Result};
use super::transfer::Transfers;
use super::transport::Cancel;
use crate::image::reference::Reference;
use std::sync::{Arc, PoisonError, RwLock};

#[derive(Debug)]
pub struct Service {
    settings: RwLock<Arc<Settings>>,
    pub downloads: Arc<Transfers>,
}

/// A manifest that was found, as far as it is known yet.
pub enum Found {
    Headline(Headline),
    Whole(Fetched),
}

impl Found {
    /// Fetches what HEAD only named.
    pub fn whole(self, client: &Client) -> Result<Fetched> {
        match self {
            Found::Whole(fetched) => Ok(fetched),
            Found::Headline(h) => client.manifest(&h.digest.to_string()),
        }
    }
}

impl Service {
    /// `ordered`: the storage driver needs a layer's parent first.
    pub fn new(settings: Settings, ordered: bool) -> Self {
        let downloads = Transfers::new(settings.max_downloads, ordered);
        Self { settings: RwLock::new(Arc::new(settings)), downloads }
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For a configuration that was re-read.
    pub fn set_settings(&self, settings: Settings) {
        self.downloads.set_limit(settings.max_downloads);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

/// The first endpoint of the repository's registry that `attempt` succeeds at.
/// A mirror may fail in any way; another endpoint is given up only when it
/// cannot be spoken with.
pub fn at_endpoint<T>(
    settings: &Arc<Settings>,
    repository: &Reference,
    actions: &str,
    credentials: &Credentials,
    cancel: &Arc<Cancel>,
    mut attempt: impl FnMut(&Arc<Client>) -> Result<T>,
) -> Result<(Arc<Client>, T)> {
    let mut last = None;
    for endpoint in endpoints(settings, repository.domain(), actions == "pull") {
        let opened = Client::open(settings, &endpoint, repository.path(), actions, credentials.clone(), cancel);
        let result = opened.map(Arc::new).and_then(|client| attempt(&client).map(|found| (client, found)));
        match result {
            Ok(found) => return Ok(found),
            Err(fault) if endpoint.mirror && fault.class != Class::Cancelled => last = Some(fault),
            Err(fault) if matches!(fault.class, Class::Dial | Class::Tls | Class::Link) => last = Some(fault),
            Err(fault) => return Err(fault),
        }
    }
    Err(last.unwrap_or_else(|| Fault::new(Class::Dial, format!("no endpoint for {}", repository.domain()))))
}

/// Finds what `reference` stands for: by HEAD, which registries do not count as
/// a pull; a refused HEAD has no body, so GET is asked for the reason.
pub fn find_manifest(client: &Client, reference: &str) -> Result<Found> {
    match client.head_manifest(reference) {
        Ok(Some(headline)) => Ok(Found::Headline(headline)),
        Ok(None) => client.manifest(reference).map(Found::Whole),
        // These are about the request as a whole, not about the manifest.
        Err(fault)
            if fault.request.is_some()
                || matches!(fault.class, Class::Cancelled | Class::Limited(_) | Class::NoCredentials) =>
        {
            Err(fault)
        }
        Err(_) => client.manifest(reference).map(Found::Whole),
    }
}

/// The part of a reference that the registry is asked for: a digest outranks a tag.
pub fn wanted(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}
