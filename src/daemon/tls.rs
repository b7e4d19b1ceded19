//! `--tls`, `--tlsverify` and their files → what rustls needs. Main thread, at
//! start and on SIGHUP.
//!
//! TLS is on with `--tls`, and whenever `--tlsverify` is mentioned at all. Clients
//! must show a certificate of the CA unless `--tlsverify=false` was said.

use super::config::Config;
use crate::error::{Error, Result, errno_text};
use crate::server::roles::Roles;
use crate::server::tls::Policy;
use crate::util::{time, x509};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether clients have to show a certificate.
pub fn verifies(config: &Config) -> bool {
    config.tls_asked() && config.bool("tlsverify", true)
}

/// None if TLS was not asked for.
pub fn load(config: &Config) -> Result<Option<Policy>> {
    let roles = Roles::parse(&config.map("tls-roles"))?;
    if !roles.is_empty() && !verifies(config) {
        return Err(Error::invalid("--tls-role needs client certificates")
            .with_hint("add --tlsverify: without it nobody shows a certificate that could have a role"));
    }
    if !config.tls_asked() {
        return Ok(None);
    }
    let certificates = build(config).map_err(|e| e.context("invalid TLS configuration"))?;
    Ok(Some(Policy { certificates, roles }))
}

fn build(config: &Config) -> Result<Arc<ServerConfig>> {
    let (dir, own) = (config.places.certificates(), config.places.authority());
    // What `--tls-init` made is used where dockerd's own default is not there.
    let own = (!dir.join("cert.pem").exists() && own.join("server-cert.pem").exists()).then_some(own);
    let file = |key: &str, name: &str, ours: &str| match (config.text(key, ""), &own) {
        ("", Some(own)) => own.join(ours),
        ("", None) => dir.join(name),
        (path, _) => PathBuf::from(path),
    };
    let cert = file("tlscert", "cert.pem", "server-cert.pem");
    let key = file("tlskey", "key.pem", "server-key.pem");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::system(e.to_string()))?;
    let (chain, private) = key_pair(&cert, &key)?;
    let builder = if verifies(config) {
        let authority = file("tlscacert", "ca.pem", "ca.pem");
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(&authority)?, provider)
            .with_crls(revocations(&authority.with_file_name("crl.pem"))?)
            .allow_unknown_revocation_status()
            .build()
            .map_err(|e| Error::invalid(format!("cannot use the CA certificates of {}: {e}", authority.display())))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut server = builder
        .with_single_cert(chain, private)
        .map_err(|e| pair_error(&cert, &key, &e.to_string()).with_hint(x509::KEYS))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A ticket would let a client back in after its certificate was revoked.
    server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(Arc::new(server))
}

fn pair_error(cert: &Path, key: &Path, why: &str) -> Error {
    Error::invalid(format!(
        "Could not load X509 key pair (cert: \"{}\", key: \"{}\"): {why}",
        cert.display(),
        key.display()
    ))
}

fn key_pair(cert: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let fail = |why: String| pair_error(cert, key, &why);
    let read = |path: &Path| {
        std::fs::read(path).map_err(|e| {
            fail(format!("open {}: {}", path.display(), errno_text(&e))).with_hint(
                "make certificates with: dockerd --tls-init (or docker tls init), or name yours with --tlscert and --tlskey",
            )
        })
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| fail(format!("{}: {e}", cert.display())))?;
    let Some(first) = chain.first() else {
        return Err(fail(format!("tls: failed to find any PEM data in certificate input {}", cert.display())));
    };
    let text = read(key)?;
    judge_key(key, &text).map_err(|(why, hint)| fail(why).with_hint(hint))?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|e| fail(format!("{}: {e}", key.display())))?;
    let facts =
        x509::facts(first.as_ref()).ok_or_else(|| fail(format!("{}: not an X.509 certificate", cert.display())))?;
    let now = time::now();
    if now > facts.until {
        return Err(fail(format!("the certificate expired at {}", time::rfc3339_nano(facts.until))));
    }
    if now < facts.from {
        let hint = "check this machine's clock";
        return Err(
            fail(format!("the certificate is not valid before {}", time::rfc3339_nano(facts.from))).with_hint(hint)
        );
    }
    Ok((chain, private))
}

/// What makes a key file unusable, and what to do.
fn judge_key(path: &Path, text: &[u8]) -> std::result::Result<(), (String, String)> {
    let shown = path.display();
    let text = String::from_utf8_lossy(text);
    if text.contains("ENCRYPTED") {
        return Err((
            format!("private key {shown} is encrypted, and nobody is there to type its pass phrase"),
            format!("decrypt it: openssl pkey -in {shown} -out new.pem && chmod 600 new.pem"),
        ));
    }
    let mode = std::fs::metadata(path).map_or(0, |m| m.permissions().mode());
    if mode & 0o007 != 0 {
        return Err((
            format!("private key {shown} can be read by everybody on this machine (mode {:04o})", mode & 0o7777),
            format!("chmod 600 {shown}, and make a new key if others may have seen this one"),
        ));
    }
    Ok(())
}

fn roots(path: &Path) -> Result<Arc<RootCertStore>> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|e| {
        Error::invalid(format!("could not read CA certificate \"{shown}\": open {shown}: {}", errno_text(&e)))
    })?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate =
            certificate.map_err(|e| Error::invalid(format!("could not read CA certificate \"{shown}\": {e}")))?;
        store
            .add(certificate)
            .map_err(|e| Error::invalid(format!("could not read CA certificate \"{shown}\": {e}")))?;
    }
    if store.is_empty() {
        return Err(Error::invalid(format!("failed to append certificates from PEM file: \"{shown}\"")));
    }
    Ok(Arc::new(store))
}

/// The list beside the CA's certificate; none is fine, a broken one is not.
fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::invalid(format!("could not read {}: {}", path.display(), errno_text(&e)))),
    };
    CertificateRevocationListDer::pem_slice_iter(&text)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::invalid(format!("could not read the revocation list {}: {e}", path.display())))
}
