//! Unbound TCP sockets of the engine's network namespace, made ahead by the
//! thread that lives there, for the loop that does not.

use crate::error::Result;
use crate::net::engine_ns::MARK;
use crate::net::ns::Agent;
use crate::net::reactor::unpoisoned;
use crate::sys::inet;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

const FULL: usize = 32;
const LOW: usize = 12;

#[derive(Debug, Clone)]
pub struct Stock {
    agent: Agent,
    shelves: Arc<[Shelf; 2]>,
}

#[derive(Debug, Default)]
struct Shelf {
    sockets: Mutex<Vec<OwnedFd>>,
    ordered: AtomicBool,
}

/// A socket that may stand for any address. Runs inside.
pub fn transparent(v4: bool) -> io::Result<OwnedFd> {
    let fd = inet::socket(if v4 { libc::AF_INET } else { libc::AF_INET6 }, libc::SOCK_STREAM, 0)?;
    match v4 {
        true => inet::set_int(&fd, libc::SOL_IP, libc::IP_TRANSPARENT, 1)?,
        false => {
            inet::set_int(&fd, libc::SOL_IPV6, libc::IPV6_TRANSPARENT, 1)?;
            inet::set_int(&fd, libc::SOL_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
    }
    inet::set_int(&fd, libc::SOL_SOCKET, libc::SO_MARK, MARK)?;
    inet::set_int(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    Ok(fd)
}

impl Stock {
    pub fn new(agent: Agent) -> Self {
        Self { agent, shelves: Arc::default() }
    }

    pub fn take(&self, v4: bool) -> Result<OwnedFd> {
        let shelf = &self.shelves[usize::from(!v4)];
        let (socket, left) = {
            let mut sockets = unpoisoned(shelf.sockets.lock());
            (sockets.pop(), sockets.len())
        };
        if left < LOW && !shelf.ordered.swap(true, Ordering::AcqRel) {
            let shelves = self.shelves.clone();
            self.agent.post(move || refill(&shelves[usize::from(!v4)], v4));
        }
        match socket {
            Some(socket) => Ok(socket),
            None => Ok(self.agent.run(move || transparent(v4))??),
        }
    }
}

fn refill(shelf: &Shelf, v4: bool) {
    shelf.ordered.store(false, Ordering::Release);
    while unpoisoned(shelf.sockets.lock()).len() < FULL {
        match transparent(v4) {
            Ok(socket) => unpoisoned(shelf.sockets.lock()).push(socket),
            // Out of descriptors: `take` will find out and say so.
            Err(_) => return,
        }
    }
}
