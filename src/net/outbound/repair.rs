//! First way of [`Opening`]: a socket of the engine's namespace is put into
//! ESTABLISHED with the sequence numbers of a handshake of our own (TCP_REPAIR,
//! which needs CAP_NET_ADMIN over the namespace). No listener, no second look at
//! the SYN, and the half is there at once.
//!
//! Order matters: the socket exists before the SYN-ACK leaves, or the first data
//! would find nobody; and nothing is written to it before the SYN-ACK has left,
//! or that data would reach a container still in SYN_SENT.

use super::Uplink;
use super::opening::{Held, Opened, Opening, Pair};
use crate::error::{Context, Result};
use crate::net::packet::build::{self, Segment};
use crate::net::packet::{ACK, SYN};
use crate::net::reactor::Key;
use crate::net::relay::abort_on_close;
use crate::net::stock::Stock;
use crate::sys::inet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Our side's window scale: up to 8 MiB in flight.
const WINDOW_SCALE: u8 = 7;

const REPAIR_OFF_NO_PROBE: i32 = -1;
const RECEIVE_QUEUE: i32 = 1;
const SEND_QUEUE: i32 = 2;
const OPTION_MSS: u32 = 2;
const OPTION_WINDOW: u32 = 3;
const OPTION_SACK: u32 = 4;

pub struct Repair {
    stock: Stock,
}

impl Repair {
    pub fn new(stock: Stock) -> Self {
        Self { stock }
    }

    /// Fails where it cannot work: a whole connection is made up between two
    /// ports of loopback, and thrown away.
    pub fn probe(stock: &Stock) -> Result<()> {
        let socket = stock.take(true)?;
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let held = Held { pair: (at(1), at(2)), ..Held::default() };
        repair(&socket, &held, 0).context("put a socket into a state by TCP_REPAIR")?;
        Ok(abort_on_close(&socket)?)
    }
}

impl Opening for Repair {
    fn open(&mut self, uplink: &Uplink, held: &Held) -> Result<Opened> {
        let half = self.stock.take(held.pair.0.is_ipv4())?;
        let mut first = [0; 4];
        crate::util::id::fill(&mut first);
        let first = u32::from_ne_bytes(first);
        let window = repair(&half, held, first).context("repair a socket")?;
        let answer = accept_frame(uplink, held, first, window);
        uplink.send(&answer);
        Ok(Opened::Now { half, answer })
    }

    fn again(&mut self, _: &Held) {}

    fn ready(&mut self, _: Key) -> Vec<(Pair, OwnedFd)> {
        Vec::new()
    }

    fn give_up(&mut self, _: &Pair) {}
}

/// The SYN-ACK that belongs to a repaired socket.
fn accept_frame(uplink: &Uplink, held: &Held, first: u32, window: u32) -> Vec<u8> {
    let (guest, destination) = held.pair;
    let headers = if guest.is_ipv4() { 40 } else { 60 };
    let mss = (uplink.mtu.saturating_sub(headers) as u16).to_be_bytes();
    let mut options = vec![2, 4, mss[0], mss[1]];
    if held.syn.sack {
        options.extend_from_slice(&[1, 1, 4, 2]);
    }
    if held.syn.window_scale.is_some() {
        options.extend_from_slice(&[1, 3, 3, WINDOW_SCALE]);
    }
    let segment = Segment {
        sequence: first,
        acknowledgement: held.syn.sequence.wrapping_add(1),
        flags: SYN | ACK,
        window: u16::try_from(window).unwrap_or(u16::MAX),
        options: &options,
    };
    build::tcp(&uplink.peer(held.from.mac), destination, guest, &segment)
}

/// Puts a fresh socket into the state that it would have after our SYN-ACK was
/// acknowledged; returns its receive window.
fn repair(fd: &OwnedFd, held: &Held, first: u32) -> io::Result<u32> {
    let tcp = |name, value| inet::set_int(fd, libc::IPPROTO_TCP, name, value);
    let (guest, destination) = held.pair;
    let theirs = held.syn.sequence.wrapping_add(1);
    tcp(libc::TCP_REPAIR, 1)?;
    inet::bind(fd, &destination)?;
    tcp(libc::TCP_REPAIR_QUEUE, SEND_QUEUE)?;
    tcp(libc::TCP_QUEUE_SEQ, first.wrapping_add(1) as i32)?;
    tcp(libc::TCP_REPAIR_QUEUE, RECEIVE_QUEUE)?;
    tcp(libc::TCP_QUEUE_SEQ, theirs as i32)?;
    inet::connect(fd, &guest)?;
    let mut options: Vec<u32> = vec![OPTION_MSS, u32::from(held.syn.mss.unwrap_or(536))];
    if held.syn.sack {
        options.extend([OPTION_SACK, 0]);
    }
    if let Some(scale) = held.syn.window_scale {
        options.extend([OPTION_WINDOW, u32::from(scale) | u32::from(WINDOW_SCALE) << 16]);
    }
    inet::set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_OPTIONS, &words(&options))?;
    let mut window = [0; 20];
    inet::get_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &mut window)?;
    let ours = u32::from_ne_bytes([window[12], window[13], window[14], window[15]]);
    // Without scaling the first window is all that can ever be said.
    let ours = if held.syn.window_scale.is_some() { ours } else { ours.min(65535) };
    let granted = u32::from(held.syn.window);
    let window = [held.syn.sequence, granted, granted, ours, theirs];
    inet::set_option(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &words(&window))?;
    tcp(libc::TCP_REPAIR, REPAIR_OFF_NO_PROBE)?;
    Ok(ours)
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}
