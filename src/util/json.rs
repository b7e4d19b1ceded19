//! JSON ⇄ types, by one reader and one writer for the whole program. Pure.
//!
//! A document is read in two steps: serde_json makes a small tree, then the
//! type is filled from the tree by the rules of Go's decoder, which everything
//! that we read was written for: names match in any case, `null` is the zero
//! value, unknown fields are ignored, the last of two equal fields wins, and
//! errors read as Go's do, because SDK tests and people compare them.
//!
//! Invariant: nobody else calls serde_json's `from_*` and `to_*` for a typed
//! document. serde makes a copy of every type's code for each deserializer it
//! meets, so a second one costs a megabyte of text; for the same reason what
//! does not depend on the type stands in plain functions here.

mod go;
mod wrong;

pub use wrong::Wrong;

use go::Go;
use serde::Deserialize;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use wrong::Inner;

/// One whole document.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Wrong> {
    T::deserialize(Go(&parse(bytes, usize::MAX)?))
}

/// The same of a stranger's: `[0,0,…` would take forty times its length of memory, so
/// that values may not be shorter than those of honest documents are on the average.
pub fn from_stranger<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Wrong> {
    T::deserialize(Go(&parse(bytes, 100_000 + bytes.len() / 8)?))
}

pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
    from_slice(text.as_bytes())
}

/// What an empty document stands for: every field its zero value.
pub fn from_nothing<T: DeserializeOwned>() -> Result<T, Wrong> {
    T::deserialize(Go(&Node::Null))
}

/// Whether it is a document at all.
pub fn check(bytes: &[u8]) -> Result<(), Wrong> {
    parse(bytes, usize::MAX).map(drop)
}

/// A document that was read before its types were known.
pub fn from_node<T: DeserializeOwned>(node: &Node<'_>) -> Result<T, Wrong> {
    T::deserialize(Go(node))
}

/// Compact, members in order of declaration.
pub fn to_vec<T: serde::Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(value)
}

/// For people: two blanks a level.
pub fn to_vec_pretty(
    value: &std::collections::BTreeMap<String, serde_json::Value>,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec_pretty(value)
}

pub fn to_string<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    // serde_json writes UTF-8 and nothing else.
    to_vec(value).map(|bytes| String::from_utf8(bytes).unwrap_or_default())
}

fn parse(bytes: &[u8], values: usize) -> Result<Node<'_>, Wrong> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let left = Cell::new(values);
    let node = Grow(&left).deserialize(&mut reader).map_err(|e| match e.is_eof() {
        true if bytes.trim_ascii().is_empty() => Wrong::from(Inner::Empty),
        true => Wrong::from(Inner::Cut),
        false => Wrong::from(Inner::Other(syntax(bytes, &e))),
    })?;
    reader.end().map_err(|_| Inner::Trailing)?;
    Ok(node)
}

/// A fault of syntax in Go's words: the character, and what was looked for there.
#[cold]
fn syntax(bytes: &[u8], e: &serde_json::Error) -> String {
    let text = e.to_string();
    let place = match text.as_str() {
        t if t.starts_with("expected value") => "looking for beginning of value",
        t if t.starts_with("key must be a string") => "looking for beginning of object key string",
        t if t.starts_with("expected `:`") => "after object key",
        t if t.starts_with("expected `,` or `}`") => "after object key:value pair",
        t if t.starts_with("expected `,` or `]`") => "after array element",
        t if t.starts_with("trailing comma") => "looking for beginning of value",
        t if t.starts_with("control character") => "in string literal",
        t if t.starts_with("invalid escape") => "in string escape code",
        _ => return text,
    };
    let line: usize = bytes.split_inclusive(|b| *b == b'\n').take(e.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let at = (line + e.column()).saturating_sub(1).min(bytes.len());
    match String::from_utf8_lossy(&bytes[at..]).chars().next() {
        Some(c) => format!("invalid character {c:?} {place}"),
        None => text,
    }
}

/// A value of a document; text without escapes is borrowed from it.
pub enum Node<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Map(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// Out of a document that is bounded as a whole.
impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Grow(&Cell::new(usize::MAX)))
    }
}

/// With the number of values that may still come.
struct Grow<'c>(&'c Cell<usize>);

impl<'de> DeserializeSeed<'de> for Grow<'_> {
    type Value = Node<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        self.0.set(self.0.get().checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Grow<'_> {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Node<'de>, E> {
        Ok(Node::Bool(b))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Node<'de>, E> {
        Ok(Node::Number(n.into()))
    }
    fn visit_u64<E>(self, n: u64) -> Result<Node<'de>, E> {
        Ok(Node::Number(n.into()))
    }
    fn visit_f64<E>(self, f: f64) -> Result<Node<'de>, E> {
        Ok(Number::from_f64(f).map_or(Node::Null, Node::Number))
    }
    fn visit_str<E>(self, s: &str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(s.to_owned())))
    }
    fn visit_borrowed_str<E>(self, s: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Borrowed(s)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element_seed(Grow(self.0))? {
            list.push(node);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(Node::Text(key)) = map.next_key_seed(Grow(self.0))? {
            members.push((key, map.next_value_seed(Grow(self.0))?));
        }
        Ok(Node::Map(members))
    }
}
