//! netd's inside in a world of its own: the test runs again under `unshare -Urn`,
//! so that it is root of nothing but its own namespaces. The thread's network
//! namespace plays the host; containers are namespaces that netd made.

use coracle::net::control::Control;
use coracle::net::netlink::{Netlink, link, route};
use coracle::net::ns;
use coracle::net::protocol::{
    Answer, Call, EndpointSpec, NetworkSpec, PoolSpec, PortSpec, SandboxSpec, SandboxState, Status,
};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

const MARKER: &str = "CORACLE_TEST_IN_LAB";

/// Addresses of the host in the lab, besides loopback.
pub const HOST: &str = "198.51.100.1";
pub const OTHER: &str = "198.51.100.7";
pub const HOST6: &str = "2001:db8::1";

/// Runs `body` in a lab. `name` is the test's full path.
pub fn in_lab(name: &str, body: impl FnOnce(&mut Lab)) {
    in_lab_after(name, &[], || {}, body);
}

/// The same with more in the environment and something that comes before netd.
pub fn in_lab_after(name: &str, env: &[(&str, &str)], before: impl FnOnce(), body: impl FnOnce(&mut Lab)) {
    if std::env::var_os(MARKER).is_some() {
        before();
        return body(&mut Lab::new());
    }
    let mut command = Command::new("unshare");
    command.args(["-Urnm"]).envs(env.iter().copied()).arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(MARKER, "1");
    let output = match command.output() {
        Ok(output) => output,
        Err(e) => panic!("unshare(1) is needed for the network tests: {e}"),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare failed") {
        return eprintln_skip(&text);
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    for line in text.lines().filter(|l| l.starts_with("measured")) {
        eprintln_skip(line);
    }
}

fn eprintln_skip(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

pub fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// A server on the host that answers every connection with `serve`.
pub fn server(ip: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind(at(ip, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = std::sync::Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

pub fn echo(ip: &str) -> SocketAddr {
    server(ip, |mut s| {
        let mut buffer = vec![0; 65536];
        while let Ok(n @ 1..) = s.read(&mut buffer) {
            if s.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
    })
}

pub struct Lab {
    pub control: Control,
    count: usize,
}

pub struct Container {
    pub state: SandboxState,
    pub namespace: OwnedFd,
}

impl Container {
    pub fn ip(&self) -> IpAddr {
        self.state.endpoints[0].ipv4.unwrap()
    }

    /// Runs `body` on a thread inside.
    pub fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        ns::enter(self.namespace.try_clone().unwrap(), move || Ok(body())).unwrap()
    }
}

pub fn network(id: &str, subnet: &str, subnet6: Option<&str>) -> NetworkSpec {
    let pool = |text: &str| {
        let subnet: coracle::net::subnet::Subnet = text.parse().unwrap();
        PoolSpec { subnet, range: None, gateway: subnet.nth(1), reserved: Vec::new() }
    };
    NetworkSpec {
        id: id.into(),
        name: format!("net-{id}"),
        bridge: format!("br-{id}"),
        mtu: 1500,
        pools: std::iter::once(pool(subnet)).chain(subnet6.map(pool)).collect(),
        internal: false,
        masquerade: true,
        icc: true,
        dns: true,
        warm: false,
    }
}

impl Lab {
    fn new() -> Self {
        // The host: loopback, two addresses more, ping allowed.
        let mut netlink = Netlink::open().unwrap();
        netlink.send(link::set_up(1)).unwrap();
        let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0");
        for (address, prefix) in [(HOST, 32), (OTHER, 32), (HOST6, 128)] {
            netlink.send(link::add_address(1, address.parse().unwrap(), prefix)).unwrap();
        }
        route::await_local(&mut netlink, HOST6.parse().unwrap());
        let mut lab = Self { control: Control::new().unwrap(), count: 0 };
        lab.call(Call::SetNetwork(network("one", "172.17.0.0/16", Some("fd00:1::/64"))));
        lab
    }

    pub fn call(&mut self, call: Call) -> (Answer, Option<OwnedFd>) {
        self.control.handle(call, None).unwrap()
    }

    pub fn spec(&mut self, networks: &[&str]) -> SandboxSpec {
        self.count += 1;
        let endpoint = |id: &&str| EndpointSpec {
            network: (*id).into(),
            names: vec![format!("c{}", self.count)],
            ..EndpointSpec::default()
        };
        SandboxSpec {
            container: format!("container{}", self.count),
            name: format!("c{}", self.count),
            endpoints: networks.iter().map(endpoint).collect(),
            ..SandboxSpec::default()
        }
    }

    pub fn container(&mut self) -> Container {
        let spec = self.spec(&["one"]);
        self.create(spec)
    }

    pub fn create(&mut self, spec: SandboxSpec) -> Container {
        let (Answer::Sandbox(state), Some(namespace)) = self.call(Call::Create(Box::new(spec))) else {
            panic!("no sandbox")
        };
        Container { state: *state, namespace }
    }

    pub fn publishing(&mut self, ports: Vec<PortSpec>) -> Container {
        let mut spec = self.spec(&["one"]);
        spec.ports = ports;
        self.create(spec)
    }

    pub fn status(&mut self) -> Status {
        let (Answer::Status(status), _) = self.call(Call::Status) else { panic!("no status") };
        status
    }

    /// Waits until a condition on the status holds.
    pub fn until(&mut self, what: &str, test: impl Fn(&Status) -> bool) {
        for _ in 0..2400 {
            if test(&self.status()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("{what}: {:?}", self.status());
    }
}
