//! The daemon's options for networks, and networks made from a configuration.

use crate::harness::{Daemon, probe};
use crate::need;

fn pool(d: &Daemon, network: &str) -> String {
    let document = d.json("GET", &format!("/networks/{network}"), None);
    let text = |config: &serde_json::Value, key: &str| config[key].as_str().unwrap_or_default().to_owned();
    let configs = document["IPAM"]["Config"].as_array().cloned().unwrap_or_default();
    configs.iter().map(|c| format!("{} {} {};", text(c, "Subnet"), text(c, "IPRange"), text(c, "Gateway"))).collect()
}

#[test]
fn the_default_bridge_follows_the_options() {
    need!(probe::busybox());
    let flags = [
        "--bip=10.45.0.1/24",
        "--fixed-cidr=10.45.0.128/25",
        "--mtu=1400",
        "--ip=127.0.0.1",
        "--icc=false",
        "--dns=192.0.2.53",
        "--dns-search=corp.test",
        "--default-address-pool=base=10.46.0.0/16,size=26",
        "--default-network-opt=bridge=com.docker.network.driver.mtu=1300",
        "--host-gateway-ip=192.0.2.9",
    ];
    let mut d = Daemon::start_with(&flags, &[]);
    d.load_busybox();
    assert_eq!(pool(&d, "bridge"), "10.45.0.0/24 10.45.0.128/25 10.45.0.1;");
    let shown = d.docker(&["network", "inspect", "-f", "{{json .Options}}", "bridge"]).ok();
    for part in ["enable_icc\":\"false", "host_binding_ipv4\":\"127.0.0.1", "mtu\":\"1400"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let inside = "ip -o -4 addr show eth0; cat /sys/class/net/eth0/mtu /etc/resolv.conf /etc/hosts; ip route";
    let text = d.docker(&["run", "--rm", "--add-host", "h:host-gateway", "busybox", "sh", "-c", inside]).ok();
    for part in [
        "inet 10.45.0.1", "/24 brd 10.45.0.255", "\n1400\n", "nameserver 192.0.2.53", "search corp.test",
        "192.0.2.9\th", "via 10.45.0.1",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    d.run_detached(&["--name", "web", "-p", "80", "busybox", "sleep", "1000"]);
    assert!(d.docker(&["port", "web"]).ok().starts_with("80/tcp -> 127.0.0.1:"));
    d.docker(&["rm", "-f", "web"]).ok();
    d.docker(&["network", "create", "a"]).ok();
    assert_eq!(pool(&d, "a"), "10.46.0.0/26  10.46.0.1;");
    d.docker(&["network", "create", "b"]).ok();
    assert_eq!(pool(&d, "b"), "10.46.0.64/26  10.46.0.65;");
    d.docker(&["run", "--rm", "--network", "b", "busybox", "cat", "/sys/class/net/eth0/mtu"]).prints("1300");
    // Another configuration at the next start: the bridge follows, networks stay.
    d.stop();
    d.set_flags(&["--bip=10.47.0.1/24", "--ipv6", "--fixed-cidr-v6=fd00:47::/64"]);
    d.up();
    assert_eq!(pool(&d, "bridge"), "10.47.0.0/24  10.47.0.1;fd00:47::/64 fd00:47::/64 fd00:47::1;");
    let text = d.docker(&["run", "--rm", "busybox", "ip", "-o", "addr", "show", "eth0"]).ok();
    assert!(text.contains("10.47.0.2/24") && text.contains("fd00:47::2/64"), "{text}");
    assert_eq!(pool(&d, "a"), "10.46.0.0/26  10.46.0.1;");
    d.stop();
    d.set_flags(&["--bridge=none"]);
    d.up();
    d.docker(&["run", "--rm", "busybox", "ls", "/sys/class/net"]).prints("lo");
    let _ = d.docker(&["run", "--rm", "--network", "a", "busybox", "ls", "/sys/class/net"]).contains("eth0");
}

#[test]
fn nonsense_is_refused_at_the_start() {
    let d = Daemon::prepare(&[], &[]);
    for (flags, words) in [
        (&["--bip=nonsense"][..], "invalid CIDR address: nonsense"),
        (
            &["--bip=10.0.0.1/24", "--bridge=br0"],
            "You specified -b & --bip, mutually exclusive options. Please specify only one",
        ),
        (&["--default-address-pool=base=10.0.0.0/24,size=20"], "invalid pools size: 20"),
        (&["--bip=10.0.0.1/24", "--fixed-cidr=10.1.0.0/25"], "is not within the bridge's subnet 10.0.0.0/24"),
    ] {
        let mut command = d.dockerd();
        command.args(flags);
        let words_seen = crate::harness::run(&mut command).fails(1);
        assert!(words_seen.contains(words), "{words_seen}");
    }
}

/// Words recorded from dockerd 28.5.
#[test]
fn networks_from_a_configuration() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let create = |args: &[&str]| d.docker(&[&["network", "create"], args].concat());
    create(&["--config-only", "--subnet", "10.77.0.0/24", "--label", "a=b", "conf"]).ok();
    let show = |name: &str| {
        let template = "{{.Driver}} {{.ConfigOnly}} {{.ConfigFrom.Network}} {{json .IPAM.Config}} {{json .Labels}}";
        d.docker(&["network", "inspect", "-f", template, name]).ok().trim().to_owned()
    };
    assert_eq!(show("conf"), r#"null true  [{"Subnet":"10.77.0.0/24"}] {"a":"b"}"#);
    for (args, words) in [
        (
            &["--config-only", "--internal", "x"][..],
            "Network operator fields like [ ingress | internal | attachable | scope ] are not supported.",
        ),
        (&["--config-from", "nope", "x"], "configuration network \"nope\" does not exist"),
        (
            &["--config-from", "conf", "--subnet", "10.78.0.0/24", "x"],
            "user specified configurations are not supported if the network depends on a configuration network",
        ),
        (
            &["--config-from", "conf", "--opt", "a=b", "x"],
            "network driver options are not supported if the network depends on a configuration network",
        ),
        (
            &["--config-from", "conf", "--config-only", "x"],
            "a configuration network cannot depend on another configuration network",
        ),
    ] {
        let seen = create(args).fails(1);
        assert!(seen.contains(words), "{seen}");
    }
    create(&["--config-from", "conf", "made"]).ok();
    assert_eq!(show("made"), r#"bridge false conf [{"Subnet":"10.77.0.0/24"}] {"a":"b"}"#);
    let _ = d.docker(&["run", "--rm", "--network", "made", "busybox", "ip", "route"]).contains("default via 10.77.0.1");
    let seen = d.docker(&["network", "rm", "conf"]).fails(1);
    assert!(seen.contains("configuration network \"conf\" is in use"), "{seen}");
    let seen = d.docker(&["run", "--rm", "--network", "conf", "busybox", "true"]).fails(125);
    assert!(seen.contains("cannot create endpoint on configuration-only network"), "{seen}");
    d.docker(&["network", "rm", "made", "conf"]).ok();
}

/// As dockerd 28.5 does: both families first, then priority, then the name.
#[test]
fn ways_out_and_names_of_interfaces() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for (name, subnet) in [("alpha", "10.81.0.0/24"), ("zeta", "10.82.0.0/24")] {
        d.docker(&["network", "create", "--subnet", subnet, name]).ok();
    }
    d.docker(&["network", "create", "--ipv6", "--subnet", "10.83.0.0/24", "--subnet", "fd00:83::/64", "mid"]).ok();
    let way = |networks: &[&str]| {
        let flags = networks.iter().flat_map(|n| ["--network", n]).collect::<Vec<_>>();
        let text = d.docker(&[&["run", "--rm"], &flags[..], &["busybox", "ip", "route"]].concat()).ok();
        text.split_whitespace().nth(2).unwrap_or_default().to_owned()
    };
    assert_eq!(way(&["zeta", "alpha"]), "10.81.0.1");
    assert_eq!(way(&["name=zeta,gw-priority=5", "alpha"]), "10.82.0.1");
    assert_eq!(way(&["zeta", "mid"]), "10.83.0.1");
    let options = "name=alpha,driver-opt=com.docker.network.endpoint.ifname=wan0,\"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0\"";
    let inside = "cat /sys/class/net/wan0/ifindex /proc/sys/net/ipv4/conf/wan0/log_martians /proc/sys/net/ipv4/conf/wan0/forwarding";
    let text = d.docker(&["run", "--rm", "--network", options, "busybox", "sh", "-c", inside]).ok();
    assert!(text.ends_with("\n1\n0\n"), "{text}");
}

#[test]
fn links_of_the_default_network() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    d.run_detached(&["--name", "db", "--expose", "80", "-e", "A=b", "busybox", "sleep", "1000"]);
    let text = d.docker(&["run", "--rm", "--name", "me", "--link", "db:al", "busybox", "env"]).ok();
    for line in ["AL_NAME=/me/al", "AL_PORT_80_TCP_PORT=80", "AL_PORT_80_TCP_PROTO=tcp", "AL_ENV_A=b"] {
        assert!(text.lines().any(|l| l == line), "{line} in {text}");
    }
    let text = d.docker(&["run", "--rm", "--link", "db:al", "busybox", "ping", "-c1", "-w10", "al"]);
    let _ = text.contains("1 packets received");
    d.docker(&["network", "create", "one"]).ok();
    d.run_detached(&["--name", "far", "--network", "one", "busybox", "sleep", "1000"]);
    let seen = d.docker(&["run", "--rm", "--link", "far", "busybox", "true"]).fails(125);
    assert!(seen.contains("not attached to default bridge network"), "{seen}");
}

#[test]
fn an_endpoints_mac_address_stands_in_the_old_place_as_well() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    d.docker(&["network", "create", "one"]).ok();
    for (name, network) in [("first", "one"), ("second", "bridge")] {
        let options = format!("name={network},mac-address=02:42:ac:11:00:99");
        d.docker(&["create", "--name", name, "--network", &options, "busybox", "true"]).ok();
        assert_eq!(d.inspect(name, "{{.Config.MacAddress}}"), "02:42:ac:11:00:99");
    }
}

/// On other networks a link is an alias of the linking container alone, and says
/// nothing of when the other one runs.
#[test]
fn links_of_other_networks() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    d.docker(&["network", "create", "one"]).ok();
    d.docker(&["create", "--name", "db", "--network", "one", "busybox", "sleep", "1000"]).ok();
    let sleep = ["busybox", "sleep", "1000"];
    d.run_detached(
        &[&["--name", "web", "--network", "one", "--link", "db:store", "--link", "nobody"], &sleep[..]].concat(),
    );
    d.run_detached(&[&["--name", "other", "--network", "one"], &sleep[..]].concat());
    assert_eq!(d.inspect("web", "{{json .HostConfig.Links}}"), "null", "those are the default network's");
    let find = |who: &str, name: &str| d.docker(&["exec", who, "nslookup", name]);
    let _ = find("web", "store").fails(1);
    d.docker(&["start", "db"]).ok();
    for name in ["store", "STORE.one", "db"] {
        find("web", name).ok();
    }
    let _ = find("other", "store").fails(1);
    // An alias hides a name, also of one that comes later, and lasts over a restart.
    d.docker(&["network", "connect", "--link", "db:other", "--link", "db:last", "one", "late"]).fails(1);
    d.docker(&["create", "--name", "late", "busybox", "sleep", "1000"]).ok();
    d.docker(&["network", "connect", "--link", "db:other", "--link", "db:last", "one", "late"]).ok();
    let address = d.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.one.IPAddress}}", "db"]).ok();
    for _ in 0..2 {
        d.docker(&["restart", "-t0", "late"]).ok();
        for name in ["other", "last", "db"] {
            let _ = find("late", name).contains(address.trim());
        }
    }
}
