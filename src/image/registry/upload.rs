//! Blobs on their way out: is it there, can it be mounted from a neighbour,
//! else POST, PATCH, PUT. Runs on a push's worker thread.
//!
//! Invariant: a blob counts as pushed only when the registry accepted the PUT
//! with the digest that was computed over the very bytes that were sent. A cut
//! upload goes on where the registry says it stopped, or starts afresh.

use super::client::{Call, Client, header, read_limited};
use super::fault::{Class, Fault, Result};
use super::transport::Payload;
use super::url::Url;
use crate::image::digest::{Digest, Hasher};
use crate::util::query;
use std::io::{self, Read};
use std::time::Duration;

/// Registries with a slow store behind them assemble a blob in the last PUT.
const COMMIT_PATIENCE: Duration = Duration::from_secs(600);
const MAX_ANSWER: u64 = 64 << 10;

/// Gives the blob's bytes from the start, as often as asked; the same ones
/// every time.
pub type Source<'a> = dyn Fn() -> Result<Box<dyn Read + Send + 'a>> + 'a;

/// Name and length of a blob, where they are known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub digest: Digest,
    pub size: u64,
}

pub enum Mount {
    Done,
    /// Declined; an upload was opened instead, as the specification has it.
    Upload(Url),
}

impl Client {
    /// The size of a blob that the repository has.
    pub fn blob_size(&self, digest: Digest) -> Result<Option<u64>> {
        let call = Call::new("HEAD", self.repository_url(&format!("blobs/{digest}")));
        match self.call(call) {
            Ok(answer) => Ok(Some(header(&answer, "Content-Length").and_then(|l| l.parse().ok()).unwrap_or(0))),
            Err(f) if matches!(f.class, Class::Absent | Class::NameUnknown) => Ok(None),
            Err(f) => Err(f),
        }
    }

    /// Asks for a blob of another repository of the same registry.
    pub fn mount(&self, digest: Digest, from: &str) -> Result<Mount> {
        let mut url = self.repository_url("blobs/uploads/");
        url.push_query("from", from);
        url.push_query("mount", &digest.to_string());
        let also = [format!("repository:{from}:pull")];
        let mut call = Call::new("POST", url.clone());
        call.payload = Payload::Bytes(b"");
        call.also = &also;
        let mut answer = self.call(call)?;
        let _ = read_limited(&mut answer, MAX_ANSWER);
        match answer.status().as_u16() {
            201 => Ok(Mount::Done),
            202 => Ok(Mount::Upload(location(&answer, &url)?)),
            status => Err(unexpected(status)),
        }
    }

    fn start_upload(&self) -> Result<Url> {
        let url = self.repository_url("blobs/uploads/");
        let mut call = Call::new("POST", url.clone());
        call.payload = Payload::Bytes(b"");
        let mut answer = self.call(call)?;
        let _ = read_limited(&mut answer, MAX_ANSWER);
        match answer.status().as_u16() {
            202 => location(&answer, &url),
            status => Err(unexpected(status)),
        }
    }

    pub fn cancel_upload(&self, at: Url) {
        let _ = self.call(Call::new("DELETE", at));
    }

    /// Sends the blob. `progress` hears how much of it the registry was given.
    pub fn upload(
        &self,
        mut session: Option<Url>,
        known: Option<Known>,
        source: &Source<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Known> {
        let mut failures = 0;
        let mut renewed = false;
        loop {
            let fault = match self.attempt(&mut session, known, source, progress) {
                Ok(known) => return Ok(known),
                Err(fault) => fault,
            };
            self.cancel().check()?;
            // A token that ended while the stream ran: the next call has a new one.
            let expired = fault.class == Class::Unauthorized && !renewed;
            renewed |= expired;
            // The same, noticed later.
            let lost = fault.class == Class::Absent && session.is_some();
            if lost {
                session = None;
            }
            failures += 1;
            if !(expired || lost || fault.transient()) || failures >= self.settings.attempts {
                return Err(fault);
            }
            if !expired {
                self.cancel().sleep(Duration::from_secs(1 << (failures - 1).min(4)))?;
            }
        }
    }

    fn attempt(
        &self,
        session: &mut Option<Url>,
        known: Option<Known>,
        source: &Source<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Known> {
        let resumed = match session.take().map(|url| self.resume_point(url)) {
            // A session that the registry has forgotten.
            Some(Err(fault)) if fault.class == Class::Absent => None,
            Some(result) => Some(result?),
            None => None,
        };
        let (mut url, offset) = match resumed {
            Some(point) => point,
            None => (self.start_upload()?, 0),
        };
        let mut stream =
            Counted { inner: source()?, hasher: Hasher::new(), read: 0, limit: known.map(|k| k.size), progress };
        let skipped = io::copy(&mut (&mut stream).take(offset), &mut io::sink())
            .map_err(|e| Fault::new(Class::Local, e.to_string()))?;
        if skipped < offset {
            let message = format!("registry claims to have {offset} bytes of a blob of {skipped}");
            self.cancel_upload(url);
            return Err(Fault::new(Class::Refused, message));
        }
        *session = Some(url.clone());
        if known.is_none_or(|k| offset < k.size || k.size == 0) {
            let mut call = Call::new("PATCH", url.clone());
            call.headers.push(("Content-Type", "application/octet-stream".to_owned()));
            if let Some(k) = known.filter(|k| offset > 0 && k.size > offset) {
                call.headers.push(("Content-Range", format!("{offset}-{}", k.size - 1)));
            }
            call.payload = Payload::Stream(&mut stream, known.map(|k| k.size - offset));
            let mut answer = self.call(call)?;
            let _ = read_limited(&mut answer, MAX_ANSWER);
            url = location(&answer, &url)?;
            *session = Some(url.clone());
        }
        let sent = Known { size: stream.read, digest: stream.hasher.finish() };
        if let Some(known) = known
            && known != sent
        {
            self.cancel_upload(url);
            *session = None;
            let message = format!("layer changed while it was pushed: expected {}, read {}", known.digest, sent.digest);
            return Err(Fault::new(Class::Corrupt, message));
        }
        self.commit(url, sent)?;
        Ok(sent)
    }

    /// Where a cut upload stands.
    fn resume_point(&self, url: Url) -> Result<(Url, u64)> {
        let mut answer = self.call(Call::new("GET", url.clone()))?;
        let _ = read_limited(&mut answer, MAX_ANSWER);
        let next = location(&answer, &url).unwrap_or(url);
        // `0-0` means nothing or one byte; registries mean nothing.
        let last = header(&answer, "Range").and_then(|r| r.rsplit('-').next()).and_then(|n| n.parse::<u64>().ok());
        Ok((next, last.filter(|n| *n > 0).map_or(0, |n| n + 1)))
    }

    fn commit(&self, mut url: Url, blob: Known) -> Result<()> {
        url.target.push(if url.target.contains('?') { '&' } else { '?' });
        url.target.push_str(&format!("digest={}", query::escape(&blob.digest.to_string())));
        let mut call = Call::new("PUT", url);
        call.payload = Payload::Bytes(b"");
        call.stall = Some(COMMIT_PATIENCE);
        let mut answer = self.call(call)?;
        let _ = read_limited(&mut answer, MAX_ANSWER);
        match answer.status().as_u16() {
            201 | 204 => Ok(()),
            status => Err(unexpected(status)),
        }
    }
}

fn unexpected(status: u16) -> Fault {
    let reason = super::fault::reason(status);
    Fault::new(Class::Refused, format!("received unexpected HTTP status: {status} {reason}"))
}

fn location(answer: &super::transport::Response, asked: &Url) -> Result<Url> {
    header(answer, "Location")
        .and_then(|l| asked.join(l))
        .ok_or_else(|| Fault::new(Class::Refused, "registry opened an upload without a usable Location"))
}

/// Hashes, counts and bounds what passes.
struct Counted<'a, 'p> {
    inner: Box<dyn Read + Send + 'a>,
    hasher: Hasher,
    read: u64,
    limit: Option<u64>,
    progress: &'p mut dyn FnMut(u64),
}

impl Read for Counted<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.limit.map_or(buffer.len() as u64, |l| l.saturating_sub(self.read).min(buffer.len() as u64));
        let n = self.inner.read(&mut buffer[..room as usize])?;
        self.hasher.update(&buffer[..n]);
        self.read += n as u64;
        (self.progress)(self.read);
        Ok(n)
    }
}
