//! Private keys of `--ssh ID=FILE`, and the agent that uses them for a build: a
//! step asks for a signature and never sees a key. Runs in the client, on the
//! thread of one conversation.
//!
//! Invariant: keys stay in this process. They are read once, are never written
//! anywhere, and what is protected by a passphrase is refused, not asked for.
//!
//! Files: OpenSSH's own format (PROTOCOL.key), PKCS#8 (RFC 5208), PKCS#1 (RFC 8017)
//! and SEC 1 (RFC 5915). Messages: draft-miller-ssh-agent; signatures: RFC 8332
//! (RSA), RFC 5656 (ECDSA), RFC 8709 (Ed25519).

use crate::error::{Context, Error, Result};
use crate::util::der::{self, Reader};
use base64::Engine as _;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};
use std::path::Path;

/// A file longer than this is no key.
const MAX_FILE: u64 = 1 << 20;
/// SSH_AGENT_FAILURE with its length, as every answer here.
pub(super) const FAILURE: &[u8] = &[0, 0, 0, 1, 5];
pub(super) const LIST: u8 = 11;
pub(super) const SIGN: u8 = 13;
const IDENTITIES: u8 = 12;
const SIGNATURE: u8 = 14;
const SHA2_256: u32 = 2;
const SHA2_512: u32 = 4;

enum Secret {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair, &'static Curve),
    Rsa(RsaKeyPair),
}

struct Curve {
    /// As SSH names it.
    name: &'static str,
    oid: &'static str,
    bytes: usize,
}

const CURVES: &[Curve] = &[
    Curve { name: "nistp256", oid: "1.2.840.10045.3.1.7", bytes: 32 },
    Curve { name: "nistp384", oid: "1.3.132.0.34", bytes: 48 },
];

struct Key {
    secret: Secret,
    /// The public half as SSH writes it.
    public: Vec<u8>,
    comment: String,
}

/// What one `--ssh` names.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    pub(super) fn read(paths: &[&str]) -> Result<Self> {
        Ok(Self(paths.iter().map(|path| read(path)).collect::<Result<_>>()?))
    }

    /// An agent's answer to a whole question, both with their length in front.
    pub(super) fn answer(&self, question: &[u8]) -> Vec<u8> {
        let body = match question.get(4) {
            Some(&LIST) => Some(self.list()),
            Some(&SIGN) => self.sign(&question[5..]),
            _ => None,
        };
        body.map_or_else(|| FAILURE.to_vec(), |body| string(&body))
    }

    fn list(&self) -> Vec<u8> {
        let mut body = vec![IDENTITIES];
        body.extend((self.0.len() as u32).to_be_bytes());
        for key in &self.0 {
            body.extend(string(&key.public));
            body.extend(string(key.comment.as_bytes()));
        }
        body
    }

    fn sign(&self, question: &[u8]) -> Option<Vec<u8>> {
        let mut question = Strings(question);
        let (public, data) = (question.next()?, question.next()?);
        let flags = question.number().unwrap_or(0);
        let key = self.0.iter().find(|k| k.public == public)?;
        let (algorithm, signature) = key.sign(data, flags)?;
        Some([&[SIGNATURE][..], &string(&[string(algorithm.as_bytes()), string(&signature)].concat())].concat())
    }
}

impl Key {
    /// The algorithm's name and its signature. None: SHA-1 was asked for, or the
    /// key cannot.
    fn sign(&self, data: &[u8], flags: u32) -> Option<(String, Vec<u8>)> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Ed25519(key) => Some(("ssh-ed25519".into(), key.sign(data).as_ref().to_vec())),
            Secret::Ecdsa(key, curve) => {
                let signature = key.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at_checked(curve.bytes)?;
                Some((format!("ecdsa-sha2-{}", curve.name), [number(r), number(s)].concat()))
            }
            Secret::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let (name, padding) = match flags {
                    f if f & SHA2_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    f if f & SHA2_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                key.sign(padding, &random, data, &mut signature).ok()?;
                Some((name.into(), signature))
            }
        }
    }
}

/// Why a file gives no key, without its name.
type Refusal = String;

fn read(path: &str) -> Result<Key> {
    let file = std::fs::File::open(path).with_context(|| format!("read the ssh key {path}"))?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_FILE), &mut text)
        .with_context(|| format!("read the ssh key {path}"))?;
    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    parse(&text, &name).map_err(|why| {
        let error = Error::invalid(format!("ssh key {path}: {why}"));
        error.with_hint(format!("run: ssh-add {path}, and forward the agent with --ssh default"))
    })
}

fn parse(text: &str, name: &str) -> std::result::Result<Key, Refusal> {
    let begin = text.split("-----BEGIN ").nth(1).ok_or("it is neither the socket of an agent nor a private key")?;
    let (label, rest) = begin.split_once("-----").ok_or("its first line is cut")?;
    let body = rest.split("-----END ").next().unwrap_or_default();
    if label.contains("ENCRYPTED") || body.contains("ENCRYPTED") {
        return Err(PROTECTED.into());
    }
    let body: String = body.split_whitespace().collect();
    let bytes = base64::engine::general_purpose::STANDARD.decode(body).map_err(|_| "it is not base64")?;
    let (secret, public, comment) = match label {
        "OPENSSH PRIVATE KEY" => openssh(&bytes)?,
        "PRIVATE KEY" => with_name(pkcs8(&bytes), name)?,
        "RSA PRIVATE KEY" => with_name(rsa(&bytes), name)?,
        "EC PRIVATE KEY" => with_name(sec1(&bytes, None), name)?,
        other => return Err(format!("a key of the kind {other:?} cannot be used")),
    };
    Ok(Key { secret, public, comment })
}

const PROTECTED: &str = "it is protected by a passphrase, which a build does not ask for";

type Half = std::result::Result<(Secret, Vec<u8>), Refusal>;

fn with_name(half: Half, name: &str) -> std::result::Result<(Secret, Vec<u8>, String), Refusal> {
    half.map(|(secret, public)| (secret, public, name.to_owned()))
}

fn openssh(bytes: &[u8]) -> std::result::Result<(Secret, Vec<u8>, String), Refusal> {
    let cut = || Refusal::from("it is cut or corrupt");
    let mut outer = Strings(bytes.strip_prefix(b"openssh-key-v1\0").ok_or_else(cut)?);
    let (cipher, _, _) = (outer.next().ok_or_else(cut)?, outer.next().ok_or_else(cut)?, outer.next().ok_or_else(cut)?);
    if cipher != b"none" {
        return Err(PROTECTED.into());
    }
    let (count, _) = (outer.number(), outer.next());
    let mut inner = Strings(outer.next().filter(|_| count == Some(1)).ok_or_else(cut)?);
    if inner.number().zip(inner.number()).is_none_or(|(a, b)| a != b) {
        return Err(cut());
    }
    let kind = inner.next().ok_or_else(cut)?;
    let mut field = || inner.next().ok_or_else(cut);
    let (secret, public) = match kind {
        b"ssh-ed25519" => {
            let (_, secret) = (field()?, field()?);
            ed25519(secret.get(..32).ok_or_else(cut)?)?
        }
        b"ssh-rsa" => {
            let [n, e, d, inverse, p, q] = [field()?, field()?, field()?, field()?, field()?, field()?];
            let exponent = |prime: &[u8]| der::integer(&remainder(d, &minus_one(prime)));
            let parts = [der::integer(&[0]), der::integer(n), der::integer(e), der::integer(d), der::integer(p)];
            let more = [der::integer(q), exponent(p), exponent(q), der::integer(inverse)];
            rsa(&der::wrap(der::SEQUENCE, &[&parts[..], &more[..]].concat()))?
        }
        kind if kind.starts_with(b"ecdsa-sha2-") => {
            let [curve, point, secret] = [field()?, field()?, field()?];
            ecdsa(CURVES.iter().find(|c| c.name.as_bytes() == curve), secret, point)?
        }
        other => return Err(format!("a key of the kind {} cannot be used", String::from_utf8_lossy(other))),
    };
    Ok((secret, public, String::from_utf8_lossy(field()?).into_owned()))
}

fn pkcs8(bytes: &[u8]) -> Half {
    let read = || {
        let mut whole = Reader(Reader(bytes).expect(der::SEQUENCE)?);
        whole.expect(der::INTEGER)?;
        let mut algorithm = Reader(whole.expect(der::SEQUENCE)?);
        let kind = der::element(der::OID, algorithm.expect(der::OID)?);
        let parameter = algorithm.element().map(|(tag, content)| der::element(tag, content));
        Some((kind, parameter, whole.expect(der::OCTET_STRING)?))
    };
    let (kind, parameter, key) = read().ok_or("it is cut or corrupt")?;
    match kind {
        kind if kind == der::oid("1.2.840.113549.1.1.1") => rsa(key),
        kind if kind == der::oid("1.2.840.10045.2.1") => sec1(key, parameter),
        kind if kind == der::oid("1.3.101.112") => ed25519(Reader(key).expect(der::OCTET_STRING).unwrap_or_default()),
        _ => Err("its algorithm cannot be used: Ed25519, ECDSA and RSA can".into()),
    }
}

/// `curve`: what an envelope says where the key itself does not.
fn sec1(bytes: &[u8], curve: Option<Vec<u8>>) -> Half {
    let mut curve = curve;
    let mut read = || {
        let mut whole = Reader(Reader(bytes).expect(der::SEQUENCE)?);
        whole.expect(der::INTEGER)?;
        let secret = whole.expect(der::OCTET_STRING)?;
        if whole.peek() == Some(0xa0) {
            curve = Some(whole.expect(0xa0)?.to_vec());
        }
        let point = Reader(whole.expect(0xa1)?).expect(der::BIT_STRING)?;
        Some((secret, point.strip_prefix(&[0])?))
    };
    let (secret, point) = read().ok_or("it is cut, corrupt, or without its public half")?;
    ecdsa(CURVES.iter().find(|c| Some(der::oid(c.oid)) == curve), secret, point)
}

fn ed25519(seed: &[u8]) -> Half {
    let key = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|e| e.to_string())?;
    let public = [string(b"ssh-ed25519"), string(key.public_key().as_ref())].concat();
    Ok((Secret::Ed25519(key), public))
}

fn ecdsa(curve: Option<&'static Curve>, secret: &[u8], point: &[u8]) -> Half {
    let curve = curve.ok_or("its curve cannot be used: nistp256 and nistp384 can")?;
    let secret = trimmed(secret);
    let scalar = [vec![0; curve.bytes.saturating_sub(secret.len())], secret.to_vec()].concat();
    let algorithm = if curve.bytes == 32 { &ECDSA_P256_SHA256_FIXED_SIGNING } else { &ECDSA_P384_SHA384_FIXED_SIGNING };
    let key = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &scalar, point, &SystemRandom::new());
    let key = key.map_err(|e| e.to_string())?;
    let kind = format!("ecdsa-sha2-{}", curve.name);
    let public = [string(kind.as_bytes()), string(curve.name.as_bytes()), string(point)].concat();
    Ok((Secret::Ecdsa(key, curve), public))
}

fn rsa(pkcs1: &[u8]) -> Half {
    let read = || {
        let mut whole = Reader(Reader(pkcs1).expect(der::SEQUENCE)?);
        whole.expect(der::INTEGER)?;
        Some((whole.expect(der::INTEGER)?, whole.expect(der::INTEGER)?))
    };
    let (n, e) = read().ok_or("it is cut or corrupt")?;
    // ring: from 2048 to 4096 bits, and the two primes must fit.
    let key = RsaKeyPair::from_der(pkcs1).map_err(|e| format!("this RSA key cannot be used: {e}"))?;
    let public = [string(b"ssh-rsa"), number(e), number(n)].concat();
    Ok((Secret::Rsa(key), public))
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    &bytes[zeros..]
}

fn minus_one(big: &[u8]) -> Vec<u8> {
    let mut out = big.to_vec();
    for byte in out.iter_mut().rev() {
        let (less, borrowed) = byte.overflowing_sub(1);
        *byte = less;
        if !borrowed {
            break;
        }
    }
    out
}

/// `a mod m`, big-endian, bit by bit: done twice for a key. For `m` = 0 it is 0.
fn remainder(a: &[u8], m: &[u8]) -> Vec<u8> {
    let m = trimmed(m);
    // One byte more than the modulus, for the bit that is shifted out of it.
    let modulus = [&[0], m].concat();
    let mut rest = vec![0u8; modulus.len()];
    for bit in a.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
        }
        if !m.is_empty() && rest >= modulus {
            let mut borrow = 0;
            for (byte, less) in rest.iter_mut().zip(&modulus).rev() {
                let difference = i16::from(*byte) - i16::from(*less) - borrow;
                borrow = i16::from(difference < 0);
                *byte = difference.rem_euclid(256) as u8;
            }
        }
    }
    if m.is_empty() { Vec::new() } else { rest }
}

/// With its length in front.
fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// A positive `mpint`.
fn number(big_endian: &[u8]) -> Vec<u8> {
    let bytes = trimmed(big_endian);
    let pad: &[u8] = if bytes.first().is_some_and(|b| b & 0x80 != 0) { &[0] } else { &[] };
    string(&[pad, bytes].concat())
}

struct Strings<'a>(&'a [u8]);

impl<'a> Strings<'a> {
    fn number(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*head))
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remainders() {
        assert_eq!(remainder(&[1, 0, 0], &[0, 7]), [0, 2]);
        assert_eq!(remainder(&[0xff; 5], &[0xff, 0xfe]), [0, 3, 0xff]);
        assert_eq!(remainder(&[5], &[9, 0]), [0, 0, 5]);
        assert_eq!(minus_one(&[1, 0, 0]), [0, 0xff, 0xff]);
        assert!(remainder(&[5], &[0]).is_empty());
    }

    #[test]
    fn what_is_no_key() {
        for (text, part) in [
            ("ssh-ed25519 AAAA me", "neither the socket of an agent nor a private key"),
            ("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", "cut or corrupt"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n", "cut or corrupt"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n", "passphrase"),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMAA=\n", "passphrase"),
            ("-----BEGIN DSA PRIVATE KEY-----\nMAA=\n-----END DSA", "\"DSA PRIVATE KEY\" cannot be used"),
        ] {
            let why = parse(text, "k").err().unwrap();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn questions_that_are_none() {
        let keys = Keys(vec![parse_seed()]);
        for question in
            [&[][..], &[0, 0, 0, 1], &[0, 0, 0, 1, 13], &[0, 0, 0, 5, 13, 255, 255, 255, 255], &[0, 0, 0, 1, 9]]
        {
            assert_eq!(keys.answer(question), FAILURE);
        }
        let listed = keys.answer(&[0, 0, 0, 1, LIST]);
        assert_eq!(listed[4..9], [IDENTITIES, 0, 0, 0, 1]);
        let asked = [&[SIGN][..], &string(&keys.0[0].public), &string(b"data"), &[0; 4]].concat();
        assert_eq!(keys.answer(&string(&asked))[4], SIGNATURE);
    }

    fn parse_seed() -> Key {
        let (secret, public) = ed25519(&[7; 32]).unwrap();
        Key { secret, public, comment: "c".into() }
    }
}
