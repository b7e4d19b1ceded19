//! Images made from nothing but the host's static busybox.

use std::path::PathBuf;
use std::sync::OnceLock;

const APPLETS: &str = "sh sleep true false echo cat ls ps httpd nc wget id env uname hostname ip ping mkdir rm rmdir touch cp mv \
                       ln grep sed head tail wc dd kill date stat mount umount vi tar top seq test printf nslookup ifconfig \
                       route adduser chmod chown find xargs sort tr cut tee yes stty tty nproc readlink od md5sum sha256sum \
                       mknod awk basename dirname expr pwd sync usleep nohup timeout";

/// The layer: busybox, its applets as links, and the few files of /etc that
/// programs expect. Uncompressed.
pub fn busybox_layer() -> &'static [u8] {
    static LAYER: OnceLock<Vec<u8>> = OnceLock::new();
    LAYER.get_or_init(|| {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|p| std::fs::read(p).ok());
        let busybox = busybox.expect("need!(probe::busybox()) comes first");
        let mut tar = Tar::default();
        for dir in ["bin", "dev", "etc", "proc", "root", "sys", "usr", "usr/bin", "var", "www", "home"] {
            tar.dir(dir, 0o755);
        }
        tar.dir("tmp", 0o1777);
        tar.file("bin/busybox", 0o755, &busybox);
        for applet in APPLETS.split_whitespace() {
            tar.symlink(&format!("bin/{applet}"), "busybox");
        }
        tar.file("etc/passwd", 0o644, PASSWD.as_bytes());
        tar.file("etc/group", 0o644, b"root:x:0:\ndaemon:x:1:\naudio:x:29:user\nuser:x:1000:\nnogroup:x:65534:\n");
        tar.file("www/index.html", 0o644, b"hello from coracle\n");
        tar.finish()
    })
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
user:x:1000:1000:user:/home:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
";

/// A docker-archive of `busybox:latest`, as `docker save` writes it.
pub fn busybox_archive() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("busybox-{}.tar", std::process::id()));
        let archive = archive("busybox:latest", &[busybox_layer()], serde_json::json!({"Cmd": ["sh"]}));
        std::fs::write(&path, archive).unwrap();
        path
    })
    .clone()
}

/// A docker-archive with the given uncompressed layers and `config` section.
pub fn archive(tag: &str, layers: &[&[u8]], config: serde_json::Value) -> Vec<u8> {
    let digests: Vec<String> = layers.iter().map(|l| sha256(l)).collect();
    let history = serde_json::json!({"created": "2026-01-02T03:04:05Z", "created_by": "test"});
    let mut config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": digests.iter().map(|d| format!("sha256:{d}")).collect::<Vec<_>>()},
        "history": vec![history; digests.len()],
    });
    if config["config"]["Env"].is_null() {
        config["config"]["Env"] =
            serde_json::json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    }
    let config = serde_json::to_vec(&config).unwrap();
    let config_name = format!("{}.json", sha256(&config));
    let mut tar = Tar::default();
    for (digest, layer) in digests.iter().zip(layers) {
        tar.file(&format!("{digest}/layer.tar"), 0o644, layer);
    }
    tar.file(&config_name, 0o644, &config);
    let manifest = serde_json::json!([{
        "Config": config_name, "RepoTags": [tag],
        "Layers": digests.iter().map(|d| format!("{d}/layer.tar")).collect::<Vec<_>>(),
    }]);
    tar.file("manifest.json", 0o644, manifest.to_string().as_bytes());
    tar.finish()
}

pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A tar written entry by entry, also with names that no honest tar has.
pub struct Tar {
    builder: tar::Builder<Vec<u8>>,
}

impl Default for Tar {
    fn default() -> Self {
        Self { builder: tar::Builder::new(Vec::new()) }
    }
}

impl Tar {
    pub fn entry(&mut self, name: &str, kind: tar::EntryType, mode: u32, link: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        // Written raw: `set_path` refuses the hostile names that tests need.
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..name.len()].copy_from_slice(name.as_bytes());
        gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.builder.append(&header, content).unwrap();
    }

    pub fn dir(&mut self, name: &str, mode: u32) {
        self.entry(name, tar::EntryType::Directory, mode, "", b"");
    }

    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, tar::EntryType::Regular, mode, "", content);
    }

    pub fn symlink(&mut self, name: &str, target: &str) {
        self.entry(name, tar::EntryType::Symlink, 0o777, target, b"");
    }

    pub fn hardlink(&mut self, name: &str, target: &str) {
        self.entry(name, tar::EntryType::Link, 0o644, target, b"");
    }

    pub fn finish(self) -> Vec<u8> {
        self.builder.into_inner().unwrap()
    }
}
