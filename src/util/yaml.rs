//! The part of YAML that programs write for programs: block maps and lists,
//! plain and quoted scalars, flow collections on one line, comments. Gives JSON.
//! Pure. Anchors, tags, block scalars and several documents are refused.

use serde_json::{Map, Value};

/// One document.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut lines = Vec::new();
    for (number, raw) in text.lines().enumerate() {
        let line = without_comment(raw).trim_end();
        match line {
            "" | "---" if lines.is_empty() || line.is_empty() => {}
            "---" => return Err(format!("line {}: a second document", number + 1)),
            "..." => break,
            _ => {
                let indent = line.len() - line.trim_start_matches(' ').len();
                lines.push(Line { number: number + 1, indent, text: line[indent..].to_owned() });
            }
        }
    }
    let mut reader = Reader { lines, at: 0 };
    let Some(first) = reader.lines.first().map(|l| l.indent) else { return Ok(Value::Null) };
    let value = reader.block(first, 0)?;
    match reader.lines.get(reader.at) {
        Some(line) => Err(format!("line {}: unexpected indentation", line.number)),
        None => Ok(value),
    }
}

struct Line {
    number: usize,
    indent: usize,
    text: String,
}

struct Reader {
    lines: Vec<Line>,
    at: usize,
}

/// Deeper than any honest document.
const MAX_DEPTH: usize = 64;

impl Reader {
    fn peek(&self) -> Option<(usize, &str)> {
        self.lines.get(self.at).map(|l| (l.indent, l.text.as_str()))
    }

    fn fail<T>(&self, what: &str) -> Result<T, String> {
        let number = self.lines.get(self.at).or(self.lines.last()).map_or(0, |l| l.number);
        Err(format!("line {number}: {what}"))
    }

    fn block(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return self.fail("nested too deeply");
        }
        match self.peek() {
            Some((_, text)) if is_item(text) => self.list(indent, depth),
            Some((_, text)) if split_key(text).is_some() => self.map(indent, depth),
            Some(_) => {
                let value = self.scalar(self.lines[self.at].text.clone())?;
                self.at += 1;
                Ok(value)
            }
            None => Ok(Value::Null),
        }
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        let mut list = Vec::new();
        while let Some((at, text)) = self.peek()
            && at == indent
            && is_item(text)
        {
            let rest = text[1..].trim_start().to_owned();
            if rest.is_empty() {
                self.at += 1;
                list.push(self.below(indent, depth)?);
                continue;
            }
            // What follows the dash stands as if on a line of its own.
            let inner = indent + (text.len() - rest.len());
            let line = &mut self.lines[self.at];
            (line.indent, line.text) = (inner, rest);
            list.push(self.block(inner, depth + 1)?);
        }
        Ok(Value::Array(list))
    }

    fn map(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        while let Some((at, text)) = self.peek()
            && at == indent
            && !is_item(text)
        {
            let Some((key, rest)) = split_key(text) else { return self.fail("expected `key:`") };
            let Value::String(key) = self.scalar(key.to_owned()).map(text_of)? else { return self.fail("bad key") };
            let rest = rest.to_owned();
            self.at += 1;
            let value = match (rest.as_str(), self.peek()) {
                // A list may stand as deep as its key.
                ("", Some((next, text))) if next == indent && is_item(text) => self.list(indent, depth + 1)?,
                ("", _) => self.below(indent, depth)?,
                _ => {
                    self.at -= 1;
                    let value = self.scalar(rest)?;
                    self.at += 1;
                    value
                }
            };
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    /// What is indented further than `indent`, or nothing.
    fn below(&mut self, indent: usize, depth: usize) -> Result<Value, String> {
        match self.peek() {
            Some((deeper, _)) if deeper > indent => self.block(deeper, depth + 1),
            _ => Ok(Value::Null),
        }
    }

    fn scalar(&self, text: String) -> Result<Value, String> {
        if text.starts_with(['|', '>', '&', '*', '!', '%', '@', '`']) {
            return self.fail("this form of YAML is not supported");
        }
        let mut rest = text.as_str();
        let value = flow(&mut rest, 0, "").or_else(|what| self.fail(&what))?;
        if rest.trim().is_empty() { Ok(value) } else { self.fail("unexpected text behind a value") }
    }
}

fn text_of(value: Value) -> Value {
    match value {
        Value::String(_) => value,
        other => Value::String(other.to_string()),
    }
}

fn is_item(text: &str) -> bool {
    text == "-" || text.starts_with("- ")
}

/// `key: rest`, the colon outside quotes and followed by a blank or the end.
fn split_key(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['[', '{']) {
        return None;
    }
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if i == 0 => quote = Some(c),
            (None, ':') if text[i + 1..].is_empty() || text[i + 1..].starts_with(' ') => {
                return Some((text[..i].trim_end(), text[i + 1..].trim()));
            }
            _ => {}
        }
    }
    None
}

fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (i, c) in line.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if matches!(before, ' ' | '[' | '{' | ',') => quote = Some(c),
            (None, '#') if before == ' ' => return &line[..i],
            _ => {}
        }
        before = c;
    }
    line
}

/// A value on one line; plain scalars end at one of `stops`.
fn flow(rest: &mut &str, depth: usize, stops: &str) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err("nested too deeply".into());
    }
    *rest = rest.trim_start();
    let Some(first) = rest.chars().next() else { return Ok(Value::Null) };
    match first {
        '[' | '{' => {
            *rest = &rest[1..];
            collection(rest, first == '[', depth)
        }
        '"' => {
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let text = values.next().and_then(Result::ok).ok_or("a bad quoted string")?;
            *rest = &rest[values.byte_offset()..];
            Ok(Value::String(text))
        }
        '\'' => {
            let mut text = String::new();
            let mut at = 1;
            loop {
                let end = rest[at..].find('\'').ok_or("a quote without its end")? + at;
                text.push_str(&rest[at..end]);
                at = end + 1;
                if !rest[at..].starts_with('\'') {
                    break;
                }
                text.push('\'');
                at += 1;
            }
            *rest = &rest[at..];
            Ok(Value::String(text))
        }
        _ => {
            let end = rest.find(|c| stops.contains(c)).unwrap_or(rest.len());
            let text = rest[..end].trim();
            *rest = &rest[end..];
            Ok(plain(text))
        }
    }
}

fn collection(rest: &mut &str, is_list: bool, depth: usize) -> Result<Value, String> {
    let close = if is_list { ']' } else { '}' };
    let (mut list, mut map) = (Vec::new(), Map::new());
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(close) {
            *rest = after;
            return Ok(if is_list { Value::Array(list) } else { Value::Object(map) });
        }
        if is_list {
            list.push(flow(rest, depth + 1, ",]")?);
        } else {
            let Value::String(key) = text_of(flow(rest, depth + 1, ":,}")?) else { return Err("bad key".into()) };
            *rest = rest.trim_start().strip_prefix(':').ok_or("expected `key: value`")?;
            map.insert(key, flow(rest, depth + 1, ",}")?);
        }
        *rest = rest.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => *rest = after,
            None if rest.starts_with(close) => {}
            None => return Err(format!("expected `,` or `{close}`")),
        }
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => text.parse::<i64>().map_or_else(|_| Value::String(text.to_owned()), Value::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_of_a_generator() {
        let text = "---\n# made by a tool\ncdiVersion: 0.5.0\nkind: \"a.com/gpu\"\ncontainerEdits:\n  env:\n  - A=b # c\n  - 'it''s'\n  deviceNodes: []\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n      - path: /dev/x\n        fileMode: 438\n      -\n        path: /dev/y#z\n    empty:\n- {name: all, on: true, list: [1, \"two\"]}\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "cdiVersion": "0.5.0", "kind": "a.com/gpu",
                "containerEdits": {"env": ["A=b", "it's"], "deviceNodes": []},
                "devices": [
                    {"name": "0", "containerEdits": {
                        "deviceNodes": [{"path": "/dev/x", "fileMode": 438}, {"path": "/dev/y#z"}], "empty": null}},
                    {"name": "all", "on": true, "list": [1, "two"]},
                ],
            })
        );
        assert_eq!(parse("").unwrap(), Value::Null);
        assert_eq!(parse("- a\n- - b\n  - c: d\n").unwrap(), json!(["a", ["b", {"c": "d"}]]));
        assert_eq!(parse("{\"json\": [1]}").unwrap(), json!({"json": [1]}));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in [
            "a: |\n  text", "a: &x 1", "a: [1", "a: 'x", "a: 1\n   b: 2\n c: 3", "- a\nb: c", "a\nb",
            "---\na: 1\n---\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse(&"- ".repeat(500)).is_err());
        assert!(parse(&format!("a: {}", "[".repeat(500))).is_err());
    }
}
