//! `.dockerignore`: which paths of a build context are left out. Pure; the
//! client filters with it before it sends, the daemon filters contexts that it
//! fetched itself.
//!
//! Invariant: the last matching line wins, patterns are anchored at the root of
//! the context, and a match on a directory takes everything below it along
//! unless a later `!` line brings some of that back.

use super::glob::{BadPattern, Pattern};
use crate::util::path;

#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Pattern,
    /// A `!` line.
    include: bool,
}

impl Ignore {
    /// One pattern a line; `#` in the first column is a comment; blank lines
    /// and a byte-order mark are skipped.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let line = line.trim();
            let (include, line) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if line.is_empty() {
                if include {
                    return Err(BadPattern);
                }
                continue;
            }
            let cleaned = path::clean(line);
            let pattern = cleaned.trim_start_matches('/');
            // The root itself cannot be left out.
            if !matches!(pattern, "" | ".") {
                rules.push(Rule { pattern: Pattern::new(pattern)?, include });
            }
        }
        Ok(Self { rules })
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `path` (relative, slashes, cleaned) is left out.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for rule in &self.rules {
            // Only a rule of the other sense can change anything.
            if rule.include == excluded && rule.pattern.matches_or_parent(path) {
                excluded = !rule.include;
            }
        }
        excluded
    }

    /// Whether something below an excluded directory may be brought back, so
    /// that a walk must still descend.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|r| r.include)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_match_wins() {
        let i = Ignore::parse("# a comment\n*.md\n!README.md\ntarget/\n/node_modules\n  spaced  \n").unwrap();
        assert!(i.excludes("x.md") && !i.excludes("README.md") && !i.excludes("docs/x.md"));
        assert!(i.excludes("target/debug/a") && i.excludes("node_modules") && i.excludes("spaced"));
        let i = Ignore::parse("dir\n!dir/keep\n").unwrap();
        assert!(i.excludes("dir/x") && !i.excludes("dir/keep/y") && i.has_exceptions());
        let i = Ignore::parse("**\n!src\n").unwrap();
        assert!(i.excludes("a") && i.excludes("b/c") && !i.excludes("src/main.rs"));
    }

    #[test]
    fn odd_lines() {
        assert!(Ignore::parse("!\n").is_err());
        assert!(Ignore::parse("[\n").is_err());
        assert!(Ignore::parse("/\n.\n\n").unwrap().is_empty());
        assert!(Ignore::parse("\u{feff}a\n").unwrap().excludes("a"));
    }
}
