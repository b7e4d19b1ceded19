//! dockerd's handle to netd: one connection, made anew when it breaks. Any
//! thread of dockerd; calls take turns.

use crate::error::{Context, Error, Result};
use crate::net::protocol::{
    self, Answer, Call, EndpointSpec, EndpointState, NetworkSpec, SandboxSpec, SandboxState, Status,
};
use crate::sys::socket;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Below the exec root.
pub const SOCKET: &str = "netd.sock";

pub struct Client {
    exec_root: PathBuf,
    connection: Mutex<Option<OwnedFd>>,
    reviver: OnceLock<Box<dyn Reviver>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("exec_root", &self.exec_root).finish_non_exhaustive()
    }
}

/// What is to be done when netd has died. Called by whichever call finds it out,
/// while all others wait: nobody gets an address before those that are in use
/// are taken again.
pub trait Reviver: Send + Sync {
    fn start(&self, exec_root: &Path) -> Result<()>;
    /// Tells the new one what the old one knew.
    fn restore(&self, netd: &Conversation<'_>);
}

/// A connection on which one question is asked at a time.
#[derive(Debug)]
pub struct Conversation<'a>(&'a OwnedFd);

impl Conversation<'_> {
    /// The outer error: netd is gone.
    fn exchange(&self, call: &Call, fd: Option<&OwnedFd>) -> Result<(Answer, Option<OwnedFd>)> {
        protocol::send_message(self.0, call, fd).context("ask the network process")?;
        protocol::receive_message::<Answer>(self.0)
            .context("ask the network process")?
            .ok_or_else(|| Error::system("the network process ended in the middle of a call"))
    }

    pub fn set_network(&self, spec: NetworkSpec) -> Result<()> {
        self.exchange(&Call::SetNetwork(spec), None)?.0.into_result().map(drop)
    }

    pub fn adopt(&self, spec: SandboxSpec, namespace: &OwnedFd) -> Result<SandboxState> {
        match self.exchange(&Call::Adopt(Box::new(spec)), Some(namespace))?.0.into_result()? {
            Answer::Sandbox(state) => Ok(*state),
            _ => Err(unexpected()),
        }
    }
}

impl Client {
    /// Does not connect yet.
    pub fn new(exec_root: &Path) -> Self {
        Self { exec_root: exec_root.to_owned(), connection: Mutex::new(None), reviver: OnceLock::new() }
    }

    fn connect(&self) -> Result<OwnedFd> {
        let dir = File::open(&self.exec_root).with_context(|| format!("open {}", self.exec_root.display()))?;
        let fd = socket::connect_at(dir.as_fd(), SOCKET)
            .context("connect to the network process")
            .map_err(|e| e.with_hint("restart the daemon; running containers keep running"))?;
        protocol::send_message(&fd, &Call::Hello { version: protocol::VERSION }, None)?;
        match protocol::receive_message::<Answer>(&fd)? {
            Some((answer, _)) => answer.into_result().map(|_| fd),
            None => Err(Error::system("the network process hung up")),
        }
    }

    pub fn set_reviver(&self, reviver: Box<dyn Reviver>) {
        let _ = self.reviver.set(reviver);
    }

    fn call(&self, call: &Call) -> Result<(Answer, Option<OwnedFd>)> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // A connection that broke shows when it is used; calls may be repeated,
        // so one more try is safe.
        let kept = slot.take().and_then(|fd| Conversation(&fd).exchange(call, None).ok().map(|answer| (fd, answer)));
        let (fd, (answer, passed)) = match kept {
            Some(done) => done,
            None => {
                let fd = self.connect().or_else(|e| self.revive(e))?;
                let answer = Conversation(&fd).exchange(call, None)?;
                (fd, answer)
            }
        };
        *slot = Some(fd);
        Ok((answer.into_result()?, passed))
    }

    /// netd does not answer: another takes its place.
    fn revive(&self, why: Error) -> Result<OwnedFd> {
        let Some(reviver) = self.reviver.get() else { return Err(why) };
        reviver.start(&self.exec_root)?;
        let fd = self.connect()?;
        reviver.restore(&Conversation(&fd));
        Ok(fd)
    }

    /// Has a running netd take a sandbox over that it does not know.
    pub fn adopt(&self, spec: SandboxSpec, namespace: &OwnedFd) -> Result<SandboxState> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = match slot.take() {
            Some(fd) => fd,
            None => self.connect()?,
        };
        let state = Conversation(&fd).adopt(spec, namespace);
        *slot = Some(fd);
        state
    }

    /// Returns when netd is gone.
    pub fn wait_until_gone(&self) {
        if let Ok(fd) = self.connect() {
            let _ = socket::receive(fd.as_fd(), &mut [0; 16], true);
        }
    }

    pub fn set_network(&self, spec: NetworkSpec) -> Result<()> {
        self.call(&Call::SetNetwork(spec)).map(drop)
    }

    pub fn remove_network(&self, id: &str) -> Result<()> {
        self.call(&Call::RemoveNetwork { id: id.into() }).map(drop)
    }

    pub fn create(&self, spec: SandboxSpec) -> Result<(SandboxState, OwnedFd)> {
        match self.call(&Call::Create(Box::new(spec)))? {
            (Answer::Sandbox(state), Some(fd)) => Ok((*state, fd)),
            _ => Err(unexpected()),
        }
    }

    pub fn connect_endpoint(&self, container: &str, endpoint: EndpointSpec) -> Result<EndpointState> {
        match self.call(&Call::Connect { container: container.into(), endpoint })? {
            (Answer::Endpoint(state), _) => Ok(state),
            _ => Err(unexpected()),
        }
    }

    pub fn disconnect(&self, container: &str, network: &str) -> Result<()> {
        self.call(&Call::Disconnect { container: container.into(), network: network.into() }).map(drop)
    }

    pub fn names(&self, container: &str, name: &str, network: &str, names: Vec<String>) -> Result<()> {
        let (container, name, network) = (container.into(), name.into(), network.into());
        self.call(&Call::Names { container, name, network, names }).map(drop)
    }

    pub fn release(&self, container: &str) -> Result<()> {
        self.call(&Call::Release { container: container.into() }).map(drop)
    }

    pub fn list(&self) -> Result<Vec<SandboxState>> {
        match self.call(&Call::List)? {
            (Answer::Sandboxes(all), _) => Ok(all),
            _ => Err(unexpected()),
        }
    }

    pub fn namespace(&self, container: &str) -> Result<OwnedFd> {
        match self.call(&Call::Namespace { container: container.into() })? {
            (Answer::Done, Some(fd)) => Ok(fd),
            _ => Err(unexpected()),
        }
    }

    pub fn status(&self) -> Result<Status> {
        match self.call(&Call::Status)? {
            (Answer::Status(status), _) => Ok(status),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> Error {
    Error::system("the network process gave an answer that does not fit the question")
}
