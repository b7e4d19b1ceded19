//! Blobs on their way out.

use super::open;
use super::scripted::{Reply, Scripted};
use coracle::image::digest::Digest;
use coracle::image::registry::fault::Class;
use coracle::image::registry::upload::{Known, Mount};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

fn content() -> Vec<u8> {
    (0..50_000u32).flat_map(|n| n.to_le_bytes()).collect()
}

fn known() -> Known {
    Known { digest: Digest::of(&content()), size: 200_000 }
}

/// A registry that keeps one upload; `fail` may answer in its place.
fn registry(fail: impl Fn(&str, usize) -> Option<Reply> + Send + Sync + 'static) -> (Scripted, Arc<Mutex<Vec<u8>>>) {
    let stored = Arc::new(Mutex::new(Vec::new()));
    let keep = stored.clone();
    let count = AtomicUsize::new(0);
    let server = Scripted::start(move |ask| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        if let Some(reply) = fail(&ask.method, n) {
            // What a server had read when it broke off is kept.
            if ask.method == "PATCH" {
                keep.lock().unwrap().extend_from_slice(&ask.body[..1000]);
            }
            return reply;
        }
        let mut kept = keep.lock().unwrap();
        match ask.method.as_str() {
            "POST" => {
                kept.clear();
                Reply::new(202, "").with("Location", "/v2/repo/blobs/uploads/u1?_state=a")
            }
            "GET" => Reply::new(204, "")
                .with("Location", "u1?_state=b")
                .with("Range", format!("0-{}", kept.len().saturating_sub(1))),
            "PATCH" => {
                kept.extend_from_slice(&ask.body);
                Reply::new(202, "").with("Location", "u1?_state=c")
            }
            "PUT" => {
                let digest = Digest::of(&kept);
                let wanted = format!("/v2/repo/blobs/uploads/u1?_state=c&digest=sha256%3A{}", digest.hex());
                if ask.target == wanted { Reply::new(201, "") } else { Reply::new(400, ask.target.clone()) }
            }
            _ => Reply::new(405, ""),
        }
    });
    (server, stored)
}

fn source() -> coracle::image::registry::fault::Result<Box<dyn Read + Send + 'static>> {
    Ok(Box::new(io::Cursor::new(content())))
}

#[test]
fn post_patch_put_along_relative_locations() {
    for known in [None, Some(known())] {
        let (server, stored) = registry(|_, _| None);
        let mut told = 0;
        let sent = open(&server).upload(None, known, &source, &mut |n| told = n).unwrap();
        assert_eq!(sent, self::known());
        assert_eq!(told, 200_000);
        assert_eq!(*stored.lock().unwrap(), content());
    }
}

#[test]
fn a_broken_upload_goes_on_where_the_registry_stopped() {
    let (server, stored) = registry(|method, n| (method == "PATCH" && n == 1).then(|| Reply::new(502, "")));
    let sent = open(&server).upload(None, Some(known()), &source, &mut |_| {}).unwrap();
    assert_eq!(sent, known());
    assert_eq!(*stored.lock().unwrap(), content());
    let asked = server.asked();
    let methods: Vec<&str> = asked.iter().map(|a| a.method.as_str()).collect();
    assert_eq!(methods, ["POST", "PATCH", "GET", "PATCH", "PUT"]);
    assert_eq!(asked[3].header("Content-Range"), Some("1000-199999"));
}

#[test]
fn a_forgotten_upload_starts_afresh() {
    let (server, stored) = registry(|method, n| match (method, n) {
        ("PATCH", 1) => Some(Reply::new(503, "")),
        ("GET", 2) => {
            let body = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}"#;
            Some(Reply::new(404, body))
        }
        _ => None,
    });
    open(&server).upload(None, Some(known()), &source, &mut |_| {}).unwrap();
    assert_eq!(*stored.lock().unwrap(), content());
}

#[test]
fn a_layer_that_changed_meanwhile_is_not_pushed() {
    let (server, _) = registry(|_, _| None);
    let other = Known { digest: Digest::of(b"other"), size: 200_000 };
    let fault = open(&server).upload(None, Some(other), &source, &mut |_| {}).unwrap_err();
    assert_eq!(fault.class, Class::Corrupt);
    assert!(server.asked().iter().all(|a| a.method != "PUT"));
}

#[test]
fn mounts() {
    let server = Scripted::start(|ask| {
        let taken = ask.target.contains("from=other%2Frepo");
        let location = "/v2/repo/blobs/uploads/u9";
        Reply::new(if taken { 201 } else { 202 }, "").with("Location", location)
    });
    let client = open(&server);
    assert!(matches!(client.mount(known().digest, "other/repo").unwrap(), Mount::Done));
    match client.mount(known().digest, "declined").unwrap() {
        Mount::Upload(url) => assert!(url.target.ends_with("/u9")),
        Mount::Done => panic!("declined, yet done"),
    }
}

#[test]
fn presence() {
    let here = known().digest;
    let server = Scripted::start(move |ask| {
        if ask.target.ends_with(&here.hex()) {
            Reply::new(200, "").with("Content-Length", "200000")
        } else {
            Reply::new(404, "")
        }
    });
    let client = open(&server);
    assert_eq!(client.blob_size(here).unwrap(), Some(200_000));
    assert_eq!(client.blob_size(Digest::of(b"x")).unwrap(), None);
}
