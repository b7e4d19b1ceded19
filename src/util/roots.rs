//! The authorities that this machine believes, as one PEM text. Any thread.

use std::path::PathBuf;

/// Debian and most others, Fedora, openSUSE, old Red Hat, Alpine, the BSD way.
const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What `parse` makes of `SSL_CERT_FILE`, else of the first bundle that has something in it.
/// An empty list is no error: the handshake says `certificate signed by unknown authority`,
/// which is what it comes to.
pub fn of_machine<T>(parse: impl Fn(&[u8]) -> Vec<T>) -> Vec<T> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let paths = named.into_iter().chain(BUNDLES.iter().map(PathBuf::from));
    paths
        .filter_map(|path| std::fs::read(path).ok())
        .map(|pem| parse(&pem))
        .find(|all| !all.is_empty())
        .unwrap_or_default()
}
