//! What systemd hands over and wants to hear: sockets (sd_listen_fds(3)), for the
//! API and for published ports,
//! readiness, reloads, the watchdog (sd_notify(3)). Main thread.

use super::listen::Bound;
use crate::error::{Context, Error, Result};
use crate::server::accept::Listener;
use crate::sys::fd;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::time::Duration;

const FIRST: i32 = 3;
/// FileDescriptorName= of sockets that are for published ports, not for the API.
const PUBLISH: &str = "publish";

/// How many were passed, and their names as far as they have some.
fn passed() -> Option<(i32, Vec<String>)> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("LISTEN_PID").parse::<u32>() != Ok(std::process::id()) {
        return None;
    }
    let count = variable("LISTEN_FDS").parse().ok().filter(|n| (1..1024).contains(n))?;
    Some((count, variable("LISTEN_FDNAMES").split(':').map(str::to_owned).collect()))
}

/// The bound sockets that containers may publish ports on: those named "publish".
pub fn ports() -> Result<Vec<OwnedFd>> {
    let Some((count, names)) = passed() else { return Ok(Vec::new()) };
    let named = (FIRST..FIRST + count).zip(names).filter(|(_, name)| name == PUBLISH);
    named.map(|(n, _)| fd::inherited(n).with_context(|| format!("take over the passed socket {n}"))).collect()
}

/// The sockets that `fd://WHICH` means: all, one by number, or one by name.
pub fn take(which: &str) -> Result<Vec<Bound>> {
    let none = || Error::system("no sockets found via socket activation: make sure the service was started by systemd");
    let (count, names) = passed().ok_or_else(none)?;
    let publishes = |n: &i32| names.get((n - FIRST) as usize).is_some_and(|name| name == PUBLISH);
    let wanted: Vec<i32> = match which {
        "" | "*" => match (FIRST..FIRST + count).filter(|n| !publishes(n)).collect::<Vec<i32>>() {
            none_left if none_left.is_empty() => return Err(none()),
            wanted => wanted,
        },
        which => match which.parse::<i32>() {
            Ok(n) if (FIRST..FIRST + count).contains(&n) => vec![n],
            Ok(_) => return Err(Error::system("too few socket activated files passed in by systemd")),
            Err(_) => {
                let named: Vec<i32> = (FIRST..FIRST + count)
                    .filter(|n| names.get((n - FIRST) as usize).is_some_and(|x| x == which))
                    .collect();
                if named.is_empty() {
                    return Err(Error::system(format!("no socket named {which} was passed in by systemd")));
                }
                named
            }
        },
    };
    wanted.into_iter().map(adopt).collect()
}

fn adopt(number: i32) -> Result<Bound> {
    let failed = || format!("failed to listen on systemd activated file: fd {number}");
    let socket = fd::inherited(number).with_context(failed)?;
    let local: SockaddrStorage = getsockname(socket.as_raw_fd()).with_context(failed)?;
    fd::set_nonblocking(std::os::fd::AsFd::as_fd(&socket), true).with_context(failed)?;
    match local.family() {
        Some(AddressFamily::Unix) => {
            let listener = UnixListener::from(socket);
            let name = listener
                .local_addr()
                .ok()
                .and_then(|a| a.as_pathname().map(|p| p.display().to_string()))
                .unwrap_or_else(|| format!("fd {number}"));
            Ok(Bound { listener: Listener::Unix(listener), name, file: None, tcp: false })
        }
        Some(AddressFamily::Inet | AddressFamily::Inet6) => {
            let listener = TcpListener::from(socket);
            let name = listener.local_addr().map_or_else(|_| format!("fd {number}"), |a| a.to_string());
            Ok(Bound { listener: Listener::Tcp(listener, None), name, file: None, tcp: true })
        }
        _ => Err(Error::system(failed())),
    }
}

/// One message to the service manager; nothing without one.
pub fn notify(message: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET").filter(|a| !a.is_empty()) else { return };
    let address = address.to_string_lossy().into_owned();
    let target = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&address),
    };
    if let (Ok(target), Ok(socket)) = (target, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(message.as_bytes(), &target);
    }
}

/// How often the watchdog wants a sign of life: half of what it allows.
pub fn watchdog() -> Option<Duration> {
    let mine = std::env::var("WATCHDOG_PID").is_ok_and(|p| p.parse() != Ok(std::process::id()));
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    (!mine && micros > 0).then(|| Duration::from_micros(micros / 2))
}
