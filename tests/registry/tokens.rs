//! Debian's docker-registry with token authentication: a small signer hands out
//! the tokens (ES256, the certificate in `x5c`), and says no where it should.

use super::sample::{Sample, noise, ranged, serve, tar_of};
use super::scripted::{Ask, Reply, Scripted};
use crate::harness::registry::{Registry, Relay};
use crate::harness::{Daemon, Scratch, probe};
use crate::need;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

const SERVICE: &str = "registry of the tests";

struct Signer {
    key: EcdsaKeyPair,
    certificate: String,
    serial: AtomicU64,
    /// Every third token has been dead for an hour, and each says that it lives
    /// for no time at all.
    decaying: bool,
}

/// A key and its certificate.
fn keys(dir: &Path) -> (PathBuf, PathBuf) {
    let (key, certificate) = (dir.join("signer.key"), dir.join("signer.crt"));
    let new = ["req", "-x509", "-days", "30", "-subj", "/CN=signer", "-nodes", "-newkey", "ec"];
    let done = Command::new("openssl")
        .args(new)
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    (key, certificate)
}

fn pem(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).unwrap();
    let body: String = text.lines().filter(|l| !l.starts_with("-----")).collect();
    STANDARD.decode(body).unwrap()
}

impl Signer {
    fn new(dir: &Path, decaying: bool) -> Self {
        let (key, certificate) = keys(dir);
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pem(&key), &random).unwrap();
        Self { key, certificate: STANDARD.encode(pem(&certificate)), serial: AtomicU64::new(0), decaying }
    }

    fn token(&self, user: &str, access: Value) -> String {
        let serial = self.serial.fetch_add(1, Ordering::SeqCst);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let end = if self.decaying && serial.is_multiple_of(3) { now - 3600 } else { now + 3600 };
        let part = |v: Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let head = part(json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]}));
        let claims = part(json!({
            "iss": "signer", "sub": user, "aud": SERVICE, "exp": end, "nbf": now - 7200, "iat": now - 7200,
            "jti": serial.to_string(), "access": access,
        }));
        let text = format!("{head}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// bob may do all by password or by his identity token, nobody may pull `open/…`.
    fn answer(&self, ask: &Ask) -> Reply {
        let query = match ask.method.as_str() {
            "POST" => String::from_utf8(ask.body.clone()).unwrap(),
            _ => ask.target.split_once('?').unwrap_or_default().1.to_owned(),
        };
        let field = |name: &str| -> Vec<String> {
            let fields = query.split('&').filter_map(|f| f.split_once('='));
            fields.filter(|(k, _)| *k == name).map(|(_, v)| plain(v)).collect()
        };
        let password = ask.header("Authorization") == Some("Basic Ym9iOnNlY3JldA==");
        let identity = ask.method == "POST" && field("refresh_token") == ["identity of bob"];
        if !password && !identity && (ask.method == "POST" || ask.header("Authorization").is_some()) {
            return Reply::new(
                401,
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#,
            );
        }
        assert_eq!(field("service"), [SERVICE]);
        let known = password || identity;
        let scopes: Vec<String> = field("scope").iter().flat_map(|s| s.split(' ').map(str::to_owned)).collect();
        let access: Vec<Value> = scopes
            .iter()
            .filter_map(|scope| {
                let (resource, actions) = scope.rsplit_once(':')?;
                let (kind, name) = resource.split_once(':')?;
                let may = |a: &&str| known || (*a == "pull" && name.starts_with("open/"));
                let actions: Vec<&str> = actions.split(',').filter(may).collect();
                Some(json!({"type": kind, "name": name, "actions": actions}))
            })
            .collect();
        let token = self.token(if known { "bob" } else { "" }, json!(access));
        let mut grant =
            json!({"token": token, "access_token": token, "expires_in": if self.decaying { 0.001 } else { 300.0 }});
        if known && field("offline_token") == ["true"] {
            grant["refresh_token"] = json!("identity of bob");
        }
        Reply::new(200, grant.to_string())
    }
}

/// A query's value without its escapes.
fn plain(value: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = value.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'%' => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            b'+' => out.push(b' '),
            b => out.push(b),
        }
    }
    String::from_utf8(out).unwrap()
}

pub fn start(scratch: &Scratch, decaying: bool) -> (Scripted, Registry) {
    let dir = scratch.dir("signer");
    let signer = Signer::new(&dir, decaying);
    let server = Scripted::start_with_ping(move |ask| signer.answer(ask));
    let auth = format!(
        "auth:\n  token: {{realm: 'http://{}/token', service: {SERVICE}, issuer: signer, rootcertbundle: {}}}\n",
        server.address,
        dir.join("signer.crt").display()
    );
    let registry = Registry::start(scratch, "registry", "", &auth);
    (server, registry)
}

#[test]
fn tokens_open_what_they_are_for() {
    need!(Registry::needs(), probe::busybox(), probe::program("openssl", "openssl"));
    let d = Daemon::with_busybox();
    let (server, registry) = start(&d.scratch, false);
    let name = |path: &str| format!("{}/{path}", registry.address);
    let (open, shut) = (name("open/box:v1"), name("shut/box:v1"));
    for image in [&open, &shut] {
        d.docker(&["tag", "busybox", image]).ok();
    }
    let login = ["login", "-u", "bob", "--password-stdin", &registry.address];
    for client in d.clients() {
        let words = d.with(client, &["push", &open]).fails(1);
        assert!(words.contains("denied: requested access to the resource is denied"), "{words}");
        let words = d.docker_input(client, &login, "wrong").fails(1);
        assert!(words.contains("unauthorized: incorrect username or password"), "{words}");
        d.docker_input(client, &login, "secret").contains("Login Succeeded").ok();
        // The service gave an identity token: the password is not kept.
        let config = std::fs::read_to_string(d.scratch.join("home/.docker/config.json")).unwrap();
        assert!(config.contains("identity of bob") && !config.contains("Ym9iOnNlY3JldA"), "{config}");
        for image in [&open, &shut] {
            d.with(client, &["push", image]).contains("v1: digest: sha256:").ok();
        }
        d.with(client, &["pull", &shut]).contains("Status: Image is up to date for").ok();
        d.with(client, &["logout", &registry.address]).ok();
        d.with(client, &["pull", &open]).contains("Status: Image is up to date for").ok();
        let words = d.with(client, &["pull", &shut]).fails(1);
        let want = format!(
            "pull access denied for {}, repository does not exist or may require 'docker login'",
            name("shut/box")
        );
        assert!(words.contains(&want), "{words}");
    }
    let posts = server.asked().into_iter().filter(|a| a.method == "POST").count();
    assert!(posts > 0, "identity tokens are posted");
}

/// A token that dies on the way is replaced, whatever the request was: each of
/// these asks for a new one, and every third is refused by the registry. The
/// link breaks besides, so that a layer needs several.
#[test]
fn tokens_that_die_in_a_transfer_are_replaced() {
    need!(Registry::needs(), probe::program("openssl", "openssl"));
    // One at a time, so that nobody meets two dead ones in a row.
    let d = Daemon::start_with(&["--max-concurrent-downloads=1", "--max-concurrent-uploads=1"], &[]);
    let (server, registry) = start(&d.scratch, true);
    // The first is a try of TLS. Every other of the rest is cut in the middle of a layer.
    let relay = Relay::start(&registry.address, |n| (n % 2 == 1).then_some(100_000));
    let sample = Sample::of("amd64", &[tar_of("a", &noise(1, 300_000)), tar_of("b", &noise(2, 300_000))]);
    let source = serve(&sample, ranged);
    let entry = json!({"auth": STANDARD.encode("bob:"), "identitytoken": "identity of bob"});
    let config = json!({"auths": {&registry.address: entry, &relay.address: entry}});
    d.scratch.file("home/.docker/config.json", config.to_string());
    let from = format!("{}/repo:v1", source.address);
    d.docker(&["pull", "-q", &from]).ok();
    let to = format!("{}/team/box:v1", registry.address);
    d.docker(&["tag", &from, &to]).ok();
    let out = d.docker(&["push", &to]).ok();
    assert!(out.contains(&format!("v1: digest: {}", sample.digest())), "{out}");
    d.docker(&["rmi", &from, &to]).ok();
    let before = server.asked().len();
    let through = format!("{}/team/box:v1", relay.address);
    d.docker(&["pull", &through]).contains(&format!("Digest: {}", sample.digest())).ok();
    assert!(server.asked().len() - before >= 6, "{}", server.asked().len() - before);
    assert!(relay.cuts() >= 1);
}
