//! What is sent to whom: tokens, passwords, redirects.

use super::scripted::{Ask, Reply, Scripted};
use super::{open, open_as};
use coracle::image::digest::Digest;
use coracle::image::registry::auth::Credentials;
use coracle::image::registry::blob::BlobReader;
use coracle::image::registry::fault::Class;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

fn bob() -> Credentials {
    Credentials { username: "bob".into(), password: "secret".into(), ..Credentials::default() }
}

/// A registry that hands out its own tokens at /token; `good` is the token it takes.
fn token_registry(good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Scripted {
    let issued = AtomicUsize::new(0);
    Scripted::start_with_ping(move |ask| {
        if ask.target.starts_with("/token") {
            let n = issued.fetch_add(1, Ordering::SeqCst);
            return Reply::new(200, format!(r#"{{"token":"t{n}","expires_in":300}}"#));
        }
        let token = ask.header("Authorization").and_then(|a| a.strip_prefix("Bearer ")).unwrap_or("");
        if good(token) {
            return Reply::new(200, "{}");
        }
        Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
            .with("WWW-Authenticate", r#"Bearer realm="/token",service="svc""#)
    })
}

fn tokens_asked(server: &Scripted) -> Vec<Ask> {
    server.asked().into_iter().filter(|a| a.target.starts_with("/token")).collect()
}

#[test]
fn one_token_serves_many_requests() {
    let server = token_registry(|t| t == "t0");
    let client = open_as(&server, bob()).unwrap();
    for _ in 0..3 {
        client.manifest("latest").unwrap();
    }
    let asked = tokens_asked(&server);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target, "/token?account=bob&scope=repository%3Arepo%3Apush%2Cpull&service=svc");
    assert_eq!(asked[0].header("Authorization"), Some("Basic Ym9iOnNlY3JldA=="));
}

#[test]
fn a_token_that_is_refused_is_replaced_once() {
    let server = token_registry(|t| t == "t1");
    open(&server).manifest("latest").unwrap();
    assert_eq!(tokens_asked(&server).len(), 2);

    let server = token_registry(|_| false);
    let fault = open(&server).manifest("latest").unwrap_err();
    assert_eq!(fault.class, Class::Unauthorized);
    assert_eq!(fault.text(), "unauthorized: authentication required");
    assert_eq!(tokens_asked(&server).len(), 2);
}

#[test]
fn an_identity_token_is_posted_and_the_password_is_not() {
    let server = Scripted::start_with_ping(|ask| match (ask.method.as_str(), ask.target.as_str()) {
        ("POST", "/token") => Reply::new(200, r#"{"access_token":"good","expires_in":300}"#),
        _ if ask.header("Authorization") == Some("Bearer good") => Reply::new(200, "{}"),
        _ => Reply::new(401, "").with("WWW-Authenticate", r#"Bearer realm="/token",service="svc""#),
    });
    let credentials = Credentials { identity_token: "id&en".into(), ..bob() };
    open_as(&server, credentials).unwrap().manifest("latest").unwrap();
    let post = server.asked().into_iter().find(|a| a.method == "POST").unwrap();
    assert_eq!(post.header("Authorization"), None);
    assert_eq!(
        String::from_utf8(post.body).unwrap(),
        "grant_type=refresh_token&service=svc&client_id=docker&scope=repository%3Arepo%3Apush%2Cpull&refresh_token=id%26en"
    );
}

#[test]
fn a_scope_that_is_denied_is_said_in_dockers_words() {
    let server = Scripted::start_with_ping(|ask| {
        if ask.target.starts_with("/token") {
            return Reply::new(200, r#"{"token":"t"}"#);
        }
        let mut header = r#"Bearer realm="/token",service="svc""#.to_owned();
        if ask.header("Authorization").is_some() {
            header.push_str(r#",scope="repository:repo:pull",error="insufficient_scope""#);
        }
        Reply::new(401, "").with("WWW-Authenticate", header)
    });
    let error = open(&server).manifest("latest").unwrap_err().for_pull("repo", "repo:latest");
    assert_eq!(
        error.message(),
        "pull access denied for repo, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
    );
}

#[test]
fn basic_goes_only_where_it_is_asked_for() {
    let basic = || {
        Scripted::start_with_ping(|ask| match ask.header("Authorization") {
            Some("Basic Ym9iOnNlY3JldA==") => Reply::new(200, "{}"),
            _ => Reply::new(401, "").with("WWW-Authenticate", r#"Basic realm="r""#),
        })
    };
    let server = basic();
    open_as(&server, bob()).unwrap().manifest("latest").unwrap();

    let server = basic();
    let fault = open(&server).manifest("latest").unwrap_err();
    assert_eq!(fault.class, Class::NoCredentials);
    let url = format!("http://{}/v2/repo/manifests/latest", server.address);
    assert_eq!(fault.text(), format!("Get \"{url}\": no basic auth credentials"));

    let server = Scripted::start(|_| Reply::new(200, "{}"));
    open_as(&server, bob()).unwrap().manifest("latest").unwrap();
    assert!(server.asked().iter().all(|a| a.header("Authorization").is_none()));
}

#[test]
fn a_redirect_elsewhere_takes_no_credentials_along() {
    let content = b"layer".to_vec();
    let elsewhere = {
        let content = content.clone();
        Scripted::start_with_ping(move |_| Reply::new(200, content.clone()))
    };
    let there = format!("http://{}/bucket/x?signature=1", elsewhere.address);
    let server = Scripted::start_with_ping(move |ask| match ask.header("Authorization") {
        Some("Basic Ym9iOnNlY3JldA==") if ask.target == "/v2/" => Reply::new(200, "{}"),
        // Within the registry the header stays.
        Some("Basic Ym9iOnNlY3JldA==") if ask.target.starts_with("/v2/repo/blobs/") => {
            Reply::new(307, "").with("Location", "/moved")
        }
        Some("Basic Ym9iOnNlY3JldA==") if ask.target == "/moved" => Reply::new(302, "").with("Location", there.clone()),
        _ => Reply::new(401, "").with("WWW-Authenticate", r#"Basic realm="r""#),
    });
    let client = open_as(&server, bob()).unwrap();
    let mut reader = BlobReader::new(client, Digest::of(&content), content.len() as u64);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, content);
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("Authorization"), None);
}

#[test]
fn a_redirect_without_end_has_one() {
    let server = Scripted::start(|_| Reply::new(302, "").with("Location", "/again"));
    assert!(open(&server).manifest("latest").is_err());
    assert!(server.asked().len() < 20);
}
