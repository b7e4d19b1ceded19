//! The whole server with an engine behind it: connections that come in pieces, over unix
//! sockets and TCP, to every route. No request may end it, keep a thread or keep a descriptor.
//! Wants namespaces of its own, the network's among them (see README.md).

#![no_main]

use coracle::api::version;
use coracle::engine::{Engine, EngineConfig, Parts};
use coracle::server::Server;
use coracle::server::accept::{Acceptor, Listener};
use coracle::server::origin::Rules;
use coracle::storage::vfs::Vfs;
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

struct World {
    socket: PathBuf,
    address: SocketAddr,
    runs: AtomicUsize,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        coracle::sys::signal::ignore(&[13]);
        let place = PathBuf::from(format!("/dev/shm/fz-server-{}", std::process::id()));
        let (data, run) = (place.join("data"), place.join("run"));
        std::fs::create_dir_all(&data).unwrap();
        // Nobody starts containers here: whoever asks for it hears that the spawner is gone.
        let (spawner, _) = UnixStream::pair().unwrap();
        let driver = Arc::new(Vfs::open(&data.join("vfs")).unwrap());
        let engine = Engine::new(EngineConfig::new(data, run), Parts { spawner: spawner.into(), driver }).unwrap();
        let server = Server::new(engine, version::PRODUCT, version::MIN, false, Rules::default()).unwrap();
        let socket = place.join("api.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        let listeners = vec![Listener::Unix(UnixListener::bind(&socket).unwrap()), Listener::Tcp(tcp, None)];
        std::mem::forget(Acceptor::start(server, listeners).unwrap());
        let world = World { socket, address, runs: AtomicUsize::new(0) };
        renew(&world);
        world
    })
}

/// One answer, read to the end of the connection.
fn ask(world: &World, method: &str, target: &str, kind: &str, body: &[u8]) -> String {
    let mut stream = UnixStream::connect(&world.socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// An image, a container, a volume and a network, and nothing else.
fn renew(world: &World) {
    for target in ["/containers", "/volumes", "/networks", "/images", "/build"] {
        ask(world, "POST", &format!("{target}/prune?all=1"), "application/json", b"");
    }
    let mut tar = [0; 2048];
    tar[..2].copy_from_slice(b"a/");
    tar[100..108].copy_from_slice(b"0000755\0");
    tar[124..136].copy_from_slice(b"00000000000\0");
    tar[156] = b'5';
    let tar = coracle_fuzz::mend_tar(&tar);
    ask(world, "POST", "/images/create?fromSrc=-&repo=i", "application/x-tar", &tar);
    ask(world, "POST", "/volumes/create", "application/json", br#"{"Name":"vv"}"#);
    ask(world, "POST", "/networks/create", "application/json", br#"{"Name":"nn","Driver":"null"}"#);
    let made = ask(world, "POST", "/containers/create?name=cc", "application/json", br#"{"Image":"i","Cmd":["a"]}"#);
    assert!(made.starts_with("HTTP/1.1 201") || made.starts_with("HTTP/1.1 409"), "{made}");
}

fn count(dir: &str) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Sends the pieces that a line of `~` parts, and goes when there is nothing to hear.
fn talk<S: Read + Write>(mut stream: S, data: &[u8], end: impl Fn(&S)) {
    let mut sink = [0; 16 << 10];
    let mut rest = data;
    while !rest.is_empty() {
        let cut = rest.windows(3).position(|w| w == b"~~\n");
        let (piece, after) = cut.map_or((rest, &[][..]), |at| (&rest[..at], &rest[at + 3..]));
        rest = after;
        if stream.write_all(piece).is_err() {
            return;
        }
        if !rest.is_empty() {
            let _ = stream.read(&mut sink);
        }
    }
    end(&stream);
    while let Ok(1..) = stream.read(&mut sink) {}
}

const PATIENCE: Duration = Duration::from_millis(5);

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let world = world();
    if kind % 2 == 0 {
        let stream = UnixStream::connect(&world.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        talk(stream, data, |s| drop(s.shutdown(Shutdown::Write)));
    } else {
        let stream = TcpStream::connect(world.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        talk(stream, data, |s| drop(s.shutdown(Shutdown::Write)));
    }
    let runs = world.runs.fetch_add(1, Ordering::Relaxed);
    if runs % 16 == 0 {
        let pong = ask(world, "GET", "/_ping", "text/plain", b"");
        assert!(pong.starts_with("HTTP/1.1 200") && pong.ends_with("OK"), "{pong}");
    }
    if runs % 256 == 255 {
        renew(world);
        // Those that still notice that their client is gone need a moment.
        for pause in 0.. {
            let (threads, files) = (count("/proc/self/task"), count("/proc/self/fd"));
            if threads < 40 && files < 100 {
                break;
            }
            assert!(pause < 60, "{threads} threads and {files} descriptors stay");
            std::thread::sleep(Duration::from_secs(1));
        }
    }
});
