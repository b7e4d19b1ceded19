//! An HTTP server for one test: a closure answers each request, and may stop in
//! the middle of the answer, by hanging up or by falling silent.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

#[derive(Debug, Clone)]
pub struct Ask {
    pub method: String,
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Ask {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
    /// N of `Range: bytes=N-`.
    pub fn range(&self) -> Option<usize> {
        self.header("Range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Whole,
    /// Hang up after so many bytes of the body.
    Cut(usize),
    /// Say nothing more after so many bytes of the body.
    Silent(usize),
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub end: End,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![], body: body.into(), end: End::Whole }
    }
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }
}

pub struct Scripted {
    pub address: String,
    asked: Arc<Mutex<Vec<Ask>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    /// `answer` is not asked for `/v2/` itself, which is always 200.
    pub fn start(answer: impl Fn(&Ask) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with_ping(move |ask| if ask.target == "/v2/" { Reply::new(200, "{}") } else { answer(ask) })
    }

    pub fn start_with_ping(answer: impl Fn(&Ask) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, ended, answer) = (asked.clone(), stop.clone(), Arc::new(answer));
        let thread = std::thread::spawn(move || {
            // Streams that fell silent stay open until the test ends.
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                if let Some(open) = serve(stream.unwrap(), &log, &*answer) {
                    silent.push(open);
                }
            }
        });
        Self { address, asked, stop, thread: Some(thread) }
    }

    /// The image that most of them serve.
    pub fn repo(&self) -> String {
        format!("{}/repo:v1", self.address)
    }

    /// What was asked so far, pings left out.
    pub fn asked(&self) -> Vec<Ask> {
        self.asked.lock().unwrap().iter().filter(|a| a.target != "/v2/").cloned().collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the scripted server panicked");
        }
    }
}

fn read_body(reader: &mut impl BufRead, ask: &Ask) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = ask.header("Content-Length") {
        body.resize(length.parse().unwrap(), 0);
        reader.read_exact(&mut body).ok()?;
    } else if ask.header("Transfer-Encoding").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let start = body.len();
            body.resize(start + size + 2, 0);
            reader.read_exact(&mut body[start..]).ok()?;
            body.truncate(start + size);
            if size == 0 {
                break;
            }
        }
    }
    Some(body)
}

/// One request per connection. Gives the stream back if it shall stay open.
fn serve(mut stream: TcpStream, log: &Mutex<Vec<Ask>>, answer: &dyn Fn(&Ask) -> Reply) -> Option<TcpStream> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            None => break,
            Some((k, v)) => headers.push((k.to_owned(), v.trim().to_owned())),
        }
    }
    let mut ask = Ask { method, target, headers, body: vec![] };
    ask.body = read_body(&mut reader, &ask)?;
    log.lock().unwrap().push(ask.clone());
    let reply = answer(&ask);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !reply.headers.iter().any(|(n, _)| *n == "Content-Length") {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    let (sent, open) = match reply.end {
        End::Whole => (reply.body.len(), false),
        End::Cut(n) => (n.min(reply.body.len()), false),
        End::Silent(n) => (n.min(reply.body.len()), true),
    };
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(b"\r\n").ok()?;
    if ask.method != "HEAD" {
        stream.write_all(&reply.body[..sent]).ok()?;
    }
    open.then_some(stream)
}
