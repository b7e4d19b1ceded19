//! Instructions, flags and forms, and the tree and configuration they make.

use super::{build, sh};
use crate::harness::{Client, Daemon, probe};
use crate::need;

#[test]
fn variables_stages_and_configuration() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = r#"# escape=\
ARG V=latest
FROM busybox:$V AS base
ARG V
ARG W=default
ENV A=1 B="two words"
ENV A=2 C=$A-${NONE:-d}-${B%words}
RUN echo "$V $W $A $C" > /env
WORKDIR /w
WORKDIR sub
FROM busybox AS unused
RUN exit 9
FROM base AS Final
EXPOSE 80 53/udp
LABEL l="v w" m=n
USER 7:8
VOLUME ["/vol"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s --retries=2 CMD true
SHELL ["/bin/sh", "-ec"]
ONBUILD RUN x
ENTRYPOINT ["cat"]
CMD ["/env"]
"#;
    for client in d.clients() {
        build(&d, client, "conf", &[("Dockerfile", file)], &["--build-arg", "W=given"]).ok();
        d.docker(&["run", "--rm", "--network", "none", "conf"]).prints("latest given 2 1-d-two");
        let shown = d.inspect(
            "conf",
            "{{.Config.User}} {{.Config.WorkingDir}} {{.Config.StopSignal}} {{json .Config.Cmd}} {{json .Config.Entrypoint}} \
             {{json .Config.Labels}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{json .Config.Shell}} \
             {{json .Config.OnBuild}} {{json .Config.Healthcheck.Interval}}",
        );
        let wanted = r#"7:8 /w/sub SIGINT ["/env"] ["cat"] {"l":"v w","m":"n"} {"53/udp":{},"80/tcp":{}} {"/vol":{}} ["/bin/sh","-ec"] ["RUN x"] 5000000000"#;
        assert_eq!(shown, wanted);
    }
}

#[test]
fn copies() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let files = [
        (
            "Dockerfile",
            "FROM busybox AS one\nRUN echo made > /made && ln -s / /root-link\nFROM busybox\nCOPY --from=one --chown=5:6 --chmod=640 /made /a\nCOPY --from=0 /made /root-link/b\nCOPY *.txt /glob/\nCOPY --parents d/./e/*.md /par/\nCOPY --exclude=*.md d /ex/\nCOPY link to-e /by-name/\nCOPY li* /by-pattern/\nCOPY <<EOF <<\"RAW\" /here/\nvalue $HOME_OF\nEOF\nraw $HOME_OF\nRAW\nADD arch.tar /un/\nCOPY . /all\n",
        ),
        (".dockerignore", "# rules\n*.log\n!keep.log\nDockerfile\n"),
        ("one.txt", "1"),
        ("two.txt", "2"),
        ("x.log", "x"),
        ("keep.log", "k"),
        ("d/e/three.md", "3"),
        ("d/four.c", "4"),
    ];
    super::context(&d, "copies", &files);
    let tar = crate::harness::image::busybox_layer();
    std::fs::write(d.scratch.join("copies/arch.tar"), tar).unwrap();
    std::os::unix::fs::symlink("one.txt", d.scratch.join("copies/link")).unwrap();
    std::os::unix::fs::symlink("d/e", d.scratch.join("copies/to-e")).unwrap();
    build(&d, Client::Ours, "copies", &files, &[]).ok();
    assert_eq!(
        sh(&d, "copies", "cd /by-name; ls | xargs; cat link; ls -l /by-pattern | cut -c1 | xargs"),
        "link three.md\n1t -"
    );
    assert_eq!(sh(&d, "copies", "stat -c '%u:%g %a' /a; cat /a /root-link/b"), "5:6 640\nmade\nmade");
    assert_eq!(sh(&d, "copies", "ls /glob /par /ex | xargs"), "/ex: e four.c /glob: one.txt two.txt /par: e");
    assert_eq!(sh(&d, "copies", "cat /here/EOF /here/RAW"), "value \nraw $HOME_OF");
    assert_eq!(
        sh(&d, "copies", "test -e /un/bin/sh && ls -A /all | xargs"),
        ".dockerignore arch.tar d keep.log link one.txt to-e two.txt"
    );
    assert_eq!(sh(&d, "copies", "stat -c '%u:%g %a' /all/d /here"), "0:0 755\n0:0 755");
}

#[test]
fn triggers_and_targets() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let parent = "FROM busybox\nONBUILD COPY f /triggered\nONBUILD RUN cp /triggered /again\n";
    build(&d, Client::Ours, "parent", &[("Dockerfile", parent)], &[]).ok();
    let child = "FROM parent AS first\nRUN cat /again > /third\nFROM first AS second\nRUN exit 1\n";
    build(&d, Client::Ours, "child", &[("Dockerfile", child), ("f", "content")], &["--target", "FIRST"]).ok();
    assert_eq!(sh(&d, "child", "cat /third"), "content");
    assert_eq!(d.inspect("child", "{{json .Config.OnBuild}}"), "null");
    let squashed =
        build(&d, Client::Ours, "squashed", &[("Dockerfile", child), ("f", "content")], &["--squash", "--target", "0"]);
    squashed.ok();
    assert_eq!(d.inspect("squashed", "{{len .RootFS.Layers}}"), "2");
    assert_eq!(sh(&d, "squashed", "cat /triggered /again /third"), "contentcontentcontent");
}
