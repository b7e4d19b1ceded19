//! Several platforms in one build, images that lie in folders.

use super::{build, context, registry, sh};
use crate::harness::{Client, Daemon, probe, run};
use crate::need;
use std::process::Command;

const THREE: &str = "linux/amd64,linux/arm64,linux/arm/v7";

fn skopeo(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&run(Command::new("skopeo").args(args)).ok()).unwrap()
}

/// The architectures that an index names.
fn architectures(index: &serde_json::Value) -> Vec<&str> {
    assert_eq!(index["mediaType"], "application/vnd.oci.image.index.v1+json", "{index}");
    index["manifests"].as_array().unwrap().iter().map(|m| m["platform"]["architecture"].as_str().unwrap()).collect()
}

#[test]
fn several_platforms() {
    need!(probe::busybox(), probe::program("skopeo", "skopeo"), probe::program("docker-registry", "docker-registry"));
    let d = Daemon::with_busybox();
    let (_registry, host) = registry(&d);
    // What runs is of this machine; the result is of each platform.
    let file = "FROM --platform=$BUILDPLATFORM busybox AS make\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\n\
        FROM scratch\nARG TARGETPLATFORM\nCOPY --from=make /arch /\nLABEL p=$TARGETPLATFORM\n";
    let name = format!("{host}/multi:1");
    let folder = context(&d, "multi", &[("Dockerfile", file)]).display().to_string();
    let out = |name: &str| d.scratch.join(name).display().to_string();
    let outputs = [format!("type=oci,dest={}", out("multi.tar")), format!("type=local,dest={}", out("trees"))];
    let make = |metadata: &str, more: &[&str]| {
        let metadata = out(metadata);
        let args = ["build", "--network", "none", "-t", &name, "--platform", THREE, "--metadata-file", &metadata];
        let shown = d.docker(&[&args[..], more, &[&folder]].concat());
        assert_eq!(shown.code, 0, "{shown}");
        let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(metadata).unwrap()).unwrap();
        (shown, facts["containerimage.digest"].as_str().unwrap_or_default().to_owned())
    };
    let (_, digest) = make("one.json", &["--push"]);
    let pushed = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    assert_eq!(architectures(&pushed), ["amd64", "arm64", "arm"]);
    for (platform, architecture) in [("linux/amd64", "amd64"), ("linux/arm64", "arm64"), ("linux/arm/v7", "arm")] {
        let shown = d.docker(&[
            "image",
            "inspect",
            "--platform",
            platform,
            "-f",
            "{{.Architecture}} {{.Config.Labels.p}}",
            &name,
        ]);
        shown.prints(&format!("{architecture} {platform}"));
    }
    // Again: all from the cache, and the same index.
    let (shown, again) = make("two.json", &[]);
    assert!(digest.starts_with("sha256:") && digest == again, "{digest} {again}");
    assert_eq!(shown.stderr.matches("CACHED").count(), 6, "{}", shown.stderr);
    assert!(shown.stderr.contains("[linux/arm/v7 stage-1 2/4]"), "{}", shown.stderr);
    let _ = make("three.json", &["-o", &outputs[0], "-o", &outputs[1]]);
    let archive = format!("oci-archive:{}", out("multi.tar"));
    let top = skopeo(&["inspect", "--raw", &archive]);
    assert_eq!(architectures(&top), ["amd64", "arm64", "arm"]);
    let tree = |platform: &str| std::fs::read_to_string(d.scratch.join(format!("trees/{platform}/arch"))).unwrap();
    assert_eq!(
        (tree("linux_amd64"), tree("linux_arm64"), tree("linux_arm_v7")),
        ("amd64\n".into(), "arm64\n".into(), "arm\n".into())
    );
    // What was saved and loaded elsewhere is the same whole image.
    d.docker(&["save", "-o", &out("saved.tar"), &name]).ok();
    d.docker(&["rmi", &name]).ok();
    d.docker(&["load", "-i", &out("saved.tar")]).ok();
    d.docker(&["image", "inspect", "--platform", "linux/arm64", "-f", "{{.Architecture}}", &name]).prints("arm64");
}

#[test]
fn platforms_that_cannot_be() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    let file = "FROM scratch\nCOPY f /\n";
    let files = [("Dockerfile", file), ("f", "f")];
    for (flags, part) in [
        (&["--platform", "linux/amd64,linux/amd64"][..], "is given twice"),
        (&["--platform", "linux/amd64,plan9!/x"], "\"plan9!\" is an invalid OS component of \"plan9!/x\""),
        (&["--platform", THREE, "-o", "type=docker,dest=x.tar"], "does not currently support exporting manifest lists"),
    ] {
        build(&d, Client::Ours, "no", &files, flags).contains(part).fails(1);
    }
    // A program of another machine says what it is instead of failing in the dark.
    let mut arm = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0".to_vec();
    arm.resize(256, 0);
    let folder = context(&d, "foreign", &[("Dockerfile", "FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN x\n")]);
    std::fs::write(folder.join("sh"), arm).unwrap();
    let folder = folder.display().to_string();
    d.docker(&["build", "--network", "none", "--platform", "linux/arm64", &folder])
        .contains("this stage is for linux/arm64, which this machine")
        .contains("--platform=$BUILDPLATFORM")
        .contains("exec /bin/sh: exec format error")
        .fails(1);
    // As the original's container says it, and its classic builder.
    let shown = d.with(Client::Real, &["build", "--network", "none", "--platform", "linux/arm64", &folder]);
    assert!(shown.stderr.contains("returned a non-zero code: 255"), "{shown}");
    d.docker(&["ps", "-aq"]).prints("");
}

#[test]
fn images_in_folders() {
    need!(probe::busybox(), probe::program("skopeo", "skopeo"));
    let d = Daemon::with_busybox();
    let out = |name: &str| d.scratch.join(name).display().to_string();
    let plain = format!("type=oci,tar=false,name=base:v1,dest={}", out("plain"));
    let base = [("Dockerfile", "FROM busybox\nENV FROM_BASE=yes\nRUN echo base > /base\n")];
    build(&d, Client::Ours, "base", &base, &["-o", &plain]).ok();
    let packed = format!("oci:{}:v2", out("packed"));
    run(Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &format!("oci:{}:v1", out("plain")), &packed]))
        .ok();
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(d.scratch.join("packed/index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let file = [("Dockerfile", "FROM base\nRUN echo $FROM_BASE > /seen\nCOPY --from=other /base /copied\n")];
    // With a tag, with a digest, with the only one there is.
    for (n, (one, two)) in [
        (format!("{}:v1", out("plain")), format!("{}@{digest}", out("packed"))),
        (out("packed"), format!("{}:v2", out("packed"))),
    ]
    .iter()
    .enumerate()
    {
        let contexts = [format!("base=oci-layout://{one}"), format!("other=oci-layout://{two}")];
        let name = format!("on{n}");
        let flags = ["--build-context", &contexts[0], "--build-context", &contexts[1]];
        build(&d, Client::Ours, &name, &file, &flags).ok();
        assert_eq!(sh(&d, &name, "cat /base /seen /copied | xargs"), "base yes base");
    }
    let one = |place: &str| format!("base=oci-layout://{place}");
    let none = [("Dockerfile", "FROM base\n")];
    for (place, part) in [
        (format!("{}:v9", out("plain")), "no image with the tag v9"),
        (out("nosuch"), "no such file or directory"),
        (d.scratch.dir("empty").display().to_string(), "is no OCI layout"),
        (format!("{}@sha256:{}", out("plain"), "0".repeat(64)), "no such file or directory"),
    ] {
        build(&d, Client::Ours, "no", &none, &["--build-context", &one(&place)]).contains(part).fails(1);
    }
    // A blob that is not what its name says is not taken.
    let manifest = d.scratch.join(format!("packed/blobs/sha256/{}", digest.trim_start_matches("sha256:")));
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("layer", "lay3r")).unwrap();
    build(&d, Client::Ours, "no", &none, &["--build-context", &one(&out("packed"))]).contains("has digest").fails(1);
}
