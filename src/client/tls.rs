//! TLS to the daemon. The handshake is done before the first request; then a thread
//! of the client carries plain bytes between a socket pair and the connection, so
//! that requests, hijacked streams and half-close look the same on every transport:
//! an end of input becomes a close_notify, a close_notify an end of input.

use crate::client::transport::Trouble;
use crate::error::{Error, Result};
use crate::util::{roots, thread, x509};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, PoisonError};

/// How to prove who we are and what to believe of the daemon.
pub struct Config(Arc<ClientConfig>);

impl Config {
    pub fn new(files: &[(String, Vec<u8>)], skip_verify: bool) -> Result<Self> {
        let file = |name: &str| files.iter().find(|(n, _)| n == name).map(|(_, data)| data.as_slice());
        let provider = Arc::new(ring::default_provider());
        let wrong = |what: &str, e: &dyn std::fmt::Display| Error::invalid(format!("{what}: {e}"));
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong("tls", &e))?;
        let builder = if skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        } else {
            let mut roots = RootCertStore::empty();
            let ca = file("ca.pem").ok_or_else(|| Error::invalid("no CA certificate to verify the daemon with"))?;
            for certificate in CertificateDer::pem_slice_iter(ca) {
                let certificate = certificate.map_err(|e| wrong("failed to read ca.pem", &e))?;
                roots.add(certificate).map_err(|e| wrong("failed to read ca.pem", &e))?;
            }
            if roots.is_empty() {
                return Err(Error::invalid("failed to append certificates from PEM file: ca.pem"));
            }
            builder.with_root_certificates(roots)
        };
        let config = match (file("cert.pem"), file("key.pem")) {
            (Some(cert), Some(key)) => {
                let chain = CertificateDer::pem_slice_iter(cert)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|e| wrong("Could not load X509 key pair", &e))?;
                if key.windows(9).any(|w| w == b"ENCRYPTED") {
                    return Err(Error::invalid("Could not load X509 key pair: the private key is encrypted")
                        .with_hint("decrypt it: openssl pkey -in key.pem -out new.pem && chmod 600 new.pem"));
                }
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| wrong("Could not load X509 key pair", &e))?;
                let fit = builder.with_client_auth_cert(chain, key);
                fit.map_err(|e| wrong("Could not load X509 key pair", &e).with_hint(x509::KEYS))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => {
                return Err(Error::invalid(
                    "Could not load X509 key pair: a certificate needs its key, and a key its certificate",
                ));
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// For a proxy in front of a daemon without TLS: what this machine believes.
    pub fn of_machine() -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(roots::of_machine(|pem| {
            CertificateDer::pem_slice_iter(pem).flatten().collect()
        }));
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::invalid(format!("tls: {e}")))?;
        Ok(Self(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
    }

    /// Shakes hands on `stream` and hands out the plain end.
    pub fn dial(&self, mut stream: UnixStream, authority: &str, trouble: &Trouble) -> io::Result<UnixStream> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(self.0.clone(), name).map_err(io::Error::other)?;
        let mut heard = Heard { stream: &mut stream, first: Vec::new() };
        while connection.is_handshaking() {
            connection.complete_io(&mut heard).map_err(|e| match inner(&e) {
                Some(_) if heard.first == b"HTTP/" => {
                    io::Error::other("http: server gave HTTP response to HTTPS client")
                }
                Some(e) => io::Error::other(format!("tls: {}", words(e))),
                None => e,
            })?;
        }
        let (plain, ours) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        ours.set_nonblocking(true)?;
        let trouble = trouble.clone();
        let body = move || {
            // Signals are the main thread's business.
            let _ = nix::sys::signal::SigSet::all().thread_block();
            let mut relay = Relay { connection, tls: stream, plain: ours, out: Vec::new(), input: true };
            if let Err(e) = relay.run() {
                let text = inner(&e).map_or_else(|| e.to_string(), words);
                *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("remote error: tls: {text}"));
            }
            let _ = relay.plain.shutdown(Shutdown::Both);
        };
        thread::start("work", 256 * 1024, body)?;
        Ok(plain)
    }
}

/// Keeps the first bytes that come: they tell who answered instead.
struct Heard<'a> {
    stream: &'a mut UnixStream,
    first: Vec<u8>,
}

impl Read for Heard<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(out)?;
        let wanted = b"HTTP/".len() - self.first.len();
        self.first.extend_from_slice(&out[..n.min(wanted)]);
        Ok(n)
    }
}

impl Write for Heard<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn inner(e: &io::Error) -> Option<&rustls::Error> {
    e.get_ref()?.downcast_ref()
}

/// The failures people meet, in the words they find with a search engine.
fn words(e: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as E};
    let unverified = |why: &str| format!("failed to verify certificate: x509: {why}");
    match e {
        // An authority of the right name with another key is as unknown.
        E::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            unverified("certificate signed by unknown authority")
        }
        E::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => unverified("certificate has expired"),
        E::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            unverified("certificate is not yet valid")
        }
        E::InvalidCertificate(Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. }) => {
            unverified("certificate specifies an incompatible key usage")
        }
        E::InvalidCertificate(Bad::NotValidForName) => unverified("certificate is not valid for this host"),
        E::InvalidCertificate(why @ Bad::NotValidForNameContext { .. }) => unverified(&why.to_string()),
        E::AlertReceived(Alert::CertificateRequired) => "certificate required".into(),
        E::AlertReceived(Alert::BadCertificate) => "bad certificate".into(),
        E::AlertReceived(Alert::UnknownCA) => "unknown certificate authority".into(),
        E::AlertReceived(Alert::UnsupportedCertificate) => "unsupported certificate".into(),
        E::AlertReceived(Alert::CertificateUnknown) => "unknown certificate".into(),
        E::AlertReceived(Alert::DecryptError) => "error decrypting message: certificate not accepted".into(),
        E::AlertReceived(Alert::CertificateExpired) => "expired certificate".into(),
        E::AlertReceived(Alert::CertificateRevoked) => "revoked certificate".into(),
        E::AlertReceived(Alert::HandshakeFailure) => "handshake failure".into(),
        E::InvalidMessage(_) => "first record does not look like a TLS handshake".into(),
        other => other.to_string(),
    }
}

struct Relay {
    connection: ClientConnection,
    tls: UnixStream,
    plain: UnixStream,
    /// Plain bytes on their way to the client.
    out: Vec<u8>,
    /// The client has not ended its input.
    input: bool,
}

impl Relay {
    fn run(&mut self) -> io::Result<()> {
        let mut ended = false;
        loop {
            if ended && self.out.is_empty() {
                return Ok(());
            }
            let mut tls_flags = PollFlags::empty();
            tls_flags.set(PollFlags::POLLIN, self.out.is_empty() && !ended);
            tls_flags.set(PollFlags::POLLOUT, self.connection.wants_write());
            let mut plain_flags = PollFlags::empty();
            plain_flags.set(PollFlags::POLLIN, self.input && !self.connection.wants_write());
            plain_flags.set(PollFlags::POLLOUT, !self.out.is_empty());
            let mut fds = [PollFd::new(self.tls.as_fd(), tls_flags), PollFd::new(self.plain.as_fd(), plain_flags)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            let [tls, plain] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
            if plain.contains(PollFlags::POLLHUP) && !plain.contains(PollFlags::POLLIN) {
                // The client is done with the connection; what it sent goes out.
                let _ = self.flush();
                return Ok(());
            }
            if tls.contains(PollFlags::POLLOUT) {
                self.flush()?;
            }
            if tls.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) && !ended {
                ended = self.receive()?;
            }
            if plain.contains(PollFlags::POLLIN) {
                self.send()?;
            }
            if !self.out.is_empty() {
                match self.plain.write(&self.out) {
                    Ok(n) => drop(self.out.drain(..n)),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(e) => return Err(e),
                }
            }
        }
    }

    /// Takes what the daemon sent; true at its end.
    fn receive(&mut self) -> io::Result<bool> {
        let end = match self.connection.read_tls(&mut self.tls) {
            Ok(n) => n == 0,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e),
        };
        let state = self.connection.process_new_packets().map_err(io::Error::other);
        if state.is_err() {
            let _ = self.flush();
        }
        let state = state?;
        let mut buffer = vec![0u8; state.plaintext_bytes_to_read()];
        if !buffer.is_empty() {
            let n = self.connection.reader().read(&mut buffer)?;
            self.out.extend_from_slice(&buffer[..n]);
        }
        Ok(end || state.peer_has_closed())
    }

    fn send(&mut self) -> io::Result<()> {
        let mut buffer = [0u8; 16 * 1024];
        match self.plain.read(&mut buffer) {
            Ok(0) => {
                self.input = false;
                self.connection.send_close_notify();
            }
            Ok(n) => self.connection.writer().write_all(&buffer[..n])?,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut self.tls) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// `--tls` without `--tlsverify`: encrypted, with whoever answers. Signatures are
/// still checked, so that the session belongs to the certificate shown.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
