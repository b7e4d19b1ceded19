//! The distribution protocol against registries that misbehave on purpose, and
//! against the real one.

/// Images made on the spot.
mod sample;
/// A server that does as it is told, down to the byte at which it hangs up.
mod scripted;

/// Credentials: what is sent where, and what never is.
mod credentials;
/// The whole of a pull.
mod daemon;
/// Credential helpers, and searching an index.
mod helpers;
/// Blobs over bad links.
mod links;
/// Lists of images made by hand, and what a registry says of a name.
mod manifests;
/// Images for several platforms.
mod platforms;
/// The real registry.
mod real;
/// Pulls that end early.
mod resume;
/// Words on a terminal.
mod terminal;
/// The real registry behind a token service.
mod tokens;
/// Blobs on their way out.
mod uploads;

use coracle::image::registry::auth::Credentials;
use coracle::image::registry::client::Client;
use coracle::image::registry::endpoint::{Endpoint, Settings};
use coracle::image::registry::fault::Result;
use coracle::image::registry::url::Url;
use std::sync::Arc;
use std::time::Duration;

fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        http_proxy: String::new(),
        https_proxy: String::new(),
        stall: Duration::from_millis(400),
        ..Settings::default()
    })
}

fn open_as(server: &scripted::Scripted, credentials: Credentials) -> Result<Arc<Client>> {
    let base = Url::parse(&format!("http://{}/", server.address)).unwrap();
    let endpoint = Endpoint { base, mirror: false, verify: true };
    Client::open(&settings(), &endpoint, "repo", "push,pull", credentials, &Arc::default()).map(Arc::new)
}

fn open(server: &scripted::Scripted) -> Arc<Client> {
    open_as(server, Credentials::default()).unwrap()
}
