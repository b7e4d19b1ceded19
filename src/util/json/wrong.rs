//! What is wrong with a document, in the words of Go's decoder. Pure.

use serde::de::{Expected, Unexpected};
use std::fmt;

/// Why a document was refused. Small, since it is part of every result here.
#[derive(PartialEq, Eq)]
pub struct Wrong(Box<Inner>);

#[derive(PartialEq, Eq)]
pub(super) enum Inner {
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
    pub(super) fn at(mut self, field: &'static str, name: &'static str) -> Self {
        if let Inner::Type { path, root, .. } = &mut *self.0 {
            path.push(field);
            *root = name;
        }
        self
    }
}

impl From<Wrong> for crate::error::Error {
    fn from(wrong: Wrong) -> Self {
        Self::system(wrong.to_string())
    }
}
