//! One file behind a URL, kept in a folder of the build. Blocks; ended by the
//! build's own end.
//!
//! Invariant: credentials in the URL go to its own host alone, and the name that
//! the file gets is a single, plain component, whatever the URL holds.

use crate::engine::Engine;
use crate::engine::build::Abort;
use crate::engine::build::steps::copy::is_archive;
use crate::error::{Context, Error, Result};
use crate::image::digest::{Digest, Hasher};
use crate::image::registry::client::header;
use crate::image::registry::transport::{Exchange, Payload, Wire};
use crate::image::registry::url::Url;
use crate::util::time::days_from_civil;
use base64::Engine as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

const REDIRECTS: usize = 10;

pub struct Download {
    pub file: File,
    /// Its name in the folder, from the URL's path; `index.html`-like defaults are
    /// not invented: see [`Download::named`].
    pub name: String,
    /// The URL's path ended in a name.
    pub named: bool,
    /// Unix seconds, of `Last-Modified`; 0 without.
    pub modified: i64,
    pub digest: Digest,
}

impl Download {
    pub fn is_archive(&mut self) -> Result<bool> {
        self.file.seek(SeekFrom::Start(0))?;
        is_archive(&mut self.file)
    }
}

/// The last component of a URL's path, if it is a name.
pub fn file_name(url: &str) -> Option<String> {
    let path = url.split(['?', '#']).next().unwrap_or("");
    let (_, path) = path.split_once("://")?;
    let (_, path) = path.split_once('/')?;
    let name = percent_decoded(path.rsplit('/').next().unwrap_or(""));
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    plain.then_some(name)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let raw = text.as_bytes();
    let mut at = 0;
    while at < raw.len() {
        let hex = raw.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.filter(|_| raw[at] == b'%').and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                at += 3;
            }
            None => {
                bytes.push(raw[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

pub fn download(engine: &Engine, text: &str, folder: &Path, abort: &Abort) -> Result<Download> {
    let shown = without_password(text);
    let mut url = Url::parse(text).ok_or_else(|| Error::invalid(format!("invalid URL {shown}")))?;
    let first = url.clone();
    let login = login(text);
    let settings = engine.registries.settings();
    let mut answer = None;
    for _ in 0..=REDIRECTS {
        let wire = Wire::new(settings.clone(), &url.authority, true, abort.cancel.clone())?;
        let ours = login.as_ref().filter(|_| url.same_origin(&first));
        let headers: Vec<_> = ours.map(|l| ("Authorization", l.clone())).into_iter().collect();
        let exchange = Exchange { method: "GET", url: &url, headers: &headers, stall: None };
        let got = wire.exchange(&exchange, Payload::None).map_err(|f| Error::from(f).context(&shown))?;
        let status = got.status().as_u16();
        match header(&got, "Location").filter(|_| (301..=308).contains(&status)) {
            Some(next) => {
                url = url.join(next).ok_or_else(|| Error::invalid(format!("{shown}: invalid redirect to {next}")))?;
            }
            None if status == 200 => {
                answer = Some(got);
                break;
            }
            None => {
                let kind = if status == 404 { Error::not_found } else { Error::system };
                return Err(kind(format!("invalid response status {status} of {shown}")));
            }
        }
    }
    let answer = answer.ok_or_else(|| Error::system(format!("{shown}: stopped after {REDIRECTS} redirects")))?;
    let modified = header(&answer, "Last-Modified").and_then(http_date).unwrap_or(0);
    let disposition = header(&answer, "Content-Disposition").and_then(disposed);
    let name = file_name(text).or(disposition);
    let (named, name) = (name.is_some(), name.unwrap_or_else(|| "download".into()));
    let path = folder.join(&name);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let digest =
        save(answer.into_body().into_reader(), &mut file, abort).with_context(|| format!("download {shown}"))?;
    Ok(Download { file, name, named, modified, digest })
}

fn save(mut from: impl Read, to: &mut File, abort: &Abort) -> std::io::Result<Digest> {
    let mut hash = Hasher::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let n = match from.read(&mut buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if n == 0 {
            return Ok(hash.finish());
        }
        if abort.cancel.fired() {
            return Err(std::io::Error::other("context canceled"));
        }
        hash.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
    }
}

/// `user:password@` of a URL as a header.
fn login(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let pair = user.split_once(':').map_or_else(
        || format!("{}:", percent_decoded(user)),
        |(u, p)| format!("{}:{}", percent_decoded(u), percent_decoded(p)),
    );
    Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

/// For messages.
pub fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}{}", &rest[end..]),
        None => text.to_owned(),
    }
}

/// `attachment; filename="x.tar"`.
fn disposed(value: &str) -> Option<String> {
    let (_, name) = value.split_once("filename=")?;
    let name = name.split(';').next().unwrap_or("").trim().trim_matches('"');
    let name = name.rsplit('/').next().unwrap_or("");
    (!name.is_empty() && name != "." && name != "..").then(|| name.to_owned())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7; the two old forms are not
/// sent by anybody any more).
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u32 = words.next()?.parse().ok()?;
    let month = MONTHS.find(words.next().filter(|m| m.len() == 3)?)? / 3 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|n| n.parse::<i64>().ok());
    let (h, m, s) = (clock.next()??, clock.next()??, clock.next()??);
    Some(days_from_civil(year, u32::try_from(month).ok()?, day) * 86400 + h * 3600 + m * 60 + s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_dates() {
        assert_eq!(file_name("https://h/a/b%20c.tar?x=/y").as_deref(), Some("b c.tar"));
        assert_eq!(file_name("https://h/a/%2e%2e"), None);
        assert_eq!(file_name("https://h/a%2fb").as_deref(), None);
        assert_eq!(file_name("https://h/"), None);
        assert_eq!(file_name("https://h"), None);
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("yesterday"), None);
        assert_eq!(disposed("attachment; filename=\"../x.tgz\"; a=b").as_deref(), Some("x.tgz"));
        assert_eq!(without_password("https://u:p@h/x@y"), "https://h/x@y");
        assert_eq!(login("https://u:p%40@h/x").as_deref(), Some("Basic dTpwQA=="));
    }
}
