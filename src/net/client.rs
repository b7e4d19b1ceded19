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
use std::sync::{Mutex, PoisonError};

/// Below the exec root.
pub const SOCKET: &str = "netd.sock";

#[derive(Debug)]
pub struct Client {
    exec_root: PathBuf,
    connection: Mutex<Option<OwnedFd>>,
}

impl Client {
    /// Does not connect yet.
    pub fn new(exec_root: &Path) -> Self {
        Self { exec_root: exec_root.to_owned(), connection: Mutex::new(None) }
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

    fn call(&self, call: &Call) -> Result<(Answer, Option<OwnedFd>)> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = match slot.take() {
            Some(fd) => fd,
            None => self.connect()?,
        };
        // A connection that broke while idle is found out by sending; calls may
        // be repeated, so one more try is safe.
        let fd = match protocol::send_message(&fd, call, None) {
            Ok(()) => fd,
            Err(_) => {
                let fd = self.connect()?;
                protocol::send_message(&fd, call, None).context("ask the network process")?;
                fd
            }
        };
        let (answer, passed) = protocol::receive_message::<Answer>(&fd)
            .context("ask the network process")?
            .ok_or_else(|| Error::system("the network process ended in the middle of a call"))?;
        *slot = Some(fd);
        Ok((answer.into_result()?, passed))
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
