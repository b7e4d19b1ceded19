//! Blobs over bad links: what is cut is resumed, what is wrong is named.

use super::scripted::{Ask, End, Reply, Scripted};
use super::{open, settings};
use coracle::image::digest::Digest;
use coracle::image::registry::blob::BlobReader;
use coracle::image::registry::fault::{Class, Fault};
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn content() -> Vec<u8> {
    (0..5000u32).flat_map(|n| n.to_le_bytes()).collect()
}

fn ranged(ask: &Ask, content: &[u8]) -> Reply {
    match ask.range() {
        Some(from) => Reply::new(206, &content[from..])
            .with("Content-Range", format!("bytes {from}-{}/{}", content.len() - 1, content.len())),
        None => Reply::new(200, content),
    }
}

fn read_as(server: &Scripted, digest: Digest, size: u64) -> Result<Vec<u8>, Fault> {
    let mut reader = BlobReader::new(open(server), digest, size).first_pause(Duration::from_millis(1));
    let mut bytes = Vec::new();
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(reader.take_fault().unwrap()),
    }
}

fn read(server: &Scripted) -> Result<Vec<u8>, Fault> {
    let content = content();
    read_as(server, Digest::of(&content), content.len() as u64)
}

#[test]
fn a_cut_link_resumes_where_it_broke() {
    for step in [1, 7, 4096, 4999, 19_999] {
        let start = AtomicUsize::new(0);
        let server = Scripted::start(move |ask| {
            let n = start.fetch_add(1, Ordering::SeqCst);
            let reply = ranged(ask, &content());
            // Progress every time, so that the count of tries begins anew.
            if n < 8 { reply.end(End::Cut(step)) } else { reply }
        });
        assert_eq!(read(&server).unwrap(), content(), "cut every {step}");
        let asked = server.asked();
        let second = &asked[1];
        assert_eq!(second.range(), Some(step), "cut every {step}");
    }
}

/// Every byte at which a link can break once.
#[test]
fn a_link_may_break_anywhere() {
    let content: Vec<u8> = (0..700u32).map(|n| (n * n) as u8).collect();
    let (asked, cut) = (content.clone(), std::sync::Arc::new(AtomicUsize::new(0)));
    let place = cut.clone();
    let server = Scripted::start(move |ask| {
        let reply = ranged(ask, &asked);
        if ask.range().is_none() { reply.end(End::Cut(place.load(Ordering::SeqCst))) } else { reply }
    });
    for at in 1..content.len() {
        cut.store(at, Ordering::SeqCst);
        assert_eq!(read_as(&server, Digest::of(&content), 700).unwrap(), content, "cut at {at}");
        assert_eq!(server.asked().last().unwrap().range(), Some(at));
    }
}

#[test]
fn a_server_without_ranges_starts_over() {
    let count = AtomicUsize::new(0);
    let server = Scripted::start(move |_| {
        let reply = Reply::new(200, content());
        if count.fetch_add(1, Ordering::SeqCst) < 2 { reply.end(End::Cut(6000)) } else { reply }
    });
    // The second cut comes before anything new: still one of the five tries.
    assert_eq!(read(&server).unwrap(), content());
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn a_silent_server_is_given_up_and_asked_again() {
    let count = AtomicUsize::new(0);
    let server = Scripted::start(move |ask| {
        let reply = ranged(ask, &content());
        if count.fetch_add(1, Ordering::SeqCst) == 0 { reply.end(End::Silent(100)) } else { reply }
    });
    assert_eq!(read(&server).unwrap(), content());
    assert_eq!(server.asked()[1].range(), Some(100));
}

#[test]
fn tries_without_progress_are_counted() {
    let server = Scripted::start(|_| Reply::new(200, content()).end(End::Cut(0)));
    let fault = read(&server).unwrap_err();
    assert_eq!(fault.class, Class::Link, "{fault:?}");
    assert_eq!(server.asked().len(), settings().attempts as usize);
}

#[test]
fn errors_of_the_server_are_waited_out() {
    let count = AtomicUsize::new(0);
    let server = Scripted::start(move |ask| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(500, "boom"),
        1 => Reply::new(429, "").with("Retry-After", "0"),
        2 => Reply::new(503, "").with("Retry-After", "0"),
        _ => ranged(ask, &content()),
    });
    assert_eq!(read(&server).unwrap(), content());
}

#[test]
fn six_hours_are_not_waited() {
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let server = Scripted::start(move |_| Reply::new(429, body).with("Retry-After", "21600"));
    let fault = open(&server).manifest("latest").unwrap_err();
    assert_eq!(fault.text(), "toomanyrequests: You have reached your pull rate limit.");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn wrong_content_is_named() {
    let mut other = content();
    other[17] ^= 1;
    let server = Scripted::start(move |_| Reply::new(200, other.clone()));
    let fault = read(&server).unwrap_err();
    assert_eq!(fault.class, Class::Corrupt);
    assert_eq!(fault.text(), format!("filesystem layer verification failed for digest {}", Digest::of(&content())));
    assert_eq!(server.asked().len(), 1, "content that is wrong is wrong the next time too");
}

#[test]
fn wrong_sizes_are_named() {
    for size in [19_999, 20_001] {
        let server = Scripted::start(|_| Reply::new(200, content()));
        let digest = Digest::of(&content());
        let fault = read_as(&server, digest, size).unwrap_err();
        assert_eq!(fault.text(), format!("blob {digest} has 20000 bytes, its manifest says {size}"));
    }
}

#[test]
fn another_range_than_asked_for_is_refused() {
    let count = AtomicUsize::new(0);
    let server = Scripted::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(200, content()).end(End::Cut(100)),
        _ => Reply::new(206, &content()[200..]).with("Content-Range", "bytes 200-19999/20000"),
    });
    assert_eq!(read(&server).unwrap_err().class, Class::Corrupt);
}

#[test]
fn an_absent_blob_is_not_retried() {
    let body = r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
    let server = Scripted::start(move |_| Reply::new(404, body));
    assert_eq!(read(&server).unwrap_err().text(), "blob unknown: blob unknown to registry");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_cancelled_read_ends_at_once() {
    let (tx, rx) = std::sync::mpsc::channel();
    let tx = Mutex::new(tx);
    let server = Scripted::start(move |_| {
        tx.lock().unwrap().send(()).unwrap();
        Reply::new(200, content()).end(End::Silent(10))
    });
    let client = open(&server);
    let cancel = client.cancel().clone();
    let thread = std::thread::spawn(move || {
        rx.recv().unwrap();
        cancel.fire();
    });
    let mut reader = BlobReader::new(client, Digest::of(&content()), 20_000);
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    assert_eq!(reader.take_fault().unwrap().class, Class::Cancelled);
    thread.join().unwrap();
}

#[test]
fn a_manifest_has_the_digest_it_was_asked_by() {
    let server = Scripted::start(|_| Reply::new(200, "{}").with("Content-Type", "application/json"));
    let wanted = Digest::of(b"something else");
    let fault = open(&server).manifest(&wanted.to_string()).unwrap_err();
    assert_eq!(fault.text(), format!("manifest verification failed for digest {wanted}"));
    assert_eq!(open(&server).manifest("latest").unwrap().bytes, b"{}");
}

#[test]
fn tags_come_page_by_page() {
    let server = Scripted::start(|ask| match ask.target.as_str() {
        "/v2/repo/tags/list" => Reply::new(200, r#"{"name":"repo","tags":["a","b"]}"#)
            .with("Link", "</v2/repo/tags/list?last=b&n=2>; rel=\"next\""),
        _ => Reply::new(200, r#"{"name":"repo","tags":["c"]}"#),
    });
    assert_eq!(open(&server).tags().unwrap(), ["a", "b", "c"]);
}
