//! Go template text to tokens: literal text, and the words of `{{ actions }}`
//! with trim markers and comments taken out. Pure.
//!
//! Positions are byte offsets into the whole template: errors name them.

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Text(String),
    Open,
    Close,
    /// `.Name`, the name.
    Field(String),
    /// `$` or `$name`.
    Variable(String),
    Word(String),
    /// Source text of a number or character constant.
    Number(String),
    /// Source text and meaning.
    Str(String, String),
    Dot,
    Space,
    Pipe,
    LeftParen,
    RightParen,
    Declare,
    Assign,
    Comma,
    Other(char),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub kind: Kind,
    pub pos: usize,
}

/// A message and the offset at which it arose.
pub(super) type Failure = (String, usize);

pub(super) fn lex(source: &str) -> Result<Vec<Token>, Failure> {
    let mut tokens = Vec::new();
    let mut pos = 0;
    let mut trim_left = false;
    loop {
        let rest = &source[pos..];
        let Some(open) = rest.find("{{") else {
            push_text(&mut tokens, rest, pos, trim_left, false);
            break;
        };
        let start = pos + open;
        let inner = &source[start + 2..];
        let trims = inner.starts_with('-') && inner[1..].starts_with(is_space);
        push_text(&mut tokens, &rest[..open], pos, trim_left, trims);
        let mut at = start + 2 + if trims { 2 } else { 0 };
        if source[at..].starts_with("/*") {
            let Some(end) = source[at..].find("*/") else {
                return Err(("unclosed comment".to_owned(), start));
            };
            at += end + 2;
            let after = &source[at..];
            trim_left = false;
            if let Some(rest) = after.strip_prefix("}}") {
                pos = source.len() - rest.len();
            } else if after.starts_with(is_space) && after[1..].starts_with("-}}") {
                trim_left = true;
                pos = at + 4;
            } else {
                return Err(("comment ends before closing delimiter".to_owned(), start));
            }
            continue;
        }
        tokens.push(Token { kind: Kind::Open, pos: start });
        (pos, trim_left) = action(source, at, &mut tokens)?;
    }
    tokens.push(Token { kind: Kind::End, pos: source.len() });
    Ok(tokens)
}

fn push_text(tokens: &mut Vec<Token>, text: &str, pos: usize, trim_left: bool, trim_right: bool) {
    let trimmed = if trim_left { text.trim_start_matches(is_space) } else { text };
    let pos = pos + text.len() - trimmed.len();
    let trimmed = if trim_right { trimmed.trim_end_matches(is_space) } else { trimmed };
    if !trimmed.is_empty() {
        tokens.push(Token { kind: Kind::Text(trimmed.to_owned()), pos });
    }
}

/// Reads up to and with the closing braces; says where text goes on and
/// whether its leading space is trimmed.
fn action(source: &str, mut at: usize, tokens: &mut Vec<Token>) -> Result<(usize, bool), Failure> {
    let mut depth = 0usize;
    loop {
        let rest = &source[at..];
        let trims = rest.starts_with(is_space) && rest[1..].starts_with("-}}");
        if trims || rest.starts_with("}}") {
            if depth > 0 {
                return Err(("unclosed left paren".to_owned(), at));
            }
            tokens.push(Token { kind: Kind::Close, pos: at });
            return Ok((at + if trims { 4 } else { 2 }, trims));
        }
        let (kind, len) = token(rest, at)?;
        match kind {
            Kind::LeftParen => depth += 1,
            Kind::RightParen if depth == 0 => return Err(("unexpected right paren".to_owned(), at)),
            Kind::RightParen => depth -= 1,
            _ => {}
        }
        let names = matches!(kind, Kind::Field(_) | Kind::Variable(_) | Kind::Word(_) | Kind::Dot);
        tokens.push(Token { kind, pos: at });
        at += len;
        if names && let Some(next) = source[at..].chars().next() {
            let ends = is_space(next) || matches!(next, '.' | ',' | '|' | ':' | '=' | ')' | '(');
            if !ends && !source[at..].starts_with("}}") {
                return Err((unrecognised(next, "bad character "), at));
            }
        }
    }
}

/// What `rest`, at `at`, begins with, and its length.
fn token(rest: &str, at: usize) -> Result<(Kind, usize), Failure> {
    let Some(c) = rest.chars().next() else {
        return Err(("unclosed action".to_owned(), at));
    };
    Ok(match c {
        ' ' | '\t' | '\r' | '\n' => {
            let mut end = rest.find(|c| !is_space(c)).unwrap_or(rest.len());
            // The last space belongs to a trim marker.
            if rest[end..].starts_with("-}}") {
                end -= 1;
            }
            (Kind::Space, end)
        }
        ':' if rest.starts_with(":=") => (Kind::Declare, 2),
        ':' => return Err(("expected :=".to_owned(), at)),
        '=' => (Kind::Assign, 1),
        '|' => (Kind::Pipe, 1),
        ',' => (Kind::Comma, 1),
        '(' => (Kind::LeftParen, 1),
        ')' => (Kind::RightParen, 1),
        '"' => quoted(rest, at)?,
        '`' => raw(rest, at)?,
        '\'' => character(rest, at)?,
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => match word(&rest[1..]) {
            "" => (Kind::Dot, 1),
            name => (Kind::Field(name.to_owned()), 1 + name.len()),
        },
        '$' => {
            let name = word(&rest[1..]);
            (Kind::Variable(format!("${name}")), 1 + name.len())
        }
        '+' | '-' | '.' | '0'..='9' => number(rest, at)?,
        c if c == '_' || c.is_alphanumeric() => {
            let name = word(rest);
            (Kind::Word(name.to_owned()), name.len())
        }
        c if c.is_ascii_graphic() && c != '}' && c != '{' => (Kind::Other(c), 1),
        c => return Err((unrecognised(c, "unrecognized character in action: "), at)),
    })
}

fn unrecognised(c: char, what: &str) -> String {
    format!("{what}U+{:04X} '{c}'", c as u32)
}

pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn word(s: &str) -> &str {
    &s[..s.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(s.len())]
}

fn raw(rest: &str, at: usize) -> Result<(Kind, usize), Failure> {
    match rest[1..].find('`') {
        Some(end) => {
            let text = &rest[1..=end];
            Ok((Kind::Str(rest[..end + 2].to_owned(), text.to_owned()), end + 2))
        }
        None => Err(("unterminated raw quoted string".to_owned(), at)),
    }
}

fn quoted(rest: &str, at: usize) -> Result<(Kind, usize), Failure> {
    let mut value = Vec::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => {
                let value = String::from_utf8_lossy(&value).into_owned();
                return Ok((Kind::Str(rest[..=i].to_owned(), value), i + 1));
            }
            '\n' => break,
            '\\' => {
                let Some(used) = escape(&rest[i + 1..], &mut value) else {
                    return Err((format!("invalid syntax in string: {}", &rest[..=i]), at));
                };
                for _ in 0..rest[i + 1..i + 1 + used].chars().count() {
                    chars.next();
                }
            }
            c => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err(("unterminated quoted string".to_owned(), at))
}

/// One escape after its backslash; the bytes used.
fn escape(s: &str, out: &mut Vec<u8>) -> Option<usize> {
    let c = s.chars().next()?;
    let simple = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '\'' | '"' => c as u8,
        'x' => {
            out.push(u8::from_str_radix(s.get(1..3)?, 16).ok()?);
            return Some(3);
        }
        '0'..='7' => {
            out.push(u8::from_str_radix(s.get(..3)?, 8).ok()?);
            return Some(3);
        }
        'u' | 'U' => {
            let len = if c == 'u' { 5 } else { 9 };
            let code = char::from_u32(u32::from_str_radix(s.get(1..len)?, 16).ok()?)?;
            out.extend_from_slice(code.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(len);
        }
        _ => return None,
    };
    out.push(simple);
    Some(1)
}

fn character(rest: &str, at: usize) -> Result<(Kind, usize), Failure> {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            '\n' => break,
            '\'' if !escaped => return Ok((Kind::Number(rest[..=i].to_owned()), i + 1)),
            _ => escaped = c == '\\' && !escaped,
        }
    }
    Err(("unterminated character constant".to_owned(), at))
}

fn number(rest: &str, at: usize) -> Result<(Kind, usize), Failure> {
    let mut end = usize::from(rest.starts_with(['+', '-']));
    let hex = rest[end..].starts_with("0x") || rest[end..].starts_with("0X");
    for (i, c) in rest.char_indices().skip(end) {
        let previous = rest[..i].chars().next_back().unwrap_or(' ');
        let exponent = if hex { matches!(previous, 'p' | 'P') } else { matches!(previous, 'e' | 'E') };
        if c.is_ascii_alphanumeric() || c == '_' || c == '.' || (exponent && matches!(c, '+' | '-')) {
            end = i + 1;
        } else {
            break;
        }
    }
    let text = &rest[..end];
    if super::parse::number(text).is_none() {
        return Err((format!("bad number syntax: \"{text}\""), at));
    }
    Ok((Kind::Number(text.to_owned()), end))
}

/// The meaning of the escapes in a character constant, quotes included.
pub(super) fn character_value(text: &str) -> Option<char> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    match inner.strip_prefix('\\') {
        Some(rest) => {
            let mut bytes = Vec::new();
            escape(rest, &mut bytes)?;
            match String::from_utf8(bytes) {
                Ok(s) => s.chars().next(),
                Err(e) => e.as_bytes().first().map(|b| char::from(*b)),
            }
        }
        None => inner.chars().next(),
    }
}
