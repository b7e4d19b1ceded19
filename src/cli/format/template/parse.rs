//! Tokens to the tree of a Go template, with Go's complaints. Pure.

use std::collections::HashMap;
use std::fmt;

use super::funcs;
use super::lex::{Failure, Kind, Token, character_value, lex};
use crate::cli::format::value::{Value, go_float};

pub(super) type List = Vec<Node>;

pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template(Call),
    Break,
    Continue,
}

pub(super) struct Branch {
    pub pipe: Pipe,
    pub then: List,
    pub otherwise: List,
}

pub(super) struct Call {
    pub pos: usize,
    pub name: String,
    pub pipe: Option<Pipe>,
}

pub(super) struct Pipe {
    pub pos: usize,
    pub assigns: bool,
    pub variables: Vec<String>,
    pub commands: Vec<Command>,
}

pub(super) struct Command {
    pub pos: usize,
    pub args: Vec<Arg>,
}

pub(super) struct Arg {
    pub pos: usize,
    pub kind: ArgKind,
}

pub(super) enum ArgKind {
    Field(Vec<String>),
    /// The first name is the variable.
    Variable(Vec<String>),
    Chain(Box<Arg>, Vec<String>),
    Function(String),
    Pipe(Pipe),
    Dot,
    Nil,
    Bool(bool),
    Number(Value),
    Str(String, String),
}

impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ArgKind::Field(names) => write!(f, ".{}", names.join(".")),
            ArgKind::Variable(names) => f.write_str(&names.join(".")),
            ArgKind::Chain(inner, names) => write!(f, "{inner}.{}", names.join(".")),
            ArgKind::Function(name) => f.write_str(name),
            ArgKind::Pipe(pipe) => write!(f, "({pipe})"),
            ArgKind::Dot => f.write_str("."),
            ArgKind::Nil => f.write_str("nil"),
            ArgKind::Bool(b) => write!(f, "{b}"),
            ArgKind::Number(Value::Float(n)) => f.write_str(&go_float(*n)),
            ArgKind::Number(n) => write!(f, "{n}"),
            ArgKind::Str(text, _) => f.write_str(text),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            write!(f, "{}{arg}", if i > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assigns { "=" } else { ":=" })?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            write!(f, "{}{command}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{template \"{}\"", self.name)?;
        if let Some(pipe) = &self.pipe {
            write!(f, " {pipe}")?;
        }
        f.write_str("}}")
    }
}

pub(super) struct Tree {
    pub root: List,
    pub named: HashMap<String, List>,
}

pub(super) fn parse(source: &str) -> Result<Tree, Failure> {
    let mut parser =
        Parser { tokens: lex(source)?, next: 0, variables: vec!["$".to_owned()], loops: 0, named: HashMap::new() };
    let (root, end) = parser.list(true)?;
    match end {
        Stop::End => Ok(Tree { root, named: parser.named }),
        other => Err((format!("unexpected {}", other.text()), parser.here())),
    }
}

/// What ended a list.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    End,
    EndAction,
    Else,
}

impl Stop {
    fn text(self) -> &'static str {
        match self {
            Stop::End => "EOF",
            Stop::EndAction => "{{end}}",
            Stop::Else => "{{else}}",
        }
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    variables: Vec<String>,
    loops: usize,
    named: HashMap<String, List>,
}

impl Parser {
    fn here(&self) -> usize {
        self.tokens[self.next.min(self.tokens.len() - 1)].pos
    }
    fn peek(&self) -> &Kind {
        &self.tokens[self.next.min(self.tokens.len() - 1)].kind
    }
    fn take(&mut self) -> Token {
        let token = self.tokens[self.next.min(self.tokens.len() - 1)].clone();
        self.next += 1;
        token
    }
    fn skip_space(&mut self) {
        while *self.peek() == Kind::Space {
            self.next += 1;
        }
    }
    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Failure> {
        Err((message.into(), self.here()))
    }
    fn close(&mut self, context: &str) -> Result<(), Failure> {
        self.skip_space();
        match self.peek() {
            Kind::Close => {
                self.next += 1;
                Ok(())
            }
            other => self.fail(format!("unexpected {} in {context}", describe(other))),
        }
    }

    /// Nodes up to the end of the text, `{{end}}` or `{{else}}`; for the latter
    /// the parser stands behind the word `else`.
    fn list(&mut self, top: bool) -> Result<(List, Stop), Failure> {
        let mut nodes = Vec::new();
        loop {
            match self.take().kind {
                Kind::End => {
                    self.next -= 1;
                    return Ok((nodes, Stop::End));
                }
                Kind::Text(text) => nodes.push(Node::Text(text)),
                _ => {
                    self.skip_space();
                    let word = match self.peek() {
                        Kind::Word(word) => word.clone(),
                        _ => String::new(),
                    };
                    if matches!(word.as_str(), "end" | "else") {
                        self.next += 1;
                        if word == "else" {
                            return Ok((nodes, Stop::Else));
                        }
                        self.close("end")?;
                        return Ok((nodes, Stop::EndAction));
                    }
                    if let Some(node) = self.action(&word, top)? {
                        nodes.push(node);
                    }
                }
            }
        }
    }

    fn action(&mut self, word: &str, top: bool) -> Result<Option<Node>, Failure> {
        if !matches!(word, "if" | "with" | "range" | "define" | "block" | "template" | "break" | "continue") {
            let pipe = self.pipeline("command", false)?;
            return Ok(Some(Node::Action(pipe)));
        }
        self.next += 1;
        Ok(Some(match word {
            "if" => Node::If(self.branch("if")?),
            "with" => Node::With(self.branch("with")?),
            "range" => Node::Range(self.branch("range")?),
            "define" => {
                if !top {
                    return self.fail("unexpected {{define}}");
                }
                let (name, _) = self.name("define")?;
                self.close("define clause")?;
                self.body(name, "define clause")?;
                return Ok(None);
            }
            "block" => {
                let (name, pos) = self.name("block")?;
                let pipe = self.pipeline("block", false)?;
                self.body(name.clone(), "block clause")?;
                Node::Template(Call { pos, name, pipe: Some(pipe) })
            }
            "template" => {
                let (name, pos) = self.name("template clause")?;
                self.skip_space();
                let pipe = if *self.peek() == Kind::Close {
                    self.next += 1;
                    None
                } else {
                    Some(self.pipeline("template clause", false)?)
                };
                Node::Template(Call { pos, name, pipe })
            }
            _ => {
                self.close(&format!("{{{{{word}}}}}"))?;
                if self.loops == 0 {
                    return self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}"));
                }
                if word == "break" { Node::Break } else { Node::Continue }
            }
        }))
    }

    fn name(&mut self, context: &str) -> Result<(String, usize), Failure> {
        self.skip_space();
        let token = self.take();
        match token.kind {
            Kind::Str(_, value) => Ok((value, token.pos)),
            other => Err((format!("unexpected {} in {context}", describe(&other)), token.pos)),
        }
    }

    /// The body of a named template, which sees no variables but `$`.
    fn body(&mut self, name: String, context: &str) -> Result<(), Failure> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let (list, end) = self.list(false)?;
        self.variables = outer;
        if end != Stop::EndAction {
            return self.fail(format!("unexpected {} in {context}", end.text()));
        }
        self.named.insert(name, list);
        Ok(())
    }

    fn branch(&mut self, word: &str) -> Result<Branch, Failure> {
        let scope = self.variables.len();
        let is_range = word == "range";
        let pipe = self.pipeline(word, is_range)?;
        self.loops += usize::from(is_range);
        let (then, mut end) = self.list(false)?;
        self.loops -= usize::from(is_range);
        let mut otherwise = Vec::new();
        if end == Stop::Else {
            self.skip_space();
            let chained = matches!(self.peek(), Kind::Word(w) if w == word) && !is_range;
            if chained {
                // `{{else if}}` is an if in the else list that shares the end.
                self.next += 1;
                let inner = self.branch(word)?;
                self.variables.truncate(scope);
                otherwise.push(if word == "if" { Node::If(inner) } else { Node::With(inner) });
                return Ok(Branch { pipe, then, otherwise });
            }
            self.close("else")?;
            (otherwise, end) = self.list(false)?;
        }
        if end != Stop::EndAction {
            return self.fail(if end == Stop::End { "unexpected EOF" } else { "expected end; found {{else}}" });
        }
        self.variables.truncate(scope);
        Ok(Branch { pipe, then, otherwise })
    }

    /// A pipeline and the delimiter that ends it.
    fn pipeline(&mut self, context: &str, is_range: bool) -> Result<Pipe, Failure> {
        let pipe = self.pipe(context, is_range, &Kind::Close)?;
        Ok(pipe)
    }

    fn pipe(&mut self, context: &str, is_range: bool, end: &Kind) -> Result<Pipe, Failure> {
        self.skip_space();
        let mut pipe = Pipe { pos: self.here(), assigns: false, variables: Vec::new(), commands: Vec::new() };
        self.declarations(&mut pipe, context, is_range)?;
        loop {
            self.skip_space();
            if self.peek() == end {
                self.next += 1;
                self.check(&pipe, context)?;
                // Declared here, visible from here on.
                if !pipe.assigns {
                    self.variables.extend(pipe.variables.iter().cloned());
                }
                return Ok(pipe);
            }
            match self.peek().clone() {
                Kind::Pipe => return self.fail(format!("missing value for {context}")),
                Kind::Field(_)
                | Kind::Variable(_)
                | Kind::Word(_)
                | Kind::Number(_)
                | Kind::Str(..)
                | Kind::Dot
                | Kind::LeftParen => {
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                other => return self.fail(format!("unexpected {} in {context}", describe(&other))),
            }
        }
    }

    /// `$x :=`, `$x =` and, for range, `$i, $x :=`.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str, is_range: bool) -> Result<(), Failure> {
        let start = self.next;
        let mut names = Vec::new();
        while let Kind::Variable(name) = self.peek().clone() {
            self.next += 1;
            names.push(name);
            self.skip_space();
            match self.peek() {
                kind @ (Kind::Declare | Kind::Assign) => {
                    pipe.assigns = *kind == Kind::Assign;
                    self.next += 1;
                    if names.len() > if is_range { 2 } else { 1 } {
                        return self.fail(format!("too many declarations in {context}"));
                    }
                    if pipe.assigns
                        && let Some(unknown) = names.iter().find(|n| !self.variables.contains(n))
                    {
                        return self.fail(format!("undefined variable \"{unknown}\""));
                    }
                    pipe.variables = names;
                    return Ok(());
                }
                Kind::Comma if is_range && names.len() < 2 => {
                    self.next += 1;
                    self.skip_space();
                }
                Kind::Comma => return self.fail(format!("too many declarations in {context}")),
                _ => break,
            }
        }
        self.next = start;
        Ok(())
    }

    fn check(&self, pipe: &Pipe, context: &str) -> Result<(), Failure> {
        if pipe.commands.is_empty() {
            return self.fail(format!("missing value for {context}"));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            use ArgKind::{Bool, Dot, Nil, Number, Str};
            if matches!(command.args[0].kind, Bool(_) | Dot | Nil | Number(_) | Str(..)) {
                return self.fail(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Result<Command, Failure> {
        let mut command = Command { pos: self.here(), args: Vec::new() };
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                command.args.push(operand);
            }
            match self.peek().clone() {
                Kind::Space => continue,
                Kind::Pipe => {
                    self.next += 1;
                    self.skip_space();
                    if matches!(self.peek(), Kind::Close | Kind::RightParen) {
                        return self.fail("missing value for command");
                    }
                    break;
                }
                Kind::Close | Kind::RightParen => break,
                other => return self.fail(format!("unexpected {} in operand", describe(&other))),
            }
        }
        if command.args.is_empty() {
            return self.fail("empty command");
        }
        Ok(command)
    }

    fn operand(&mut self) -> Result<Option<Arg>, Failure> {
        let Some(mut node) = self.term()? else { return Ok(None) };
        if let Kind::Field(_) = self.peek() {
            let pos = self.here();
            let mut names = Vec::new();
            while let Kind::Field(name) = self.peek().clone() {
                self.next += 1;
                names.push(name);
            }
            node = match node.kind {
                ArgKind::Field(mut first) => {
                    first.append(&mut names);
                    Arg { pos, kind: ArgKind::Field(first) }
                }
                ArgKind::Variable(mut first) => {
                    first.append(&mut names);
                    Arg { pos, kind: ArgKind::Variable(first) }
                }
                ArgKind::Bool(_) | ArgKind::Str(..) | ArgKind::Number(_) | ArgKind::Nil | ArgKind::Dot => {
                    return self.fail(format!("unexpected . after term \"{node}\""));
                }
                _ => Arg { pos, kind: ArgKind::Chain(Box::new(node), names) },
            };
        }
        Ok(Some(node))
    }

    fn term(&mut self) -> Result<Option<Arg>, Failure> {
        let Token { kind, pos } = self.take();
        let kind = match kind {
            Kind::Field(name) => ArgKind::Field(vec![name]),
            Kind::Variable(name) => {
                if !self.variables.contains(&name) {
                    self.next -= 1;
                    return self.fail(format!("undefined variable \"{name}\""));
                }
                ArgKind::Variable(vec![name])
            }
            Kind::Dot => ArgKind::Dot,
            Kind::Word(word) => match word.as_str() {
                "nil" => ArgKind::Nil,
                "true" => ArgKind::Bool(true),
                "false" => ArgKind::Bool(false),
                _ if funcs::exists(&word) => ArgKind::Function(word),
                "if" | "else" | "end" | "range" | "with" | "define" | "template" | "block" | "break" | "continue" => {
                    self.next -= 1;
                    return self.fail(format!("unexpected <{word}> in command"));
                }
                _ => return Err((format!("function \"{word}\" not defined"), pos)),
            },
            Kind::Number(text) => match number(&text) {
                Some(value) => ArgKind::Number(value),
                None => return Err((format!("bad number syntax: \"{text}\""), pos)),
            },
            Kind::Str(text, value) => ArgKind::Str(text, value),
            Kind::LeftParen => {
                let inner = self.pipe("parenthesized pipeline", false, &Kind::RightParen)?;
                return Ok(Some(Arg { pos: inner.pos, kind: ArgKind::Pipe(inner) }));
            }
            _ => {
                self.next -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Arg { pos, kind }))
    }
}

/// A Go number or character constant.
pub(super) fn number(text: &str) -> Option<Value> {
    if text.starts_with('\'') {
        return character_value(text).map(|c| Value::Int(i128::from(c as u32)));
    }
    let clean = text.replace('_', "");
    let (negative, digits) = match clean.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, clean.strip_prefix('+').unwrap_or(&clean)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| b.is_ascii_digit()) => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if let Ok(n) = i128::from_str_radix(body, radix) {
        return Some(Value::Int(if negative { -n } else { n }));
    }
    if radix != 10 || !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let n: f64 = body.parse().ok()?;
    let n = if negative { -n } else { n };
    // 1e6 is an integer constant too.
    if n.fract() == 0.0 && n.abs() < 9e15 && !body.contains('.') {
        return Some(Value::Int(n as i128));
    }
    Some(Value::Float(n))
}

fn describe(kind: &Kind) -> String {
    match kind {
        Kind::End => "EOF".to_owned(),
        Kind::Word(w) if matches!(w.as_str(), "if" | "else" | "end" | "range" | "with" | "define" | "template") => {
            format!("<{w}>")
        }
        Kind::Text(t) => format!("{t:?}"),
        Kind::Open => "\"{{\"".to_owned(),
        Kind::Close => "\"}}\"".to_owned(),
        Kind::Field(name) => format!("<.{name}>"),
        Kind::Variable(name) | Kind::Word(name) | Kind::Number(name) => format!("\"{name}\""),
        Kind::Str(text, _) => format!("{text:?}"),
        Kind::Dot => "<.>".to_owned(),
        Kind::Space => "\" \"".to_owned(),
        Kind::Pipe => "\"|\"".to_owned(),
        Kind::LeftParen => "\"(\"".to_owned(),
        Kind::RightParen => "\")\"".to_owned(),
        Kind::Declare => "\":=\"".to_owned(),
        Kind::Assign => "\"=\"".to_owned(),
        Kind::Comma => "\",\"".to_owned(),
        Kind::Other(c) => format!("\"{c}\""),
    }
}
