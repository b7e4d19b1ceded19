//! X.509 v3: making certificates and revocation lists on P-256, and reading the
//! few fields that a log line or a check of ours needs. Pure but for the keys.
//!
//! Why our own writer: three shapes of certificate need two hundred lines, and
//! openssl reads them in the tests. Verification is rustls' business alone.

use super::der::{self, Reader, bit_string, element, integer, oid, wrap};
use super::time::{Timestamp, civil_from_days, days_from_civil};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use std::net::IpAddr;

/// What may be wrong with a key that does not load: ring has no other kinds.
pub const KEYS: &str =
    "keys are RSA of 2048 to 4096 bits, ECDSA over P-256 or P-384, or Ed25519, and fit their certificate";

/// What a certificate may be used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    Authority,
    /// With the names it is reached by.
    Server(Vec<String>),
    Client,
}

/// A private key with the document it is stored as.
pub struct Key {
    pub pkcs8: Vec<u8>,
    pair: EcdsaKeyPair,
}

impl Key {
    pub fn generate() -> Option<Self> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).ok()?;
        Self::load(document.as_ref())
    }
    pub fn load(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new()).ok()?;
        Some(Self { pkcs8: pkcs8.to_vec(), pair })
    }
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.pair.sign(&SystemRandom::new(), message).ok().map(|s| s.as_ref().to_vec())
    }
    fn public(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }
    /// Names the key in the two key identifier extensions.
    fn id(&self) -> Vec<u8> {
        ring::digest::digest(&ring::digest::SHA256, self.public()).as_ref()[..20].to_vec()
    }
}

pub struct Request<'a> {
    pub name: &'a str,
    pub serial: [u8; 16],
    pub from: Timestamp,
    pub until: Timestamp,
    pub purpose: &'a Purpose,
}

/// A DER certificate for `key`, signed by `issuer`.
pub fn certificate(request: &Request<'_>, key: &Key, issuer_name: &str, issuer: &Key) -> Option<Vec<u8>> {
    let subject_key = wrap(
        der::SEQUENCE,
        &[wrap(der::SEQUENCE, &[oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")]), bit_string(key.public())],
    );
    let body = wrap(
        der::SEQUENCE,
        &[
            element(0xa0, &integer(&[2])),
            integer(&serial(request.serial)),
            algorithm(),
            name(issuer_name),
            wrap(der::SEQUENCE, &[moment(request.from), moment(request.until)]),
            name(request.name),
            subject_key,
            element(0xa3, &wrap(der::SEQUENCE, &extensions(request.purpose, key, issuer))),
        ],
    );
    signed(body, issuer)
}

/// A DER revocation list of `serials`.
pub fn revocation_list(
    issuer_name: &str,
    issuer: &Key,
    number: u64,
    from: Timestamp,
    until: Timestamp,
    serials: &[[u8; 16]],
) -> Option<Vec<u8>> {
    let entries: Vec<Vec<u8>> =
        serials.iter().map(|s| wrap(der::SEQUENCE, &[integer(&serial(*s)), moment(from)])).collect();
    let mut parts = vec![integer(&[1]), algorithm(), name(issuer_name), moment(from), moment(until)];
    if !entries.is_empty() {
        parts.push(wrap(der::SEQUENCE, &entries));
    }
    let number = extension("2.5.29.20", false, integer(&number.to_be_bytes()));
    let authority = extension("2.5.29.35", false, wrap(der::SEQUENCE, &[element(0x80, &issuer.id())]));
    parts.push(element(0xa0, &wrap(der::SEQUENCE, &[authority, number])));
    signed(wrap(der::SEQUENCE, &parts), issuer)
}

fn signed(body: Vec<u8>, issuer: &Key) -> Option<Vec<u8>> {
    let signature = issuer.sign(&body)?;
    Some(wrap(der::SEQUENCE, &[body, algorithm(), bit_string(&signature)]))
}

/// ecdsa-with-SHA256.
fn algorithm() -> Vec<u8> {
    wrap(der::SEQUENCE, &[oid("1.2.840.10045.4.3.2")])
}

fn serial(mut bytes: [u8; 16]) -> [u8; 16] {
    bytes[0] = bytes[0] & 0x7f | 0x40;
    bytes
}

fn name(common: &str) -> Vec<u8> {
    let attribute = wrap(der::SEQUENCE, &[oid("2.5.4.3"), element(der::UTF8, common.as_bytes())]);
    wrap(der::SEQUENCE, &[wrap(der::SET, &[attribute])])
}

fn moment(t: Timestamp) -> Vec<u8> {
    let secs = t.secs();
    let (y, m, d) = civil_from_days(secs.div_euclid(86_400));
    let s = secs.rem_euclid(86_400);
    let clock = format!("{m:02}{d:02}{:02}{:02}{:02}Z", s / 3600, s / 60 % 60, s % 60);
    if (1950..2050).contains(&y) {
        element(der::UTC_TIME, format!("{:02}{clock}", y % 100).as_bytes())
    } else {
        element(der::GENERALIZED_TIME, format!("{y:04}{clock}").as_bytes())
    }
}

fn extension(id: &str, critical: bool, value: Vec<u8>) -> Vec<u8> {
    let mut parts = vec![oid(id)];
    if critical {
        parts.push(element(0x01, &[0xff]));
    }
    parts.push(element(der::OCTET_STRING, &value));
    wrap(der::SEQUENCE, &parts)
}

fn extensions(purpose: &Purpose, key: &Key, issuer: &Key) -> Vec<Vec<u8>> {
    let mut list = vec![
        extension("2.5.29.14", false, element(der::OCTET_STRING, &key.id())),
        extension("2.5.29.35", false, wrap(der::SEQUENCE, &[element(0x80, &issuer.id())])),
    ];
    let usage = |bits: &[u8]| extension("2.5.29.15", true, element(der::BIT_STRING, bits));
    let extended = |id: &str| extension("2.5.29.37", false, wrap(der::SEQUENCE, &[oid(id)]));
    match purpose {
        Purpose::Authority => {
            list.push(extension("2.5.29.19", true, wrap(der::SEQUENCE, &[element(0x01, &[0xff])])));
            // keyCertSign, cRLSign.
            list.push(usage(&[1, 0x06]));
        }
        Purpose::Server(names) => {
            list.push(extension("2.5.29.19", true, wrap(der::SEQUENCE, &[])));
            // digitalSignature.
            list.push(usage(&[7, 0x80]));
            list.push(extended("1.3.6.1.5.5.7.3.1"));
            let names: Vec<Vec<u8>> = names.iter().map(|n| alternative(n)).collect();
            list.push(extension("2.5.29.17", false, wrap(der::SEQUENCE, &names)));
        }
        Purpose::Client => {
            list.push(extension("2.5.29.19", true, wrap(der::SEQUENCE, &[])));
            list.push(usage(&[7, 0x80]));
            list.push(extended("1.3.6.1.5.5.7.3.2"));
        }
    }
    list
}

/// A dNSName, or an iPAddress for what reads as one.
fn alternative(name: &str) -> Vec<u8> {
    match name.parse() {
        Ok(IpAddr::V4(ip)) => element(0x87, &ip.octets()),
        Ok(IpAddr::V6(ip)) => element(0x87, &ip.octets()),
        Err(_) => element(0x82, name.as_bytes()),
    }
}

/// What a certificate says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `CN=x,O=y`, or what of it is readable.
    pub subject: String,
    /// The last CN of the subject.
    pub common_name: Option<String>,
    pub serial: Vec<u8>,
    pub from: Timestamp,
    pub until: Timestamp,
}

/// Reads a DER certificate; nothing of it is verified.
pub fn facts(certificate: &[u8]) -> Option<Facts> {
    let mut body = Reader(Reader(certificate).expect(der::SEQUENCE)?);
    let mut body = Reader(body.expect(der::SEQUENCE)?);
    if body.peek() == Some(0xa0) {
        body.element()?;
    }
    let serial = body.expect(der::INTEGER)?.to_vec();
    body.expect(der::SEQUENCE)?;
    body.expect(der::SEQUENCE)?;
    let mut validity = Reader(body.expect(der::SEQUENCE)?);
    let (from, until) = (read_moment(validity.element()?)?, read_moment(validity.element()?)?);
    let parts = read_name(body.expect(der::SEQUENCE)?);
    let common_name = parts.iter().rev().find(|(label, _)| *label == "CN").map(|(_, value)| value.clone());
    let subject = parts.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(",");
    Some(Facts { subject, common_name, serial, from, until })
}

fn read_name(content: &[u8]) -> Vec<(&'static str, String)> {
    let mut parts = Vec::new();
    let mut sets = Reader(content);
    while let Some((_, set)) = sets.element() {
        let Some(mut pair) = Reader(set).expect(der::SEQUENCE).map(Reader) else { continue };
        let (Some(id), Some((_, value))) = (pair.expect(der::OID), pair.element()) else { continue };
        let label = match id {
            [0x55, 0x04, 0x03] => "CN",
            [0x55, 0x04, 0x06] => "C",
            [0x55, 0x04, 0x07] => "L",
            [0x55, 0x04, 0x08] => "ST",
            [0x55, 0x04, 0x0a] => "O",
            [0x55, 0x04, 0x0b] => "OU",
            _ => continue,
        };
        parts.push((label, String::from_utf8_lossy(value).into_owned()));
    }
    parts
}

fn read_moment((tag, text): (u8, &[u8])) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, digits.len()) {
        (der::UTC_TIME, 12) => {
            let year: i64 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (der::GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |i: usize| rest[2 * i..2 * i + 2].parse::<i64>().ok();
    let days = days_from_civil(year, part(0)? as u32, part(1)? as u32);
    Some(Timestamp::from_parts(days * 86_400 + part(2)? * 3600 + part(3)? * 60 + part(4)?, 0))
}

/// A PEM document.
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let (ca, key) = (Key::generate().unwrap(), Key::generate().unwrap());
        let request = Request {
            name: "server",
            serial: [0xff; 16],
            from: Timestamp::from_parts(1_700_000_000, 0),
            until: Timestamp::from_parts(4_000_000_000, 0),
            purpose: &Purpose::Server(vec!["localhost".into(), "127.0.0.1".into(), "::1".into()]),
        };
        let der = certificate(&request, &key, "Test CA", &ca).unwrap();
        let facts = facts(&der).unwrap();
        assert_eq!((facts.subject.as_str(), facts.common_name.as_deref()), ("CN=server", Some("server")));
        assert_eq!((facts.from, facts.until), (request.from, request.until));
        for n in 0..der.len() {
            super::facts(&der[..n]);
        }
        assert!(pem("X", &[1, 2, 3]).contains("\nAQID\n"));
        assert!(revocation_list("Test CA", &ca, 1, request.from, request.until, &[[1; 16]]).is_some());
    }
}
