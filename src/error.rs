//! The one error type: a kind that callers match on, a sentence for people, a
//! hint that says the way out, and the cause.
//!
//! Invariant: nobody matches on the text. The server maps kinds to HTTP status
//! in `server/status.rs`, the client maps them to exit codes in `cli/exit.rs`;
//! those two tables are the only ones.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Closed list of what can go wrong, as the API distinguishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 404
    NotFound,
    /// 400
    Invalid,
    /// 409
    Conflict,
    /// 304, no body
    NotModified,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 501
    NotImplemented,
    /// 503
    Unavailable,
    /// 500
    System,
    /// The client went away or asked to stop; nothing is sent.
    Cancelled,
}

/// `message` is lower-case with no full stop, "what was attempted on which
/// object: cause", or Docker's canonical text verbatim where programs match it.
pub struct Error(Box<Inner>);

/// Behind a pointer: an error is part of nearly every result, and what is moved
/// at every `?` should be one word.
struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self::make(kind, message.into(), None)
    }
    #[cold]
    #[inline(never)]
    fn make(kind: Kind, message: String, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(Box::new(Inner { kind, message, hint: None, source }))
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Kind::Forbidden, message)
    }
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(Kind::NotImplemented, message)
    }
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(Kind::System, message)
    }
    pub fn not_modified() -> Self {
        Self::new(Kind::NotModified, "not modified")
    }
    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "context canceled")
    }

    pub fn cancelled_with(message: impl Into<String>) -> Self {
        Self::new(Kind::Cancelled, message)
    }

    /// Docker's text, which SDKs match on.
    pub fn no_such_container(name: &str) -> Self {
        Self::not_found(format!("No such container: {name}"))
    }
    /// Docker's text, which SDKs match on.
    pub fn no_such_image(name: &str) -> Self {
        Self::not_found(format!("No such image: {name}"))
    }
    /// Docker's text, which SDKs match on.
    pub fn no_such_exec(id: &str) -> Self {
        Self::not_found(format!("No such exec instance: {id}"))
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }
    /// Puts `what` in front of the message; the kind stays.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> Self {
        self.prefix(&what)
    }
    // What follows a failure is one call wherever it happens.
    #[cold]
    #[inline(never)]
    fn prefix(mut self, what: &dyn fmt::Display) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }
    /// Puts what else is to be known behind the message, in parentheses.
    #[must_use]
    pub fn followed_by(mut self, what: impl fmt::Display) -> Self {
        self.0.message = format!("{} ({what})", self.0.message);
        self
    }
    /// Several failures told as one, a line each; nothing failed is `Ok`.
    pub fn join(errors: Vec<Self>) -> Result<()> {
        let mut errors = errors.into_iter();
        let Some(mut first) = errors.next() else { return Ok(()) };
        for e in errors {
            first.0.message.push('\n');
            first.0.message.push_str(&e.0.message);
        }
        Err(first)
    }
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// The disk (or the user's share of it) is full.
    pub fn is_no_space(&self) -> bool {
        let io = self.0.source.as_ref().and_then(|s| s.downcast_ref::<std::io::Error>());
        matches!(io.and_then(std::io::Error::raw_os_error), Some(libc::ENOSPC | libc::EDQUOT))
    }
    pub fn hint(&self) -> Option<&str> {
        const FULL: &str =
            "docker system df shows what takes the space, docker system prune removes what nothing needs";
        self.0.hint.as_deref().or_else(|| self.is_no_space().then_some(FULL))
    }
    /// The sentence and the way out as one line, for those who have one for both.
    pub fn told(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self} ({hint})"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        if let Some(hint) = &self.0.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

/// Turns foreign errors into ours with a sentence on what was attempted.
pub trait Context<T> {
    /// `what` is "verb object", e.g. "open /etc/subuid".
    fn context(self, what: impl fmt::Display) -> Result<T>;
    fn with_context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.into().prefix(&what))
    }
    fn with_context<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| e.into().prefix(&what()))
    }
}

impl From<std::io::Error> for Error {
    #[cold]
    #[inline(never)]
    fn from(e: std::io::Error) -> Self {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => Kind::NotFound,
            std::io::ErrorKind::PermissionDenied => Kind::Forbidden,
            _ => Kind::System,
        };
        let message = errno_text(&e);
        // A missing file below the engine is our trouble, not a missing object
        // of the API; whoever means 404 says so with a constructor.
        let kind = if matches!(kind, Kind::NotFound | Kind::Forbidden) { Kind::System } else { kind };
        Self::make(kind, message, Some(Box::new(e)))
    }
}

impl From<nix::Error> for Error {
    #[cold]
    #[inline(never)]
    fn from(e: nix::Error) -> Self {
        std::io::Error::from(e).into()
    }
}

impl From<serde_json::Error> for Error {
    #[cold]
    #[inline(never)]
    fn from(e: serde_json::Error) -> Self {
        Self::make(Kind::System, e.to_string(), Some(Box::new(e)))
    }
}

/// The errno's own words in lower case ("no such file or directory"), without
/// the "(os error N)" that the standard library appends: Docker's texts have none.
pub fn errno_text(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(n) => nix::Error::from_raw(n).desc().to_lowercase(),
        None => e.to_string(),
    }
}
