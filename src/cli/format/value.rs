//! The values that templates see: JSON with its key order kept, plus rows of
//! list commands. Go's distinctions that a user can notice are kept: a map is
//! not a struct (a missing key against an unknown field), a nil list is not a
//! nil pointer. Pure.

use super::gotypes;
use crate::util::json;
use crate::util::order;
use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::rc::Rc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Cheap to clone: whatever is big sits behind an `Rc`.
#[derive(Clone)]
pub enum Value {
    /// What a missing map key gives: printed as `<no value>`.
    Missing,
    /// A nil pointer: printed as `<nil>`.
    Nil,
    /// A nil slice: printed as `[]`, in JSON as `null`.
    NilList,
    /// A nil map: printed as `map[]`, in JSON as `null`.
    NilMap,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<str>),
    List(Rc<Vec<Value>>),
    /// Keys as they came; iteration and printing sort them as Go does.
    Map(Rc<Vec<(Rc<str>, Value)>>),
    /// Fields in order of declaration, and the name of the type for errors.
    Struct(Rc<Fields>),
    /// A row whose fields are made when asked for.
    Object(Rc<dyn Object>),
    /// JSON and the name of Go's type for it.
    Go(&'static str, Rc<Value>),
}

pub struct Fields {
    pub type_name: &'static str,
    pub fields: Vec<(Rc<str>, Value)>,
}

/// A row of a list command: Docker's "context" types, whose fields are methods.
pub trait Object {
    fn type_name(&self) -> &'static str;
    /// All methods without arguments, as `json` prints them.
    fn names(&self) -> Vec<&'static str>;
    fn field(&self, name: &str) -> Option<Value>;
    /// `.Label "key"`: the one method with an argument.
    fn label(&self, key: &str) -> Option<Value>;
}

impl Value {
    pub fn str(s: impl AsRef<str>) -> Self {
        Value::Str(Rc::from(s.as_ref()))
    }
    pub fn list(items: Vec<Value>) -> Self {
        Value::List(Rc::new(items))
    }
    pub fn map(items: Vec<(Rc<str>, Value)>) -> Self {
        Value::Map(Rc::new(items))
    }
    /// Any wire type by way of its JSON.
    pub fn from_serialize(value: &impl serde::Serialize) -> crate::error::Result<Self> {
        let text = json::to_string(value)?;
        Ok(json::from_str(&text)?)
    }
    /// The same value as a struct of the named type; other kinds stay.
    #[must_use]
    pub fn into_struct(self, type_name: &'static str) -> Self {
        match self {
            Value::Map(m) => Value::Struct(Rc::new(Fields { type_name, fields: m.to_vec() })),
            Value::Struct(s) => Value::Struct(Rc::new(Fields { type_name, fields: s.fields.clone() })),
            other => other,
        }
    }
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }
    /// A member of a map or struct, for code that walks raw JSON.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let find = |m: &'_ Vec<(Rc<str>, Value)>| m.iter().position(|(k, _)| &**k == key);
        match self {
            Value::Map(m) => find(m).map(|i| &m[i].1),
            Value::Struct(s) => find(&s.fields).map(|i| &s.fields[i].1),
            Value::Go(_, raw) => raw.get(key),
            _ => None,
        }
    }
    /// The value itself, where Go's type of it is known; what is in it keeps its own.
    #[must_use]
    pub fn open(&self) -> Self {
        match self {
            Value::Go(ty, raw) => gotypes::open(ty, raw),
            other => other.clone(),
        }
    }
    /// Go's Sprint of it: a pointer to a struct is marked. `names` is `%+v`.
    pub fn sprint(&self, names: bool) -> String {
        let Value::Go(ty, raw) = self else { return self.to_string() };
        let mut out = String::from(if gotypes::is_reference(ty, raw) { "&" } else { "" });
        let _ = gotypes::print(&mut out, ty, raw, names);
        out
    }
    /// Go's truth: false, zero, nil and whatever is empty are false.
    pub fn truth(&self) -> bool {
        match self {
            Value::Missing | Value::Nil | Value::NilList | Value::NilMap => false,
            Value::Bool(b) => *b,
            Value::Int(n) => *n != 0,
            Value::Float(f) => *f != 0.0,
            Value::Str(s) => !s.is_empty(),
            Value::List(l) => !l.is_empty(),
            Value::Map(m) => !m.is_empty(),
            Value::Struct(_) | Value::Object(_) => true,
            Value::Go(..) => self.open().truth(),
        }
    }
    /// The name that Go's errors give the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Missing | Value::Nil => "interface {}",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Str(_) => "string",
            Value::List(_) | Value::NilList => "[]interface {}",
            Value::Map(_) | Value::NilMap => "map[string]interface {}",
            Value::Struct(s) => s.type_name,
            Value::Object(o) => o.type_name(),
            Value::Go(gotypes::RAW, raw) => raw.type_name(),
            Value::Go(ty, _) => ty,
        }
    }
    /// Entries in the order in which Go ranges over a map.
    pub fn sorted(entries: &[(Rc<str>, Value)]) -> Vec<(Rc<str>, Value)> {
        let mut sorted = entries.to_vec();
        order::sort_by(&mut sorted, |a, b| a.0.cmp(&b.0));
        sorted
    }
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
            (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Compact JSON as encoding/json writes it. `escape` is its HTML escaping.
    pub fn to_json(&self, escape: bool) -> String {
        let mut out = String::new();
        self.write_json(&mut out, escape, None, 0);
        out
    }
    pub fn to_json_indented(&self, escape: bool, indent: &str) -> String {
        let mut out = String::new();
        self.write_json(&mut out, escape, Some(indent), 0);
        out
    }

    fn write_json(&self, out: &mut String, escape: bool, indent: Option<&str>, depth: usize) {
        match self {
            Value::Missing | Value::Nil | Value::NilList | Value::NilMap => out.push_str("null"),
            Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Value::Int(n) => drop(write!(out, "{n}")),
            Value::Float(f) => out.push_str(&json_float(*f)),
            Value::Str(s) => json_string(out, s, escape),
            Value::List(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    newline(out, indent, depth + 1);
                    item.write_json(out, escape, indent, depth + 1);
                }
                if !items.is_empty() {
                    newline(out, indent, depth);
                }
                out.push(']');
            }
            Value::Map(m) => json_members(out, m, escape, indent, depth),
            Value::Struct(s) => json_members(out, &s.fields, escape, indent, depth),
            Value::Go(ty, raw) => gotypes::json(ty, raw).write_json(out, escape, indent, depth),
            Value::Object(o) => {
                let mut members: Vec<(Rc<str>, Value)> =
                    o.names().iter().filter_map(|n| Some((Rc::from(*n), o.field(n)?))).collect();
                order::sort_by(&mut members, |a, b| a.0.cmp(&b.0));
                // Docker marshals rows by json.Marshal inside, which escapes always.
                json_members(out, &members, true, indent, depth);
            }
        }
    }
}

fn json_members(out: &mut String, members: &[(Rc<str>, Value)], escape: bool, indent: Option<&str>, depth: usize) {
    out.push('{');
    for (i, (key, value)) in members.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        newline(out, indent, depth + 1);
        json_string(out, key, escape);
        out.push_str(if indent.is_some() { ": " } else { ":" });
        value.write_json(out, escape, indent, depth + 1);
    }
    if !members.is_empty() {
        newline(out, indent, depth);
    }
    out.push('}');
}

fn newline(out: &mut String, indent: Option<&str>, depth: usize) {
    if let Some(indent) = indent {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(indent);
        }
    }
}

/// A JSON string as Go writes it: U+2028, U+2029 and, when asked, `<>&` escaped.
fn json_string(out: &mut String, s: &str, escape: bool) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' if escape => drop(write!(out, "\\u{:04x}", c as u32)),
            '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => drop(write!(out, "\\u{:04x}", c as u32)),
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// encoding/json's floats: plain between 1e-6 and 1e21, else with an exponent.
fn json_float(f: f64) -> String {
    let size = f.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{f:e}");
        return match text.split_once('e') {
            Some((m, e)) if !e.starts_with('-') => format!("{m}e+{e:0>2}"),
            _ => text,
        };
    }
    format!("{f}")
}

/// Go's `%v` of a float: shortest digits, exponent outside 1e-4 … 1e21.
pub fn go_float(f: f64) -> String {
    if f.is_nan() {
        return "NaN".to_owned();
    }
    if f.is_infinite() {
        return if f > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = f.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{f:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{f}")
}

/// Go's `%v`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Missing => f.write_str("<no value>"),
            Value::Nil => f.write_str("<nil>"),
            Value::NilList => f.write_str("[]"),
            Value::NilMap => f.write_str("map[]"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(n) => write!(f, "{n}"),
            Value::Float(n) => f.write_str(&go_float(*n)),
            Value::Str(s) => f.write_str(s),
            Value::List(items) => {
                f.write_char('[')?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { " " } else { "" }, Nested(item))?;
                }
                f.write_char(']')
            }
            Value::Map(m) => {
                f.write_str("map[")?;
                for (i, (key, value)) in Value::sorted(m).iter().enumerate() {
                    write!(f, "{}{key}:{}", if i > 0 { " " } else { "" }, Nested(value))?;
                }
                f.write_char(']')
            }
            Value::Struct(s) => braces(f, s.fields.iter().map(|(_, v)| v.clone())),
            Value::Go(ty, raw) => gotypes::print(f, ty, raw, false),
            Value::Object(o) => braces(f, o.names().into_iter().filter_map(|n| o.field(n))),
        }
    }
}

fn braces(f: &mut fmt::Formatter<'_>, values: impl Iterator<Item = Value>) -> fmt::Result {
    f.write_char('{')?;
    for (i, value) in values.enumerate() {
        write!(f, "{}{}", if i > 0 { " " } else { "" }, Nested(&value))?;
    }
    f.write_char('}')
}

/// A nil inside something else is `<nil>` in any case.
struct Nested<'a>(&'a Value);

impl fmt::Display for Nested<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Missing => f.write_str("<nil>"),
            other => other.fmt(f),
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::str(s)
    }
}
impl From<String> for Value {
    fn from(s: String) -> Self {
        Value::Str(Rc::from(s))
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::Bool(b)
    }
}

/// JSON objects become maps, `null` what a map gives for a missing key.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Missing)
    }
    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }
    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n.into()))
    }
    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(Value::Int(n.into()))
    }
    fn visit_f64<E>(self, f: f64) -> Result<Value, E> {
        Ok(Value::Float(f))
    }
    fn visit_str<E>(self, s: &str) -> Result<Value, E> {
        Ok(Value::str(s))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::list(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            items.push((Rc::from(key), value));
        }
        Ok(Value::map(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(s: &str) -> Value {
        json::from_str(s).unwrap()
    }

    #[test]
    fn prints_as_go_does() {
        assert_eq!(read(r#"{"b":[1,"x",null],"a":{"k":1.5}}"#).to_string(), "map[a:map[k:1.5] b:[1 x <nil>]]");
        assert_eq!(read("1e21").to_string(), "1e+21");
        assert_eq!(read("0.00001").to_string(), "1e-05");
        assert_eq!(read("[]").to_string(), "[]");
    }

    #[test]
    fn json_keeps_order_and_escapes() {
        let text = r#"{"b":1,"a":"<x>\u2028"}"#;
        assert_eq!(read(text).to_json(false), r#"{"b":1,"a":"<x>\u2028"}"#);
        assert_eq!(read(text).to_json(true), r#"{"b":1,"a":"\u003cx\u003e\u2028"}"#);
        assert_eq!(
            read(r#"[{"a":[]},{}]"#).to_json_indented(false, "    "),
            "[\n    {\n        \"a\": []\n    },\n    {}\n]"
        );
    }
}
