//! The functions of templates: Go's predefined ones and those that Docker adds
//! (json, split, join, title, lower, upper, pad, truncate, println). Pure.

use std::cmp::Ordering;
use std::rc::Rc;

use super::printf::sprintf;
use crate::cli::format::gotypes;
use crate::cli::format::value::Value;

/// Name, least number of arguments, exact number if there is one.
const FUNCTIONS: &[(&str, usize, Option<usize>)] = &[
    ("and", 1, None),
    ("call", 1, None),
    ("eq", 1, None),
    ("ge", 2, Some(2)),
    ("gt", 2, Some(2)),
    ("html", 0, None),
    ("index", 1, None),
    ("join", 2, Some(2)),
    ("js", 0, None),
    ("json", 1, Some(1)),
    ("le", 2, Some(2)),
    ("len", 1, Some(1)),
    ("lower", 1, Some(1)),
    ("lt", 2, Some(2)),
    ("ne", 2, Some(2)),
    ("not", 1, Some(1)),
    ("or", 1, None),
    ("pad", 3, Some(3)),
    ("print", 0, None),
    ("printf", 1, None),
    ("println", 0, None),
    ("slice", 1, None),
    ("split", 2, Some(2)),
    ("title", 1, Some(1)),
    ("truncate", 2, Some(2)),
    ("upper", 1, Some(1)),
    ("urlquery", 0, None),
];

pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|(n, ..)| *n == name)
}

pub(super) fn arity(name: &str) -> (usize, Option<usize>) {
    FUNCTIONS.iter().find(|(n, ..)| *n == name).map_or((0, None), |(_, least, exactly)| (*least, *exactly))
}

type Test = fn(&Value) -> bool;

/// What a typed parameter takes, and the type's name for the error.
pub(super) fn wanted(name: &str, index: usize) -> Option<(Test, &'static str)> {
    const STRING: (Test, &str) = (|v| matches!(v, Value::Str(_)), "string");
    const INT: (Test, &str) = (|v| matches!(v, Value::Int(_)), "int");
    const STRINGS: (Test, &str) = (|v| matches!(v, Value::List(_) | Value::NilList | Value::Missing), "[]string");
    match (name, index) {
        ("title" | "lower" | "upper" | "split", _) | ("pad" | "truncate" | "printf", 0) | ("join", 1) => Some(STRING),
        ("pad" | "truncate", _) => Some(INT),
        ("join", 0) => Some(STRINGS),
        _ => None,
    }
}

type Answer = Result<Value, String>;

pub(super) fn call(name: &str, args: &[Value]) -> Answer {
    // Those see what a value is; the others what it is to the eye or in JSON.
    const LOOKING: [&str; 9] = ["json", "print", "println", "printf", "html", "js", "urlquery", "and", "or"];
    let opened: Vec<Value>;
    let args = if LOOKING.contains(&name) || name == "index" {
        args
    } else {
        opened = args.iter().map(Value::open).collect();
        &opened
    };
    let text = |i: usize| args.get(i).and_then(Value::as_str).unwrap_or("");
    let count = |i: usize| match args.get(i) {
        Some(Value::Int(n)) => usize::try_from(*n).unwrap_or(0),
        _ => 0,
    };
    Ok(match name {
        "json" => Value::from(args[0].to_json(false)),
        "split" => Value::list(split(text(0), text(1))),
        "join" => {
            let items: Vec<String> = match &args[0] {
                Value::List(items) => items.iter().map(Value::to_string).collect(),
                _ => Vec::new(),
            };
            Value::from(items.join(text(1)))
        }
        "title" => Value::from(title(text(0))),
        "lower" => Value::from(text(0).to_lowercase()),
        "upper" => Value::from(text(0).to_uppercase()),
        "pad" if text(0).is_empty() => Value::str(""),
        // As wide as a verb of printf may be: more is a slip, and would be all of the memory.
        "pad" if count(1).max(count(2)) > 1_000_000 => return Err("width out of range".into()),
        "pad" => Value::from(format!("{}{}{}", " ".repeat(count(1)), text(0), " ".repeat(count(2)))),
        "truncate" => Value::str(crate::cli::format::human::cut_bytes(text(0), count(1))),
        "print" => Value::from(print(args)),
        "println" => {
            let words: Vec<String> = args.iter().map(|a| a.sprint(false)).collect();
            Value::from(words.join(" ") + "\n")
        }
        "printf" => Value::from(sprintf(text(0), &args[1..])),
        "html" => Value::from(escape_html(&print(args))),
        "js" => Value::from(escape_js(&print(args))),
        "urlquery" => Value::from(crate::util::query::escape(&print(args))),
        "len" => return len(&args[0]),
        "index" => return index(args),
        "slice" => return slice(args),
        "not" => Value::Bool(!args[0].truth()),
        // Reached only without arguments of their own (`x | and`).
        "and" | "or" => args[0].clone(),
        "eq" => return eq(args),
        "ne" => return Ok(Value::Bool(!same(&args[0], &args[1])?)),
        "lt" => Value::Bool(order(args)? == Ordering::Less),
        "le" => Value::Bool(order(args)? != Ordering::Greater),
        "gt" => Value::Bool(order(args)? == Ordering::Greater),
        "ge" => Value::Bool(order(args)? != Ordering::Less),
        _ => return Err(format!("non-function of type {}", args.first().map_or("nil", Value::type_name))),
    })
}

fn split(s: &str, separator: &str) -> Vec<Value> {
    if separator.is_empty() {
        return s.chars().map(|c| Value::from(c.to_string())).collect();
    }
    s.split(separator).map(Value::from).collect()
}

/// Upper case after everything that is neither letter, digit nor underscore.
fn title(s: &str) -> String {
    let mut previous = ' ';
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        if previous.is_alphanumeric() || previous == '_' || previous == '\'' {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        previous = c;
    }
    out
}

/// Go's Sprint: a space between operands when neither is a string.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 && !matches!(arg.open(), Value::Str(_)) && !matches!(args[i - 1].open(), Value::Str(_)) {
            out.push(' ');
        }
        out.push_str(&arg.sprint(false));
    }
    out
}

fn escape_html(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for c in s.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' | '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn len(value: &Value) -> Answer {
    let n = match value {
        Value::Str(s) => s.len(),
        Value::List(l) => l.len(),
        Value::Map(m) => m.len(),
        Value::NilList | Value::NilMap => 0,
        Value::Missing => return Err("len of nil pointer".to_owned()),
        Value::Nil => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(n as i128))
}

fn position(value: &Value, length: usize, inclusive: bool) -> Result<usize, String> {
    match value {
        Value::Int(n) => match usize::try_from(*n) {
            Ok(i) if i < length || (inclusive && i == length) => Ok(i),
            // Go's check lets the end pass, on which its reflection then stumbles.
            Ok(i) if i == length => Err("reflect: slice index out of range".to_owned()),
            _ => Err(format!("index out of range: {n}")),
        },
        Value::Missing => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn index(args: &[Value]) -> Answer {
    let mut item = args[0].clone();
    if matches!(item, Value::Missing) {
        return Err("index of untyped nil".to_owned());
    }
    for key in &args[1..] {
        let key = &key.open();
        let nothing = match &item {
            Value::Go(ty, _) => Some(gotypes::nothing_in(ty)),
            _ => None,
        };
        item = match &item.open() {
            Value::List(items) => items[position(key, items.len(), false)?].clone(),
            Value::Str(s) => Value::Int(i128::from(s.as_bytes()[position(key, s.len(), false)?])),
            Value::Map(m) => {
                let Some(key) = key.as_str() else {
                    return Err(format!("value has type {}; should be string", key.type_name()));
                };
                match m.iter().find(|(k, _)| &**k == key) {
                    Some((_, v)) => v.clone(),
                    None if nothing.is_some() => nothing.unwrap_or(Value::Missing),
                    // A map of strings gives the empty string, others nil.
                    None if m.iter().all(|(_, v)| matches!(v, Value::Str(_))) => Value::str(""),
                    None => Value::Missing,
                }
            }
            Value::NilList => Value::Int(position(key, 0, false)? as i128),
            Value::NilMap => nothing.unwrap_or(Value::str("")),
            Value::Missing | Value::Nil => return Err("index of nil pointer".to_owned()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

fn slice(args: &[Value]) -> Answer {
    if args.len() > 4 {
        return Err(format!("too many slice indexes: {}", args.len() - 1));
    }
    let length = match &args[0] {
        Value::Str(_) if args.len() == 4 => return Err("cannot 3-index slice a string".to_owned()),
        Value::Str(s) => s.len(),
        Value::List(items) => items.len(),
        Value::NilList => 0,
        Value::Missing => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut bounds = [0, length];
    for (i, arg) in args[1..].iter().take(2).enumerate() {
        bounds[i] = position(arg, length, true)?;
    }
    let [from, to] = bounds;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match &args[0] {
        Value::Str(s) => Value::Str(Rc::from(String::from_utf8_lossy(&s.as_bytes()[from..to]))),
        Value::List(items) => Value::list(items[from..to].to_vec()),
        _ => Value::NilList,
    })
}

fn eq(args: &[Value]) -> Answer {
    if args.len() == 1 {
        return Err("missing argument for comparison".to_owned());
    }
    for other in &args[1..] {
        if same(&args[0], other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn same(a: &Value, b: &Value) -> Result<bool, String> {
    use Value::{Bool, Float, Int, List, Map, Missing, Nil, Str};
    match (a, b) {
        (Bool(a), Bool(b)) => Ok(a == b),
        (Int(a), Int(b)) => Ok(a == b),
        (Float(a), Float(b)) => Ok(a == b),
        (Str(a), Str(b)) => Ok(a == b),
        (Missing | Nil, _) | (_, Missing | Nil) => Ok(matches!(a, Missing | Nil) && matches!(b, Missing | Nil)),
        (List(_) | Map(_) | Value::NilList | Value::NilMap, _) => {
            Err(format!("non-comparable type {a}: {}", a.type_name()))
        }
        (_, List(_) | Map(_)) => Err(format!("non-comparable type {b}: {}", b.type_name())),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn order(args: &[Value]) -> Result<Ordering, String> {
    match (&args[0], &args[1]) {
        (Value::Int(_) | Value::Float(_) | Value::Str(_), _) => {
            args[0].compare(&args[1]).ok_or_else(|| "incompatible types for comparison".to_owned())
        }
        _ => Err("invalid type for comparison".to_owned()),
    }
}
