//! How the container's half of a connection comes to be once upstream has
//! accepted. The state machine of `tcp` is one; the ways differ in what they ask
//! of the kernel:
//!
//! | way | asks for | the half is there |
//! |---|---|---|
//! | [`repair`](super::repair) | TCP_REPAIR | at once |
//! | [`listen`](super::listen) | a veth pair, SO_ATTACH_FILTER | when the container has answered our SYN-ACK |
//!
//! The first that really works is taken, when netd starts. `CORACLE_OUTBOUND`
//! names one instead, for tests and measurements. Neither needs netfilter.

use super::listen::{Listen, Wire};
use super::repair::Repair;
use super::{From, Uplink};
use crate::error::Result;
use crate::net::engine_ns::EngineNs;
use crate::net::packet::Tcp;
use crate::net::reactor::{Key, Registry};
use crate::net::stock::Stock;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// (container, destination as it calls it)
pub type Pair = (SocketAddr, SocketAddr);

/// A SYN that waits for its answer.
#[derive(Debug, Clone)]
pub struct Held {
    pub from: From,
    pub pair: Pair,
    pub syn: Tcp,
    /// Its TCP options as they came.
    pub options: Vec<u8>,
}

impl Default for Held {
    fn default() -> Self {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let from = From { uplink: 0, mac: [0; 6] };
        Self { from, pair: (nowhere, nowhere), syn: Tcp::default(), options: Vec::new() }
    }
}

pub enum Opened {
    /// The half, and the SYN-ACK that has been sent for it: whoever loses it
    /// sends the SYN again.
    Now { half: OwnedFd, answer: Vec<u8> },
    /// [`Opening::ready`] will have it. The kernel repeats its own SYN-ACK.
    Soon,
}

/// A way. One thread, which never waits.
pub trait Opening: Send {
    /// Answers a held SYN with "accepted". After an error nothing was sent.
    fn open(&mut self, uplink: &Uplink, held: &Held) -> Result<Opened>;
    /// A SYN whose half is still on its way came again.
    fn again(&mut self, held: &Held);
    /// An event of [`OPENING`](super::OPENING) with this key: halves that have come to be.
    fn ready(&mut self, key: Key) -> Vec<(Pair, OwnedFd)>;
    /// Nobody wants this half any more; if it comes yet, it is reset.
    fn give_up(&mut self, pair: &Pair);
}

/// What a netd has found to work.
#[derive(Debug)]
pub enum Way {
    Repair,
    Listen(Wire),
    /// And why.
    Nothing(String),
}

impl Way {
    /// Tries for real. Says in the log what it took if that is not the first.
    pub fn choose(stock: &Stock, ns: &mut EngineNs) -> Self {
        let wanted = std::env::var("CORACLE_OUTBOUND").unwrap_or_default();
        let first = match wanted.as_str() {
            "" | "repair" => Repair::probe(stock).map(|()| Self::Repair).map_err(|e| e.to_string()),
            other => Err(format!("CORACLE_OUTBOUND={other}")),
        };
        let why = match first {
            Ok(way) => return way,
            Err(why) => why,
        };
        let second = match wanted.as_str() {
            "" | "listen" => Wire::open(ns).map_err(|e| e.to_string()),
            other => Err(format!("CORACLE_OUTBOUND={other}")),
        };
        match second {
            Ok(wire) => {
                crate::warn!(format!("outbound TCP by listeners and repeated SYNs: {why}"));
                Self::Listen(wire)
            }
            Err(e) => {
                crate::error!(format!("containers have no outbound TCP: {why}; {e}"));
                Self::Nothing(format!("{why}; {e}"))
            }
        }
    }

    /// As `Status::outbound` says it.
    pub fn name(&self) -> String {
        match self {
            Self::Repair => "repair".into(),
            Self::Listen(_) => "listen".into(),
            Self::Nothing(why) => format!("none: {why}"),
        }
    }

    pub fn build(self, registry: Registry, stock: Stock) -> Option<Box<dyn Opening>> {
        match self {
            Self::Repair => Some(Box::new(Repair::new(stock))),
            Self::Listen(wire) => Some(Box::new(Listen::new(registry, stock, wire))),
            Self::Nothing(_) => None,
        }
    }
}
