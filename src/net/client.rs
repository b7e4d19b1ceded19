//! dockerd's handle to netd: one connection, made anew when it breaks. Any
//! thread of dockerd; calls take turns.
//!
//! Invariant: nobody asks for an address before the netd that answers knows all
//! that are in use. Whoever makes a connection first tells it what is live, while
//! all others wait; a container between its sandbox and its first process is in
//! [`Slot::starting`], so it is told too.

use crate::error::{Context, Error, Result};
use crate::net::protocol::{
    self, Answer, Call, EndpointSpec, EndpointState, NetworkSpec, SandboxSpec, SandboxState, Status,
};
use crate::sys::socket;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Below the exec root.
pub const SOCKET: &str = "netd.sock";

pub struct Client {
    exec_root: PathBuf,
    slot: Mutex<Slot>,
    reviver: OnceLock<Box<dyn Reviver>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("exec_root", &self.exec_root).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<OwnedFd>,
    starting: Starting,
}

/// By container: what it got, as something to ask for again, and its namespace.
pub type Starting = HashMap<String, (SandboxSpec, OwnedFd)>;

/// What is to be done when netd may be another one. Called by whichever call
/// finds it out, while all others wait.
pub trait Reviver: Send + Sync {
    fn start(&self, exec_root: &Path) -> Result<()>;
    /// Tells it what it does not know of what is live.
    fn restore(&self, netd: &Conversation<'_>, starting: &Starting);
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

    /// Hands over a bound socket for published ports of its address.
    pub fn keep(&self, socket: &OwnedFd) -> Result<()> {
        self.exchange(&Call::Keep, Some(socket))?.0.into_result().map(drop)
    }

    pub fn list(&self) -> Result<Vec<SandboxState>> {
        match self.exchange(&Call::List, None)?.0.into_result()? {
            Answer::Sandboxes(all) => Ok(all),
            _ => Err(unexpected()),
        }
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
        Self { exec_root: exec_root.to_owned(), slot: Mutex::default(), reviver: OnceLock::new() }
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

    /// From here on containers can be started; the next call tells netd what is live.
    pub fn set_reviver(&self, reviver: Box<dyn Reviver>) {
        let _ = self.reviver.set(reviver);
        self.slot().connection = None;
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, call: &Call) -> Result<(Answer, Option<OwnedFd>)> {
        self.call_in(&mut self.slot(), call)
    }

    fn call_in(&self, slot: &mut Slot, call: &Call) -> Result<(Answer, Option<OwnedFd>)> {
        // A connection that broke shows when it is used; calls may be repeated,
        // so one more try is safe.
        let kept = slot.connection.take();
        let kept = kept.and_then(|fd| Conversation(&fd).exchange(call, None).ok().map(|answer| (fd, answer)));
        let (fd, (answer, passed)) = match kept {
            Some(done) => done,
            None => {
                let fd = self.connect().or_else(|e| self.revive(e))?;
                if let Some(reviver) = self.reviver.get() {
                    reviver.restore(&Conversation(&fd), &slot.starting);
                }
                let answer = Conversation(&fd).exchange(call, None)?;
                (fd, answer)
            }
        };
        slot.connection = Some(fd);
        Ok((answer.into_result()?, passed))
    }

    /// netd does not answer: another takes its place.
    fn revive(&self, why: Error) -> Result<OwnedFd> {
        let Some(reviver) = self.reviver.get() else { return Err(why) };
        reviver.start(&self.exec_root)?;
        self.connect()
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

    /// To be followed by [`Client::started`], whatever becomes of the container.
    pub fn create(&self, spec: SandboxSpec) -> Result<(SandboxState, OwnedFd)> {
        self.reviver.wait();
        let mut slot = self.slot();
        match self.call_in(&mut slot, &Call::Create(Box::new(spec.clone())))? {
            (Answer::Sandbox(state), Some(fd)) => {
                let again = spec.as_made(&state);
                slot.starting.insert(again.container.clone(), (again, fd.try_clone()?));
                Ok((*state, fd))
            }
            _ => Err(unexpected()),
        }
    }

    /// The container's record has its process, or it has none.
    pub fn started(&self, container: &str) {
        self.slot().starting.remove(container);
    }

    pub fn connect_endpoint(&self, container: &str, endpoint: EndpointSpec) -> Result<EndpointState> {
        self.reviver.wait();
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
