//! Network namespaces prepared ahead: making one costs half a millisecond, and
//! a container that starts should not wait for it. A thread of netd keeps a few.
//!
//! Prepared means: loopback up, Docker's sysctls set, and a netlink socket inside.

use crate::error::Result;
use crate::net::engine_ns::CONGESTION;
use crate::net::netlink::Netlink;
use crate::net::ns;
use crate::util::thread;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How many wait. Each costs about 40 KiB of kernel memory.
const READY: usize = 3;

#[derive(Debug)]
pub struct Bare {
    pub namespace: OwnedFd,
    pub netlink: Netlink,
}

#[derive(Debug)]
pub struct Warm {
    ready: Receiver<Bare>,
}

impl Warm {
    pub fn start() -> Result<Self> {
        let (made, ready): (SyncSender<Bare>, Receiver<Bare>) = sync_channel(READY - 1);
        let body = move || {
            // `send` waits while enough are ready; it fails when netd ends.
            while let Ok(bare) = prepare() {
                if made.send(bare).is_err() {
                    return;
                }
            }
        };
        thread::start("warm-ns", 128 * 1024, body)?;
        Ok(Self { ready })
    }

    pub fn take(&self) -> Result<Bare> {
        match self.ready.try_recv() {
            Ok(bare) => Ok(bare),
            Err(_) => prepare(),
        }
    }
}

fn prepare() -> Result<Bare> {
    let (namespace, netlink) = ns::make(|| {
        container_sysctls();
        Netlink::open()
    })?;
    Ok(Bare { namespace, netlink })
}

fn container_sysctls() {
    let _ = ns::sysctl("net.ipv4.ip_unprivileged_port_start", "0");
    // The range must be mapped into the user namespace.
    for range in ["0 2147483647", "0 65535", "0 0"] {
        if ns::sysctl("net.ipv4.ping_group_range", range).is_ok() {
            break;
        }
    }
    // All TCP of a container ends in netd or in a neighbour.
    let _ = ns::sysctl("net.ipv4.tcp_congestion_control", CONGESTION);
    // Interfaces get IPv6 when their network has it; loopback keeps ::1.
    let _ = ns::sysctl("net.ipv6.conf.default.disable_ipv6", "1");
    let _ = ns::sysctl("net.ipv6.conf.default.accept_dad", "0");
    let _ = ns::sysctl("net.ipv6.conf.default.accept_ra", "0");
}
