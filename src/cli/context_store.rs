//! Contexts on disk in Docker's own layout, so that both clients see the same
//! ones: `contexts/meta/<sha256 of the name>/meta.json` and
//! `contexts/tls/<sha256>/docker/{ca,cert,key}.pem`. Runs in the docker process.

use crate::util::json;
use crate::util::order;
use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::cli::format::value::Value;
use crate::error::{Context as _, Error, Result, errno_text};
use crate::util::id::hex;

pub const DEFAULT: &str = "default";
/// The only endpoint that a context has today.
const ENDPOINT: &str = "docker";
/// Archives of contexts are small; more is no context.
const MAX_ARCHIVE: u64 = 10 << 20;

/// What is known about a context besides its TLS files.
#[derive(Clone)]
pub struct Meta {
    pub name: String,
    /// `Description`, and whatever other tools noted.
    pub metadata: Vec<(Rc<str>, Value)>,
    pub endpoints: Vec<(Rc<str>, Value)>,
}

/// File names and contents, in the order of names.
pub type TlsFiles = Vec<(String, Vec<u8>)>;

impl Meta {
    pub fn new(name: &str, description: &str, host: &str, skip_verify: bool) -> Self {
        let mut meta = Self { name: name.to_owned(), metadata: Vec::new(), endpoints: Vec::new() };
        meta.set_description(description);
        meta.set_endpoint(host, skip_verify);
        meta
    }
    pub fn description(&self) -> &str {
        self.metadata.iter().find(|(k, _)| &**k == "Description").and_then(|(_, v)| v.as_str()).unwrap_or("")
    }
    pub fn set_description(&mut self, text: &str) {
        self.metadata.retain(|(k, _)| &**k != "Description");
        if !text.is_empty() {
            self.metadata.insert(0, (Rc::from("Description"), Value::str(text)));
        }
    }
    fn endpoint(&self) -> Option<&Value> {
        self.endpoints.iter().find(|(k, _)| &**k == ENDPOINT).map(|(_, v)| v)
    }
    /// Empty when the context names no host: the platform's default then.
    pub fn host(&self) -> &str {
        self.endpoint().and_then(|e| e.get("Host")).and_then(Value::as_str).unwrap_or("")
    }
    pub fn skip_verify(&self) -> bool {
        self.endpoint().and_then(|e| e.get("SkipTLSVerify")).is_some_and(Value::truth)
    }
    pub fn set_endpoint(&mut self, host: &str, skip_verify: bool) {
        let mut endpoint = Vec::new();
        if !host.is_empty() {
            endpoint.push((Rc::from("Host"), Value::str(host)));
        }
        endpoint.push((Rc::from("SkipTLSVerify"), Value::Bool(skip_verify)));
        self.endpoints.retain(|(k, _)| &**k != ENDPOINT);
        self.endpoints.push((Rc::from(ENDPOINT), Value::map(endpoint)));
    }

    pub fn to_value(&self) -> Value {
        Value::map(vec![
            (Rc::from("Name"), Value::str(&self.name)),
            (Rc::from("Metadata"), Value::map(self.metadata.clone())),
            (Rc::from("Endpoints"), Value::map(self.endpoints.clone())),
        ])
    }
    fn read(text: &str, what: &Path) -> Result<Self> {
        let value: Value =
            json::from_str(text).map_err(|e| Error::invalid(format!("parsing {}: {e}", what.display())))?;
        let members = |key: &str| match value.get(key) {
            Some(Value::Map(m)) => m.to_vec(),
            _ => Vec::new(),
        };
        let name = value.get("Name").and_then(Value::as_str).unwrap_or("").to_owned();
        Ok(Self { name, metadata: members("Metadata"), endpoints: members("Endpoints") })
    }
}

/// Docker's rule for names, `default` excepted.
pub fn check_name(name: &str) -> Result<()> {
    if name == DEFAULT {
        return Err(Error::invalid("\"default\" is a reserved context name"));
    }
    let mut bytes = name.bytes();
    let valid = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() >= 2
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b));
    if valid {
        return Ok(());
    }
    if name.is_empty() {
        return Err(Error::invalid("context name cannot be empty"));
    }
    Err(Error::invalid(format!(
        "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

pub struct Store {
    root: PathBuf,
}

impl Store {
    /// `dir` is the folder of `config.json`.
    pub fn new(dir: &Path) -> Self {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Self { root: dir.join("contexts") }
    }

    fn id(name: &str) -> String {
        hex(ring::digest::digest(&ring::digest::SHA256, name.as_bytes()).as_ref())
    }
    pub fn meta_dir(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(Self::id(name))
    }
    pub fn tls_dir(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(Self::id(name))
    }

    pub fn exists(&self, name: &str) -> bool {
        self.meta_dir(name).join("meta.json").exists()
    }

    pub fn get(&self, name: &str) -> Result<Meta> {
        let path = self.meta_dir(name).join("meta.json");
        let text = fs::read_to_string(&path).map_err(|e| {
            let (path, cause) = (path.display(), errno_text(&e));
            Error::not_found(format!("context {name:?}: context not found: open {path}: {cause}"))
        })?;
        Meta::read(&text, &path)
    }

    /// By name; an unreadable one is an error, as with Docker.
    pub fn list(&self) -> Result<Vec<Meta>> {
        let mut found = Vec::new();
        let Ok(entries) = fs::read_dir(self.root.join("meta")) else { return Ok(found) };
        for entry in entries.flatten() {
            let path = entry.path().join("meta.json");
            match fs::read_to_string(&path) {
                Ok(text) => found.push(Meta::read(&text, &path)?),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::from(e).context(format!("open {}", path.display()))),
            }
        }
        order::sort_by(&mut found, |a, b| natural(&a.name, &b.name));
        Ok(found)
    }

    pub fn save(&self, meta: &Meta) -> Result<()> {
        let dir = self.meta_dir(&meta.name);
        make_dir(&dir, 0o755)?;
        let path = dir.join("meta.json");
        let text = meta.to_value().to_json(true);
        crate::util::atomic_file::write(&path, text.as_bytes(), crate::util::atomic_file::Durability::Synced)
            .with_context(|| format!("write {}", path.display()))
    }

    /// The TLS files of the docker endpoint.
    pub fn tls(&self, name: &str) -> Result<TlsFiles> {
        let dir = self.tls_dir(name).join(ENDPOINT);
        let mut files = Vec::new();
        let Ok(entries) = fs::read_dir(&dir) else { return Ok(files) };
        for entry in entries.flatten() {
            let path = entry.path();
            let data = fs::read(&path).with_context(|| format!("open {}", path.display()))?;
            files.push((entry.file_name().to_string_lossy().into_owned(), data));
        }
        order::sort(&mut files);
        Ok(files)
    }

    /// Replaces the TLS files of the docker endpoint.
    pub fn save_tls(&self, name: &str, files: &TlsFiles) -> Result<()> {
        let dir = self.tls_dir(name);
        remove_dir(&dir)?;
        if files.is_empty() {
            return Ok(());
        }
        let dir = dir.join(ENDPOINT);
        make_dir(&dir, 0o700)?;
        for (file, data) in files {
            let path = dir.join(file);
            let write = || -> std::io::Result<()> {
                use std::io::Write;
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(data)
            };
            write().with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    pub fn remove(&self, name: &str) -> Result<()> {
        remove_dir(&self.meta_dir(name))?;
        remove_dir(&self.tls_dir(name))
    }

    /// The tar archive of `docker context export`.
    pub fn archive(meta: &Meta, tls: &TlsFiles) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, mode: u32, kind: tar::EntryType, data: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_mode(mode);
            header.set_size(data.len() as u64);
            header.set_entry_type(kind);
            tar.append_data(&mut header, path, data)
        };
        let text = meta.to_value().to_json(true);
        add("meta.json", 0o644, tar::EntryType::Regular, text.as_bytes()).context("write archive")?;
        add("tls", 0o700, tar::EntryType::Directory, b"").context("write archive")?;
        if !tls.is_empty() {
            add("tls/docker", 0o700, tar::EntryType::Directory, b"").context("write archive")?;
        }
        for (file, data) in tls {
            add(&format!("tls/docker/{file}"), 0o600, tar::EntryType::Regular, data).context("write archive")?;
        }
        tar.into_inner().context("write archive")
    }

    /// Reads an exported context, a tar or a zip archive.
    pub fn unpack(data: &[u8]) -> Result<(Meta, TlsFiles)> {
        if data.len() as u64 > MAX_ARCHIVE {
            return Err(Error::invalid("read exceeds the defined limit"));
        }
        let files = if data.starts_with(b"PK") { unzip(data)? } else { untar(data)? };
        let mut meta = None;
        let mut tls = TlsFiles::new();
        for (path, content) in files {
            match path.split('/').collect::<Vec<_>>().as_slice() {
                ["meta.json"] => {
                    let text = String::from_utf8_lossy(&content);
                    meta = Some(Meta::read(&text, Path::new("meta.json"))?);
                }
                ["tls", ENDPOINT, file] => tls.push(((*file).to_owned(), content)),
                // Endpoints of other orchestrators: nothing of ours reads them.
                ["tls", _, _] => {}
                _ => {
                    return Err(Error::invalid(format!("invalid context: unexpected file {path:?}")));
                }
            }
        }
        match meta {
            Some(meta) => Ok((meta, tls)),
            None => Err(Error::invalid("invalid context: no metadata found")),
        }
    }
}

fn untar(data: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    // The original's archives stop with the last file's last byte.
    let mut whole = data.to_vec();
    whole.resize(data.len().next_multiple_of(512), 0);
    let mut archive = tar::Archive::new(Cursor::new(whole));
    let mut files = Vec::new();
    for entry in archive.entries().context("read archive")? {
        let mut entry = entry.map_err(|_| Error::invalid("unexpected EOF"))?;
        if entry.raw_file_position().saturating_add(entry.size()) > data.len() as u64 {
            return Err(Error::invalid("unexpected EOF"));
        }
        let path = entry.path().context("read archive")?.to_string_lossy().into_owned();
        if entry.header().entry_type().is_dir() {
            continue;
        }
        check_path(&path)?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).context("read archive")?;
        files.push((path, content));
    }
    Ok(files)
}

fn check_path(path: &str) -> Result<()> {
    if path.is_empty()
        || path.starts_with('/')
        || path.contains('\\')
        || path.split('/').any(|p| matches!(p, ".." | "." | ""))
    {
        return Err(Error::invalid(format!("unexpected context file: {path}")));
    }
    Ok(())
}

/// The central directory of a zip archive, stored and deflated members.
fn unzip(data: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let broken = || Error::invalid("zip: not a valid zip file");
    let short = |at: usize| data.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let long = |at: usize| data.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let end = data.windows(4).rposition(|w| w == b"PK\x05\x06").ok_or_else(broken)?;
    let count = short(end + 10).ok_or_else(broken)?;
    let mut at = long(end + 16).ok_or_else(broken)?;
    let mut files = Vec::new();
    for _ in 0..count {
        if data.get(at..at + 4) != Some(b"PK\x01\x02") {
            return Err(broken());
        }
        let field = |offset: usize| short(at + offset).ok_or_else(broken);
        let (method, name_len, extra, comment) = (field(10)?, field(28)?, field(30)?, field(32)?);
        let size = long(at + 20).ok_or_else(broken)?;
        let offset = long(at + 42).ok_or_else(broken)?;
        let name = data.get(at + 46..at + 46 + name_len).ok_or_else(broken)?;
        let name = String::from_utf8_lossy(name).into_owned();
        at += 46 + name_len + extra + comment;
        if name.ends_with('/') {
            continue;
        }
        check_path(&name)?;
        let start = offset + 30 + short(offset + 26).ok_or_else(broken)? + short(offset + 28).ok_or_else(broken)?;
        let packed = data.get(start..start + size).ok_or_else(broken)?;
        let mut content = Vec::new();
        match method {
            0 => content.extend_from_slice(packed),
            8 => {
                let mut inflate = flate2::read::DeflateDecoder::new(packed).take(MAX_ARCHIVE);
                inflate.read_to_end(&mut content).map_err(|_| broken())?;
            }
            _ => return Err(Error::invalid("zip: unsupported compression algorithm")),
        }
        files.push((name, content));
    }
    Ok(files)
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).with_context(|| format!("mkdir {}", path.display()))
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::from(e).context(format!("remove {}", path.display())))
        }
        _ => Ok(()),
    }
}

/// The order of lists: numbers inside names count as numbers (`node2` before `node10`).
pub fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
                let (m, n) = (digits(a), digits(b));
                let strip = |s: &[u8]| s.iter().position(|c| *c != b'0').unwrap_or(s.len());
                let (p, q) = (&a[strip(&a[..m])..m], &b[strip(&b[..n])..n]);
                let order = p.len().cmp(&q.len()).then_with(|| p.cmp(q)).then_with(|| m.cmp(&n));
                if order.is_ne() {
                    return order;
                }
                (a, b) = (&a[m..], &b[n..]);
            }
            (Some(x), Some(y)) if x == y => (a, b) = (&a[1..], &b[1..]),
            _ => return a.cmp(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let dir = std::env::temp_dir().join(format!("coracle-ctx-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let store = Store::new(&dir);
        let meta = Meta::new("c1", "d one", "tcp://h:1", false);
        store.save(&meta).unwrap();
        let tls = vec![("ca.pem".to_owned(), b"x".to_vec())];
        store.save_tls("c1", &tls).unwrap();
        // The folder's name is the digest that Docker computes.
        assert!(dir.join("contexts/meta/d0f631ca1ddba8db3bcfcb9e057cdc98d0379f1bee00e75a545147a27dadd982").is_dir());
        let read = store.get("c1").unwrap();
        assert_eq!((read.description(), read.host(), read.skip_verify()), ("d one", "tcp://h:1", false));
        assert_eq!(
            read.to_value().to_json(true),
            r#"{"Name":"c1","Metadata":{"Description":"d one"},"Endpoints":{"docker":{"Host":"tcp://h:1","SkipTLSVerify":false}}}"#
        );
        let (unpacked, files) = Store::unpack(&Store::archive(&read, &store.tls("c1").unwrap()).unwrap()).unwrap();
        assert_eq!((unpacked.name.as_str(), files), ("c1", tls));
        store.remove("c1").unwrap();
        assert!(store.get("c1").is_err() && store.list().unwrap().is_empty());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn names() {
        assert!(check_name("a-b.c+1").is_ok());
        for bad in ["", "a", "-a", "bad name", "default"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        let mut names = ["node10", "a", "node2", "node02"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "node2", "node02", "node10"]);
        assert!(Store::unpack(b"").is_err());
    }
}
