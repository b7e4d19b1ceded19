//! Results: folders, archives, registries, and the files that tell of them.

use super::{build, registry, sh};
use crate::harness::{Client, Daemon, probe};
use crate::need;
use std::path::Path;

const FILE: &str = "FROM busybox AS made\n\
    RUN mkdir -p /r/d && echo hi > /r/d/f && ln -s d/f /r/l && ln /r/d/f /r/hard && chmod 640 /r/d/f && chown 5:6 /r/d\n\
    FROM scratch\nCOPY --from=made /r /\n";

/// Names in a tar, sorted.
fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let name = |e: std::io::Result<tar::Entry<'_, &[u8]>>| e.unwrap().path().unwrap().display().to_string();
    let mut names: Vec<String> = archive.entries().unwrap().map(name).collect();
    names.sort();
    names
}

fn member(archive: &[u8], path: &str) -> serde_json::Value {
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap() == Path::new(path) {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            return serde_json::from_str(&text).unwrap();
        }
    }
    panic!("no {path} in {:?}", names(archive))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn files_of_the_client() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let files = [("Dockerfile", FILE)];
    let out = d.scratch.join("out");
    build(&d, Client::Ours, "r", &files, &["-o", out.to_str().unwrap()]).ok();
    assert_eq!(
        (read(&out.join("d/f")), read(&out.join("l")), read(&out.join("hard"))),
        ("hi\n".into(), "hi\n".into(), "hi\n".into())
    );
    let folder = d.scratch.join("r").display().to_string();
    let piped = d.docker(&["build", "--network", "none", "-o", "-", &folder]);
    assert_eq!(names(&piped.raw), ["d/", "d/f", "hard", "l"], "{piped}");
    // Neither of these is an image of the store.
    d.docker(&["images", "-q", "r"]).prints("");

    let at = |name: &str| d.scratch.join(name);
    let oci = format!("type=oci,dest={}", at("oci.tar").display());
    build(&d, Client::Ours, "r", &files, &["-o", &oci, "--annotation", "a=b"]).ok();
    let oci = std::fs::read(at("oci.tar")).unwrap();
    assert!(!names(&oci).contains(&"manifest.json".to_owned()));
    let manifest = member(&oci, "index.json")["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    assert_eq!(member(&oci, &format!("blobs/{manifest}"))["annotations"]["a"], "b");
    let layout = format!("type=oci,tar=false,dest={}", at("layout").display());
    build(&d, Client::Ours, "r", &files, &["-o", &layout]).ok();
    assert!(read(&at("layout/oci-layout")).contains("1.0.0"));
    let docker = format!("type=docker,dest={}", at("docker.tar").display());
    build(&d, Client::Ours, "saved", &files, &["-o", &docker]).ok();
    d.docker(&["load", "-i", at("docker.tar").to_str().unwrap()]).contains("Loaded image: saved:latest").ok();

    for (output, part) in [
        ("type=nope", "no exporter for type \"nope\""),
        ("type=local", "dest is required for local exporter"),
        ("type=image,push=true", "tag is needed when pushing"),
        ("type=image,foo=1", "unknown attribute \"foo\""),
        ("type=oci,dest=x,compression=zstd", "compression=zstd is not supported"),
        (&format!("type=tar,dest={}", out.display()), "is a directory"),
    ] {
        d.docker(&["build", "-o", output, &folder]).contains(part).fails(1);
    }
    let (status, text) = d.api("POST", "/build?outputs=[{\"Type\":\"local\"}]", None);
    assert!(status == 400 && text.contains("needs a client that takes files"), "{status} {text}");
}

#[test]
fn registries_and_what_is_told() {
    need!(probe::busybox(), probe::program("docker-registry", "docker-registry"));
    let d = Daemon::with_busybox();
    let (_registry, host) = registry(&d);
    let name = format!("{host}/made:1");
    let files = [("Dockerfile", "FROM busybox\nRUN echo x > /x\n")];
    let metadata = d.scratch.join("metadata.json").display().to_string();
    let id_file = d.scratch.join("id").display().to_string();
    let flags = ["-t", &name, "--push", "--annotation", "k=v", "--metadata-file", &metadata, "--iidfile", &id_file];
    // The harness's own `-t made` would be pushed to the Hub.
    let folder = super::context(&d, "made", &files).display().to_string();
    let args = [&["build", "--network", "none"], &flags[..], &[&folder]].concat();
    d.docker(&args).ok();
    let id = d.inspect(&name, "{{.Id}}");
    let told: serde_json::Value = serde_json::from_str(&read(Path::new(&metadata))).unwrap();
    assert_eq!((told["containerimage.config.digest"].as_str(), read(Path::new(&id_file))), (Some(&*id), id.clone()));
    assert_eq!(told["image.name"], name);
    let digest = told["containerimage.digest"].as_str().unwrap();
    assert!(d.inspect(&name, "{{json .RepoDigests}}").contains(digest));
    // OCI because of the annotation; Docker's types otherwise.
    d.docker(&["manifest", "inspect", "--insecure", &name]).contains("application/vnd.oci.image.manifest.v1+json").ok();
    let plain = format!("type=image,name={host}/plain:1,push=true");
    d.docker(&["build", "--network", "none", "-o", &plain, &folder]).ok();
    d.docker(&["manifest", "inspect", "--insecure", &format!("{host}/plain:1")])
        .contains("application/vnd.docker.distribution.manifest.v2+json")
        .ok();
    d.docker(&["rmi", "-f", &id]).ok();
    d.docker(&["run", "--rm", "--network", "none", &name, "cat", "/x"]).contains("x").ok();
}

/// The same Dockerfile and time give the same layers, wherever and whenever.
#[test]
fn layers_are_reproducible() {
    need!(probe::busybox());
    let file = "FROM busybox\nRUN mkdir /a && echo x > /a/b\nCOPY f /f\nWORKDIR /w\nCOPY <<E /h\nhi\nE\n";
    let mut ids = Vec::new();
    for _ in 0..2 {
        let d = Daemon::with_busybox();
        let flags = ["--build-arg", "SOURCE_DATE_EPOCH=1600000000", "-o", "type=image,rewrite-timestamp=true"];
        build(&d, Client::Ours, "same", &[("Dockerfile", file), ("f", "1")], &flags).ok();
        ids.push(d.inspect("same", "{{.Id}} {{.Created}} {{json .RootFS.Layers}}"));
        assert_eq!(sh(&d, "same", "stat -c %Y /a/b /f | sort -u"), "1600000000");
    }
    assert_eq!(ids[0], ids[1]);
    assert!(ids[0].contains("2020-09-13T12:26:40Z"), "{}", ids[0]);
}

#[test]
fn ways_of_showing_progress() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let files = [("Dockerfile", "FROM busybox\nRUN echo said && echo again >&2\n")];
    let show = |mode: &str| {
        let shown = build(&d, Client::Ours, "shown", &files, &["--no-cache", "--progress", mode]);
        assert_eq!(shown.code, 0, "{shown}");
        shown
    };
    let plain = show("plain");
    for part in ["#2 [2/2] RUN echo said && echo again >&2\n", "#2 said\n", "#2 again\n", "#2 DONE "] {
        assert!(plain.stderr.contains(part), "{part:?} {plain}");
    }
    let json = show("rawjson");
    let lines: Vec<serde_json::Value> = json.stderr.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let logs: String = lines.iter().filter_map(|l| l["step"]["log"].as_str()).collect();
    assert_eq!(logs, "said\nagain\n", "{json}");
    let terminal = show("tty");
    assert!(terminal.stderr.contains("[+] Building") && terminal.stderr.contains("FINISHED"), "{terminal}");
    assert_eq!(show("quiet").stderr, "");
    let quiet = build(&d, Client::Ours, "shown", &files, &["-q"]);
    assert!(
        quiet.stdout.starts_with("sha256:") && quiet.stdout.trim().len() == 71 && quiet.stderr.is_empty(),
        "{quiet}"
    );
    d.docker(&["build", "--progress", "loud", "."]).contains("invalid progress mode").fails(1);
}
