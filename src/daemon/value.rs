//! Values of options: from a flag's text, from daemon.json, to the words of an
//! error. Pure.

use super::options::Kind;
use crate::util::units;
use serde_json::{Map, Value, json};

/// Adds one occurrence of a flag to what earlier ones gave.
pub fn add(kind: Kind, before: Option<Value>, text: &str) -> Result<Value, String> {
    let mut object = match &before {
        Some(Value::Object(map)) => map.clone(),
        _ => Map::new(),
    };
    let list = |value: Value| match before.clone() {
        Some(Value::Array(mut list)) => {
            list.push(value);
            Value::Array(list)
        }
        _ => Value::Array(vec![value]),
    };
    Ok(match kind {
        Kind::Bool => Value::Bool(text == "true"),
        Kind::Int | Kind::Size => json!(text.parse::<i64>().map_err(|_| format!("invalid number: {text}"))?),
        Kind::Text | Kind::Any => json!(text),
        Kind::List => list(json!(text)),
        Kind::Map => {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            object.insert(key.to_owned(), json!(value));
            Value::Object(object)
        }
        Kind::Features => {
            let (key, value) = text.split_once('=').unwrap_or((text, "true"));
            object.insert(key.to_owned(), Value::Bool(units::parse_bool(value)?));
            Value::Object(object)
        }
        Kind::Runtimes => {
            let (name, path) = text
                .split_once('=')
                .filter(|(n, p)| !n.is_empty() && !p.is_empty())
                .ok_or_else(|| format!("invalid runtime argument: {text}"))?;
            object.insert(name.trim().to_lowercase(), json!({ "path": path.trim() }));
            Value::Object(object)
        }
        Kind::MapMap => {
            let mut parts = text.splitn(3, '=');
            let (Some(driver), Some(key), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(format!("invalid value \"{text}\" for map option, should be root-key=key=value"));
            };
            let inner = object.entry(driver).or_insert_with(|| json!({}));
            inner[key] = json!(value);
            Value::Object(object)
        }
        Kind::Pools => list(pool(text)?),
        Kind::Ulimits => {
            let (name, soft, hard) = crate::util::units::parse_ulimit(text)?;
            object.insert(name.clone(), json!({ "Name": name, "Hard": hard, "Soft": soft }));
            Value::Object(object)
        }
    })
}

fn pool(text: &str) -> Result<Value, String> {
    let mut pool = json!({ "Base": "", "Size": 0 });
    for field in text.split(',') {
        let (key, value) =
            field.split_once('=').ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key.to_lowercase().as_str() {
            "base" => pool["Base"] = json!(value),
            "size" => {
                pool["Size"] = json!(value.parse::<i64>().map_err(|_| format!("invalid size value: {value}"))?);
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    Ok(pool)
}

/// Checks a value of the file, in the words of Go's decoder.
pub fn check(kind: Kind, key: &str, value: Value) -> Result<Value, String> {
    let wrong = |value: &Value, key: &str, want: &str| {
        let got = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(n) if want.starts_with("int") => format!("number {n}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        format!("invalid JSON: json: cannot unmarshal {got} into Go struct field Config.{key} of type {want}")
    };
    let every = |list: &[Value]| list.iter().find(|v| !v.is_string()).map(|v| wrong(v, key, "string"));
    let strings = |map: &Map<String, Value>, key: &str| {
        map.iter().find(|(_, v)| !v.is_string()).map(|(k, v)| wrong(v, &format!("{key}.{k}"), "string"))
    };
    let problem = match (kind, &value) {
        (Kind::Any, _) => None,
        (Kind::Bool, Value::Bool(_)) | (Kind::Text, Value::String(_)) => None,
        (Kind::Int, Value::Number(n)) if n.is_i64() => None,
        (Kind::Size, Value::Number(n)) if n.is_i64() => None,
        (Kind::Size, Value::String(s)) => return units::parse_bytes(s).map(|n| json!(n)),
        (Kind::List, Value::Array(list)) => every(list),
        (Kind::Map, Value::Object(map)) => strings(map, key),
        (Kind::Features, Value::Object(map)) => {
            map.iter().find(|(_, v)| !v.is_boolean()).map(|(k, v)| wrong(v, &format!("{key}.{k}"), "bool"))
        }
        (Kind::MapMap, Value::Object(map)) => map.iter().find_map(|(k, v)| match v {
            Value::Object(inner) => strings(inner, &format!("{key}.{k}")),
            other => Some(wrong(other, &format!("{key}.{k}"), "map[string]string")),
        }),
        (Kind::Pools, Value::Array(_)) | (Kind::Ulimits | Kind::Runtimes, Value::Object(_)) => None,
        (Kind::Bool, v) => Some(wrong(v, key, "bool")),
        (Kind::Int | Kind::Size, v) => Some(wrong(v, key, "int")),
        (Kind::Text, v) => Some(wrong(v, key, "string")),
        (Kind::List | Kind::Pools, v) => Some(wrong(v, key, "[]string")),
        (_, v) => Some(wrong(v, key, "map[string]string")),
    };
    match problem {
        Some(problem) => Err(problem),
        None => Ok(value),
    }
}

/// As Go's `%v` prints it: `[a b]`, `map[k:v]`.
pub fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(s) => s.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_the_values_of_the_file() {
        let twice = |kind, a, b| add(kind, Some(add(kind, None, a).unwrap()), b).unwrap();
        assert_eq!(twice(Kind::List, "a", "b"), json!(["a", "b"]));
        assert_eq!(twice(Kind::Map, "a=1", "b=2=3"), json!({"a": "1", "b": "2=3"}));
        assert_eq!(twice(Kind::MapMap, "bridge=a=1", "bridge=b=2"), json!({"bridge": {"a": "1", "b": "2"}}));
        assert_eq!(twice(Kind::Features, "a", "b=false"), json!({"a": true, "b": false}));
        assert_eq!(go(&twice(Kind::List, "a", "b")), "[a b]");
        assert_eq!(go(&twice(Kind::Map, "a=1", "b=2")), "map[a:1 b:2]");
        assert_eq!(add(Kind::Pools, None, "base=10.0.0.0/8,size=24").unwrap()[0]["Size"], 24);
    }

    #[test]
    fn refusals_read_as_the_original() {
        let text = |kind, text| add(kind, None, text).unwrap_err();
        assert_eq!(text(Kind::Ulimits, "x"), "invalid ulimit argument: x");
        assert_eq!(text(Kind::Pools, "x"), "invalid field 'x' must be a key=value pair");
        assert_eq!(text(Kind::Runtimes, "x"), "invalid runtime argument: x");
        assert_eq!(text(Kind::MapMap, "x"), "invalid value \"x\" for map option, should be root-key=key=value");
        assert_eq!(
            check(Kind::Map, "log-opts", json!({"a": 1})).unwrap_err(),
            "invalid JSON: json: cannot unmarshal number into Go struct field Config.log-opts.a of type string"
        );
        assert_eq!(
            check(Kind::Bool, "debug", json!("x")).unwrap_err(),
            "invalid JSON: json: cannot unmarshal string into Go struct field Config.debug of type bool"
        );
    }
}
