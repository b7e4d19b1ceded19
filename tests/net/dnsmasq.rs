//! 127.0.0.11 between glibc's own resolver and dnsmasq on another machine.

use super::lab::{Container, Lab, in_lab};
use super::machine::{Link, Machine};
use crate::harness::eventually;
use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::Duration;

const RECORDS: &[&str] = &[
    "--host-record=one.corp.test,10.9.8.7,fd00:9::7",
    "--host-record=four.corp.test,10.9.8.4",
    "--host-record=six.corp.test,fd00:9::6",
    "--host-record=a.b.corp.test,10.9.8.22",
    "--host-record=many.corp.test,10.9.9.1",
    "--host-record=many.corp.test,10.9.9.2",
    "--host-record=many.corp.test,10.9.9.3",
    "--cname=second.corp.test,one.corp.test",
    "--cname=first.corp.test,second.corp.test",
    "--local=/test/",
];

/// dnsmasq on another machine, at 192.0.2.2 and, to be told apart, with more to say.
fn dnsmasq(machine: &mut Machine, more: &[String]) {
    let mut command = Command::new("dnsmasq");
    command
        .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--edns-packet-max=4096"])
        .args(["--bind-interfaces", "--listen-address=192.0.2.2"])
        .args(RECORDS)
        .args(more);
    machine.start(command);
    let listening = || std::net::TcpStream::connect("192.0.2.2:53").is_ok();
    eventually("dnsmasq", || machine.run(listening));
}

fn asking(lab: &mut Lab, servers: &[&str]) -> Container {
    let mut spec = lab.spec(&["one"]);
    spec.dns.embedded = true;
    spec.dns.servers = servers.iter().map(|s| s.parse().unwrap()).collect();
    lab.create(spec)
}

/// Runs a program in the container with this resolv.conf.
fn with_conf(c: &Container, conf: &str, argv: &[&str]) -> Output {
    let dir = std::env::temp_dir().join(format!("resolv-{}", std::process::id()));
    std::fs::write(&dir, conf).unwrap();
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    command.args(["-m", "sh", "-c", script]).arg(&dir).args(argv);
    let output = c.run(move || command.output().unwrap());
    let _ = std::fs::remove_file(&dir);
    output
}

/// `getent`: addresses, sorted, each once; the exit status if there are none.
fn lookup(c: &Container, options: &str, database: &str, name: &str) -> Result<Vec<String>, i32> {
    let conf = format!("nameserver 127.0.0.11\n{options}\n");
    let output = with_conf(c, &conf, &["getent", database, name]);
    if !output.status.success() {
        return Err(output.status.code().unwrap_or(-1));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut all: Vec<String> = text.lines().filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect();
    all.sort();
    all.dedup();
    Ok(all)
}

#[test]
fn glibc_asks_through_us() {
    in_lab("net::dnsmasq::glibc_asks_through_us", |lab| {
        let mut machine = Machine::new(&Link::default());
        dnsmasq(&mut machine, &[]);
        let c = asking(lab, &["192.0.2.2"]);
        let v4 = |options: &str, name: &str| lookup(&c, options, "ahostsv4", name);
        let one = Ok(vec!["10.9.8.7".to_owned()]);
        assert_eq!(v4("", "one.corp.test"), one);
        // search and ndots are the resolver's; what it asks has to be answered right.
        assert_eq!(v4("search other.test corp.test", "one"), one);
        assert_eq!(v4("search corp.test\noptions ndots:3", "a.b"), Ok(vec!["10.9.8.22".to_owned()]));
        assert_eq!(v4("options ndots:0", "one"), Err(2), "no search list, no such name");
        assert_eq!(v4("", "first.corp.test"), one, "a chain of two aliases");
        assert_eq!(lookup(&c, "", "ahostsv6", "one.corp.test"), Ok(vec!["fd00:9::7".to_owned()]));
        // A name of one family only: nothing, not "no such name", for the other.
        assert_eq!(v4("", "four.corp.test"), Ok(vec!["10.9.8.4".to_owned()]));
        assert_eq!(lookup(&c, "", "ahosts", "four.corp.test"), Ok(vec!["10.9.8.4".to_owned()]));
        assert_eq!(lookup(&c, "", "ahosts", "six.corp.test"), Ok(vec!["fd00:9::6".to_owned()]));
        let many = v4("", "many.corp.test").unwrap();
        assert_eq!(many, ["10.9.9.1", "10.9.9.2", "10.9.9.3"]);
        // PTR, and EDNS as glibc sends it.
        let output = with_conf(&c, "nameserver 127.0.0.11\noptions edns0\n", &["getent", "hosts", "10.9.8.7"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("one.corp.test"), "{text}");
        let own = with_conf(&c, "nameserver 127.0.0.11\n", &["getent", "hosts", &c.ip().to_string()]);
        assert!(String::from_utf8_lossy(&own.stdout).contains("c1.net-one"));
    });
}

/// One question by UDP, as bytes.
fn ask(c: &Container, name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut question = coracle::util::dns::question(7, name, coracle::util::dns::Type::A).unwrap();
    let at = question.len() - 4;
    question[at..at + 2].copy_from_slice(&kind.to_be_bytes());
    if let Some(room) = edns {
        question[11] = 1;
        question.extend_from_slice(&[0, 0, 41]);
        question.extend_from_slice(&room.to_be_bytes());
        question.extend_from_slice(&[0; 6]);
    }
    c.run(move || {
        let s = UdpSocket::bind("127.0.0.1:0").unwrap();
        s.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        let mut buffer = vec![0; 65536];
        let n = (0..8).find_map(|_| {
            s.send_to(&question, "127.0.0.11:53").unwrap();
            s.recv(&mut buffer).ok()
        });
        buffer[..n.expect("an answer")].to_vec()
    })
}

const TXT: u16 = 16;

#[test]
fn long_answers_and_failures() {
    in_lab("net::dnsmasq::long_answers_and_failures", |lab| {
        let mut machine = Machine::new(&Link::default());
        let long: Vec<String> = (0..9).map(|n| format!("--txt-record=long.corp.test,{n}{}", "x".repeat(200))).collect();
        dnsmasq(&mut machine, &long);
        let c = asking(lab, &["192.0.2.2"]);
        let code = |answer: &[u8]| answer[3] & 15;
        let truncated = |answer: &[u8]| answer[2] & 2 != 0;
        let answer = ask(&c, "long.corp.test", TXT, None);
        assert!(truncated(&answer) && answer.len() <= 512, "{} bytes", answer.len());
        let answer = ask(&c, "long.corp.test", TXT, Some(4096));
        assert!(!truncated(&answer) && answer.len() > 1800, "{} bytes", answer.len());
        // The stub resolver of glibc takes TCP when it is told that it was cut.
        let program = "import ctypes, struct\n\
            l = ctypes.CDLL('libresolv.so.2')\n\
            b = ctypes.create_string_buffer(65536)\n\
            f = getattr(l, 'res_query', None) or getattr(l, '__res_query')\n\
            print(f(b'long.corp.test', 1, 16, b, 65536))";
        let output = with_conf(&c, "nameserver 127.0.0.11\n", &["python3", "-c", program]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.trim().parse::<i32>().is_ok_and(|n| n > 1800), "{text} {output:?}");
        assert_eq!(code(&ask(&c, "nobody.corp.test", 1, None)), 3, "NXDOMAIN");
        let empty = ask(&c, "four.corp.test", 28, None);
        assert_eq!((code(&empty), empty[7]), (0, 0), "no data");
        // Several answers take turns to be first.
        let firsts: std::collections::HashSet<Vec<u8>> = (0..30)
            .map(|_| {
                let answer = ask(&c, "many.corp.test", 1, None);
                let question = 12 + "many.corp.test".len() + 2 + 4;
                answer[question + 12..question + 16].to_vec()
            })
            .collect();
        assert!(firsts.len() > 1, "{firsts:?}");
        // Dead servers are skipped: one that refuses, one that nobody can reach.
        let c = asking(lab, &["198.51.100.1", "203.0.113.5", "192.0.2.2"]);
        assert_eq!(lookup(&c, "", "ahostsv4", "one.corp.test"), Ok(vec!["10.9.8.7".to_owned()]));
        // With none left it is a failure, not "no such name".
        let c = asking(lab, &["198.51.100.1"]);
        assert_eq!(code(&ask(&c, "one.corp.test", 1, None)), 2, "SERVFAIL");
    });
}

/// The host's resolv.conf is read anew: here it is a file of the lab's own mounts.
#[test]
fn the_hosts_servers_are_followed() {
    in_lab("net::dnsmasq::the_hosts_servers_are_followed", |lab| {
        let conf = std::env::temp_dir().join(format!("host-resolv-{}", std::process::id()));
        std::fs::write(&conf, "nameserver 198.51.100.1\n").unwrap();
        let status = Command::new("mount").arg("--bind").arg(&conf).arg("/etc/resolv.conf").status().unwrap();
        assert!(status.success());
        let mut machine = Machine::new(&Link::default());
        dnsmasq(&mut machine, &[]);
        let c = asking(lab, &[]);
        assert_eq!(ask(&c, "one.corp.test", 1, None)[3] & 15, 2, "the first server is none");
        std::fs::write(&conf, "search corp.test\nnameserver 192.0.2.2\n").unwrap();
        eventually("the new server", || ask(&c, "one.corp.test", 1, None).ends_with(&[10, 9, 8, 7]));
        std::fs::remove_file(&conf).unwrap();
    });
}
