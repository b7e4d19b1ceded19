//! Types filled from a document's tree by the rules of Go's decoder. Pure.

use super::Node;
use super::wrong::{Inner, Wrong};
use serde::de::value::{StrDeserializer, U64Deserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use std::borrow::Cow;

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
pub(super) struct Go<'de>(pub(super) &'de Node<'de>);

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
