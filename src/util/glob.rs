//! Path patterns of Docker: Go's `filepath.Match` with `**` over any depth.
//! Pure; used by `.dockerignore` on both sides and by COPY and ADD.
//!
//! Invariant: linear memory, at most quadratic time in pattern and path, for
//! any input: patterns come from strangers' build contexts.

/// A compiled pattern. `*` and `?` stop at `/`, `**` does not, `[a-z]` and
/// `[^a-z]` are classes, `\` takes the next character as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// A shell's pattern over plain text: `/` is a character like others.
    plain: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`
    AnyChar,
    /// `*`
    AnyRun,
    /// `**` and a slash that may follow it: any number of whole components.
    AnyDepth,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Go's `filepath.ErrBadPattern`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPattern;

impl std::fmt::Display for BadPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("syntax error in pattern")
    }
}

impl std::error::Error for BadPattern {}

/// True if the text has no character that a pattern treats specially.
pub fn is_literal(text: &str) -> bool {
    !text.contains(['*', '?', '[', '\\'])
}

impl Pattern {
    /// A pattern over paths.
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        Self::compile(text, false)
    }

    /// A pattern over any text, as in a shell's `${v#pattern}`.
    pub fn plain(text: &str) -> Result<Self, BadPattern> {
        Self::compile(text, true)
    }

    fn compile(text: &str, plain: bool) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if !plain && chars.peek() == Some(&'*') => {
                    while chars.peek() == Some(&'*') {
                        chars.next();
                    }
                    if chars.peek() == Some(&'/') {
                        chars.next();
                    }
                    Token::AnyDepth
                }
                '*' => Token::AnyRun,
                '?' => Token::AnyChar,
                // The patterns of a variable know no classes: BuildKit takes the bracket as it is.
                '[' if !plain => class(&mut chars)?,
                '\\' => Token::Literal(chars.next().ok_or(BadPattern)?),
                c => Token::Literal(c),
            });
        }
        Ok(Self { tokens, plain })
    }

    /// Whether the whole of `path` (slashes as separators, none in front) matches.
    pub fn matches(&self, path: &str) -> bool {
        self.run(path).last().copied().unwrap_or(false)
    }

    /// Whether `path` or one of its parent directories matches.
    pub fn matches_or_parent(&self, path: &str) -> bool {
        let mut ends = path.char_indices().filter(|(_, c)| *c == '/').map(|(i, _)| i).chain([path.len()]);
        ends.any(|end| self.matches(&path[..end]))
    }

    /// For each prefix of `path` (by characters) whether the pattern ends there:
    /// a set of states advanced one character at a time, so that no pattern
    /// can make it backtrack.
    fn run(&self, path: &str) -> Vec<bool> {
        let n = self.tokens.len();
        let mut states = vec![false; n + 1];
        states[0] = true;
        self.close(&mut states, true);
        let mut ends = vec![states[n]];
        for c in path.chars() {
            let inside = self.plain || c != '/';
            let mut next = vec![false; n + 1];
            for (i, _) in states.iter().enumerate().filter(|(i, on)| **on && *i < n) {
                match &self.tokens[i] {
                    Token::Literal(l) if *l == c => next[i + 1] = true,
                    Token::AnyChar if inside => next[i + 1] = true,
                    Token::AnyRun if inside => next[i] = true,
                    Token::AnyDepth => next[i] = true,
                    Token::Class { negated, ranges }
                        if inside && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated =>
                    {
                        next[i + 1] = true;
                    }
                    _ => {}
                }
            }
            self.close(&mut next, c == '/');
            states = next;
            ends.push(states[n]);
        }
        ends
    }

    /// Adds the states reachable without a character. `**/` may be left only
    /// where a component begins; a `**` that ends the pattern anywhere.
    fn close(&self, states: &mut [bool], component_start: bool) {
        for i in 0..self.tokens.len() {
            if !states[i] {
                continue;
            }
            match self.tokens[i] {
                Token::AnyRun => states[i + 1] = true,
                Token::AnyDepth if component_start || i + 1 == self.tokens.len() => states[i + 1] = true,
                _ => {}
            }
        }
    }
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, BadPattern> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if chars.peek() == Some(&']') && !ranges.is_empty() {
            chars.next();
            return Ok(Token::Class { negated, ranges });
        }
        let low = member(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { member(chars)? } else { low };
        ranges.push((low, high));
    }
}

fn member(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, BadPattern> {
    match chars.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern),
        Some(c) => Ok(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(path)
    }

    #[test]
    fn as_go_and_docker_match() {
        for (pattern, path, expected) in [
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("*/*.md", "docs/README.md", true),
            ("**/*.md", "README.md", true),
            ("**/*.md", "a/b/c.md", true),
            ("**/foo", "afoo", false),
            ("**/foo", "a/foo", true),
            ("**", "a/b/c", true),
            ("a/**", "a/b/c", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            (r"\*", "*", true),
            (r"\*", "x", false),
            ("a*b*c", "aXXbYYc", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} on {path}");
        }
        for bad in ["[", "[]", "[a", "[a-]", r"\", "[-x]"] {
            assert_eq!(Pattern::new(bad), Err(BadPattern), "{bad}");
        }
    }

    #[test]
    fn parents_count() {
        let p = Pattern::new("target").unwrap();
        assert!(p.matches_or_parent("target/debug/x") && !p.matches_or_parent("src/target"));
    }

    #[test]
    fn no_pattern_explodes() {
        let pattern = Pattern::new(&"*a".repeat(200)).unwrap();
        assert!(!pattern.matches(&"a".repeat(5000)[..4999].replace('a', "b")));
    }
}
