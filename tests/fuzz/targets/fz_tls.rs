//! TLS: garbage instead of a handshake, a handshake whose bytes are changed under
//! way, records that are none after it, certificates of strangers, requests inside.

#![no_main]

use coracle::server::http::inbound::Inbound;
use coracle::server::http::socket::Socket;
use coracle::server::request::Peer;
use coracle::server::roles::Roles;
use coracle::server::tls::{Policy, Tls, accept};
use coracle::util::time::Timestamp;
use coracle::util::x509::{self, Key, Purpose, Request};
use libfuzzer_sys::fuzz_target;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SignatureScheme};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

struct World {
    tls: Arc<Tls>,
    roots: Arc<RootCertStore>,
    key: PrivateKeyDer<'static>,
    /// Of TLS 1.3 and of 1.2.
    clients: [Arc<ClientConfig>; 2],
}

/// Shows whatever it is told to.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

fn client_config(
    roots: &Arc<RootCertStore>,
    chain: CertificateDer<'static>,
    key: &PrivateKeyDer<'_>,
    old: bool,
) -> Arc<ClientConfig> {
    let key = rustls::crypto::ring::sign::any_supported_type(key).unwrap();
    let shown = Arc::new(Shown(Arc::new(CertifiedKey::new(vec![chain], key))));
    let version = if old { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_client_cert_resolver(shown);
    // Each input is to do the same whatever came before it.
    config.resumption = Resumption::disabled();
    Arc::new(config)
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
        let shown = issue("client", &Purpose::Client, &client, &authority);
        let key = PrivateKeyDer::try_from(client.pkcs8).unwrap();
        let clients = [false, true].map(|old| client_config(&roots, shown.clone(), &key, old));
        World { tls, roots, key, clients }
    })
}

/// Two sides that wait for each other, because a length was changed, wait no longer.
const PATIENCE: Duration = Duration::from_millis(10);

/// The server's half: as a connection that was taken over, with something behind it
/// that says everything back, or as one with requests.
fn serve(network: UnixStream, taken_over: bool) {
    let socket = Socket::new(network.into());
    let mut peer = Peer::default();
    let Ok(session) = accept(&world().tls, socket.as_fd(), &mut peer) else { return };
    assert!(peer.verified);
    socket.secure(session);
    if !taken_over {
        let mut inbound = Inbound::new(socket.clone(), Some(PATIENCE));
        let mut body = Vec::new();
        while inbound.head(PATIENCE, PATIENCE).is_ok() {
            let read = inbound.read_to_end(&mut body);
            if (&*socket).write_all(&body).is_err() || read.is_err() || !inbound.finished() {
                break;
            }
        }
        return socket.linger();
    }
    let mut theirs = UnixStream::from(socket.hand_over().unwrap());
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = theirs.read(&mut buffer) {
        if theirs.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
}

/// What a client does with its bytes.
#[derive(Default)]
struct Ways<'a> {
    /// Three bytes a change: how far behind the last one, and with what.
    noise: &'a [u8],
    /// Inside the session.
    plain: &'a [u8],
    /// Behind it, as they are.
    raw: &'a [u8],
}

fn client(mut network: &UnixStream, config: Arc<ClientConfig>, ways: &Ways<'_>) {
    network.set_read_timeout(Some(PATIENCE)).unwrap();
    network.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut tls = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
    let mut at = 0usize;
    let mut noise = ways.noise.chunks_exact(3);
    let mut change = noise.next().map(|c| (usize::from(c[0]) * 8 + usize::from(c[1]), c[2]));
    let _ = tls.writer().write_all(ways.plain);
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
        if network.write_all(&out).is_err() || !tls.is_handshaking() {
            break;
        }
        if !matches!(tls.read_tls(&mut network), Ok(1..)) || tls.process_new_packets().is_err() {
            break;
        }
    }
    let _ = network.write_all(ways.raw);
    let _ = network.shutdown(Shutdown::Write);
    let mut sink = [0; 4096];
    while let Ok(1..) = network.read(&mut sink) {}
}

const REQUEST: &[u8] = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    if data.len() > 60_000 {
        return;
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    let taken_over = kind & 0x40 != 0;
    if kind % 8 == 0 {
        let mut client = &ours;
        client.write_all(data).unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        serve(theirs, taken_over);
        return;
    }
    let old = kind & 0x80 != 0;
    let trusted = world().clients[usize::from(old)].clone();
    let (config, ways) = match kind % 8 {
        1 => (trusted, Ways { noise: data, plain: REQUEST, raw: &[] }),
        2 => (trusted, Ways { raw: data, plain: REQUEST, noise: &[] }),
        3 => (client_config(&world().roots, data.to_vec().into(), &world().key, old), Ways::default()),
        _ => (trusted, Ways { plain: data, ..Ways::default() }),
    };
    let server = std::thread::spawn(move || serve(theirs, taken_over));
    client(&ours, config, &ways);
    drop(ours);
    server.join().unwrap();
});
