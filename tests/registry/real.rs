//! Debian's docker-registry: what is pushed is what was pulled, with passwords,
//! private CAs and proxies between.

use super::platforms::pulled;
use super::sample::{Sample, noise, ranged, serve, tar_of};
use super::scripted::{Reply, Scripted};
use crate::harness::registry::{Proxy, Registry, Relay};
use crate::harness::{Daemon, image, probe};
use crate::need;
use coracle::image::digest::Digest;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// bcrypt of "secret".
pub const HTPASSWD: &str = "bob:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

#[test]
fn what_was_pulled_is_pushed_under_the_same_digest() {
    need!(Registry::needs());
    let d = Daemon::start();
    let registry = Registry::plain(&d.scratch);
    let sample = Sample::of("amd64", &[tar_of("a", &noise(1, 60_000)), tar_of("b", &noise(2, 60_000))]);
    let server = serve(&sample, ranged);
    let from = server.repo();
    d.docker(&["pull", "-q", &from]).ok();
    let to = |name: &str| format!("{}/{name}", registry.address);
    for tag in ["one", "two"] {
        d.docker(&["tag", &from, &to(&format!("a:{tag}"))]).ok();
    }
    let out = d.docker(&["push", "-a", &to("a")]).ok();
    for tag in ["one", "two"] {
        let line = format!("{tag}: digest: {} size: {}", sample.digest(), sample.manifest.len());
        assert!(out.contains(&line), "{out}");
    }
    assert_eq!(registry.blob(&sample.layer(0).hex()), Some(sample.layers[0].clone()), "not packed anew");
    // The neighbour has the layers already.
    d.docker(&["tag", &from, &to("b:v1")]).ok();
    let out = d.docker(&["push", &to("b:v1")]).ok();
    assert_eq!(out.matches("Mounted from a").count(), 2, "{out}");
    let out = d.docker(&["push", &to("b:v1")]).ok();
    assert_eq!(out.matches("Layer already exists").count(), 2, "{out}");
    let words = d.docker(&["push", &to("nothing:v1")]).fails(1);
    assert!(words.contains("An image does not exist locally with the tag: "), "{words}");
}

/// A request for each document and layer, over as many connections as layers come at a time.
#[test]
fn layers_come_over_connections_that_are_there() {
    need!(Registry::needs());
    let d = Daemon::start();
    let registry = Registry::plain(&d.scratch);
    let tars: Vec<Vec<u8>> = (0..12).map(|n| tar_of("a", &noise(n, 10_000))).collect();
    let sample = Sample::of("amd64", &tars);
    let server = serve(&sample, ranged);
    let from = server.repo();
    d.docker(&["pull", "-q", &from]).ok();
    let asked: Vec<String> = server.asked().iter().map(|a| a.method.clone()).collect();
    assert_eq!(asked, vec!["GET"; 2 + 12]);
    let to = format!("{}/box:v1", registry.address);
    d.docker(&["tag", &from, &to]).ok();
    d.docker(&["push", "-q", &to]).ok();
    d.docker(&["rmi", &from, &to]).ok();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let relay = Relay::start(&registry.address, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        None
    });
    d.docker(&["pull", "-q", &format!("{}/box:v1", relay.address)]).ok();
    // The first is a try of TLS.
    let connections = connections.load(Ordering::SeqCst);
    assert!((2..=1 + 3).contains(&connections), "{connections}");
}

/// Space instead of the compressed form: where a registry has a layer nothing
/// changes, elsewhere it is packed anew, which is the same image by its id.
#[test]
fn blobs_need_not_be_kept() {
    need!(Registry::needs());
    let mut d = Daemon::prepare(&[], &[]);
    let registry = Registry::plain(&d.scratch);
    let sample = Sample::of("amd64", &[tar_of("a", &noise(1, 60_000)), tar_of("b", &noise(2, 60_000))]);
    let server = serve(&sample, ranged);
    let from = server.repo();
    let to = |name: &str| format!("{}/{name}", registry.address);
    d.up();
    d.docker(&["pull", "-q", &from]).ok();
    d.docker(&["tag", &from, &to("a:v1")]).ok();
    d.docker(&["push", "-q", &to("a:v1")]).ok();
    d.docker(&["rmi", &from, &to("a:v1")]).ok();
    d.stop();
    d.scratch.file("daemon.json", r#"{"keep-blobs": false}"#);
    d.flag(&format!("--config-file={}", d.scratch.join("daemon.json").display()));
    d.up();
    d.docker(&["pull", "-q", &from]).ok();
    let kept = || {
        let names = std::fs::read_dir(d.scratch.join("data/image/blobs/sha256")).unwrap();
        names.map(|n| n.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert!(kept().contains(&sample.id().hex()) && !kept().contains(&sample.layer(0).hex()), "{:?}", kept());
    for name in ["a:v1", "a:v2", "b:v1"] {
        d.docker(&["tag", &from, &to(name)]).ok();
    }
    let same = format!("digest: {}", sample.digest());
    d.docker(&["push", &to("a:v2")]).contains("Layer already exists").contains(&same).ok();
    // By a mount it is there as well.
    d.docker(&["push", &to("b:v1")]).contains("Mounted from a").contains(&same).ok();
    let other = Registry::start(&d.scratch, "other", "", "");
    let there = format!("{}/c:v1", other.address);
    d.docker(&["tag", &from, &there]).ok();
    let out = d.docker(&["push", &there]).ok();
    assert!(out.contains("v1: digest: sha256:") && !out.contains(&same), "{out}");
    d.docker(&["rmi", "-f", &sample.id().to_string()]).ok();
    d.docker(&["pull", "-q", &there]).ok();
    assert_eq!(d.inspect(&there, "{{.Id}}"), sample.id().to_string());
}

#[test]
fn a_whole_image_is_pushed_whole() {
    need!(Registry::needs(), probe::busybox());
    let d = Daemon::start();
    let registry = Registry::plain(&d.scratch);
    let (image, _server, from) = pulled(&d);
    let to = format!("{}/copy:v1", registry.address);
    d.docker(&["tag", &from, &to]).ok();
    let digest = Digest::of(&image.index);
    let out = d.docker(&["push", &to]).ok();
    assert!(out.contains(&format!("v1: digest: {digest} size: {}", image.index.len())), "{out}");
    assert_eq!(registry.blob(&digest.hex()), Some(image.index.clone()));
    let one = format!("{}/one:v1", registry.address);
    d.docker(&["tag", &from, &one]).ok();
    let out = d.docker(&["push", "--platform", &image.other_platform(), &one]).ok();
    assert!(out.contains(&format!("v1: digest: {} size: ", image.other.digest())), "{out}");
}

#[test]
fn passwords_are_checked_kept_and_forgotten() {
    need!(Registry::needs(), probe::busybox());
    let d = Daemon::with_busybox();
    let path = d.scratch.file("htpasswd", HTPASSWD);
    let auth = format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", path.display());
    let registry = Registry::start(&d.scratch, "registry", "", &auth);
    let name = format!("{}/box:v1", registry.address);
    d.docker(&["tag", "busybox", &name]).ok();
    let words = d.docker(&["push", &name]).fails(1);
    assert!(words.contains("no basic auth credentials"), "{words}");
    let login = ["login", "-u", "bob", "--password-stdin", &registry.address];
    for client in d.clients() {
        let words = d.docker_input(client, &login, "wrong").fails(1);
        assert!(words.contains("401 Unauthorized"), "{words}");
        let out = d.docker_input(client, &login, "secret\n");
        assert!(out.stderr.contains("Your credentials are stored unencrypted in"), "{}", out.stderr);
        assert!(out.ok().contains("Login Succeeded"));
        let config = d.scratch.join("home/.docker/config.json");
        assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o600);
        d.with(client, &["push", &name]).contains("v1: digest: sha256:").ok();
        d.with(client, &["logout", &registry.address]).contains("Removing login credentials for ").ok();
        assert!(!std::fs::read_to_string(&config).unwrap().contains("Ym9iOnNlY3JldA"));
        d.with(client, &["push", &name]).fails(1);
    }
}

#[test]
fn a_private_authority_behind_a_proxy() {
    need!(Registry::needs(), probe::busybox(), probe::program("openssl", "openssl"));
    let mut d = Daemon::prepare(&[], &[]);
    let dir = d.scratch.dir("ca");
    let openssl = |args: &[&str]| {
        let done = Command::new("openssl").args(args).current_dir(&dir).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(
        &[&["req", "-x509", "-days", "30", "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.crt"], &new[..]]
            .concat(),
    );
    for (name, subject) in [("server", "/CN=registry.test"), ("client", "/CN=client")] {
        let (key, csr, crt) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        openssl(&[&["req", "-subj", subject, "-keyout", &key, "-out", &csr], &new[..]].concat());
        std::fs::write(dir.join("ext"), "subjectAltName=DNS:registry.test\nextendedKeyUsage=serverAuth,clientAuth\n")
            .unwrap();
        openssl(&[
            "x509", "-req", "-days", "30", "-in", &csr, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
            "-extfile", "ext", "-out", &crt,
        ]);
    }
    let at = |name: &str| dir.join(name).display().to_string();
    let tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n    clientcas: [{}]\n",
        at("server.crt"),
        at("server.key"),
        at("ca.crt")
    );
    let registry = Registry::start(&d.scratch, "registry", &tls, "");
    // base64 of "me:pw"
    let proxy = Proxy::start(&registry.address, Some("Basic bWU6cHc="));
    d.env("HTTPS_PROXY", &format!("http://me:pw@{}", proxy.address));
    d.up();
    d.load_busybox();
    let host = format!("registry.test:{}", registry.port());
    let name = format!("{host}/box:v1");
    d.docker(&["tag", "busybox", &name]).ok();
    let words = d.docker(&["push", &name]).fails(1);
    assert!(words.contains("certificate signed by unknown authority"), "{words}");
    let certs = d.scratch.dir(&format!("home/.config/docker/certs.d/{host}"));
    std::fs::copy(dir.join("ca.crt"), certs.join("ca.crt")).unwrap();
    let words = d.docker(&["push", &name]).fails(1);
    assert!(words.contains("tls"), "without its certificate a client is refused: {words}");
    std::fs::copy(dir.join("client.crt"), certs.join("client.cert")).unwrap();
    let words = d.docker(&["push", &name]).fails(1);
    assert!(words.contains("missing key"), "{words}");
    std::fs::copy(dir.join("client.key"), certs.join("client.key")).unwrap();
    d.docker(&["push", &name]).contains("v1: digest: sha256:").ok();
    d.docker(&["rmi", "busybox", &name]).ok();
    d.docker(&["pull", &name]).contains("Status: Downloaded newer image for").ok();
    assert!(proxy.asked().iter().all(|a| *a == host), "{:?}", proxy.asked());
}

#[test]
fn a_mirror_fetches_what_it_has_not() {
    need!(Registry::needs());
    let sample = Sample::of("amd64", &[tar_of("a", &noise(4, 40_000))]);
    let server = serve(&sample, ranged);
    let mut d = Daemon::prepare(&[], &[]);
    let remote = format!("proxy:\n  remoteurl: http://{}\n", server.address);
    let mirror = Registry::start(&d.scratch, "mirror", "", &remote);
    d.flag(&format!("--registry-mirror=http://{}", mirror.address));
    // Docker Hub itself is nowhere.
    d.env("HTTPS_PROXY", "http://127.0.0.1:1");
    d.up();
    d.docker(&["pull", "team/thing:v1"]).contains(&format!("Digest: {}", sample.digest())).ok();
    assert_eq!(d.inspect("team/thing:v1", "{{.Id}}"), sample.id().to_string());
}

#[test]
fn archives_are_imported_from_their_address() {
    need!(probe::busybox());
    let d = Daemon::start();
    let server = Scripted::start(|ask| match ask.target.as_str() {
        "/tree.tar" => Reply::new(200, image::busybox_layer()),
        "/moved" => Reply::new(302, "").with("Location", "/tree.tar"),
        _ => Reply::new(404, "not here\n"),
    });
    for client in d.clients() {
        let from = format!("http://{}/moved", server.address);
        let out =
            d.with(client, &["import", "-c", "CMD [\"echo\",\"fetched\"]", "-m", "from far", &from, "far:1"]).ok();
        assert!(out.starts_with(&format!("Downloading from {from}\nsha256:")), "{out}");
        d.with(client, &["run", "--rm", "--network", "none", "far:1"]).prints("fetched");
        assert!(d.with(client, &["history", "far:1"]).ok().contains("from far"));
        let words = d.with(client, &["import", &format!("http://{}/none", server.address)]).fails(1);
        let want = format!("failed to GET http://{}/none with status 404 Not Found: not here", server.address);
        assert!(words.contains(&want), "{words}");
        d.with(client, &["rmi", "far:1"]).ok();
    }
}
