//! Refusals in the original's words (recorded from dockerd 28.5), by table: the
//! arguments, the exit status, a part of what is said.

use crate::harness::{Client, Daemon, probe};
use crate::need;

fn check(d: &Daemon, cases: &[(&str, i32, &str)]) {
    let dir = d.scratch.dir("src");
    std::fs::write(dir.join("file"), "x").unwrap();
    for c in d.clients() {
        for (line, code, words) in cases {
            let line = line.replace("SRC", dir.to_str().unwrap());
            let out = d.with(c, &line.split(' ').collect::<Vec<_>>());
            assert!(
                out.code == *code && (out.stderr.contains(words) || out.stdout.contains(words)),
                "{words:?}\n{out}"
            );
        }
    }
}

#[test]
fn mounts() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    d.docker(&["volume", "create", "vol"]).ok();
    d.docker(&["volume", "create", "gone", "-o", "type=none", "-o", "device=/nosuch/dir", "-o", "o=bind"]).ok();
    check(
        &d,
        &[
            (
                "run -v SRC:/m:nocopy busybox true",
                125,
                ":/m:nocopy': invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
            ("run --tmpfs /m:foo busybox true", 125, "invalid tmpfs option \"foo\""),
            (
                "run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=sub busybox true",
                127,
                "/volumes/vol/_data/sub: no such file or directory",
            ),
            (
                "run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=../sub busybox true",
                125,
                "subpath must be a relative path within the volume",
            ),
            ("run --volumes-from nosuch busybox true", 125, "No such container: nosuch"),
            ("run --volumes-from nosuch:bad busybox true", 125, "invalid mode: bad"),
            ("run -v vol:/m --mount type=tmpfs,dst=/m busybox true", 125, "Duplicate mount point: /m"),
            (
                "run --mount type=bind,src=SRC,dst=/m,bind-propagation=bogus busybox true",
                125,
                "invalid propagation mode: bogus",
            ),
            (
                "run --mount type=bind,src=SRC/nosuch,dst=/m busybox true",
                125,
                "invalid mount config for type \"bind\": bind source path does not exist: ",
            ),
            ("run --rm -v gone:/m busybox true", 127, "failed to mount local volume: mount /nosuch/dir:"),
            ("volume create sized -o size=10m", 1, "create sized: quota size requested but no quota support"),
            ("volume create odd -o foo=bar", 1, "create odd: invalid option: \"foo\""),
            ("volume create -d nosuch odd", 1, "error looking up volume plugin nosuch: plugin \"nosuch\" not found"),
            ("run --rm -v SRC/file:/etc busybox true", 125, "Are you trying to mount a directory onto a file"),
        ],
    );
}

#[test]
fn log_options() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let start = "failed to create task for container: failed to initialize logging driver: ";
    let start = |text: &str| format!("{start}{text}");
    let cases = [
        ("max-size=x", start("invalid size: 'x'")),
        ("max-file=0", start("max-file cannot be less than 1")),
        ("max-file=x", start("strconv.Atoi: parsing \"x\": invalid syntax")),
        ("tag={{.Nope}}", start("template: log-tag:1:2: executing \"log-tag\" at <.Nope>: can't evaluate field Nope")),
        ("tag={{", start("template: log-tag:1: unclosed action")),
        ("labels-regex=(", start("error parsing regexp: ")),
        ("max-buffer-size=1m", "max-buffer-size option is only supported with 'mode=non-blocking'".into()),
        ("mode=odd", "logger: logging mode not supported: odd".into()),
        ("foo=bar", "unknown log opt 'foo' for json-file log driver".into()),
    ];
    for (option, words) in &cases {
        check(&d, &[(&format!("run --rm --log-opt {option} busybox true"), 125, words)]);
    }
    let local = "run --rm --log-driver local --log-opt";
    let count = start("compression cannot be enabled when max file count is 1");
    let bad = start("error reading compress log option: strconv.ParseBool: parsing \"x\": invalid syntax");
    check(&d, &[(&format!("{local} max-file=1 busybox true"), 125, &count)]);
    check(&d, &[(&format!("{local} compress=x busybox true"), 125, &bad)]);
    check(&d, &[(&format!("{local} max-file=1 --log-opt compress=false busybox echo fine"), 0, "fine")]);
}

#[test]
fn verbs() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    d.run_detached(&["--name", "up", "--stop-signal", "KILL", "busybox", "sleep", "1000"]);
    check(
        &d,
        &[
            ("kill -s 99 up", 1, "cannot kill container: up: the linux daemon does not support signal 99"),
            ("kill -s bogus up", 1, "cannot kill container: up: invalid signal: bogus"),
            ("kill nosuch", 1, "cannot kill container: nosuch: No such container: nosuch"),
            ("rename up a%b", 1, "Error when allocating new name: Invalid container name (/a%b), only"),
            ("rename up up", 1, "Renaming a container with the same name as its current name"),
            ("exec -u nosuch up true", 1, "unable to find user nosuch: no matching entries in passwd file"),
            ("exec -u 0:nosuch up true", 1, "unable to find group nosuch: no matching entries in group file"),
            ("run --link nosuch:x busybox true", 125, "could not get container for nosuch: No such container: nosuch"),
            ("image prune -f --filter until=garbage", 1, "failed to parse value as time or duration: \"garbage\""),
            ("run --pull never --platform linux/s390x busybox true", 125, "(linux/s390x)"),
            ("run --device /nosuch busybox true", 127, "error gathering device information while adding custom device"),
            ("checkpoint ls up", 1, "experimental"),
            ("ps --filter exited=x", 1, "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"),
            (
                "ps --filter health=x",
                1,
                "invalid value for health (x): must be one of none, starting, healthy, unhealthy",
            ),
            ("ps --filter publish=x", 1, "error while looking up for publish x: strconv.ParseUint: parsing \"x\""),
            ("commit -c BOGUS up image", 1, "BOGUS is not a valid change command"),
            ("run --rm -w /etc/passwd busybox true", 125, "Cannot mkdir: /etc/passwd is not a directory"),
            (
                "run --rm --network host --sysctl net.core.somaxconn=9 busybox true",
                125,
                "sysctl \"net.core.somaxconn\" not allowed in host network namespace",
            ),
        ],
    );
    let (status, body) = d.api("POST", "/containers/create?platform=linux/s390x", Some(r#"{"Image":"busybox"}"#));
    assert!(status == 404 && body.contains("does not match the specified platform (linux/s390x)"), "{status} {body}");
    let (status, _) = d.api("GET", "/containers/up/checkpoints", None);
    assert_eq!(status, 501);
    let exec = r#"{"Cmd":["true"],"DetachKeys":"bogus"}"#;
    let (status, body) = d.api("POST", "/containers/up/exec", Some(exec));
    assert!(status == 500 && body.contains("Invalid escape keys (bogus) provided"), "{status} {body}");
}

/// A pointer inside something else is an address, which says nothing.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split("0xc");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += "ADDRESS";
        out += part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    out
}

#[test]
fn templates_see_gos_types() {
    need!(probe::busybox());
    need!(probe::real_docker());
    let d = Daemon::with_busybox();
    d.docker(&["network", "create", "net"]).ok();
    let limits =
        ["--ulimit", "nofile=1000:2000", "--stop-timeout", "3", "--label", "a=b", "-p", "80", "--device", "/dev/null"];
    let check = ["--health-cmd", "true", "--health-interval", "90s", "--network", "net", "--network-alias", "other"];
    let mounts = [
        "--mount=type=volume,src=vol,dst=/v,volume-label=x=y",
        "--mount=type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1750",
        "--mount=type=bind,src=/,dst=/host,ro,bind-propagation=rprivate",
        "-v=/anonymous",
        "--tmpfs=/scratch",
    ];
    let id = d.run_detached(&[&limits[..], &check, &mounts, &["busybox", "sleep", "1000"]].concat());
    d.docker(&["create", "--name", "plain", "busybox"]).ok();
    let container = [
        "{{.}}",
        "{{.State}} {{.Config}}",
        "{{.HostConfig}}",
        "{{.HostConfig.Resources}}",
        "{{.NetworkSettings}} {{.NetworkSettings.Ports}}",
        "{{.Mounts}} {{.HostConfig.Mounts}} {{.HostConfig.Tmpfs}} {{.GraphDriver}}",
        "{{printf \"%v %+v %T\" .State .State .State}}",
        "{{printf \"%+v\" .HostConfig}}",
        "{{printf \"%+v %T\" .Mounts .Mounts}} {{printf \"%T %T %T\" .HostConfig.NetworkMode .Config.Env .HostConfig.Init}}",
        "{{println .State.Health .Config.Healthcheck}}{{print .RestartCount .Driver .Name}}",
        "{{range .HostConfig.Mounts}}{{.Type}} {{.TmpfsOptions}} {{.BindOptions}} {{.VolumeOptions}}{{end}}",
        "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.Aliases}} {{$v}}{{end}}",
        "{{.Id}} {{.HostConfig.CpuShares}}",
        "{{.ID}} {{.Created}} {{.HostConfig.CPUShares}} {{.SizeRw}}",
        "{{index .Config.Labels \"none\"}}|{{.Config.Labels.none}}|{{.Config.Labels}}|{{len .Mounts}}|{{len .Config.Labels}}",
        "{{json .State}} {{json .Config.Healthcheck}} {{json .HostConfig.Ulimits}}",
        "{{with .State.Health}}{{.FailingStreak}} {{.Log}}{{end}}{{if .HostConfig.Privileged}}p{{else}}n{{end}}",
        "{{eq .State.Status \"running\"}} {{gt .State.Pid 1}} {{join .Config.Cmd \",\"}} {{upper .State.Status}}",
        "{{range .HostConfig.Ulimits}}{{.Hard}} {{.}}{{end}} {{.HostConfig.Ulimits}}",
        "{{printf \"%d %s %q %x\" .RestartCount .Name .Path .Driver}} {{printf \"%s %d\" .Config.Healthcheck.Interval .Config.Healthcheck.Interval}}",
        "{{index .HostConfig.Ulimits 0}} {{index .Config.Env 0}}",
        "{{.Nope}}",
        "{{.State.Nope}}",
        "{{.State.Health.Nope}}",
        "{{.State.Status.Nope}}",
        "{{.Config.Nope.More}}",
    ];
    let image = [
        "{{.}}",
        "{{.Config}} {{.RootFS}} {{.Metadata}} {{.Os}} {{.Architecture}}",
        "{{printf \"%+v\" .Config}} {{.Config.Cmd}} {{.Config.Env}} {{.ContainerConfig}}",
    ];
    let network = [
        "{{.}}",
        "{{.IPAM}} {{.IPAM.Config}} {{.Created}}",
        "{{range .Containers}}{{.}}{{.Name}}{{end}}{{.ConfigFrom}}",
    ];
    let volume = ["{{.}}", "{{.Labels}} {{.Options}} {{.UsageData}}", "{{printf \"%+v\" .}}"];
    let kinds: [(&str, &[&str], &[&str]); 4] = [
        ("container", &[&id, "plain"], &container),
        ("image", &["busybox"], &image),
        ("network", &["net", "host"], &network),
        ("volume", &["vol"], &volume),
    ];
    for (kind, names, templates) in kinds {
        for (name, template) in names.iter().flat_map(|n| templates.iter().map(move |t| (n, t))) {
            let [ours, theirs] =
                [Client::Ours, Client::Real].map(|c| d.with(c, &[kind, "inspect", "-f", template, name]));
            assert_eq!(without_addresses(&ours.stdout), without_addresses(&theirs.stdout), "{kind} {name} {template}");
            assert_eq!((ours.code, ours.stderr), (theirs.code, theirs.stderr), "{kind} {name} {template}");
        }
    }
}

#[test]
fn the_old_way_to_name_a_volume() {
    let d = Daemon::start();
    for c in d.clients() {
        d.with(c, &["volume", "create", "--name", "old"]).prints("old");
        let both = d.with(c, &["volume", "create", "--name", "one", "two"]).fails(1);
        assert!(both.contains("cannot specify a volume-name through both --name and as a positional arg"), "{both}");
    }
}
