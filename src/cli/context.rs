//! What a running command has in its hands: the global options, the streams, the
//! configuration and the daemon, each made when it is first asked for.
//!
//! Invariant: a closed stdout is no failure. Writing notes it, and `main` ends
//! the command as a success.

use crate::cli::config::Config;
use crate::cli::printable::harmless;
use crate::client::Client;
use crate::error::{Error, Result};
use std::cell::OnceCell;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// The options before the command.
#[derive(argh::FromArgs, argh::ArgsInfo, Debug, Default, Clone)]
/// Run programs in containers
#[argh(help_triggers("--help"))]
pub struct Globals {
    /// folder of the client's configuration (default "{config}")
    #[argh(option, arg_name = "string")]
    pub config: Option<String>,
    /// context that names the daemon to use (instead of DOCKER_HOST and of the default set with "docker context use")
    #[argh(option, short = 'c', arg_name = "string")]
    pub context: Option<String>,
    /// show more of what happens
    #[argh(switch, short = 'D')]
    pub debug: bool,
    /// socket of the daemon to use
    #[argh(option, short = 'H', arg_name = "list")]
    pub host: Vec<String>,
    /// least level that is logged ("debug", "info", "warn", "error", "fatal") (default "info")
    #[argh(option, short = 'l', arg_name = "string")]
    pub log_level: Option<String>,
    /// use TLS; --tlsverify implies it
    #[argh(option, arg_name = "bool")]
    pub tls: Option<bool>,
    /// trust only what this CA signed (default "{config}/ca.pem")
    #[argh(option, arg_name = "string")]
    pub tlscacert: Option<String>,
    /// certificate of the client (default "{config}/cert.pem")
    #[argh(option, arg_name = "string")]
    pub tlscert: Option<String>,
    /// key of the client (default "{config}/key.pem")
    #[argh(option, arg_name = "string")]
    pub tlskey: Option<String>,
    /// use TLS and check the daemon's certificate
    #[argh(option, arg_name = "bool")]
    pub tlsverify: Option<bool>,
    /// print the version and stop
    #[argh(switch, short = 'v')]
    pub version: bool,
    #[argh(positional, greedy)]
    pub command: Vec<String>,
}

pub struct Context {
    pub globals: Globals,
    pub out: Stream,
    pub err: Stream,
    /// All arguments, for a plugin.
    pub args: Vec<String>,
    /// The command as the user may type it again: `docker container ls`.
    pub command: String,
    config: OnceCell<Config>,
    client: OnceCell<Client>,
}

impl Context {
    pub fn new(globals: Globals) -> Self {
        Self {
            globals,
            out: Stream::Out(io::stdout()),
            err: Stream::Err(io::stderr()),
            args: Vec::new(),
            command: "docker".into(),
            config: OnceCell::new(),
            client: OnceCell::new(),
        }
    }

    /// `--config`, `DOCKER_CONFIG`, `~/.docker`.
    pub fn config_dir(&self) -> PathBuf {
        config_dir(&self.globals)
    }

    /// The configuration file. One that cannot be read is reported once and counts as empty.
    pub fn config(&self) -> &Config {
        self.config.get_or_init(|| {
            Config::load(&self.config_dir()).unwrap_or_else(|e| {
                let _ = writeln!(io::stderr(), "WARNING: Error loading config file: {e}");
                Config::default()
            })
        })
    }

    /// The daemon. No connection is made yet.
    pub fn client(&self) -> Result<Client> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let endpoint = crate::cli::host::endpoint(self)?;
        let pinned = match std::env::var("DOCKER_API_VERSION") {
            Ok(v) if !v.is_empty() => Some(
                v.trim_start_matches('v')
                    .strip_prefix("1.")
                    .and_then(|m| m.parse().ok())
                    .ok_or_else(|| Error::invalid(format!("invalid API version: {v}")))?,
            ),
            _ => None,
        };
        let client = Client::new(endpoint, self.headers()?, pinned);
        Ok(self.client.get_or_init(|| client).clone())
    }

    /// Headers of every request: those of `DOCKER_CUSTOM_HEADERS`, else those of the
    /// configuration. What names the client cannot be changed.
    fn headers(&self) -> Result<Vec<(String, String)>> {
        let version = crate::cli::version();
        let mut all = vec![("User-Agent".to_owned(), format!("Docker-Client/{version} (linux)"))];
        let own = match std::env::var("DOCKER_CUSTOM_HEADERS") {
            Ok(text) if !text.is_empty() => custom_headers(&text)?,
            _ => self.config().strings("HttpHeaders"),
        };
        all.extend(own.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent")));
        Ok(all)
    }

    /// Asks on stdout, reads a line; only `y` and `yes` agree.
    pub fn confirm(&mut self, question: &str) -> Result<bool> {
        write!(self.out, "{question} [y/N] ")?;
        self.out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks the daemon about several names at once, so that slow ones (a stop that
    /// waits) do not add up. The results are in the order of the names.
    pub fn parallel<T: Send>(
        &self,
        names: &[impl AsRef<str> + Sync],
        one: impl Fn(&Client, &str) -> Result<T> + Sync,
    ) -> Result<Vec<Result<T>>> {
        const AT_ONCE: usize = 50;
        let client = self.client()?;
        if let [name] = names {
            return Ok(vec![one(&client, name.as_ref())]);
        }
        let (client, one) = (&client, &one);
        let run = |chunk: &[_]| {
            std::thread::scope(|scope| {
                let threads: Vec<_> = chunk
                    .iter()
                    .map(|name: &_| {
                        let name = AsRef::<str>::as_ref(name);
                        std::thread::Builder::new()
                            .stack_size(128 * 1024)
                            .spawn_scoped(scope, move || one(client, name))
                    })
                    .collect();
                let gone = || Error::system("a worker thread did not finish");
                threads
                    .into_iter()
                    .map(|t| t.map_err(Error::from).and_then(|t| t.join().unwrap_or_else(|_| Err(gone()))))
                    .collect::<Vec<_>>()
            })
        };
        Ok(names.chunks(AT_ONCE).flat_map(run).collect())
    }

    /// [`Self::parallel`], then prints the name of each that went well; failures are
    /// told together at the end.
    pub fn each(
        &mut self,
        names: &[impl AsRef<str> + Sync],
        one: impl Fn(&Client, &str) -> Result<()> + Sync,
    ) -> Result<std::process::ExitCode> {
        let results = self.parallel(names, one)?;
        let mut failures = Vec::new();
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(()) => writeln!(self.out, "{}", name.as_ref())?,
                Err(e) => failures.push(e),
            }
        }
        Error::join(failures).map(|()| std::process::ExitCode::SUCCESS)
    }

    /// Runs `one` for each name, one after another, and prints the name; failures
    /// are told together at the end.
    pub fn for_each<'n>(
        &mut self,
        names: &'n [String],
        mut one: impl FnMut(&mut Self, &'n str) -> Result<()>,
    ) -> Result<std::process::ExitCode> {
        let mut failures = Vec::new();
        for name in names {
            match one(self, name) {
                Ok(()) => writeln!(self.out, "{name}")?,
                Err(e) => failures.push(e),
            }
        }
        Error::join(failures).map(|()| std::process::ExitCode::SUCCESS)
    }
}

/// `NAME=VALUE,…`; a field in quotes may hold commas.
fn custom_headers(text: &str) -> Result<Vec<(String, String)>> {
    let bad = |why: &str| {
        Error::invalid(format!("failed to parse custom headers from DOCKER_CUSTOM_HEADERS environment variable: {why}"))
    };
    let shape = "value must be formatted as comma-separated key=value pairs";
    let fields = crate::cli::flags::csv(text).map_err(|_| bad(shape))?;
    let mut all = Vec::new();
    for field in &fields {
        let (name, value) = field.split_once('=').ok_or_else(|| bad(shape))?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() {
            return Err(bad(&format!("value contains a key=value pair with an empty key: '{field}'")));
        }
        if !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') || value.bytes().any(|b| b.is_ascii_control()) {
            return Err(bad(&format!("'{field}' is not a header")));
        }
        all.push((name.to_owned(), value.to_owned()));
    }
    Ok(all)
}

pub fn config_dir(globals: &Globals) -> PathBuf {
    let set = |v: Option<std::ffi::OsString>| v.filter(|v| !v.is_empty()).map(PathBuf::from);
    globals
        .config
        .as_deref()
        .filter(|c| !c.is_empty())
        .map(PathBuf::from)
        .or_else(|| set(std::env::var_os("DOCKER_CONFIG")))
        .unwrap_or_else(|| home().join(".docker"))
}

/// `$HOME`; without it the root of the file system, as Go has it.
pub fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether somebody closed the reading end of our stdout.
pub fn stdout_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

/// For those who write to the descriptor itself.
pub fn note_closed() {
    CLOSED.store(true, Ordering::Relaxed);
}

/// Stdout or stderr, written through at the end of each line. What reaches a terminal
/// is made [harmless]; stdout, where people's own formats go, may have colours.
pub enum Stream {
    Out(io::Stdout),
    Err(io::Stderr),
}

impl Stream {
    pub fn is_terminal(&self) -> bool {
        match self {
            Stream::Out(s) => s.is_terminal(),
            Stream::Err(s) => s.is_terminal(),
        }
    }
    /// Past the sieve: our own moves of the cursor, and what a container wrote.
    pub fn raw(&mut self) -> Raw<'_> {
        Raw(self)
    }
    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = match self {
            Stream::Out(s) => s.write(bytes),
            Stream::Err(s) => s.write(bytes),
        };
        self.noted(result)
    }
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let (Stream::Out(_), Err(e)) = (self, &result)
            && e.kind() == io::ErrorKind::BrokenPipe
        {
            CLOSED.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// Columns of the terminal behind a stream, if one is there.
pub fn columns(stream: &Stream) -> Option<usize> {
    let size = match stream {
        Stream::Out(s) => crate::sys::term::window_size(s.as_fd()),
        Stream::Err(s) => crate::sys::term::window_size(s.as_fd()),
    };
    size.ok().map(|(_, columns)| usize::from(columns)).filter(|c| *c > 0)
}

pub struct Raw<'a>(&'a mut Stream);

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.put(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal() {
            return self.put(bytes);
        }
        let shown = harmless(bytes, matches!(self, Stream::Out(_)));
        self.raw().write_all(&shown)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        let result = match self {
            Stream::Out(s) => s.flush(),
            Stream::Err(s) => s.flush(),
        };
        self.noted(result)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("command", &self.command).finish_non_exhaustive()
    }
}
