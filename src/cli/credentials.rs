//! Passwords of registries: in `config.json`, or with a credential helper
//! (`docker-credential-NAME get|store|erase|list`). Runs in the docker process.
//!
//! A helper named for a host in `credHelpers` beats `credsStore`, which beats the
//! file. Nothing secret is ever an argument of a process.

use crate::util::json;
use std::io::Write;
use std::process::{Command, Stdio};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use crate::cli::config::Config;
use crate::cli::context::Context;
use crate::cli::format::value::Value;
use crate::error::{Error, Result};

/// The key under which Docker Hub's password lies.
pub const HUB: &str = "https://index.docker.io/v1/";
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub server: String,
    pub username: String,
    pub password: String,
    /// In place of a password.
    pub identity_token: String,
    pub registry_token: String,
}

impl Credentials {
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// The body of `/auth` and, encoded, the header `X-Registry-Auth`.
    pub fn to_value(&self) -> Value {
        let all = [
            ("username", &self.username),
            ("password", &self.password),
            ("serveraddress", &self.server),
            ("identitytoken", &self.identity_token),
            ("registrytoken", &self.registry_token),
        ];
        Value::map(all.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (Rc::from(k), Value::str(v))).collect())
    }
    pub fn header(&self) -> String {
        URL_SAFE.encode(self.to_value().to_json(false))
    }
}

/// The key of a registry in `auths`: host and port without scheme and path, and
/// Docker Hub's own.
pub fn key(host: &str) -> String {
    let bare = bare_host(host);
    match bare {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        _ => bare.to_owned(),
    }
}

fn bare_host(server: &str) -> &str {
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    rest.split('/').next().unwrap_or(rest)
}

/// What is stored for a registry's host, if anything.
pub fn get(config: &Config, host: &str) -> Result<Option<Credentials>> {
    let server = key(host);
    match helper(config, &server) {
        Some(name) => helper_get(&name, &server),
        None => Ok(file_get(config, &server)),
    }
}

/// For a request that may do without: a keychain that fails is told of, not fatal.
/// (The original says nothing.)
pub fn offered(cx: &mut Context, host: &str) -> Option<Credentials> {
    let found = get(cx.config(), host);
    found.unwrap_or_else(|e| {
        let _ = writeln!(cx.err, "WARNING: {e}");
        None
    })
}

/// All that is stored: the header `X-Registry-Config` of builds.
pub fn all(config: &Config) -> Result<Vec<Credentials>> {
    let mut found: Vec<Credentials> = Vec::new();
    let mut add = |c: Option<Credentials>| {
        if let Some(c) = c.filter(|c| !found.iter().any(|f| f.server == c.server)) {
            found.push(c);
        }
    };
    for (server, _) in config.members("credHelpers") {
        add(get(config, &server)?);
    }
    let store = config.text("credsStore").unwrap_or("");
    if store.is_empty() {
        for (server, _) in config.members("auths") {
            add(file_get(config, &server));
        }
    } else {
        let Ok(Value::Map(list)) = json::from_str(&call(store, "list", "")?) else { return Ok(found) };
        for (server, _) in list.iter() {
            add(helper_get(store, server)?);
        }
    }
    Ok(found)
}

pub fn store(config: &mut Config, credentials: &Credentials) -> Result<()> {
    if let Some(name) = helper(config, &credentials.server) {
        let (username, secret) = match credentials.identity_token.as_str() {
            "" => (credentials.username.as_str(), credentials.password.as_str()),
            token => ("<token>", token),
        };
        let body = Value::map(vec![
            (Rc::from("ServerURL"), Value::str(&credentials.server)),
            (Rc::from("Username"), Value::str(username)),
            (Rc::from("Secret"), Value::str(secret)),
        ]);
        call(&name, "store", &body.to_json(false))?;
        // The file keeps the name alone: that is how logout and others find it.
        config.set_member("auths", &credentials.server, Value::map(Vec::new()));
    } else {
        let mut entry = Vec::new();
        if !credentials.username.is_empty() || !credentials.password.is_empty() {
            // With a token the file keeps the name only, as Docker does.
            let password = if credentials.identity_token.is_empty() { credentials.password.as_str() } else { "" };
            let auth = STANDARD.encode(format!("{}:{password}", credentials.username));
            entry.push((Rc::from("auth"), Value::from(auth)));
        }
        if !credentials.identity_token.is_empty() {
            entry.push((Rc::from("identitytoken"), Value::str(&credentials.identity_token)));
        }
        config.set_member("auths", &credentials.server, Value::map(entry));
    }
    config.save()
}

/// Whether something was stored under any of the host's names.
pub fn erase(config: &mut Config, host: &str) -> Result<bool> {
    let bare = bare_host(host).to_owned();
    let mut names = vec![key(host), bare.clone(), format!("https://{bare}"), format!("http://{bare}")];
    names.dedup();
    let mut found = false;
    for name in &names {
        if let Some(program) = helper(config, name) {
            match call(&program, "erase", name) {
                Err(e) if e.message().contains(NOT_FOUND) => {}
                other => drop(other?),
            }
        }
        found |= config.remove_member("auths", name);
    }
    if found {
        config.save()?;
    }
    Ok(found)
}

/// Whether passwords go into the file as they are: `login` warns then.
pub fn is_plain(config: &Config, server: &str) -> bool {
    helper(config, server).is_none()
}

fn helper(config: &Config, server: &str) -> Option<String> {
    let named = config
        .members("credHelpers")
        .into_iter()
        .find(|(host, _)| **host == *server || &**host == bare_host(server))
        .and_then(|(_, v)| v.as_str().map(str::to_owned));
    named.or_else(|| config.text("credsStore").map(str::to_owned))
}

fn file_get(config: &Config, server: &str) -> Option<Credentials> {
    let wanted = bare_host(server);
    let auths = config.members("auths");
    let entry = auths
        .iter()
        .find(|(name, _)| **name == *server)
        .or_else(|| auths.iter().find(|(name, _)| bare_host(name) == wanted))
        .map(|(_, v)| v)?;
    let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let mut found = Credentials {
        server: server.to_owned(),
        username: field("username"),
        password: field("password"),
        identity_token: field("identitytoken"),
        registry_token: field("registrytoken"),
    };
    if let Ok(plain) = STANDARD.decode(field("auth"))
        && let Some((user, password)) = String::from_utf8_lossy(&plain).split_once(':')
    {
        found.username = user.to_owned();
        found.password = password.trim_end_matches('\0').to_owned();
    }
    if !found.identity_token.is_empty() {
        found.password = String::new();
    }
    (!found.is_empty()).then_some(found)
}

fn helper_get(name: &str, server: &str) -> Result<Option<Credentials>> {
    let answer = match call(name, "get", server) {
        Err(e) if e.message().contains(NOT_FOUND) => return Ok(None),
        other => other?,
    };
    let value: Value = json::from_str(&answer)
        .map_err(|_| Error::system(format!("docker-credential-{name} get: unexpected answer")))?;
    let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let mut found = Credentials { server: server.to_owned(), username: field("Username"), ..Default::default() };
    if found.username == "<token>" {
        found.username = String::new();
        found.identity_token = field("Secret");
    } else {
        found.password = field("Secret");
    }
    Ok((!found.is_empty()).then_some(found))
}

/// One call of a helper; the request goes through its stdin.
fn call(name: &str, action: &str, input: &str) -> Result<String> {
    let program = format!("docker-credential-{name}");
    let verb = match action {
        "store" => "storing",
        "erase" => "erasing",
        _ => "getting",
    };
    let failed = |e: &dyn std::fmt::Display| Error::system(format!("error {verb} credentials - err: {e}, out: ``"));
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => failed(&format!("exec: {program:?}: executable file not found in $PATH")),
            _ => failed(&e),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read (list) closes early.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| failed(&e))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    // As Go writes it: `exit status 3`.
    let status = output.status.to_string().replace("status: ", "status ");
    Err(Error::system(format!("error {verb} credentials - err: {status}, out: `{text}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> (Config, std::path::PathBuf) {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("coracle-cred-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("config.json"), json).unwrap();
        (Config::load(&dir).unwrap(), dir)
    }

    #[test]
    fn file_store() {
        let (mut c, dir) = config(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpiOmM="},"http://h:5000/v2/":{"identitytoken":"t"}}}"#,
        );
        let hub = get(&c, "docker.io").unwrap().unwrap();
        assert_eq!((hub.username.as_str(), hub.password.as_str(), hub.server.as_str()), ("a", "b:c", HUB));
        assert_eq!(get(&c, "h:5000").unwrap().unwrap().identity_token, "t");
        assert_eq!(get(&c, "other").unwrap(), None);
        let new = Credentials { server: "r".into(), username: "u".into(), password: "p".into(), ..Default::default() };
        store(&mut c, &new).unwrap();
        assert_eq!(get(&c, "r").unwrap().unwrap(), new);
        assert_eq!(all(&c).unwrap().len(), 3);
        assert!(erase(&mut c, "h:5000").is_ok());
        assert!(erase(&mut c, "r").unwrap());
        assert_eq!(get(&Config::load(&dir).unwrap(), "r").unwrap(), None);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn helpers_beat_the_file() {
        let (c, dir) = config(r#"{"credHelpers":{"h":"one"},"credsStore":"two"}"#);
        assert_eq!(helper(&c, "h").as_deref(), Some("one"));
        assert_eq!(helper(&c, HUB).as_deref(), Some("two"));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
