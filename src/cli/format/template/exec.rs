//! Walks a parsed template over a value. Pure.
//!
//! `at` follows Go's: the node last looked at is the one that an error names.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::rc::Rc;

use super::funcs;
use super::parse::{Arg, ArgKind, Branch, Call, Command, List, Node, Pipe};
use crate::cli::format::{gotypes, shape, value::Value};

/// Templates that call themselves end here.
const MAX_DEPTH: usize = 500;

pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

pub(super) struct Exec<'t> {
    pub source: &'t str,
    pub name: &'t str,
    pub named: &'t HashMap<String, List>,
    pub header: bool,
    pub out: String,
    pub variables: Vec<(&'t str, Value)>,
    pub at: Option<(usize, &'t dyn fmt::Display)>,
    pub depth: usize,
}

type Result<T> = std::result::Result<T, String>;

impl<'t> Exec<'t> {
    fn fail<T>(&self, message: impl fmt::Display) -> Result<T> {
        let Some((pos, node)) = self.at else {
            return Err(format!("template: {}: {message}", self.name));
        };
        let before = &self.source[..pos.min(self.source.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rfind('\n').map_or(pos, |n| pos - n - 1);
        let name = self.name;
        Err(format!("template: {name}:{line}:{column}: executing {name:?} at <{node}>: {message}"))
    }

    pub(super) fn list(&mut self, dot: &Value, list: &'t List) -> Result<Flow> {
        for node in list {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Action(pipe) => {
                    let value = self.pipe(dot, pipe)?;
                    if pipe.variables.is_empty() {
                        let _ = write!(self.out, "{value}");
                    }
                }
                Node::If(branch) | Node::With(branch) => {
                    let scope = self.variables.len();
                    let value = self.pipe(dot, &branch.pipe)?;
                    let inner = if matches!(node, Node::With(_)) { &value } else { dot };
                    let flow = if value.truth() {
                        self.list(inner, &branch.then)?
                    } else {
                        self.list(dot, &branch.otherwise)?
                    };
                    self.variables.truncate(scope);
                    if !matches!(flow, Flow::Next) {
                        return Ok(flow);
                    }
                }
                Node::Range(branch) => {
                    let scope = self.variables.len();
                    let flow = self.range(dot, branch)?;
                    self.variables.truncate(scope);
                    if !matches!(flow, Flow::Next) {
                        return Ok(flow);
                    }
                }
                Node::Template(call) => self.call_template(dot, call)?,
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
            }
        }
        Ok(Flow::Next)
    }

    fn call_template(&mut self, dot: &Value, call: &'t Call) -> Result<()> {
        self.at = Some((call.pos, call));
        let named = self.named;
        let Some(list) = named.get(&call.name) else {
            return self.fail(format!("template {:?} not defined", call.name));
        };
        if self.depth == MAX_DEPTH {
            return self.fail(format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        let inner = match &call.pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Value::Missing,
        };
        self.depth += 1;
        let outer = std::mem::replace(&mut self.variables, vec![("$", inner.clone())]);
        self.list(&inner, list)?;
        self.variables = outer;
        self.depth -= 1;
        Ok(())
    }

    fn range(&mut self, dot: &Value, branch: &'t Branch) -> Result<Flow> {
        let scope = self.variables.len();
        let value = self.commands(dot, &branch.pipe)?.open();
        let items: Vec<(Value, Value)> = match &value {
            Value::List(items) => items.iter().enumerate().map(|(i, v)| (Value::Int(i as i128), v.clone())).collect(),
            Value::Map(m) => Value::sorted(m).into_iter().map(|(k, v)| (Value::Str(k), v)).collect(),
            Value::Int(n) => (0..(*n).max(0)).map(|i| (Value::Int(i), Value::Int(i))).collect(),
            Value::Missing | Value::Nil | Value::NilList | Value::NilMap => Vec::new(),
            other => return self.fail(format!("range can't iterate over {other}")),
        };
        if items.is_empty() {
            return self.list(dot, &branch.otherwise);
        }
        for (key, item) in items {
            self.variables.truncate(scope);
            match branch.pipe.variables.as_slice() {
                [] => {}
                [one] => self.bind(&branch.pipe, one, item.clone()),
                [first, second, ..] => {
                    self.bind(&branch.pipe, first, key);
                    self.bind(&branch.pipe, second, item.clone());
                }
            }
            if let Flow::Break = self.list(&item, &branch.then)? {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn bind(&mut self, pipe: &'t Pipe, name: &'t str, value: Value) {
        if !pipe.assigns {
            self.variables.push((name, value));
        } else if let Some(slot) = self.variables.iter_mut().rev().find(|(n, _)| *n == name) {
            slot.1 = value;
        }
    }

    /// The value of a pipeline, its variables set.
    fn pipe(&mut self, dot: &Value, pipe: &'t Pipe) -> Result<Value> {
        let value = self.commands(dot, pipe)?;
        for name in &pipe.variables {
            self.bind(pipe, name, value.clone());
        }
        Ok(value)
    }

    fn commands(&mut self, dot: &Value, pipe: &'t Pipe) -> Result<Value> {
        self.at = Some((pipe.pos, pipe));
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(dot, command, last)?);
        }
        Ok(last.unwrap_or(Value::Missing))
    }

    fn command(&mut self, dot: &Value, command: &'t Command, last: Option<Value>) -> Result<Value> {
        let first = &command.args[0];
        let rest = &command.args[1..];
        match &first.kind {
            ArgKind::Field(names) => {
                self.at = Some((first.pos, first));
                self.fields(dot, dot.clone(), names, first, rest, last)
            }
            ArgKind::Chain(inner, names) => {
                self.at = Some((first.pos, first));
                if matches!(inner.kind, ArgKind::Nil) {
                    return self.fail("indirection through explicit nil in ".to_owned() + &first.to_string());
                }
                let value = self.arg(dot, inner)?;
                self.fields(dot, value, names, first, rest, last)
            }
            ArgKind::Variable(names) => {
                self.at = Some((first.pos, first));
                let value = self.variable(&names[0]);
                if names.len() == 1 {
                    self.no_args(first, rest, &last)?;
                    return Ok(value);
                }
                self.fields(dot, value, &names[1..], first, rest, last)
            }
            ArgKind::Function(name) => {
                self.at = Some((first.pos, first));
                self.function(dot, name, command, rest, last)
            }
            ArgKind::Pipe(pipe) => {
                self.no_args(first, rest, &last)?;
                self.pipe(dot, pipe)
            }
            _ => {
                self.at = Some((first.pos, first));
                self.no_args(first, rest, &last)?;
                if matches!(first.kind, ArgKind::Nil) {
                    return self.fail("nil is not a command");
                }
                self.arg(dot, first)
            }
        }
    }

    fn no_args(&self, first: &Arg, rest: &[Arg], last: &Option<Value>) -> Result<()> {
        if rest.is_empty() && last.is_none() {
            return Ok(());
        }
        self.fail(format!("can't give argument to non-function {first}"))
    }

    fn variable(&self, name: &str) -> Value {
        self.variables.iter().rev().find(|(n, _)| *n == name).map_or(Value::Missing, |(_, v)| v.clone())
    }

    fn arg(&mut self, dot: &Value, arg: &'t Arg) -> Result<Value> {
        self.at = Some((arg.pos, arg));
        match &arg.kind {
            ArgKind::Field(names) => self.fields(dot, dot.clone(), names, arg, &[], None),
            ArgKind::Variable(names) => {
                let value = self.variable(&names[0]);
                self.fields(dot, value, &names[1..], arg, &[], None)
            }
            ArgKind::Chain(inner, names) => {
                let value = self.arg(dot, inner)?;
                self.fields(dot, value, names, arg, &[], None)
            }
            ArgKind::Function(name) => {
                self.at = Some((arg.pos, arg));
                let values = self.checked(name, Vec::new(), &[])?;
                self.apply(name, &values)
            }
            ArgKind::Pipe(pipe) => self.pipe(dot, pipe),
            ArgKind::Dot => Ok(dot.clone()),
            ArgKind::Nil => Ok(Value::Missing),
            ArgKind::Bool(b) => Ok(Value::Bool(*b)),
            ArgKind::Number(value) => Ok(value.clone()),
            ArgKind::Str(_, value) => Ok(Value::str(value)),
        }
    }

    /// `value.a.b.c`; arguments belong to the last name.
    fn fields(
        &mut self,
        dot: &Value,
        mut value: Value,
        names: &[String],
        node: &'t Arg,
        args: &'t [Arg],
        last: Option<Value>,
    ) -> Result<Value> {
        let Some((final_name, path)) = names.split_last() else { return Ok(value) };
        for name in path {
            value = self.field(&value, name)?;
            if let Value::Go(ty, raw) = &value
                && gotypes::is_nil(ty, raw)
            {
                // Left out of the JSON, which is what the error is about.
                return self.fail(format!("map has no entry for key {name:?}"));
            }
        }
        if args.is_empty() && last.is_none() && !(matches!(value, Value::Object(_)) && final_name == "Label") {
            return self.field(&value, final_name);
        }
        let mut values = Vec::new();
        for arg in args {
            values.push(self.arg(dot, arg)?);
        }
        values.extend(last);
        self.at = Some((node.pos, node));
        self.method(&value, final_name, &values)
    }

    fn method(&self, value: &Value, name: &str, args: &[Value]) -> Result<Value> {
        match value {
            Value::Object(row) if name == "Label" && row.label("").is_some() => match args {
                [Value::Str(key)] => Ok(row.label(key).unwrap_or(Value::Missing)),
                [other] => self.fail(format!("wrong type for value; expected string; got {}", other.type_name())),
                _ => self.fail(format!("wrong number of args for Label: want 1 got {}", args.len())),
            },
            Value::Object(row) if row.field(name).is_some() => {
                self.fail(format!("wrong number of args for {name}: want 0 got {}", args.len()))
            }
            Value::Map(_) => self.fail(format!("{name} is not a method but has arguments")),
            other => {
                self.field(other, name)?;
                self.fail(format!("{name} has arguments but cannot be invoked as function"))
            }
        }
    }

    fn field(&self, value: &Value, name: &str) -> Result<Value> {
        match value {
            Value::Map(_) => match value.get(name) {
                Some(found) => Ok(found.clone()),
                None => Ok(Value::Missing),
            },
            Value::NilMap => Ok(Value::Missing),
            Value::Struct(s) => match value.get(name).cloned().or_else(|| shape::renamed(value, name)) {
                Some(found) => Ok(found),
                None => self.fail(format!("can't evaluate field {name} in type {}", s.type_name)),
            },
            Value::Object(row) => match row.field(name) {
                Some(found) => Ok(found),
                None => self.fail(format!("can't evaluate field {name} in type {}", row.type_name())),
            },
            Value::Go(ty, raw) => self.typed_field(ty, raw, name),
            Value::Missing => Ok(Value::Missing),
            Value::Nil => self.fail(format!("nil pointer evaluating interface {{}}.{name}")),
            other => self.fail(format!("can't evaluate field {name} in type {}", other.type_name())),
        }
    }

    /// By the type, else by the JSON, whose errors are the last word.
    fn typed_field(&self, ty: &'static str, raw: &Value, name: &str) -> Result<Value> {
        if let Some(found) = gotypes::member(ty, raw, name) {
            return Ok(found);
        }
        match raw.get(name) {
            Some(found) => Ok(Value::Go(gotypes::RAW, Rc::new(found.clone()))),
            None if matches!(gotypes::open(ty, raw), Value::Map(_) | Value::NilMap) && ty != gotypes::RAW => {
                Ok(Value::Missing)
            }
            None if matches!(raw, Value::Map(_)) => self.fail(format!("map has no entry for key {name:?}")),
            None => self.fail(format!("can't evaluate field {name} in type interface {{}}")),
        }
    }

    fn function(
        &mut self,
        dot: &Value,
        name: &'t str,
        command: &'t Command,
        args: &'t [Arg],
        last: Option<Value>,
    ) -> Result<Value> {
        let count = args.len() + usize::from(last.is_some());
        self.arity(name, count)?;
        if matches!(name, "and" | "or") {
            // The rest is not looked at once the answer stands.
            let mut value = Value::Missing;
            for arg in args {
                value = self.arg(dot, arg)?;
                if value.truth() == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut values = Vec::with_capacity(count);
        for (i, arg) in args.iter().enumerate() {
            let value = self.arg(dot, arg)?;
            self.suits(name, i, &value, Some(arg))?;
            values.push(value);
        }
        if let Some(last) = last {
            self.suits(name, values.len(), &last, None)?;
            values.push(last);
        }
        self.at = Some((command.pos, command));
        self.apply(name, &values)
    }

    fn checked(&self, name: &str, values: Vec<Value>, _args: &[Arg]) -> Result<Vec<Value>> {
        self.arity(name, values.len())?;
        Ok(values)
    }

    fn arity(&self, name: &str, count: usize) -> Result<()> {
        match funcs::arity(name) {
            (least, None) if count < least => {
                self.fail(format!("wrong number of args for {name}: want at least {least} got {count}"))
            }
            (_, Some(exactly)) if count != exactly => {
                self.fail(format!("wrong number of args for {name}: want {exactly} got {count}"))
            }
            _ => Ok(()),
        }
    }

    /// Go checks constants while it reads them and other values by their type.
    fn suits(&self, name: &str, index: usize, value: &Value, arg: Option<&Arg>) -> Result<()> {
        let Some((wanted, type_name)) = funcs::wanted(name, index) else { return Ok(()) };
        if wanted(&value.open()) || (self.header && name != "truncate" && name != "pad") {
            return Ok(());
        }
        let constant = arg.filter(|a| matches!(a.kind, ArgKind::Bool(_) | ArgKind::Number(_) | ArgKind::Str(..)));
        match constant {
            Some(arg) => {
                let plain = if type_name == "int" { "integer" } else { type_name };
                self.fail(format!("expected {plain}; found {arg}"))
            }
            None => self.fail(format!("wrong type for value; expected {type_name}; got {}", value.type_name())),
        }
    }

    fn apply(&self, name: &str, values: &[Value]) -> Result<Value> {
        if self.header
            && let Some(first) = values.first()
            && matches!(name, "json" | "split" | "join" | "title" | "lower" | "upper" | "truncate")
        {
            // Docker's header functions leave the column's name alone.
            return Ok(first.clone());
        }
        match funcs::call(name, values) {
            Ok(value) => Ok(value),
            Err(message) => self.fail(format!("error calling {name}: {message}")),
        }
    }
}

/// `dot` and the outermost `$`.
pub(super) fn root(value: &Value) -> Vec<(&'static str, Value)> {
    vec![("$", value.clone())]
}

/// The words above the columns of a `table` template: every missing one reads
/// `<no value>`, and `.Label "a.b-c"` reads `b c`.
pub struct Header(pub Vec<(&'static str, &'static str)>);

impl crate::cli::format::value::Object for Header {
    fn type_name(&self) -> &'static str {
        "formatter.SubHeaderContext"
    }
    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
    fn field(&self, name: &str) -> Option<Value> {
        Some(self.0.iter().find(|(n, _)| *n == name).map_or(Value::Missing, |(_, h)| Value::str(h)))
    }
    fn label(&self, key: &str) -> Option<Value> {
        let last = key.rsplit('.').next().unwrap_or(key);
        Some(Value::Str(Rc::from(last.replace(['-', '_'], " "))))
    }
}
