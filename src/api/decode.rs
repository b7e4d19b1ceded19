//! JSON in, by the rules of Go's decoder. Pure.
//!
//! Names match in any case, `null` is the zero value, unknown fields are
//! ignored, the last of two equal fields wins, and errors read as Go's do,
//! because SDK tests and people compare them.

use crate::error::Error;
use serde::de::value::StringDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// One whole document. Errors are 400 in the words of the original.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let value = match stream.next() {
        None => return Err(Error::invalid("invalid JSON: got EOF while reading request body")),
        Some(Err(e)) if e.is_eof() => return Err(Error::invalid("invalid JSON: unexpected EOF")),
        Some(Err(e)) => return Err(Error::invalid(format!("invalid JSON: {e}"))),
        Some(Ok(value)) => value,
    };
    let rest = &bytes[stream.byte_offset()..];
    if rest.iter().any(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
        return Err(Error::invalid("unexpected content after JSON"));
    }
    from_value(value).map_err(|e| Error::invalid(format!("invalid JSON: {e}")))
}

/// A value that was read already.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Wrong> {
    T::deserialize(Go(value))
}

/// What did not fit, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// A value of the wrong type: what came, what was wanted, the path to it
    /// from the inside out, the outermost struct.
    Type {
        got: String,
        want: &'static str,
        path: Vec<String>,
        root: &'static str,
    },
    Other(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Other(text) => f.write_str(text),
            Wrong::Type { got, want, path, .. } if path.is_empty() => {
                write!(f, "json: cannot unmarshal {got} into Go value of type {want}")
            }
            Wrong::Type { got, want, path, root } => {
                let path: Vec<&str> = path.iter().rev().map(String::as_str).collect();
                write!(f, "json: cannot unmarshal {got} into Go struct field {root}.{} of type {want}", path.join("."))
            }
        }
    }
}

impl std::error::Error for Wrong {}

impl serde::de::Error for Wrong {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Wrong::Other(msg.to_string())
    }
}

impl Wrong {
    /// The outermost struct has no name in Go if it is embedded.
    pub fn embedded(mut self) -> Self {
        if let Wrong::Type { root, .. } = &mut self {
            *root = "";
        }
        self
    }

    fn at(mut self, field: &str, name: &'static str) -> Self {
        if let Wrong::Type { path, root, .. } = &mut self {
            path.push(field.to_owned());
            *root = name;
        }
        self
    }
}

struct Go(Value);

impl Go {
    fn wrong(&self, want: &'static str) -> Wrong {
        let got = match &self.0 {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(n) if want.starts_with("int") || want.starts_with("uint") => format!("number {n}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        Wrong::Type { got, want, path: Vec::new(), root: "" }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $ty:ty, $name:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            let number = match &self.0 {
                Value::Null => Some(0),
                Value::Number(n) => n.as_i64().map(i128::from).or(n.as_u64().map(i128::from)),
                _ => None,
            };
            match number.and_then(|n| <$ty>::try_from(n).ok()) {
                Some(n) => visitor.$visit(n),
                None => Err(self.wrong($name)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Go {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Number(n) => n.deserialize_any(visitor).map_err(serde::de::Error::custom),
            Value::String(s) => visitor.visit_string(s),
            Value::Array(list) => visitor.visit_seq(Elements(list.into_iter())),
            Value::Object(map) => visitor.visit_map(Members { iter: map.into_iter(), value: None }),
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

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(b) => visitor.visit_bool(b),
            _ => Err(self.wrong("bool")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0.as_f64() {
            Some(f) => visitor.visit_f64(f),
            None if self.0.is_null() => visitor.visit_f64(0.0),
            None => Err(self.wrong("float64")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_str(""),
            Value::String(s) => visitor.visit_string(s),
            _ => Err(self.wrong("string")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_string(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_seq(Elements(Vec::new().into_iter())),
            Value::Array(list) => visitor.visit_seq(Elements(list.into_iter())),
            _ => Err(self.wrong("[]string")),
        }
    }

    /// Go's arrays: what is missing is zero, what is too much is dropped.
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Array(mut list) => {
                list.resize(len, Value::Null);
                visitor.visit_seq(Elements(list.into_iter()))
            }
            Value::Null => visitor.visit_seq(Elements(vec![Value::Null; len].into_iter())),
            _ => Err(self.wrong("[2]uint")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Null => visitor.visit_map(Members { iter: serde_json::Map::new().into_iter(), value: None }),
            Value::Object(map) => visitor.visit_map(Members { iter: map.into_iter(), value: None }),
            _ => Err(self.wrong("map[string]string")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let mut found: Vec<(&'static str, Value)> = Vec::new();
        match self.0 {
            Value::Null => {}
            Value::Object(map) => {
                for (key, value) in map {
                    let Some(field) = fields
                        .iter()
                        .find(|f| **f == key)
                        .or_else(|| fields.iter().find(|f| f.eq_ignore_ascii_case(&key)))
                    else {
                        continue;
                    };
                    if !value.is_null() {
                        found.retain(|(f, _)| f != field);
                        found.push((field, value));
                    }
                }
            }
            _ => return Err(self.wrong(name)),
        }
        visitor.visit_map(Fields { iter: found.into_iter(), value: None, name })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::String(s) => visitor.visit_enum(s.into_deserializer()),
            _ => Err(self.wrong(name)),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}

struct Elements(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Elements {
    type Error = Wrong;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        self.0.next().map(|v| seed.deserialize(Go(v))).transpose()
    }
}

struct Members {
    iter: serde_json::map::IntoIter,
    value: Option<Value>,
}

impl<'de> MapAccess<'de> for Members {
    type Error = Wrong;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some((key, value)) = self.iter.next() else { return Ok(None) };
        self.value = Some(value);
        let key: StringDeserializer<Wrong> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(Go(self.value.take().unwrap_or_default()))
    }
}

struct Fields {
    iter: std::vec::IntoIter<(&'static str, Value)>,
    value: Option<(&'static str, Value)>,
    name: &'static str,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Wrong;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        self.value = self.iter.next();
        let Some((key, _)) = &self.value else { return Ok(None) };
        let key: serde::de::value::StrDeserializer<'_, Wrong> = (*key).into_deserializer();
        seed.deserialize(key).map(Some)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        let (key, value) = self.value.take().unwrap_or_default();
        seed.deserialize(Go(value)).map_err(|e| e.at(key, self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::container::{ContainerConfig, CreateRequest, HostConfig};
    use crate::api::volume::VolumeCreate;

    #[test]
    fn names_match_in_any_case_and_null_is_absent() {
        let r: CreateRequest = from_slice(
            br#"{"image":"a","ENV":null,"Cmd":"x","hostconfig":{"memory":5,"Init":true,"ConsoleSize":[1]},"Nope":{}}"#,
        )
        .unwrap();
        assert_eq!(r.config.image, "a");
        assert_eq!(r.config.env, None);
        assert_eq!(r.config.cmd, Some(vec!["x".to_owned()]));
        let host = r.host_config.unwrap();
        assert_eq!((host.memory, host.init, host.console_size), (5, Some(true), [1, 0]));
        assert_eq!(r.networking_config, None);
    }

    #[test]
    fn a_null_value_inside_a_map_stays() {
        let h: HostConfig = from_slice(br#"{"PortBindings":{"80/tcp":null,"81/tcp":[{"HostPort":"1"}]}}"#).unwrap();
        let ports = h.port_bindings.unwrap();
        assert_eq!(ports["80/tcp"], None);
        assert_eq!(ports["81/tcp"].as_ref().unwrap()[0].host_port, "1");
    }

    #[test]
    fn errors_read_as_the_original() {
        let text = |r: Result<CreateRequest, Error>| r.unwrap_err().to_string();
        assert_eq!(text(from_slice(b"{} x")), "unexpected content after JSON");
        assert_eq!(text(from_slice(b" ")), "invalid JSON: got EOF while reading request body");
        assert_eq!(text(from_slice(b"{")), "invalid JSON: unexpected EOF");
        assert_eq!(
            text(from_slice(br#"{"HostConfig":{"Memory":"x"}}"#)),
            "invalid JSON: json: cannot unmarshal string into Go struct field .HostConfig.Memory of type int64"
        );
        assert_eq!(
            text(from_slice(br#"{"Image":5}"#)),
            "invalid JSON: json: cannot unmarshal number into Go struct field .Image of type string"
        );
        assert_eq!(
            text(from_slice(br#"{"HostConfig":{"Memory":1.5}}"#)),
            "invalid JSON: json: cannot unmarshal number 1.5 into Go struct field .HostConfig.Memory of type int64"
        );
        let e = from_slice::<VolumeCreate>(b"[]").unwrap_err().to_string();
        assert!(e.starts_with("invalid JSON: json: cannot unmarshal array into Go value of type"), "{e}");
    }

    #[test]
    fn encoding_keeps_order_and_nulls() {
        let text = serde_json::to_string(&ContainerConfig::default()).unwrap();
        assert_eq!(
            text,
            r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#
        );
    }
}
