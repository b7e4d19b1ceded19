//! Variables in Dockerfile words: `$v`, `${v}`, the default and alternative
//! forms, prefix and suffix removal, replacement; quotes and escapes. Pure.
//!
//! Invariant: expansion never runs again over what it put in, so a value cannot
//! smuggle in another expansion, and nesting is bounded.

use crate::util::glob::Pattern;

/// Looks a variable up; `None` is "not set".
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What went wrong, without position: the caller knows the line.
pub type Result<T> = std::result::Result<T, String>;

const MAX_DEPTH: u32 = 16;

/// Expands and removes quotes; white space stays one word.
pub fn word(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String> {
    let mut words = Expander { chars: text.chars().collect(), at: 0, escape, lookup, depth: 0 }.run(false)?;
    Ok(words.pop().unwrap_or_default())
}

/// Expands and splits at unquoted white space, also inside expanded values.
pub fn words(text: &str, escape: char, lookup: Lookup<'_>) -> Result<Vec<String>> {
    Expander { chars: text.chars().collect(), at: 0, escape, lookup, depth: 0 }.run(true)
}

/// A heredoc body: variables and escapes of `$`, quotes are text.
pub fn heredoc(text: &str, escape: char, lookup: Lookup<'_>) -> Result<String> {
    let mut e = Expander { chars: text.chars().collect(), at: 0, escape, lookup, depth: 0 };
    let mut out = String::new();
    while let Some(c) = e.next() {
        match c {
            '$' => out.push_str(&e.dollar()?),
            c if c == escape && matches!(e.peek(), Some('$')) => out.extend(e.next()),
            c => out.push(c),
        }
    }
    Ok(out)
}

struct Expander<'a> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    lookup: Lookup<'a>,
    depth: u32,
}

impl Expander<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.get(self.at).copied();
        self.at += usize::from(c.is_some());
        c
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn run(&mut self, split: bool) -> Result<Vec<String>> {
        let mut words = Vec::new();
        let mut current = String::new();
        // A quoted empty string is still a word.
        let mut present = false;
        while let Some(c) = self.next() {
            match c {
                '\'' => {
                    present = true;
                    self.single_quoted(&mut current)?;
                }
                '"' => {
                    present = true;
                    self.double_quoted(&mut current)?;
                }
                '$' => {
                    let value = self.dollar()?;
                    if split {
                        for (i, part) in value.split(char::is_whitespace).enumerate() {
                            if i > 0 && (present || !current.is_empty()) {
                                words.push(std::mem::take(&mut current));
                                present = false;
                            }
                            current.push_str(part);
                        }
                    } else {
                        current.push_str(&value);
                    }
                }
                c if c == self.escape => match self.next() {
                    Some(next) => current.push(next),
                    None => break,
                },
                c if split && c.is_whitespace() => {
                    if present || !current.is_empty() {
                        words.push(std::mem::take(&mut current));
                        present = false;
                    }
                }
                c => current.push(c),
            }
        }
        if present || !current.is_empty() {
            words.push(current);
        }
        Ok(words)
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<()> {
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => out.push(c),
                None => return Err("unexpected end of statement while looking for matching single-quote".into()),
            }
        }
    }

    fn double_quoted(&mut self, out: &mut String) -> Result<()> {
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.dollar()?),
                Some(c) if c == self.escape => match self.next() {
                    Some(next @ ('"' | '$')) => out.push(next),
                    Some(next) if next == self.escape => out.push(next),
                    Some(next) => out.extend([c, next]),
                    None => return Err("unexpected end of statement while looking for matching double-quote".into()),
                },
                Some(c) => out.push(c),
                None => return Err("unexpected end of statement while looking for matching double-quote".into()),
            }
        }
    }

    /// After a `$`.
    fn dollar(&mut self) -> Result<String> {
        if self.peek() != Some('{') {
            let name = self.name();
            // A lone `$`, or one before something that is no name, is text.
            return Ok(if name.is_empty() { "$".into() } else { (self.lookup)(&name).unwrap_or_default() });
        }
        self.next();
        let name = self.name();
        if name.is_empty() {
            return Err("bad substitution: a name must follow ${".into());
        }
        let value = (self.lookup)(&name);
        match self.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => match self.next() {
                Some(op @ ('-' | '+' | '?')) => self.alternative(op, &name, value.filter(|v| !v.is_empty())),
                other => Err(unsupported(other)),
            },
            Some(op @ ('-' | '+' | '?')) => self.alternative(op, &name, value),
            Some(op @ ('#' | '%')) => {
                let greedy = self.peek() == Some(op);
                self.at += usize::from(greedy);
                let pattern = self.operand(&['}'])?;
                trim(&value.unwrap_or_default(), &pattern, op == '#', greedy)
            }
            Some('/') => {
                let all = self.peek() == Some('/');
                self.at += usize::from(all);
                let pattern = self.operand(&['/', '}'])?;
                let replacement =
                    if self.chars.get(self.at - 1) == Some(&'/') { self.operand(&['}'])? } else { String::new() };
                replace(&value.unwrap_or_default(), &pattern, &replacement, all)
            }
            other => Err(unsupported(other)),
        }
    }

    fn alternative(&mut self, op: char, name: &str, value: Option<String>) -> Result<String> {
        let word = self.operand(&['}'])?;
        match (op, value) {
            ('-', Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => Err(format!("{name}: is not allowed to be unset")),
            (_, None) => Err(format!("{name}: {word}")),
        }
    }

    /// The expanded text up to one of `ends`, which is consumed.
    fn operand(&mut self, ends: &[char]) -> Result<String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("bad substitution: nested too deeply".into());
        }
        let mut out = String::new();
        loop {
            match self.next() {
                None => return Err("syntax error: missing '}'".into()),
                Some(c) if ends.contains(&c) => break,
                Some('$') => out.push_str(&self.dollar()?),
                Some('\'') => self.single_quoted(&mut out)?,
                Some('"') => self.double_quoted(&mut out)?,
                Some(c) if c == self.escape => match self.next() {
                    // The pattern forms need their own escapes kept.
                    Some(next) if next == '}' || next == '/' || next == '$' => out.push(next),
                    Some(next) => out.extend([c, next]),
                    None => return Err("syntax error: missing '}'".into()),
                },
                Some(c) => out.push(c),
            }
        }
        self.depth -= 1;
        Ok(out)
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            let fits = c == '_' || c.is_ascii_alphanumeric();
            // A positional parameter is one digit; a name cannot begin with one.
            if !fits || (!name.is_empty() && name.as_bytes()[0].is_ascii_digit()) {
                break;
            }
            name.push(c);
            self.at += 1;
        }
        name
    }
}

fn unsupported(op: Option<char>) -> String {
    match op {
        Some(c) => format!("unsupported modifier ({c}) in substitution"),
        None => "syntax error: missing '}'".into(),
    }
}

fn compile(pattern: &str) -> Result<Pattern> {
    Pattern::plain(pattern).map_err(|e| format!("invalid pattern {pattern:?} in substitution: {e}"))
}

fn boundaries(s: &str) -> Vec<usize> {
    s.char_indices().map(|(i, _)| i).chain([s.len()]).collect()
}

/// `${v#p}`, `##`, `%`, `%%`.
fn trim(value: &str, pattern: &str, prefix: bool, greedy: bool) -> Result<String> {
    let pattern = compile(pattern)?;
    let mut cuts = boundaries(value);
    // Prefixes grow with the cut, suffixes shrink.
    if prefix == greedy {
        cuts.reverse();
    }
    for cut in cuts {
        let (head, tail) = value.split_at(cut);
        if pattern.matches(if prefix { head } else { tail }) {
            return Ok(if prefix { tail } else { head }.to_owned());
        }
    }
    Ok(value.to_owned())
}

/// `${v/p/r}` and `${v//p/r}`, longest match from the left.
fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> Result<String> {
    let pattern = compile(pattern)?;
    let cuts = boundaries(value);
    let mut out = String::new();
    let mut from = 0;
    while from < cuts.len() {
        let start = cuts[from];
        let end = (from + 1..cuts.len()).rev().find(|to| pattern.matches(&value[start..cuts[*to]]));
        match end {
            Some(to) => {
                out.push_str(replacement);
                from = to;
                if !all {
                    out.push_str(&value[cuts[to]..]);
                    return Ok(out);
                }
            }
            None => {
                if let Some(next) = cuts.get(from + 1) {
                    out.push_str(&value[start..*next]);
                }
                from += 1;
                continue;
            }
        }
        if from + 1 == cuts.len() {
            break;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "v" => Some("value".into()),
            "e" => Some(String::new()),
            "p" => Some("a/b.tar.gz".into()),
            "two" => Some("one two".into()),
            "sly" => Some("$v".into()),
            _ => None,
        }
    }

    fn w(text: &str) -> String {
        word(text, '\\', &lookup).unwrap()
    }

    #[test]
    fn forms() {
        for (text, expected) in [
            ("$v/x", "value/x"),
            ("${v}x", "valuex"),
            ("$nosuch.", "."),
            ("${n:-d}${e:-d}${v:-d}", "ddvalue"),
            ("${n-d}${e-d}", "d"),
            ("${v:+y}${e:+y}${e+y}${n+y}", "yy"),
            (r"\$v '$v' \\", r"$v $v \"),
            ("\"$v \\\"q\\\"\"", "value \"q\""),
            ("${n:-${v}}", "value"),
            ("$sly", "$v"),
            ("a$", "a$"),
            ("${p#*/}", "b.tar.gz"),
            ("${p%.*}", "a/b.tar"),
            ("${p%%.*}", "a/b"),
            ("${p##*.}", "gz"),
            ("${p/b/X}", "a/X.tar.gz"),
            ("${p//./_}", "a/b_tar_gz"),
            ("${p//[.]/_}", "a/b.tar.gz"),
            ("${v?no}", "value"),
        ] {
            assert_eq!(w(text), expected, "{text}");
        }
    }

    #[test]
    fn errors() {
        for (text, part) in [
            ("${n:?must}", "n: must"),
            ("${n?}", "n: is not allowed to be unset"),
            ("${v", "missing '}'"),
            ("${v:x}", "unsupported modifier"),
            ("${}", "bad substitution"),
            ("'x", "single-quote"),
            ("\"x", "double-quote"),
        ] {
            let message = word(text, '\\', &lookup).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
        let deep = "${n:-".repeat(100) + &"}".repeat(100);
        assert!(word(&deep, '\\', &lookup).is_err());
    }

    #[test]
    fn splitting() {
        assert_eq!(
            words("a  'b c' $two \"$two\" ''", '\\', &lookup).unwrap(),
            ["a", "b c", "one", "two", "one two", ""]
        );
        assert_eq!(words(r"a\ b $nosuch", '\\', &lookup).unwrap(), ["a b"]);
        assert_eq!(heredoc("'$v' \\$v \\n", '\\', &lookup).unwrap(), "'value' $v \\n");
    }
}
