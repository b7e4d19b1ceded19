//! Dockerfile text → lines of instructions: directives, comments,
//! continuations, heredocs. Knows no instruction's meaning but where a heredoc
//! may stand. Pure.
//!
//! Invariant: every node knows the line it came from, and no input makes the
//! parser panic or take more than linear time.

use std::collections::BTreeMap;
use std::fmt;

/// Where something stands: line and column count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// What is wrong, where, and the line itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    pub at: Position,
    pub message: String,
    pub source: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dockerfile parse error on line {}: {}", self.at.line, self.message)
    }
}

impl std::error::Error for SyntaxError {}

/// The directives that may stand before everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    pub syntax: Option<String>,
    pub escape: char,
    pub check: Option<String>,
}

/// A `<<NAME` and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    pub name: String,
    pub content: String,
    /// Unquoted delimiters let the builder expand variables.
    pub expand: bool,
}

/// One instruction with its continuations joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub at: Position,
    /// The last line of it, heredocs included.
    pub end_line: usize,
    /// Upper case.
    pub keyword: String,
    /// `--name` or `--name=value`, in order.
    pub flags: Vec<String>,
    /// The rest, white space at both ends removed.
    pub args: String,
    pub heredocs: Vec<Heredoc>,
    /// The instruction as written, continuations joined.
    pub original: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    pub directives: Directives,
    pub nodes: Vec<Node>,
    /// Comments by their line, without the mark.
    pub comments: BTreeMap<usize, String>,
    /// The last lines of instructions that hold an empty line, which will be an error one day.
    pub empty_continuations: Vec<usize>,
}

/// Parses a whole file.
pub fn parse(text: &str) -> Result<Dockerfile, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.lines().collect();
    let (directives, mut index) = directives(&lines)?;
    let mut nodes = Vec::new();
    let mut empty_continuations = Vec::new();
    let mut comments = BTreeMap::new();
    while index < lines.len() {
        let trimmed = lines[index].trim_start();
        if let Some(text) = trimmed.strip_prefix('#') {
            comments.insert(index + 1, text.trim().to_owned());
        }
        if trimmed.is_empty() || trimmed.starts_with('#') {
            index += 1;
            continue;
        }
        let start = index;
        let joined = join(&lines, &mut index, directives.escape, &mut empty_continuations);
        let at = Position { line: start + 1, column: lines[start].len() - trimmed.len() + 1 };
        let mut node = split(&joined, at, directives.escape).map_err(|message| SyntaxError {
            at,
            message,
            source: lines[start].to_owned(),
        })?;
        read_heredocs(&mut node, &lines, &mut index).map_err(|message| SyntaxError {
            at,
            message,
            source: lines[start].to_owned(),
        })?;
        node.end_line = index;
        nodes.push(node);
    }
    if nodes.is_empty() {
        let at = Position { line: 1, column: 1 };
        return Err(SyntaxError { at, message: "file with no instructions".into(), source: String::new() });
    }
    Ok(Dockerfile { directives, nodes, comments, empty_continuations })
}

/// `# key=value` lines at the very top; the first other line ends them.
fn directives(lines: &[&str]) -> Result<(Directives, usize), SyntaxError> {
    let mut found = Directives { syntax: None, escape: '\\', check: None };
    let mut seen: Vec<String> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let pair = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('='));
        let Some((key, value)) = pair else { return Ok((found, index)) };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        let fail = |message: String| {
            let at = Position { line: index + 1, column: 1 };
            Err(SyntaxError { at, message, source: (*line).to_owned() })
        };
        if !matches!(key.as_str(), "syntax" | "escape" | "check") {
            return Ok((found, index));
        }
        if seen.contains(&key) {
            return fail(format!("only one {key} parser directive can be used"));
        }
        match key.as_str() {
            "syntax" => found.syntax = Some(value.to_owned()),
            "check" => found.check = Some(value.to_owned()),
            _ => match value {
                "\\" => found.escape = '\\',
                "`" => found.escape = '`',
                other => return fail(format!("invalid escape token '{other}' does not match ` or \\")),
            },
        }
        seen.push(key);
    }
    Ok((found, lines.len()))
}

/// Joins a line with what its escape characters continue; comments and blank
/// lines in between vanish. `index` is left behind the last line used.
fn join(lines: &[&str], index: &mut usize, escape: char, empty: &mut Vec<usize>) -> String {
    let mut joined = String::new();
    let (mut first, mut blank) = (true, false);
    while *index < lines.len() {
        let line = lines[*index];
        *index += 1;
        let trimmed = line.trim_start();
        if !first && trimmed.starts_with('#') {
            continue;
        }
        if !first && trimmed.is_empty() {
            blank = true;
            continue;
        }
        let line = if first { trimmed } else { line };
        first = false;
        match continued(line, escape) {
            Some(part) => joined.push_str(part),
            None => {
                joined.push_str(line);
                break;
            }
        }
    }
    if blank {
        empty.push(*index);
    }
    joined
}

/// The line without its escape character, if it ends in one (blanks may follow).
fn continued(line: &str, escape: char) -> Option<&str> {
    line.trim_end_matches([' ', '\t', '\r']).strip_suffix(escape)
}

/// Keyword, flags, rest.
fn split(line: &str, at: Position, escape: char) -> Result<Node, String> {
    let line = line.trim();
    let (keyword, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (flags, args) = take_flags(rest, escape);
    Ok(Node {
        at,
        end_line: at.line,
        keyword: keyword.to_ascii_uppercase(),
        flags,
        args: args.trim().to_owned(),
        heredocs: Vec::new(),
        original: line.to_owned(),
    })
}

/// Leading `--flags`; a bare `--` ends them, quotes and escapes count.
fn take_flags(mut rest: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, rest);
        }
        let (word, after) = word(rest, escape);
        if word == "--" {
            return (flags, after);
        }
        flags.push(word);
        rest = after;
    }
}

/// One blank-separated word with quotes removed.
fn word(text: &str, escape: char) -> (String, &str) {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (out, &text[i..]),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ if c == escape && quote != Some('\'') => match chars.clone().next() {
                Some((_, next)) if next == escape || next == '"' || next.is_whitespace() => {
                    out.push(next);
                    chars.next();
                }
                _ => out.push(c),
            },
            _ => out.push(c),
        }
    }
    (out, "")
}

/// Heredocs stand in RUN, COPY and ADD (also under ONBUILD), one or more a line.
fn read_heredocs(node: &mut Node, lines: &[&str], index: &mut usize) -> Result<(), String> {
    let keyword = match node.keyword.as_str() {
        "ONBUILD" => node.args.split_whitespace().next().unwrap_or("").to_ascii_uppercase(),
        keyword => keyword.to_owned(),
    };
    if !matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") || node.args.starts_with('[') {
        return Ok(());
    }
    for marker in heredoc_markers(&node.args) {
        let mut content = String::new();
        loop {
            let Some(line) = lines.get(*index) else { return Err(format!("unterminated heredoc: {}", marker.name)) };
            *index += 1;
            let line = if marker.strip_tabs { line.trim_start_matches('\t') } else { line };
            if line == marker.name {
                break;
            }
            content.push_str(line);
            content.push('\n');
        }
        node.heredocs.push(Heredoc { name: marker.name, content, expand: marker.expand });
    }
    Ok(())
}

/// A `<<[-]NAME` found in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    pub name: String,
    pub strip_tabs: bool,
    pub expand: bool,
}

/// Every heredoc marker of a line, outside quotes; a digit in front (`3<<EOF`)
/// is a shell's file descriptor and still a marker.
fn heredoc_markers(line: &str) -> Vec<Marker> {
    raw_words(line, None).iter().filter_map(|w| heredoc_marker(w)).collect()
}

/// The marker if the whole word is one.
pub fn heredoc_marker(word: &str) -> Option<Marker> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    if name.is_empty() || name.contains(['<', '>', '(', '$', ' ']) {
        return None;
    }
    Some(Marker { expand: name.len() == rest.len(), name, strip_tabs })
}

/// Words at unquoted blanks, quotes and escapes kept for the expansion to come.
/// None: a shell's line, whose backslashes are its own business.
pub fn raw_words(text: &str, escape: Option<char>) -> Vec<String> {
    let mut words = Vec::new();
    let mut current = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !current.is_empty() {
                    words.push(std::mem::take(&mut current));
                }
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ if Some(c) == escape && quote != Some('\'') => {
                current.push(c);
                current.extend(chars.next());
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    if !current.is_empty() {
        words.push(current);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().nodes.into_iter().map(|n| (n.keyword, n.args)).collect()
    }

    #[test]
    fn continuations_and_comments() {
        let text = "from busybox\n# comment\nRUN a \\\n  # inside\n\n  && b \\  \n  && c\n  CMD x";
        assert_eq!(
            nodes(text),
            [("FROM".into(), "busybox".into()), ("RUN".into(), "a   && b   && c".into()), ("CMD".into(), "x".into())]
        );
        let file = parse(text).unwrap();
        assert_eq!(file.nodes[2].at, Position { line: 8, column: 3 });
        assert_eq!(file.empty_continuations, [7]);
    }

    #[test]
    fn directives_only_on_top() {
        let file = parse("# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nRUN b `\n c").unwrap();
        assert_eq!(file.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(file.nodes[1].args, "b  c");
        let file = parse("# hello\n# escape=`\nFROM a").unwrap();
        assert_eq!(file.directives.escape, '\\');
        assert!(parse("# escape=x\nFROM a").unwrap_err().message.contains("invalid escape token"));
        assert!(parse("# escape=`\n# escape=`\nFROM a").is_err());
    }

    #[test]
    fn flags() {
        let node = &parse("COPY --from=build --chown=\"a b\" -- --x /y").unwrap().nodes[0];
        assert_eq!(node.flags, ["--from=build", "--chown=a b"]);
        assert_eq!(node.args, "--x /y");
    }

    #[test]
    fn heredocs() {
        let text = "RUN <<EOF\necho $x\n  EOF\nEOF\nCOPY <<a <<-'b' /d/\none\na\n\ttwo\n\tb\nUSER x";
        let file = parse(text).unwrap();
        assert_eq!(file.nodes[0].heredocs[0].content, "echo $x\n  EOF\n");
        let b = &file.nodes[1].heredocs[1];
        assert_eq!((b.name.as_str(), b.content.as_str(), b.expand), ("b", "two\n", false));
        assert_eq!(file.nodes[2].at.line, 10);
        assert!(parse("RUN <<EOF\nx").unwrap_err().message.contains("unterminated heredoc"));
        // Not a heredoc: arithmetic, here-strings, quotes.
        assert!(parse("RUN echo $((1<<2)); cat <<<x; echo '<<EOF'").unwrap().nodes[0].heredocs.is_empty());
    }

    #[test]
    fn nothing_is_an_error() {
        assert_eq!(parse("").unwrap_err().message, "file with no instructions");
        assert_eq!(parse("# only\n\n").unwrap_err().message, "file with no instructions");
    }
}
