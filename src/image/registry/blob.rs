//! Reading content that survives a cut link: a [`BlobReader`] is a plain
//! `Read` that asks for the rest by range when the connection breaks or stalls,
//! and vouches at its end that size and digest are right. Runs on the thread
//! that unpacks the layer.
//!
//! Invariant: `Ok(0)` is returned only after all bytes passed and the digest
//! matched (unless it is `trusting`); a consumer that commits at the end of the stream commits nothing
//! false. A try without progress counts against `attempts`; progress resets it.

use super::client::{Call, Client, header};
use super::fault::{Class, Fault, Result};
use super::transport::io_fault;
use crate::image::digest::{Digest, Hasher};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

/// Configs are JSON; nobody's is near this.
const MAX_DOCUMENT: u64 = 8 << 20;

pub struct BlobReader {
    client: Arc<Client>,
    digest: Digest,
    size: u64,
    offset: u64,
    /// None when it has been judged, or if the consumer judges.
    hasher: Option<Hasher>,
    ended: bool,
    body: Option<Box<dyn Read + Send>>,
    failures: u32,
    /// What ended the stream, for the caller to read after an `io::Error`.
    fault: Option<Fault>,
    /// Called before a pause, with the whole seconds left of it.
    on_retry: Box<dyn FnMut(u64) + Send>,
    /// First pause; doubles with each failure in a row.
    pause: Duration,
}

impl BlobReader {
    pub fn new(client: Arc<Client>, digest: Digest, size: u64) -> Self {
        Self {
            client,
            digest,
            size,
            offset: 0,
            hasher: Some(Hasher::new()),
            ended: false,
            body: None,
            failures: 0,
            fault: None,
            on_retry: Box::new(|_| {}),
            pause: Duration::from_secs(1),
        }
    }

    #[must_use]
    pub fn on_retry(mut self, callback: impl FnMut(u64) + Send + 'static) -> Self {
        self.on_retry = Box::new(callback);
        self
    }

    /// Leaves the digest to a consumer that checks it anyway: hashing twice
    /// costs a third of what unpacking does. Sizes are still checked.
    #[must_use]
    fn trusting(mut self) -> Self {
        self.hasher = None;
        self
    }

    /// The consumer has the first `offset` bytes already, and judges the digest.
    #[must_use]
    pub fn starting_at(mut self, offset: u64) -> Self {
        self.offset = offset;
        self.ended = offset == self.size && offset > 0;
        self.trusting()
    }

    /// For tests: the first pause of the back-off.
    #[must_use]
    pub fn first_pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Why reading failed, if it did.
    pub fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    fn connect(&mut self) -> Result<()> {
        let url = self.client.repository_url(&format!("blobs/{}", self.digest));
        let mut call = Call::new("GET", url.clone());
        if self.offset > 0 {
            call.headers.push(("Range", format!("bytes={}-", self.offset)));
        }
        let answer = self.client.call(call)?;
        let start = match answer.status().as_u16() {
            206 => match header(&answer, "Content-Range").and_then(range_start) {
                Some(start) if start <= self.offset => start,
                _ => return Err(Fault::new(Class::Corrupt, "server answered with another range than asked for")),
            },
            200 => {
                // Of a compressed or chunked answer the length is not known.
                if let Some(length) = header(&answer, "Content-Length").and_then(|l| l.parse::<u64>().ok())
                    && length != self.size
                {
                    return Err(self.wrong_size(length));
                }
                0
            }
            status => {
                let reason = super::fault::reason(status);
                return Err(Fault::new(Class::Refused, format!("received unexpected HTTP status: {status} {reason}"))
                    .of_request("GET", &url));
            }
        };
        let mut body: Box<dyn Read + Send> = Box::new(answer.into_body().into_reader());
        // A server without ranges starts over: what we have is passed by. The
        // digest covers the case that it now sends something else.
        let skip = self.offset - start;
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink()).map_err(|e| io_fault(&e))?;
        if skipped < skip {
            return Err(Fault::new(Class::Link, "unexpected EOF"));
        }
        self.body = Some(body);
        Ok(())
    }

    fn wrong_size(&self, got: u64) -> Fault {
        let message = format!("blob {} has {got} bytes, its manifest says {}", self.digest, self.size);
        Fault::new(Class::Corrupt, message)
    }

    /// Some bytes, or the end, or a failure that may be worth another try.
    fn step(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.body.is_none() {
            self.connect()?;
        }
        let Some(body) = &mut self.body else { return Err(Fault::new(Class::Link, "unexpected EOF")) };
        let n = body.read(buffer).map_err(|e| io_fault(&e))?;
        if n == 0 && self.offset < self.size {
            return Err(Fault::new(Class::Link, "unexpected EOF"));
        }
        if self.offset + n as u64 > self.size {
            return Err(self.wrong_size(self.offset + n as u64));
        }
        Ok(n)
    }

    fn verify(&mut self) -> Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let got = hasher.finish();
        if got == self.digest {
            return Ok(());
        }
        Err(Fault::new(Class::Corrupt, format!("filesystem layer verification failed for digest {}", self.digest))
            .hint(format!("{} bytes came as announced, but their digest is {got}", self.size)))
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            self.client.cancel().check()?;
            if self.ended {
                return Ok(0);
            }
            match self.step(buffer) {
                Ok(0) => {
                    self.body = None;
                    self.verify()?;
                    self.ended = true;
                    return Ok(0);
                }
                Ok(n) => {
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&buffer[..n]);
                    }
                    self.offset += n as u64;
                    self.failures = 0;
                    return Ok(n);
                }
                Err(fault) => self.pause_after(fault)?,
            }
        }
    }

    fn pause_after(&mut self, fault: Fault) -> Result<()> {
        self.body = None;
        if self.client.cancel().fired() {
            return Err(Fault::cancelled());
        }
        self.failures += 1;
        if !fault.transient() || self.failures >= self.client.settings.attempts {
            return Err(fault);
        }
        let mut pause = self.pause * 2u32.saturating_pow(self.failures - 1).min(16);
        if let Class::Limited(Some(asked)) = fault.class {
            pause = pause.max(asked.min(Duration::from_secs(60)));
        }
        let mut left = pause;
        while !left.is_zero() {
            (self.on_retry)(left.as_millis().div_ceil(1000) as u64);
            let nap = left.min(Duration::from_secs(1));
            self.client.cancel().sleep(nap)?;
            left -= nap;
        }
        Ok(())
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.next(buffer).map_err(|fault| {
            let error = io::Error::other(fault.text());
            self.fault = Some(fault);
            error
        })
    }
}

/// `bytes 100-199/200` → 100.
fn range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// A small blob at once: image configs.
pub fn document(client: &Arc<Client>, digest: Digest, size: u64) -> Result<Vec<u8>> {
    if size > MAX_DOCUMENT {
        return Err(Fault::new(Class::Corrupt, format!("config {digest} of {size} bytes is too large")));
    }
    let mut reader = BlobReader::new(client.clone(), digest, size);
    let mut bytes = Vec::with_capacity(size as usize);
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(e) => Err(reader.take_fault().unwrap_or_else(|| io_fault(&e))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range_start("bytes 100-199/200"), Some(100));
        assert_eq!(range_start("bytes */200"), None);
        assert_eq!(range_start("items 1-2/3"), None);
    }
}
