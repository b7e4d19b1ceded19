//! `POST /auth`: are these credentials good at that registry? Runs in dockerd;
//! nothing is kept, the client stores what it wants.

use crate::api::registry::{AuthConfig, AuthReply};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::image::registry::auth::Credentials;
use crate::image::registry::client::Client;
use crate::image::registry::endpoint::{HUB, endpoints};
use crate::image::registry::fault::Class;
pub use crate::image::registry::transport::Cancel;
use std::sync::Arc;

pub fn credentials(auth: &AuthConfig) -> Credentials {
    Credentials {
        username: auth.username.clone(),
        password: auth.password.clone(),
        identity_token: auth.identitytoken.clone(),
        registry_token: auth.registrytoken.clone(),
    }
}

/// `https://host:port/v1/` is how old clients name `host:port`.
fn domain(server: &str) -> &str {
    let server = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match server.split('/').next() {
        None | Some("") => HUB,
        Some(host) => host,
    }
}

pub fn login(engine: &Engine, auth: &AuthConfig, cancel: &Arc<Cancel>) -> Result<AuthReply> {
    let settings = engine.registries.settings();
    let mut last = None;
    for endpoint in endpoints(&settings, domain(&auth.serveraddress), false) {
        let client = Client::open(&settings, &endpoint, "", "", credentials(auth), cancel);
        match client.and_then(|c| c.login()) {
            Ok(identity_token) => return Ok(AuthReply { identity_token, status: "Login Succeeded".into() }),
            Err(fault) if matches!(fault.class, Class::Dial | Class::Tls | Class::Link) => last = Some(fault),
            Err(fault) => return Err(fault.into()),
        }
    }
    Err(last.map_or_else(|| Error::invalid("no such registry"), Error::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        assert_eq!(domain(""), HUB);
        assert_eq!(domain("https://index.docker.io/v1/"), "index.docker.io");
        assert_eq!(domain("reg.io:5000"), "reg.io:5000");
        assert_eq!(domain("http://reg.io:5000/v2/"), "reg.io:5000");
    }
}
