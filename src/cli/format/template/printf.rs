//! Go's Sprintf, as far as the values of templates go. Pure.

use crate::cli::format::human::significant;
use crate::cli::format::value::{Value, go_float};

#[derive(Default)]
struct Flags {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

pub(super) fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(c) = chars.peek() {
            match c {
                '-' => flags.minus = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                '0' => flags.zero = true,
                _ => break,
            }
            chars.next();
        }
        flags.width = size(&mut chars, args, &mut next, &mut flags.minus);
        if chars.peek() == Some(&'.') {
            chars.next();
            flags.precision = Some(size(&mut chars, args, &mut next, &mut false).unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.get(next) {
                Some(arg) => {
                    next += 1;
                    let text = operand(arg, verb, &flags);
                    pad(&mut out, &text, &flags);
                }
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    if next < args.len() {
        let rest: Vec<String> = args[next..].iter().map(|a| format!("{}={a}", a.type_name())).collect();
        out.push_str(&format!("%!(EXTRA {})", rest.join(", ")));
    }
    out
}

/// A width is memory.
const WIDEST: usize = 10_000;

fn size(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    args: &[Value],
    next: &mut usize,
    minus: &mut bool,
) -> Option<usize> {
    if chars.peek() == Some(&'*') {
        chars.next();
        let value = args.get(*next);
        *next += 1;
        let Some(Value::Int(n)) = value else { return None };
        *minus |= *n < 0;
        return usize::try_from(n.unsigned_abs()).ok().map(|n| n.min(WIDEST));
    }
    let mut digits = None;
    while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
        digits = Some((digits.unwrap_or(0) * 10 + d as usize).min(WIDEST));
        chars.next();
    }
    digits
}

fn operand(typed: &Value, verb: char, flags: &Flags) -> String {
    let arg = &typed.open();
    let text = match (verb, arg) {
        ('T', _) if matches!(typed, Value::Missing | Value::Nil) => Some("<nil>".to_owned()),
        ('T', _) => Some(typed.type_name().to_owned()),
        ('v', Value::Str(s)) if flags.sharp => Some(quote(s)),
        ('v' | 's', _) if matches!(typed, Value::Go(..)) && !matches!(arg, Value::Str(_) | Value::Int(_)) => {
            Some(typed.sprint(flags.plus && verb == 'v'))
        }
        ('v', Value::Int(_)) if typed.to_string() != arg.to_string() => Some(typed.to_string()),
        ('s', Value::Int(_)) if typed.to_string() != arg.to_string() => Some(typed.to_string()),
        ('v', Value::Int(_)) => Some(integer(arg, 'd', flags)),
        ('v', Value::Float(f)) => Some(go_float(*f)),
        ('v', _) => Some(arg.to_string()),
        ('s', Value::Str(s)) => Some(cut(s, flags)),
        ('s', Value::List(_) | Value::Map(_) | Value::Struct(_) | Value::Object(_)) => Some(arg.to_string()),
        ('q', Value::Str(s)) => Some(quote(&cut(s, flags))),
        ('q', Value::Int(n)) => {
            let c = u32::try_from(*n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
            Some(quote_char(c))
        }
        ('q', Value::List(items)) => {
            let words: Vec<String> = items.iter().map(|i| operand(i, verb, flags)).collect();
            Some(format!("[{}]", words.join(" ")))
        }
        ('x' | 'X', Value::Str(s)) => {
            let hex = crate::util::id::hex(s.as_bytes());
            Some(if verb == 'X' { hex.to_uppercase() } else { hex })
        }
        ('d' | 'b' | 'o' | 'x' | 'X' | 'c' | 'U', Value::Int(_)) => Some(integer(arg, verb, flags)),
        ('t', Value::Bool(b)) => Some(b.to_string()),
        ('f' | 'F' | 'e' | 'g' | 'G' | 'E', Value::Float(f)) => Some(float(*f, verb, flags)),
        _ => None,
    };
    text.unwrap_or_else(|| match arg {
        Value::Missing | Value::Nil => format!("%!{verb}(<nil>)"),
        _ => {
            // Go pads what is inside the complaint.
            let mut inner = String::new();
            let shown = match arg {
                Value::Str(s) => cut(s, flags),
                other => other.to_string(),
            };
            pad(&mut inner, &shown, flags);
            format!("%!{verb}({}={inner})", typed.type_name())
        }
    })
}

fn integer(arg: &Value, verb: char, flags: &Flags) -> String {
    let Value::Int(n) = arg else { return String::new() };
    let size = n.unsigned_abs();
    let digits = match verb {
        'b' => format!("{size:b}"),
        'o' => format!("{size:o}"),
        'x' => format!("{}{size:x}", if flags.sharp { "0x" } else { "" }),
        'X' => format!("{}{size:X}", if flags.sharp { "0X" } else { "" }),
        'U' => format!("U+{size:04X}"),
        'c' => return u32::try_from(*n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
        _ => size.to_string(),
    };
    let digits = match flags.precision {
        Some(p) => format!("{digits:0>p$}"),
        None => digits,
    };
    sign(*n < 0, digits, flags)
}

fn float(f: f64, verb: char, flags: &Flags) -> String {
    let size = f.abs();
    let digits = match verb {
        'e' | 'E' => {
            let p = flags.precision.unwrap_or(6);
            let text = format!("{size:.p$e}");
            let (m, e) = text.split_once('e').unwrap_or((&text, "0"));
            let (s, e) = e.strip_prefix('-').map_or(("+", e), |e| ("-", e));
            format!("{m}e{s}{e:0>2}")
        }
        'g' | 'G' => match flags.precision {
            Some(p) => significant(size, p.max(1)),
            None => go_float(size),
        },
        _ => format!("{size:.*}", flags.precision.unwrap_or(6)),
    };
    sign(f.is_sign_negative(), digits, flags)
}

fn sign(negative: bool, digits: String, flags: &Flags) -> String {
    let sign = match (negative, flags.plus, flags.space) {
        (true, ..) => "-",
        (_, true, _) => "+",
        (_, _, true) => " ",
        _ => "",
    };
    let width = flags.width.unwrap_or(0).saturating_sub(sign.len());
    if flags.zero && !flags.minus && flags.precision.is_none() {
        return format!("{sign}{digits:0>width$}");
    }
    format!("{sign}{digits}")
}

fn cut(s: &str, flags: &Flags) -> String {
    match flags.precision {
        Some(p) => s.chars().take(p).collect(),
        None => s.to_owned(),
    }
}

/// strconv.Quote.
pub fn quote(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            c => escape(&mut out, c),
        }
    }
    out.push('"');
    out
}

fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    match c {
        '\'' => out.push_str("\\'"),
        c => escape(&mut out, c),
    }
    out.push('\'');
    out
}

fn escape(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        '\r' => out.push_str("\\r"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{b}' => out.push_str("\\v"),
        '\u{c}' => out.push_str("\\f"),
        c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
        c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
        c => out.push(c),
    }
}

fn pad(out: &mut String, text: &str, flags: &Flags) {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if flags.minus {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else {
        out.extend(std::iter::repeat_n(if flags.zero { '0' } else { ' ' }, missing));
        out.push_str(text);
    }
}
