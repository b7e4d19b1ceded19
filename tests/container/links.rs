//! `--link` on the default bridge: names, variables, the second name in lists.

use crate::harness::{Daemon, probe};
use crate::need;

#[test]
fn a_link_gives_names_and_variables() {
    need!(probe::busybox(), probe::subordinate_ids());
    let d = Daemon::with_busybox();
    d.run_detached(&[
        "--name", "db", "--stop-signal", "KILL", "-e", "MODE=fast", "--expose", "5432", "busybox", "sleep", "1000",
    ]);
    let address = d.inspect("db", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    for c in d.clients() {
        let script = "env | grep ^MY_ | sort; grep my-db /etc/hosts";
        let out =
            d.with(c, &["run", "--rm", "--name", "web", "--link", "db:my-db", "busybox", "sh", "-c", script]).ok();
        for line in [
            "MY_DB_NAME=/web/my-db".to_owned(),
            "MY_DB_ENV_MODE=fast".to_owned(),
            format!("MY_DB_PORT=tcp://{address}:5432"),
            format!("MY_DB_PORT_5432_TCP=tcp://{address}:5432"),
            format!("MY_DB_PORT_5432_TCP_ADDR={address}"),
            "MY_DB_PORT_5432_TCP_PORT=5432".to_owned(),
            "MY_DB_PORT_5432_TCP_PROTO=tcp".to_owned(),
        ] {
            assert!(out.lines().any(|l| l == line), "{line}\n{out}");
        }
        assert!(out.contains(&format!("{address}\tmy-db ")), "{out}");
        d.with(c, &["run", "-d", "--name", "web", "--link", "db:alias", "busybox", "sleep", "1000"]).ok();
        assert_eq!(d.inspect("web", "{{.HostConfig.Links}}"), "[/db:/web/alias]");
        assert_eq!(d.inspect("web/alias", "{{.Name}}"), "/db");
        d.with(c, &["exec", "web", "sh", "-c", "echo $ALIAS_PORT"]).prints(&format!("tcp://{address}:5432"));
        d.with(c, &["ps", "--no-trunc", "--filter", "name=db", "--format", "{{.Names}}"]).prints("db,web/alias");
        d.with(c, &["rm", "--link", "web/alias"]).prints("web/alias");
        d.with(c, &["ps", "--no-trunc", "--filter", "name=db", "--format", "{{.Names}}"]).prints("db");
        d.docker(&["rm", "-f", "web"]).ok();
    }
}

#[test]
fn a_link_follows_its_container() {
    need!(probe::busybox(), probe::subordinate_ids());
    let d = Daemon::with_busybox();
    let long = ["--stop-signal", "KILL", "busybox", "sleep", "1000"];
    for c in d.clients() {
        d.run_detached(&[&["--name", "db", "-h", "store.example"][..], &long].concat());
        d.run_detached(&[&["--name", "inner", "--network", "container:db"][..], &long].concat());
        d.with(c, &[&["run", "-d", "--name", "web", "--link", "db", "--link", "inner:in"][..], &long].concat()).ok();
        let address = || d.inspect("db", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
        let hosts = || d.docker(&["exec", "web", "cat", "/etc/hosts"]).ok();
        let both = |text: &str| {
            let (db, inner) =
                (format!("{}\tdb store.example\n", address()), format!("{}\tin store.example inner\n", address()));
            text.contains(&db) && text.contains(&inner)
        };
        assert!(both(&hosts()), "{} {}", address(), hosts());
        let before = address();
        // Its address goes to somebody else.
        d.docker(&["stop", "db"]).ok();
        d.run_detached(&[&["--name", "thief"][..], &long].concat());
        d.docker(&["start", "db"]).ok();
        assert_ne!(before, address());
        assert!(both(&hosts()), "{} {}", address(), hosts());
        d.run_detached(&[&["--name", "host", "--network", "host"][..], &long].concat());
        let words = d.with(c, &["run", "--rm", "--link", "host:x", "busybox", "true"]).fails(125);
        assert!(words.contains("conflicting options: host type networking can't be used with links"), "{words}");
        d.docker(&["rm", "-f", "web", "inner", "db", "thief", "host"]).ok();
    }
}
