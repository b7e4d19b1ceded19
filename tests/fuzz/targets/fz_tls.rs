//! The TLS relay: garbage instead of a handshake, a handshake whose bytes are
//! changed under way, records that are none after it, certificates of strangers.

#![no_main]

use coracle::server::request::Peer;
use coracle::server::roles::Roles;
use coracle::server::tls::{Policy, Tls, accept, pump};
use coracle::util::time::Timestamp;
use coracle::util::x509::{self, Key, Purpose, Request};
use libfuzzer_sys::fuzz_target;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

struct World {
    tls: Arc<Tls>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn issue(name: &str, purpose: &Purpose, key: &Key, authority: &Key) -> CertificateDer<'static> {
    let (from, until) = (Timestamp::from_parts(1_600_000_000, 0), Timestamp::from_parts(4_000_000_000, 0));
    let request = Request { name, serial: [7; 16], from, until, purpose };
    x509::certificate(&request, key, "fuzz CA", authority).unwrap().into()
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        // As the daemon does.
        coracle::sys::signal::ignore(&[13]);
        let (authority, server, client) =
            (Key::generate().unwrap(), Key::generate().unwrap(), Key::generate().unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(issue("fuzz CA", &Purpose::Authority, &authority, &authority)).unwrap();
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
        let certificate = issue("localhost", &Purpose::Server(vec!["localhost".into()]), &server, &authority);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate], PrivateKeyDer::try_from(server.pkcs8).unwrap())
            .unwrap();
        let tls = Tls::new(Policy { certificates: Arc::new(config), roles: Roles::parse(&[]).unwrap() });
        let chain = vec![issue("client", &Purpose::Client, &client, &authority)];
        World { tls, roots, chain, key: PrivateKeyDer::try_from(client.pkcs8).unwrap() }
    })
}

/// The server's half, with something behind it that says everything back.
fn serve(network: UnixStream) {
    let mut peer = Peer::default();
    let Ok(session) = accept(&world().tls, network.as_fd(), &mut peer) else { return };
    assert!(peer.verified);
    let mut theirs = UnixStream::from(pump(session, network.into()).unwrap());
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = theirs.read(&mut buffer) {
        if theirs.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
}

/// A client whose bytes are changed at the places that `noise` says.
fn client(network: &UnixStream, certificate: Vec<CertificateDer<'static>>, noise: &[u8], after: &[u8]) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(world().roots.clone())
        .with_client_auth_cert(certificate, world().key.clone_key());
    let Ok(config) = config else { return };
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let (mut network, mut at) = (network, 0usize);
    let mut noise = noise.chunks_exact(3);
    let mut change = noise.next().map(|c| (usize::from(c[0]) * 8 + usize::from(c[1]), c[2]));
    let _ = tls.writer().write_all(b"hello");
    for _ in 0..20 {
        let mut out = Vec::new();
        while tls.wants_write() {
            let _ = tls.write_tls(&mut out);
        }
        for (i, byte) in out.iter_mut().enumerate() {
            if let Some((place, with)) = change
                && place == at + i
            {
                *byte ^= with;
                change = noise.next().map(|c| (at + i + 1 + usize::from(c[0]) * 8 + usize::from(c[1]), c[2]));
            }
        }
        at += out.len();
        if network.write_all(&out).is_err() {
            break;
        }
        if !tls.is_handshaking() {
            break;
        }
        if !matches!(tls.read_tls(&mut network), Ok(1..)) || tls.process_new_packets().is_err() {
            break;
        }
    }
    let _ = network.write_all(after);
    let _ = network.shutdown(Shutdown::Write);
    let mut sink = [0; 4096];
    while let Ok(1..) = network.read(&mut sink) {}
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    if data.len() > 60_000 {
        return;
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    if kind % 4 == 0 {
        let mut client = &ours;
        client.write_all(data).unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        serve(theirs);
        return;
    }
    let server = std::thread::spawn(move || serve(theirs));
    match kind % 4 {
        1 => client(&ours, world().chain.clone(), data, &[]),
        2 => client(&ours, world().chain.clone(), &[], data),
        _ => client(&ours, vec![data.to_vec().into()], &[], &[]),
    }
    drop(ours);
    server.join().unwrap();
});
