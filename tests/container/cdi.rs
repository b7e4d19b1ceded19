//! Devices by the Container Device Interface: `--device vendor/class=name`,
//! `--gpus` with a vendor's description, and refusals without one.

use crate::harness::{Daemon, probe};
use crate::need;

const GPUS: &str = "---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - libcuda.so.1::/opt/lib/libcuda.so
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, update-ldcache, --folder, /opt/lib]
  mounts:
  - hostPath: LIBRARIES
    containerPath: /opt/lib
    options: [nosuid, nodev, rbind, rprivate]
devices:
- name: \"0\"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0   # stands for a real one
      hostPath: /dev/null
- name: all
  containerEdits:
    deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/null}, {path: /dev/nvidia1, hostPath: /dev/zero}]
";

#[test]
fn described_devices_come_into_a_container() {
    need!(probe::busybox());
    let mut d = Daemon::prepare(&[], &[]);
    let libraries = d.scratch.dir("libraries");
    std::fs::write(libraries.join("libcuda.so.1"), "driver").unwrap();
    d.scratch.dir("cdi");
    d.scratch.file("cdi/gpu.yaml", GPUS.replace("LIBRARIES", libraries.to_str().unwrap()));
    d.scratch.file(
        "cdi/other.json",
        r#"{"cdiVersion":"0.6.0","kind":"vendor.com/net","devices":[{"name":"fast","containerEdits":{
            "env":["NET=fast"],"deviceNodes":[{"path":"/dev/fast","hostPath":"/dev/full"}],"additionalGids":[29]}}]}"#,
    );
    d.scratch.file("cdi/broken.yaml", "kind: |\n  no\n");
    d.scratch.file("cdi/readme.txt", "nothing");
    let config = serde_json::json!({"cdi-spec-dirs": [d.scratch.join("cdi")]});
    d.scratch.dir("home/.config/docker");
    d.scratch.file("home/.config/docker/daemon.json", config.to_string());
    d.up();
    d.load_busybox();
    let listed = d.json("GET", "/info", None);
    assert_eq!(listed["CDISpecDirs"], config["cdi-spec-dirs"]);
    assert_eq!(listed["DiscoveredDevices"].as_array().unwrap().len(), 3, "{listed}");
    for c in d.clients() {
        let script = "ls /dev; cat /opt/lib/libcuda.so; env; id -G";
        let out = d.with(c, &["run", "--rm", "--gpus", "all", "busybox", "sh", "-c", script]).ok();
        for part in ["nvidia0\nnvidia1\n", "driver", "NVIDIA_VISIBLE_DEVICES=void", "LD_LIBRARY_PATH=/opt/lib"] {
            assert!(out.contains(part), "{part}\n{out}");
        }
        let devices = ["--device", "nvidia.com/gpu=0", "--device", "vendor.com/net=fast"];
        let script = "ls /dev; echo $NET; id -G; echo x >/dev/fast";
        let out = d.with(c, &[&["run", "--rm"], &devices[..], &["busybox", "sh", "-c", script]].concat());
        assert!(out.stdout.contains("fast\n") && out.stdout.contains("nvidia0\n"), "{out}");
        assert!(!out.stdout.contains("nvidia1") && out.stdout.contains(" 29"), "{out}");
        assert!(out.fails(1).contains("No space left on device"));
        let missing = ["run", "--rm", "--device", "vendor.com/net=slow", "busybox", "true"];
        let words = d.with(c, &missing).fails(125);
        assert!(words.contains("CDI device injection failed: unresolvable CDI devices vendor.com/net=slow"), "{words}");
    }
}

#[test]
fn gpus_without_a_description_are_refused() {
    need!(probe::busybox());
    let d = Daemon::with_busybox();
    for c in d.clients() {
        let words = d.with(c, &["run", "--rm", "--gpus", "all", "busybox", "true"]).fails(125);
        assert!(words.contains("could not select device driver \"\" with capabilities: [[gpu]]"), "{words}");
        let words = d.with(c, &["run", "--rm", "--device", "acme.com/card=c", "busybox", "true"]).fails(125);
        assert!(words.contains("CDI device injection failed: unresolvable CDI devices acme.com/card=c"), "{words}");
    }
}
