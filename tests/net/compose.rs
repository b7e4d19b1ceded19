//! Networks as docker compose asks for them: aliases on two networks, one that is
//! internal, one of IPv6 alone, fixed addresses, ranks; then live changes to it.

use crate::harness::{Client, Daemon, Output, eventually, probe, run};
use crate::need;

const PROJECT: &str = r#"
name: duo
services:
  db:
    image: busybox
    command: [ sleep, "1000" ]
    networks:
      back: { aliases: [ database ], ipv4_address: 10.61.0.77, ipv6_address: "fd00:61::77", mac_address: "02:42:ac:11:00:55" }
  web:
    image: busybox
    command: [ sleep, "1000" ]
    hostname: webhost
    networks:
      back: { priority: 1000, gw_priority: 1 }
      front: { aliases: [ www ], gw_priority: 100 }
      six: {}
    extra_hosts: [ "host.docker.internal:host-gateway" ]
  lone:
    image: busybox
    command: [ sleep, "1000" ]
    networks: [ six ]
  guest:
    image: busybox
    command: [ sleep, "1000" ]
    network_mode: "service:db"
  linked:
    image: busybox
    command: [ sleep, "1000" ]
    links: [ "db:mine" ]
    networks: [ back ]
networks:
  front: { driver_opts: { com.docker.network.driver.mtu: "1400" } }
  back:
    internal: true
    enable_ipv6: true
    ipam: { config: [ { subnet: 10.61.0.0/24, ip_range: 10.61.0.128/25, gateway: 10.61.0.9, aux_addresses: { h: 10.61.0.128 } }, { subnet: "fd00:61::/64" } ] }
  six: { enable_ipv4: false, enable_ipv6: true }
"#;

fn compose(d: &Daemon, client: Client, line: &str) -> Output {
    let mut command = d.cli(client);
    command.env("DOCKER_CONFIG", d.scratch.join("home/.docker"));
    run(command.arg("compose").arg("-f").arg(d.scratch.join("compose.yaml")).args(line.split(' ')))
}

#[test]
fn two_networks_one_internal_and_one_of_ipv6_alone() {
    need!(probe::busybox(), probe::plugin("compose"));
    let d = Daemon::with_busybox();
    d.scratch.file("compose.yaml", PROJECT);
    d.scratch.dir("home/.docker/cli-plugins");
    let plugin = d.scratch.join("home/.docker/cli-plugins/docker-compose");
    std::os::unix::fs::symlink(probe::plugin("compose").unwrap(), plugin).unwrap();
    compose(&d, Client::Ours, "up -d --quiet-pull").ok();
    let inside = |name: &str, line: &str| {
        let name = format!("duo-{name}-1");
        d.docker(&[&["exec", name.as_str()], &line.split(' ').collect::<Vec<_>>()[..]].concat())
    };
    names(&inside);
    ways_and_files(&d, &inside);
    live_changes(&d, &inside);
    compose(&d, Client::Ours, "down -t 0").ok();
    d.docker(&["network", "ls", "-q", "--filter", "type=custom"]).prints("");
}

fn names(inside: &dyn Fn(&str, &str) -> Output) {
    let finds = |who: &str, name: &str, address: &str| {
        eventually(name, || inside(who, &format!("nslookup {name}")).stdout.contains(address));
    };
    for name in ["db", "database", "duo-db-1", "db.duo_back"] {
        finds("web", name, "Address: 10.61.0.77");
        finds("web", name, "Address: fd00:61::77");
    }
    finds("linked", "mine", "Address: 10.61.0.77");
    finds("web", "10.61.0.77", "name = duo-db-1.duo_back");
    finds("lone", "webhost", "Address: fd");
    // What shares no network has no name, nor an alias that belongs to the other one.
    for (who, name) in [("lone", "db"), ("db", "www"), ("db", "lone")] {
        let seen = inside(who, &format!("nslookup {name}"));
        assert!(seen.code == 1, "{who} finds {name}: {seen}");
    }
    let _ = inside("lone", "ping -c 1 -w 10 web").contains("1 packets received");
    let _ = inside("guest", "ping -c 1 -w 10 mine").fails(1);
}

fn ways_and_files(d: &Daemon, inside: &dyn Fn(&str, &str) -> Output) {
    let way = inside("web", "ip route").ok();
    let gateway = d.inspect("duo-web-1", "{{.NetworkSettings.Networks.duo_front.Gateway}}");
    assert!(way.contains(&format!("default via {gateway} ")), "{way}");
    let gateway = d.inspect("duo-web-1", "{{.NetworkSettings.Networks.duo_six.IPv6Gateway}}");
    let way = inside("web", "ip -6 route").ok();
    assert!(way.contains(&format!("default via {gateway} ")), "{way}");
    assert!(!inside("db", "ip route").ok().contains("default"), "an internal network leads nowhere");
    let hosts = inside("web", "cat /etc/hosts").ok();
    assert!(hosts.contains("169.254.1.2\thost.docker.internal\n"), "{hosts}");
    assert_eq!(hosts.matches("\twebhost\n").count(), 4, "{hosts}");
    assert_eq!(inside("guest", "cat /etc/hosts").ok(), inside("db", "cat /etc/hosts").ok());
    let _ = inside("db", "ip link show eth0").contains("02:42:ac:11:00:55");
    let template = "{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.IPv6Address}};{{end}}";
    let members = d.docker(&["network", "inspect", "-f", template, "duo_back"]).ok();
    assert!(members.contains("duo-db-1 10.61.0.77/24 fd00:61::77/64;") && !members.contains("guest"), "{members}");
    assert!(!members.contains("10.61.0.128/24"), "an auxiliary address was given out: {members}");
    let members = d.docker(&["network", "inspect", "-f", template, "duo_six"]).ok();
    assert!(members.contains("duo-lone-1  fd"), "{members}");
}

fn live_changes(d: &Daemon, inside: &dyn Fn(&str, &str) -> Output) {
    d.docker(&["network", "connect", "--alias", "late", "duo_six", "duo-db-1"]).ok();
    eventually("a late alias", || inside("lone", "ping -c 1 -w 5 late").code == 0);
    let id = d.inspect("duo-db-1", "{{.Config.Hostname}}");
    let places = || inside("db", "cat /etc/hosts").ok().matches(&format!("\t{id}\n")).count();
    assert_eq!(places(), 3);
    let _ = inside("db", "ip -6 route").contains("default via fd");
    d.docker(&["network", "disconnect", "duo_six", "duo-db-1"]).ok();
    assert_eq!(places(), 2);
    eventually("the alias is gone", || inside("lone", "nslookup late").code == 1);
    assert!(!inside("db", "ip -6 route").ok().contains("default"));
    let words = d.docker(&["network", "connect", "host", "duo-db-1"]).fails(1);
    assert!(
        words.contains("cannot connect container to host network - container must be created in host network mode")
    );
    // A stopped container is connected when it starts.
    d.docker(&["stop", "-t", "0", "duo-lone-1"]).ok();
    d.docker(&["network", "connect", "--ip", "10.61.0.200", "duo_back", "duo-lone-1"]).ok();
    d.docker(&["start", "duo-lone-1"]).ok();
    let _ = inside("lone", "ip -4 -o addr").contains("10.61.0.200/24");
    eventually("the name of the restarted", || inside("db", "ping -c 1 -w 5 duo-lone-1").code == 0);
}
