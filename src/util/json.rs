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

use serde::Deserialize;
use serde::de::value::{StrDeserializer, U64Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde_json::Number;
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

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

/// Why a document was refused. Small, since it is part of every result here.
#[derive(PartialEq, Eq)]
pub struct Wrong(Box<Inner>);

#[derive(PartialEq, Eq)]
enum Inner {
    /// No document at all.
    Empty,
    /// It ends in the middle.
    Cut,
    /// Something follows it.
    Trailing,
    /// A value of the wrong type: what came, what was wanted, the path to it
    /// from the inside out, the outermost struct.
    Type {
        got: String,
        want: &'static str,
        path: Vec<&'static str>,
        root: &'static str,
    },
    Other(String),
}

impl From<Inner> for Wrong {
    fn from(inner: Inner) -> Self {
        Wrong(Box::new(inner))
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Inner::Empty => f.write_str("got EOF while reading request body"),
            Inner::Cut => f.write_str("unexpected EOF"),
            Inner::Trailing => f.write_str("unexpected content after JSON"),
            Inner::Other(text) => f.write_str(text),
            Inner::Type { got, want, path, .. } if path.is_empty() => {
                write!(f, "json: cannot unmarshal {got} into Go value of type {want}")
            }
            Inner::Type { got, want, path, root } => {
                let path: Vec<&str> = path.iter().rev().copied().collect();
                write!(f, "json: cannot unmarshal {got} into Go struct field {root}.{} of type {want}", path.join("."))
            }
        }
    }
}

impl fmt::Debug for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Wrong {}

impl serde::de::Error for Wrong {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Inner::Other(msg.to_string()).into()
    }
    // serde's own versions of these stand once in every struct and field.
    #[cold]
    #[inline(never)]
    fn missing_field(field: &'static str) -> Self {
        Inner::Other(format!("missing field `{field}`")).into()
    }
    #[cold]
    #[inline(never)]
    fn duplicate_field(field: &'static str) -> Self {
        Inner::Other(format!("duplicate field `{field}`")).into()
    }
    #[cold]
    #[inline(never)]
    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Inner::Other(format!("unknown variant `{variant}`, expected one of {}", expected.join(", "))).into()
    }
    #[cold]
    #[inline(never)]
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Inner::Other(format!("invalid type: {unexpected}, expected {expected}")).into()
    }
    #[cold]
    #[inline(never)]
    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Inner::Other(format!("invalid value: {unexpected}, expected {expected}")).into()
    }
    #[cold]
    #[inline(never)]
    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Inner::Other(format!("invalid length {length}, expected {expected}")).into()
    }
}

impl Wrong {
    /// Whether a second document, or what is none, follows the first.
    pub fn is_trailing(&self) -> bool {
        matches!(*self.0, Inner::Trailing)
    }

    /// The outermost struct has no name in Go if it is embedded.
    pub fn embedded(mut self) -> Self {
        if let Inner::Type { root, .. } = &mut *self.0 {
            *root = "";
        }
        self
    }

    #[cold]
    #[inline(never)]
    fn at(mut self, field: &'static str, name: &'static str) -> Self {
        if let Inner::Type { path, root, .. } = &mut *self.0 {
            path.push(field);
            *root = name;
        }
        self
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

impl<'a> Node<'a> {
    #[cold]
    fn wrong(&self, want: &'static str) -> Wrong {
        let got = match self {
            Node::Null => "null".to_owned(),
            Node::Bool(_) => "bool".to_owned(),
            Node::Number(n) if want.starts_with("int") || want.starts_with("uint") => format!("number {n}"),
            Node::Number(_) => "number".to_owned(),
            Node::Text(_) => "string".to_owned(),
            Node::List(_) => "array".to_owned(),
            Node::Map(_) => "object".to_owned(),
        };
        Inner::Type { got, want, path: Vec::new(), root: "" }.into()
    }

    fn integer(&self, least: i128, most: i128, want: &'static str) -> Result<i128, Wrong> {
        let number = match self {
            Node::Null => Some(0),
            Node::Number(n) => n.as_i64().map(i128::from).or(n.as_u64().map(i128::from)),
            _ => None,
        };
        number.filter(|n| (least..=most).contains(n)).ok_or_else(|| self.wrong(want))
    }

    fn text(&self) -> Result<&str, Wrong> {
        match self {
            Node::Null => Ok(""),
            Node::Text(s) => Ok(s),
            _ => Err(self.wrong("string")),
        }
    }

    fn list(&self, want: &'static str) -> Result<&[Node<'a>], Wrong> {
        match self {
            Node::Null => Ok(&[]),
            Node::List(list) => Ok(list),
            _ => Err(self.wrong(want)),
        }
    }

    fn members(&self) -> Result<&[(Cow<'a, str>, Node<'a>)], Wrong> {
        match self {
            Node::Null => Ok(&[]),
            Node::Map(map) => Ok(map),
            _ => Err(self.wrong("map[string]string")),
        }
    }

    /// The members that a struct knows, as numbers of its fields.
    fn fields(&self, name: &'static str, known: &'static [&'static str]) -> Result<Fields<'_>, Wrong> {
        let mut found: Vec<(usize, &Node<'_>)> = Vec::new();
        let map = match self {
            Node::Null => &[][..],
            Node::Map(map) => map,
            _ => return Err(self.wrong(name)),
        };
        for (key, node) in map {
            let exact = known.iter().position(|f| f == key);
            let Some(field) = exact.or_else(|| known.iter().position(|f| f.eq_ignore_ascii_case(key))) else {
                continue;
            };
            if !matches!(node, Node::Null) {
                found.retain(|(f, _)| *f != field);
                found.push((field, node));
            }
        }
        Ok(Fields { found: found.into_iter(), value: None, known, name })
    }

    /// The variant of an enum as a number, and what it carries.
    fn variant(&self, name: &'static str, known: &'static [&'static str]) -> Result<Variant<'_>, Wrong> {
        let (word, content) = match self {
            Node::Text(word) => (word, &Node::Null),
            Node::Map(map) if map.len() == 1 => (&map[0].0, &map[0].1),
            _ => return Err(self.wrong(name)),
        };
        match known.iter().position(|k| k == word) {
            Some(number) => Ok(Variant { number, content, name }),
            None => Err(Wrong::unknown_variant(word, known)),
        }
    }
}

/// The one deserializer of types.
#[derive(Clone, Copy)]
struct Go<'de>(&'de Node<'de>);

macro_rules! integers {
    ($($method:ident $visit:ident $ty:ty, $name:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            visitor.$visit(self.0.integer(<$ty>::MIN.into(), <$ty>::MAX.into(), $name)? as $ty)
        }
    )*};
}

impl<'de> Deserializer<'de> for Go<'de> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Node::Null => visitor.visit_unit(),
            Node::Bool(b) => visitor.visit_bool(*b),
            Node::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(n), _) => visitor.visit_u64(n),
                (_, Some(n)) => visitor.visit_i64(n),
                _ => visitor.visit_f64(n.as_f64().unwrap_or_default()),
            },
            Node::Text(s) => visitor.visit_str(s),
            Node::List(list) => visitor.visit_seq(Elements(list.iter())),
            Node::Map(map) => visitor.visit_map(Members { rest: map.iter(), value: &Node::Null }),
        }
    }

    integers! {
        deserialize_i8 visit_i8 i8, "int8";
        deserialize_i16 visit_i16 i16, "int16";
        deserialize_i32 visit_i32 i32, "int32";
        deserialize_i64 visit_i64 i64, "int64";
        deserialize_u8 visit_u8 u8, "uint8";
        deserialize_u16 visit_u16 u16, "uint16";
        deserialize_u32 visit_u32 u32, "uint";
        deserialize_u64 visit_u64 u64, "uint64";
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_i128(self.0.integer(i128::MIN, i128::MAX, "int64")?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Node::Null => visitor.visit_bool(false),
            Node::Bool(b) => visitor.visit_bool(*b),
            _ => Err(self.0.wrong("bool")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Node::Null => visitor.visit_f64(0.0),
            Node::Number(n) => visitor.visit_f64(n.as_f64().unwrap_or_default()),
            _ => Err(self.0.wrong("float64")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_str(self.0.text()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_string(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if matches!(self.0, Node::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_seq(Elements(self.0.list("[]string")?.iter()))
    }

    /// Go's arrays: what is missing is zero, what is too much is dropped.
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Wrong> {
        let given = self.0.list("[2]uint")?.iter();
        visitor.visit_seq(Tuple { given, left: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_map(Members { rest: self.0.members()?.iter(), value: &Node::Null })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_map(self.0.fields(name, fields)?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_enum(self.0.variant(name, variants)?)
    }

    serde::forward_to_deserialize_any! {
        u128 bytes byte_buf unit unit_struct identifier ignored_any
    }
}

struct Elements<'de>(std::slice::Iter<'de, Node<'de>>);

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Wrong;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        self.0.next().map(|node| seed.deserialize(Go(node))).transpose()
    }
}

struct Tuple<'de> {
    given: std::slice::Iter<'de, Node<'de>>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Tuple<'de> {
    type Error = Wrong;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(Go(self.given.next().unwrap_or(&Node::Null))).map(Some)
    }
}

struct Members<'de> {
    rest: std::slice::Iter<'de, (Cow<'de, str>, Node<'de>)>,
    value: &'de Node<'de>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Wrong;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = value;
        let key: StrDeserializer<'_, Wrong> = (&**key).into_deserializer();
        seed.deserialize(key).map(Some)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(Go(self.value))
    }
}

/// Members of a struct, named by number: derived code then compares no names.
struct Fields<'de> {
    found: std::vec::IntoIter<(usize, &'de Node<'de>)>,
    value: Option<(usize, &'de Node<'de>)>,
    known: &'static [&'static str],
    name: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Wrong;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        self.value = self.found.next();
        let Some((field, _)) = self.value else { return Ok(None) };
        let field: U64Deserializer<Wrong> = (field as u64).into_deserializer();
        seed.deserialize(field).map(Some)
    }
    /// Not inlined: once for each type, not for each field of it.
    #[inline(never)]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        let (field, node) = self.value.unwrap_or((0, &Node::Null));
        seed.deserialize(Go(node)).map_err(|e| e.at(self.known[field], self.name))
    }
}

struct Variant<'de> {
    number: usize,
    content: &'de Node<'de>,
    name: &'static str,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Wrong;
    type Variant = Self;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Wrong> {
        let number: U64Deserializer<Wrong> = (self.number as u64).into_deserializer();
        Ok((seed.deserialize(number)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Wrong;
    fn unit_variant(self) -> Result<(), Wrong> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(Go(self.content))
    }
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Wrong> {
        Go(self.content).deserialize_tuple(len, visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_map(self.content.fields(self.name, fields)?)
    }
}

impl From<Wrong> for crate::error::Error {
    fn from(wrong: Wrong) -> Self {
        Self::system(wrong.to_string())
    }
}
