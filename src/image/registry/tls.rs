//! What a registry's certificate is checked against: the host's CA bundle and
//! the registry's own directory in certs.d. Runs where a connection is made.
//!
//! Invariant: a file that is there but cannot be used is an error, never
//! silently a weaker check.

use super::endpoint::Settings;
use crate::error::{Context, Error, Result};
use crate::util::order;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// The TLS rules for the registry `authority`.
pub fn config(settings: &Settings, authority: &str, verify: bool) -> Result<TlsConfig> {
    let own = HostFiles::find(&settings.certs_dirs, authority)?;
    let mut builder = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .disable_verification(!verify);
    let mut roots = Vec::new();
    if verify {
        roots = crate::util::roots::of_machine(parse_certificates);
        for path in &own.authorities {
            roots.extend(certificates(path)?);
        }
    }
    builder = builder.root_certs(RootCerts::Specific(Arc::new(roots)));
    if let Some((cert, key)) = &own.client {
        builder = builder.client_cert(Some(client_certificate(cert, key)?));
    }
    Ok(builder.build())
}

fn parse_certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(c)) => Some(c),
            _ => None,
        })
        .collect()
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let pem = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let found = parse_certificates(&pem);
    if found.is_empty() {
        return Err(Error::system(format!("{}: no PEM certificate in it", path.display())));
    }
    Ok(found)
}

fn client_certificate(cert: &Path, key: &Path) -> Result<ClientCert> {
    let chain = certificates(cert)?;
    let pem = fs::read(key).with_context(|| format!("read {}", key.display()))?;
    let secret = PrivateKey::from_pem(&pem)
        .map_err(|e| Error::system(format!("{}: no PEM private key in it: {e}", key.display())))?;
    // ureq takes it for granted that the two fit each other.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let der = rustls::pki_types::PrivateKeyDer::try_from(secret.der().to_vec())
        .map_err(|e| Error::system(format!("{}: {e}", key.display())))?;
    let ders = chain.iter().map(|c| rustls::pki_types::CertificateDer::from(c.der().to_vec())).collect();
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::system(e.to_string()))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_client_auth_cert(ders, der)
        .map_err(|e| Error::system(format!("{} does not fit {}: {e}", key.display(), cert.display())))?;
    Ok(ClientCert::new_with_certs(&chain, secret))
}

/// `certs.d/HOST[:PORT]` sorted into its roles, as dockerd(8) reads it.
#[derive(Debug, Default, PartialEq, Eq)]
struct HostFiles {
    authorities: Vec<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

impl HostFiles {
    fn find(dirs: &[PathBuf], authority: &str) -> Result<Self> {
        // A reference cannot carry a slash here, but a mirror's URL is anyone's.
        if authority.contains('/') || authority.starts_with('.') {
            return Ok(Self::default());
        }
        for dir in dirs {
            let dir = dir.join(authority);
            if let Ok(entries) = fs::read_dir(&dir) {
                let mut names: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
                order::sort(&mut names);
                return Self::sort(names);
            }
        }
        Ok(Self::default())
    }

    fn sort(paths: Vec<PathBuf>) -> Result<Self> {
        let mut found = Self::default();
        for path in &paths {
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => found.authorities.push(path.clone()),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !paths.contains(&key) {
                        let (cert, key) = (path.display(), key.display());
                        return Err(Error::system(format!("missing key {key} for client certificate {cert}"))
                            .with_hint("CA certificates must use the extension .crt"));
                    }
                    found.client.get_or_insert((path.clone(), key));
                }
                Some("key") if !paths.contains(&path.with_extension("cert")) => {
                    let (cert, key) = (path.with_extension("cert"), path.display());
                    return Err(Error::system(format!("missing client certificate {} for key {key}", cert.display())));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sort(names: &[&str]) -> Result<HostFiles> {
        HostFiles::sort(names.iter().map(PathBuf::from).collect())
    }

    #[test]
    fn roles() {
        let f = sort(&["d/a.crt", "d/b.cert", "d/b.key", "d/readme"]).unwrap();
        assert_eq!(f.authorities, [PathBuf::from("d/a.crt")]);
        assert_eq!(f.client, Some(("d/b.cert".into(), "d/b.key".into())));
    }

    #[test]
    fn halves_are_refused() {
        assert!(sort(&["d/b.cert"]).unwrap_err().message().starts_with("missing key d/b.key"));
        assert!(sort(&["d/b.key"]).unwrap_err().message().starts_with("missing client certificate d/b.cert"));
    }

    #[test]
    fn no_way_out_of_the_directory() {
        assert_eq!(HostFiles::find(&["/".into()], "../etc").unwrap(), HostFiles::default());
    }
}
