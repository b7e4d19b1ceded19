//! "Another machine": a network namespace with its own address on a wire to the
//! lab's host, which may lose, delay and reorder frames. The wire is ours, frame
//! by frame, and not the kernel's netem: not every kernel has that.

use coracle::net::netlink::{Netlink, link, route};
use coracle::net::{engine_ns, ns, subnet::Subnet};
use coracle::sys::inet;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// ADDRESS/PREFIX of either end.
    pub host: &'static str,
    pub machine: &'static str,
    pub mtu: u32,
    pub faults: Option<Faults>,
}

impl Default for Link {
    fn default() -> Self {
        Self { host: "192.0.2.1/24", machine: "192.0.2.2/24", mtu: 1500, faults: None }
    }
}

/// What a bad wire does to every frame.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Of a thousand frames so many are lost.
    pub lost: u32,
    pub delay: Duration,
    /// Of a thousand frames so many come later than their successors.
    pub late: u32,
}

pub struct Machine {
    namespace: OwnedFd,
    /// The host's end.
    interface: u32,
    address: IpAddr,
    children: Vec<Child>,
}

fn parse(text: &str) -> (IpAddr, u8) {
    let subnet = Subnet::parse_host(text).unwrap();
    (subnet.address, subnet.prefix)
}

/// A veth pair between the calling thread's namespace and another; our index.
fn plug(outer: &str, inner: &str, namespace: &OwnedFd, mtu: u32) -> u32 {
    let mut netlink = Netlink::open().unwrap();
    let peer = link::Peer { name: inner, mac: engine_ns::random_mac(), namespace: namespace.as_fd() };
    netlink.send(link::create_veth(outer, 0, mtu, peer)).unwrap();
    link::find(&mut netlink, outer).unwrap().index
}

fn up(name: &str) -> u32 {
    let mut netlink = Netlink::open().unwrap();
    let index = link::find(&mut netlink, name).unwrap().index;
    netlink.send(link::set_up(index)).unwrap();
    index
}

impl Machine {
    pub fn new(wire: &Link) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let (namespace, ()) = ns::make(|| Ok(())).unwrap();
        let name = format!("out{n}");
        let interface = match wire.faults {
            None => plug(&name, "eth0", &namespace, wire.mtu),
            Some(faults) => {
                let (middle, ()) = ns::make(|| Ok(())).unwrap();
                let interface = plug(&name, "left", &middle, wire.mtu);
                let (far, mtu) = (namespace.try_clone().unwrap(), wire.mtu);
                ns::enter(middle, move || {
                    plug("right", "eth0", &far, mtu);
                    let sockets = ["left", "right"].map(|name| open(up(name)));
                    std::thread::spawn(move || carry(&sockets, faults));
                    Ok(())
                })
                .unwrap();
                interface
            }
        };
        let (mine, prefix) = parse(wire.host);
        let (theirs, _) = parse(wire.machine);
        let mut netlink = Netlink::open().unwrap();
        netlink.send_all(vec![link::set_up(interface), link::add_address(interface, mine, prefix)]).unwrap();
        ns::enter(namespace.try_clone().unwrap(), move || {
            let index = up("eth0");
            let mut netlink = Netlink::open()?;
            netlink.send_all(vec![
                link::set_up(1),
                link::add_address(index, theirs, prefix),
                route::add_default(mine, index),
            ])?;
            link::await_operational(&mut netlink, "eth0")
        })
        .unwrap();
        link::await_operational(&mut netlink, &name).unwrap();
        Self { namespace, interface, address: theirs, children: Vec::new() }
    }

    /// IPv6 too: 2001:db8:5::1 for the host, 2001:db8:5::2 for the machine.
    pub fn dual_stack(&self) {
        let address = |index, host| link::add_address(index, format!("2001:db8:5::{host}").parse().unwrap(), 64);
        Netlink::open().unwrap().send(address(self.interface, 1)).unwrap();
        self.run(move || Netlink::open().unwrap().send(address(up("eth0"), 2)).unwrap());
    }

    /// An address more.
    pub fn take(&self, address: &'static str) {
        let (address, prefix) = parse(address);
        self.run(move || Netlink::open().unwrap().send(link::add_address(up("eth0"), address, prefix)).unwrap());
    }

    /// The host sends what goes to `subnet` to this machine.
    pub fn route(&self, subnet: &str) {
        let status = Command::new("ip")
            .args(["route", "add", subnet, "via", &self.address.to_string(), "dev"])
            .arg(self.name())
            .status();
        assert!(status.unwrap().success());
    }

    fn name(&self) -> String {
        let all = link::list(&mut Netlink::open().unwrap()).unwrap();
        all.into_iter().find(|l| l.index == self.interface).unwrap().name
    }

    /// The index of the host's end of the wire.
    pub fn interface(&self) -> u32 {
        self.interface
    }

    /// Runs `body` on a thread inside.
    pub fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        ns::enter(self.namespace.try_clone().unwrap(), move || Ok(body())).unwrap()
    }

    /// Starts a program inside; it ends with the machine.
    pub fn start(&mut self, mut command: Command) {
        self.children.push(self.run(move || command.spawn().unwrap()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Netlink::open().unwrap().send(link::delete(self.interface));
    }
}

/// A packet socket for whole frames, large ones and unfinished checksums included.
fn open(interface: u32) -> OwnedFd {
    let fd = inet::socket(17, 3, 0).unwrap();
    for (name, value) in [(15, 1), (23, 1)] {
        inet::set_int(&fd, 263, name, value).unwrap();
    }
    inet::set_int(&fd, 1, 8, 4 << 20).unwrap();
    inet::bind_packet(&fd, interface, 3).unwrap();
    fd
}

/// Carries frames between two packet sockets until the process ends.
fn carry(sockets: &[OwnedFd; 2], faults: Faults) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut due: BinaryHeap<Reverse<(Instant, u64, usize, Vec<u8>)>> = BinaryHeap::new();
    let (mut count, mut state) = (0u64, 7u32);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let mut fds = [0, 1].map(|n: usize| PollFd::new(sockets[n].as_fd(), PollFlags::POLLIN));
        let wait = match due.peek() {
            None => PollTimeout::NONE,
            Some(Reverse((at, ..))) if *at <= Instant::now() => PollTimeout::ZERO,
            Some(_) => PollTimeout::from(1u8),
        };
        let _ = poll(&mut fds, wait);
        let now = Instant::now();
        for (n, socket) in sockets.iter().enumerate() {
            while let Ok(length) = inet::receive(socket, &mut buffer) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let dice = (state >> 16) % 1000;
                count += 1;
                if dice < faults.lost {
                    continue;
                }
                let late = if dice >= 1000 - faults.late { faults.delay } else { Duration::ZERO };
                due.push(Reverse((now + faults.delay + late, count, 1 - n, buffer[..length].to_vec())));
            }
        }
        while due.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, _, to, frame))) = due.pop() else { break };
            let _ = inet::send(&sockets[to], &frame);
        }
    }
}
