//! Debian's docker-registry on a port of its own, as a test wants it configured,
//! and a CONNECT proxy that leads invented names to it.

use super::command::eventually;
use super::{Scratch, probe};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub struct Registry {
    pub address: String,
    child: Child,
    dir: PathBuf,
}

impl Registry {
    pub fn needs() -> probe::Need {
        probe::program("docker-registry", "docker-registry")
    }

    /// `more` is YAML at the top level; `http` what stands below `http:`, indented by two.
    pub fn start(scratch: &Scratch, name: &str, http: &str, more: &str) -> Self {
        let dir = scratch.dir(name);
        for _ in 0..10 {
            // Whoever takes the port meanwhile makes the registry end at once.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let address = format!("127.0.0.1:{port}");
            let config = format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp:\n  addr: {address}\n  secret: x\n{http}{more}",
                dir.join("data").display()
            );
            let path = scratch.file(&format!("{name}/config.yml"), config);
            let log = std::fs::File::create(dir.join("log")).unwrap();
            let child = Command::new(probe::find("docker-registry").unwrap())
                .arg("serve")
                .arg(path)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            let mut registry = Self { address, child, dir: dir.clone() };
            let mut ended = false;
            eventually("the registry's port", || {
                ended = registry.child.try_wait().unwrap().is_some();
                ended || TcpStream::connect(&registry.address).is_ok()
            });
            if !ended {
                return registry;
            }
        }
        panic!("docker-registry does not start: {}", std::fs::read_to_string(dir.join("log")).unwrap_or_default());
    }

    pub fn plain(scratch: &Scratch) -> Self {
        Self::start(scratch, "registry", "", "")
    }

    pub fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// What it has stored of a blob.
    pub fn blob(&self, hex: &str) -> Option<Vec<u8>> {
        let path = format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        std::fs::read(self.dir.join(path)).ok()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- docker-registry\n{}", self.log());
        }
    }
}

/// A proxy that knows CONNECT and leads every name to one address.
pub struct Proxy {
    pub address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `authorization`: what Proxy-Authorization must be, if anything.
    pub fn start(target: &str, authorization: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, target, authorization) = (asked.clone(), target.to_owned(), authorization.map(str::to_owned));
        // Lives as long as the test process: nobody waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, target, authorization) = (log.clone(), target.clone(), authorization.clone());
                std::thread::spawn(move || lead(stream, &log, &target, authorization.as_deref()));
            }
        });
        Self { address, asked }
    }

    /// The names that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn lead(mut stream: TcpStream, log: &Mutex<Vec<String>>, target: &str, authorization: Option<&str>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let name = line.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    let mut allowed = authorization.is_none();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            None => break,
            Some((key, value)) => {
                allowed |= key.eq_ignore_ascii_case("proxy-authorization") && Some(value) == authorization;
            }
        }
    }
    if !allowed {
        log.lock().unwrap().push(format!("refused {name}"));
        return stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").ok();
    }
    log.lock().unwrap().push(name);
    let upstream = TcpStream::connect(target).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut to, mut from, mut back) = (upstream.try_clone().ok()?, upstream, stream);
    let forth = std::thread::spawn(move || {
        let _ = std::io::copy(&mut reader, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = vec![0; 65536];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || back.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = back.shutdown(Shutdown::Both);
    let _ = forth.join();
    Some(())
}

/// A stretch of wire to `target` that breaks: the n-th connection is cut after so
/// many bytes of answers as `cut(n)` says.
pub struct Relay {
    pub address: String,
    cuts: Arc<AtomicUsize>,
}

impl Relay {
    pub fn start(target: &str, cut: impl Fn(usize) -> Option<usize> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cuts = Arc::new(AtomicUsize::new(0));
        let (count, target) = (cuts.clone(), target.to_owned());
        // Lives as long as the test process: nobody waits for it.
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().flatten().enumerate() {
                let (count, target, limit) = (count.clone(), target.clone(), cut(n));
                std::thread::spawn(move || carry(&stream, &target, limit, &count));
            }
        });
        Self { address, cuts }
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn carry(client: &TcpStream, target: &str, limit: Option<usize>, cuts: &AtomicUsize) -> Option<()> {
    let server = TcpStream::connect(target).ok()?;
    let (mut to, mut from) = (server.try_clone().ok()?, client.try_clone().ok()?);
    let forth = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut answers = server.take(limit.map_or(u64::MAX, |n| n as u64));
    let _ = std::io::copy(&mut answers, &mut &*client);
    if answers.limit() == 0 {
        cuts.fetch_add(1, Ordering::SeqCst);
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = forth.join();
    Some(())
}
