//! A folder that is a certificate authority for one daemon: made once, then
//! clients are added and revoked. Used by `dockerd --tls-init` and `docker tls`.
//!
//!     ca.pem  ca-key.pem                 the authority; its key never leaves here
//!     server-cert.pem  server-key.pem    what dockerd shows
//!     crl.pem  revoked                   who is out, for dockerd and for us
//!     clients/NAME/{ca,cert,key}.pem     to be carried to the other machine
//!
//! Invariant: keys are 0600 from their first instant, and a file that exists is
//! never overwritten except `crl.pem`, which is replaced as a whole.

use super::atomic_file::{self, Durability};
use super::time::{Timestamp, now};
use super::x509::{self, Facts, Key, Purpose, Request};
use super::{id, time};
use crate::error::{Context, Error, Result};
use crate::util::order;
use base64::Engine;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const DAY: i128 = 86_400 * 1_000_000_000;
const AUTHORITY_DAYS: i128 = 3650;
const SERVER_DAYS: i128 = 730;
const CLIENT_DAYS: i128 = 398;
const NAME: &str = "Docker API authority";

pub struct Authority {
    pub dir: PathBuf,
    name: String,
    key: Key,
}

/// A client as `list` shows it.
pub struct Client {
    pub name: String,
    pub facts: Facts,
    pub revoked: bool,
}

impl Authority {
    /// Makes the authority and the daemon's own certificate for `names`.
    pub fn create(dir: &Path, names: &[String]) -> Result<Self> {
        if dir.join("ca.pem").exists() {
            return Err(Error::conflict(format!("{} has an authority already", dir.display())).with_hint(
                "add clients with docker tls client NAME; to start anew, move that folder away: its clients lose access",
            ));
        }
        make_dir(dir)?;
        let key = Key::generate().ok_or_else(|| Error::system("cannot make a key"))?;
        let authority = Self { dir: dir.into(), name: format!("{NAME} {}", &id::random()[..8]), key };
        let certificate = authority.sign(&authority.name, &authority.key, &Purpose::Authority, AUTHORITY_DAYS)?;
        write(&dir.join("ca-key.pem"), &x509::pem("PRIVATE KEY", &authority.key.pkcs8), 0o600)?;
        write(&dir.join("ca.pem"), &x509::pem("CERTIFICATE", &certificate), 0o644)?;
        authority.issue(
            &dir.join("server-cert.pem"),
            &dir.join("server-key.pem"),
            "dockerd",
            &Purpose::Server(names.to_vec()),
            SERVER_DAYS,
        )?;
        authority.write_revocations()?;
        Ok(authority)
    }

    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("ca-key.pem");
        let text = fs::read_to_string(&path).map_err(|e| {
            Error::from(e)
                .context(format!("open {}", path.display()))
                .with_hint("make an authority first: docker tls init")
        })?;
        let key = unpem(&text).and_then(|der| Key::load(&der));
        let key = key.ok_or_else(|| Error::invalid(format!("{} is not a key of ours", path.display())))?;
        let facts = read_facts(&dir.join("ca.pem"))?;
        let name = facts.subject.trim_start_matches("CN=").to_owned();
        Ok(Self { dir: dir.into(), name, key })
    }

    /// Makes a client's folder and gives its path.
    pub fn client(&self, name: &str) -> Result<PathBuf> {
        let fine = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(fine) {
            return Err(Error::invalid(format!("invalid client name {name:?}: letters, digits and -_.@ only")));
        }
        let folder = self.dir.join("clients").join(name);
        if folder.exists() {
            return Err(Error::conflict(format!("there is a client {name} already: {}", folder.display())));
        }
        make_dir(&folder)?;
        self.issue(&folder.join("cert.pem"), &folder.join("key.pem"), name, &Purpose::Client, CLIENT_DAYS)?;
        let ca = fs::read_to_string(self.dir.join("ca.pem")).context("read ca.pem")?;
        write(&folder.join("ca.pem"), &ca, 0o644)?;
        Ok(folder)
    }

    pub fn clients(&self) -> Result<Vec<Client>> {
        let revoked = self.revoked();
        let mut list = Vec::new();
        for entry in fs::read_dir(self.dir.join("clients")).into_iter().flatten().flatten() {
            let facts = read_facts(&entry.path().join("cert.pem"))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            list.push(Client { name, revoked: revoked.contains(&serial(&facts)), facts });
        }
        order::sort_by(&mut list, |a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// Puts the client on the list that dockerd reads on SIGHUP. Its folder keeps
    /// the name, so that nobody else gets it.
    pub fn revoke(&self, name: &str) -> Result<()> {
        let path = self.dir.join("clients").join(name).join("cert.pem");
        if name.contains('/') || !path.exists() {
            return Err(Error::not_found(format!("no client {name} in {}", self.dir.display())));
        }
        let mut text = fs::read_to_string(self.dir.join("revoked")).unwrap_or_default();
        text.push_str(&format!("{} {name} {}\n", id::hex(&serial(&read_facts(&path)?)), time::rfc3339_nano(now())));
        let list = self.dir.join("revoked");
        atomic_file::write(&list, text.as_bytes(), Durability::Synced)
            .with_context(|| format!("write {}", list.display()))?;
        self.write_revocations()
    }

    fn revoked(&self) -> Vec<[u8; 16]> {
        let text = fs::read_to_string(self.dir.join("revoked")).unwrap_or_default();
        text.lines().filter_map(|line| unhex(line.split(' ').next()?)).collect()
    }

    fn write_revocations(&self) -> Result<()> {
        let serials = self.revoked();
        let t = now();
        let until = Timestamp(t.0 + AUTHORITY_DAYS * DAY);
        let der = x509::revocation_list(&self.name, &self.key, serials.len() as u64 + 1, t, until, &serials)
            .ok_or_else(|| Error::system("cannot sign a revocation list"))?;
        let path = self.dir.join("crl.pem");
        atomic_file::write(&path, x509::pem("X509 CRL", &der).as_bytes(), Durability::Synced)
            .with_context(|| format!("write {}", path.display()))
    }

    fn sign(&self, name: &str, key: &Key, purpose: &Purpose, days: i128) -> Result<Vec<u8>> {
        let mut serial = [0u8; 16];
        id::fill(&mut serial);
        // A clock that is a little behind must not refuse a fresh certificate.
        let from = Timestamp(now().0 - DAY / 24);
        let request = Request { name, serial, from, until: Timestamp(from.0 + days * DAY), purpose };
        x509::certificate(&request, key, &self.name, &self.key)
            .ok_or_else(|| Error::system("cannot sign a certificate"))
    }

    fn issue(&self, cert: &Path, key_file: &Path, name: &str, purpose: &Purpose, days: i128) -> Result<()> {
        let key = Key::generate().ok_or_else(|| Error::system("cannot make a key"))?;
        let certificate = self.sign(name, &key, purpose, days)?;
        write(key_file, &x509::pem("PRIVATE KEY", &key.pkcs8), 0o600)?;
        write(cert, &x509::pem("CERTIFICATE", &certificate), 0o644)
    }
}

/// The names and addresses by which other machines may reach this one.
pub fn own_names() -> Vec<String> {
    let mut names: Vec<String> = vec!["localhost".into(), "127.0.0.1".into(), "::1".into()];
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    names.insert(0, hostname.trim().to_owned());
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else { continue };
        let ip: std::net::IpAddr = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => v4.ip().into(),
            (_, Some(v6)) if !v6.ip().is_unicast_link_local() => v6.ip().into(),
            _ => continue,
        };
        names.push(ip.to_string());
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|n| !n.is_empty() && seen.insert(n.clone()));
    names
}

fn serial(facts: &Facts) -> [u8; 16] {
    let mut out = [0u8; 16];
    for (slot, byte) in out.iter_mut().rev().zip(facts.serial.iter().rev()) {
        *slot = *byte;
    }
    out
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let mut out = [0u8; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (i, slot) in out.iter_mut().enumerate() {
        *slot = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

fn unpem(text: &str) -> Option<Vec<u8>> {
    let body: String = text.lines().filter(|l| !l.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body.trim()).ok()
}

fn read_facts(path: &Path) -> Result<Facts> {
    let text = fs::read_to_string(path).with_context(|| format!("open {}", path.display()))?;
    unpem(&text)
        .and_then(|der| x509::facts(&der))
        .ok_or_else(|| Error::invalid(format!("{} is not a certificate", path.display())))
}

fn make_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| format!("create {}", path.display()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_and_go() {
        let dir = std::env::temp_dir().join(format!("coracle-ca-{}", id::random()));
        Authority::create(&dir, &["localhost".into()]).unwrap();
        assert!(Authority::create(&dir, &[]).is_err());
        let authority = Authority::open(&dir).unwrap();
        authority.client("ann").unwrap();
        authority.client("bob").unwrap();
        assert!(authority.client("ann").is_err() && authority.client("../x").is_err() && authority.client("").is_err());
        authority.revoke("ann").unwrap();
        assert!(authority.revoke("eve").is_err());
        let state: Vec<(String, bool)> =
            authority.clients().unwrap().into_iter().map(|c| (c.name, c.revoked)).collect();
        assert_eq!(state, [("ann".to_owned(), true), ("bob".to_owned(), false)]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
