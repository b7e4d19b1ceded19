//! Lines → typed instructions, with every flag and form checked. Variables stay
//! as written: their values are known only when the stage runs. Pure.

use super::parser::{Heredoc, Node, heredoc_marker, raw_words};
use crate::util::json;

/// What is wrong with one instruction; the caller adds file, line and column.
pub type Result<T> = std::result::Result<T, String>;

/// `["a","b"]` or text for a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Exec(Vec<String>),
    Shell(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    From { image: String, platform: Option<String>, name: Option<String> },
    Run(Run),
    Cmd(Command),
    Entrypoint(Command),
    Label(Vec<(String, String)>),
    Maintainer(String),
    Expose(Vec<String>),
    Env(Vec<(String, String)>),
    Copy(Transfer),
    Add(Transfer),
    Volume(Vec<String>),
    User(String),
    Workdir(String),
    Arg(Vec<(String, Option<String>)>),
    Onbuild(String),
    Stopsignal(String),
    Healthcheck(Healthcheck),
    Shell(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub command: Command,
    pub heredocs: Vec<Heredoc>,
    /// `--mount` values as written.
    pub mounts: Vec<String>,
    pub network: Option<String>,
    pub security: Option<String>,
    pub devices: Vec<String>,
}

/// COPY and ADD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transfer {
    /// As written; a heredoc stands as its `<<NAME`.
    pub sources: Vec<String>,
    pub destination: String,
    pub heredocs: Vec<Heredoc>,
    /// JSON form: words are not split again.
    pub exec_form: bool,
    pub from: Option<String>,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    pub checksum: Option<String>,
    pub link: bool,
    pub parents: bool,
    pub keep_git_dir: bool,
    /// ADD: none = local archives yes, URLs no.
    pub unpack: Option<bool>,
    pub excludes: Vec<String>,
}

/// Options in nanoseconds as given; `test` as stored in the image config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healthcheck {
    pub test: Vec<String>,
    pub interval: Option<String>,
    pub timeout: Option<String>,
    pub start_period: Option<String>,
    pub start_interval: Option<String>,
    pub retries: Option<String>,
}

/// Gives a node its meaning.
pub fn interpret(node: &Node, escape: char) -> Result<Instruction> {
    let mut flags = Flags::new(node);
    let keyword = node.keyword.as_str();
    if node.args.is_empty() && node.heredocs.is_empty() && !matches!(keyword, "CMD" | "ENTRYPOINT") {
        return match keyword {
            "FROM" => Err("FROM requires either one or three arguments".into()),
            "COPY" | "ADD" => Err(format!(
                "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
            )),
            "WORKDIR" | "USER" | "STOPSIGNAL" | "MAINTAINER" => Err(format!("{keyword} requires exactly one argument")),
            _ if is_known(keyword) => Err(format!("{keyword} requires at least one argument")),
            _ => Err(unknown(keyword)),
        };
    }
    let args = node.args.as_str();
    let instruction = match keyword {
        "FROM" => from(args, &mut flags)?,
        "RUN" => run(node, &mut flags)?,
        "CMD" => Instruction::Cmd(command(args)),
        "ENTRYPOINT" => Instruction::Entrypoint(command(args)),
        "LABEL" => Instruction::Label(pairs("LABEL", args, escape)?),
        "ENV" => Instruction::Env(pairs("ENV", args, escape)?),
        "MAINTAINER" => Instruction::Maintainer(args.to_owned()),
        "EXPOSE" => Instruction::Expose(args.split_whitespace().map(str::to_owned).collect()),
        "COPY" => Instruction::Copy(transfer(node, &mut flags, escape)?),
        "ADD" => Instruction::Add(transfer(node, &mut flags, escape)?),
        "VOLUME" => Instruction::Volume(volume(args)?),
        "USER" => Instruction::User(args.to_owned()),
        "WORKDIR" => Instruction::Workdir(args.to_owned()),
        "STOPSIGNAL" => Instruction::Stopsignal(one("STOPSIGNAL", args)?),
        "ARG" => Instruction::Arg(arguments(args, escape)?),
        "ONBUILD" => Instruction::Onbuild(onbuild(node)?),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck(args, &mut flags)?),
        "SHELL" => match command(args) {
            Command::Exec(words) if !words.is_empty() => Instruction::Shell(words),
            Command::Exec(_) => return Err("SHELL requires at least one argument".into()),
            Command::Shell(_) => return Err("SHELL requires the arguments to be in JSON form".into()),
        },
        other => return Err(unknown(other)),
    };
    flags.finish(keyword)?;
    Ok(instruction)
}

const KEYWORDS: &[&str] = &[
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
];

fn is_known(keyword: &str) -> bool {
    KEYWORDS.contains(&keyword)
}

/// Names the nearest keyword where a typing error is likely.
fn unknown(keyword: &str) -> String {
    // Of equally near ones, the one that begins alike: the first letter is rarely wrong.
    let rank = |k: &'static str| (distance(k, keyword), k.as_bytes().first() != keyword.as_bytes().first(), k);
    match KEYWORDS.iter().map(|k| rank(k)).min().filter(|(d, _, _)| *d <= 2) {
        Some((_, _, k)) => format!("unknown instruction: {keyword} (did you mean {k}?)"),
        None => format!("unknown instruction: {keyword}"),
    }
}

/// Levenshtein distance; both words are short (a keyword, and at most 32 bytes of the other).
pub fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(32).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replace = corner + usize::from(ca != *cb);
            corner = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

/// The flags of one instruction; what nobody takes is unknown.
struct Flags {
    left: Vec<(String, Option<String>)>,
}

impl Flags {
    fn new(node: &Node) -> Self {
        let split = |flag: &String| match flag.trim_start_matches("--").split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (flag.trim_start_matches("--").to_owned(), None),
        };
        Self { left: node.flags.iter().map(split).collect() }
    }

    fn all(&mut self, name: &str) -> Result<Vec<String>> {
        let (taken, left) = std::mem::take(&mut self.left).into_iter().partition(|(n, _)| n == name);
        self.left = left;
        let taken: Vec<(String, Option<String>)> = taken;
        taken.into_iter().map(|(n, v)| v.ok_or_else(|| format!("missing a value on flag: {n}"))).collect()
    }

    fn one(&mut self, name: &str) -> Result<Option<String>> {
        let mut values = self.all(name)?;
        if values.len() > 1 {
            return Err(format!("duplicate flag specified: {name}"));
        }
        Ok(values.pop())
    }

    fn switch(&mut self, name: &str) -> Result<Option<bool>> {
        let Some(at) = self.left.iter().position(|(n, _)| n == name) else { return Ok(None) };
        let (_, value) = self.left.remove(at);
        match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "1" | "t") => Ok(Some(true)),
            Some("false" | "0" | "f") => Ok(Some(false)),
            Some(other) => Err(format!("expecting boolean value for flag {name}, not: {other}")),
        }
    }

    fn finish(self, keyword: &str) -> Result<()> {
        match self.left.first() {
            None => Ok(()),
            Some((name, _))
                if matches!(
                    keyword,
                    "CMD"
                        | "ENTRYPOINT"
                        | "LABEL"
                        | "ENV"
                        | "EXPOSE"
                        | "USER"
                        | "WORKDIR"
                        | "VOLUME"
                        | "ARG"
                        | "SHELL"
                        | "STOPSIGNAL"
                        | "MAINTAINER"
                ) =>
            {
                Err(format!("unknown flag: --{name} ({keyword} has no flags)"))
            }
            Some((name, _)) => Err(format!("unknown flag: --{name}")),
        }
    }
}

/// The JSON form, else text: what does not parse as an array of strings is for the shell.
pub fn command(args: &str) -> Command {
    let words = match json::from_str(args) {
        Ok(serde_json::Value::Array(words)) => words,
        _ => return Command::Shell(args.to_owned()),
    };
    match words.iter().map(|w| w.as_str().map(str::to_owned)).collect() {
        Some(words) => Command::Exec(words),
        None => Command::Shell(args.to_owned()),
    }
}

fn one(keyword: &str, args: &str) -> Result<String> {
    let mut words = args.split_whitespace();
    match (words.next(), words.next()) {
        (Some(word), None) => Ok(word.to_owned()),
        _ => Err(format!("{keyword} requires exactly one argument")),
    }
}

fn from(args: &str, flags: &mut Flags) -> Result<Instruction> {
    let platform = flags.one("platform")?;
    let words: Vec<&str> = args.split_whitespace().collect();
    let name = match words.as_slice() {
        [_] => None,
        [_, keyword, name] if keyword.eq_ignore_ascii_case("as") => Some(stage_name(name)?),
        _ => return Err("FROM requires either one or three arguments".into()),
    };
    Ok(Instruction::From { image: words[0].to_owned(), platform, name })
}

fn stage_name(name: &str) -> Result<String> {
    let name = name.to_ascii_lowercase();
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
    if !good {
        return Err(format!(
            "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
        ));
    }
    Ok(name)
}

fn run(node: &Node, flags: &mut Flags) -> Result<Instruction> {
    let mounts = flags.all("mount")?;
    let (network, security, devices) = (flags.one("network")?, flags.one("security")?, flags.all("device")?);
    if let Some(network) = &network
        && !matches!(network.as_str(), "default" | "none" | "host")
    {
        return Err(format!("invalid network mode: {network:?}"));
    }
    if let Some(security) = &security
        && !matches!(security.as_str(), "sandbox" | "insecure")
    {
        return Err(format!("security {security:?} is not valid"));
    }
    let command = command(&node.args);
    Ok(Instruction::Run(Run { command, heredocs: node.heredocs.clone(), mounts, network, security, devices }))
}

/// `k=v k2="v 2"` or the old `k rest of the line`.
fn pairs(keyword: &str, args: &str, escape: char) -> Result<Vec<(String, String)>> {
    let words = raw_words(args, Some(escape));
    if words.first().is_some_and(|w| !w.contains('=')) {
        let (key, value) =
            args.split_once(char::is_whitespace).ok_or_else(|| format!("{keyword} must have two arguments"))?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err(format!("{keyword} names can not be blank")),
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value")),
        })
        .collect()
}

fn arguments(args: &str, escape: char) -> Result<Vec<(String, Option<String>)>> {
    let words = raw_words(args, Some(escape));
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err("ARG names can not be blank".into()),
            Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
            None => Ok((word, None)),
        })
        .collect()
}

fn transfer(node: &Node, flags: &mut Flags, escape: char) -> Result<Transfer> {
    let (mut words, exec_form) = match command(&node.args) {
        Command::Exec(words) => (words, true),
        Command::Shell(text) => (raw_words(&text, Some(escape)), false),
    };
    if words.len() < 2 {
        return Err(format!(
            "{} requires at least two arguments, but only one was provided. Destination could not be determined",
            node.keyword
        ));
    }
    let destination = words.pop().unwrap_or_default();
    if !exec_form && heredoc_marker(&destination).is_some() {
        return Err(format!("{} cannot accept a heredoc as a destination", node.keyword));
    }
    let add = node.keyword == "ADD";
    Ok(Transfer {
        sources: words,
        destination,
        heredocs: node.heredocs.clone(),
        exec_form,
        from: if add { None } else { flags.one("from")? },
        chown: flags.one("chown")?,
        chmod: flags.one("chmod")?,
        checksum: if add { flags.one("checksum")? } else { None },
        link: flags.switch("link")?.unwrap_or(false),
        parents: !add && flags.switch("parents")?.unwrap_or(false),
        keep_git_dir: add && flags.switch("keep-git-dir")?.unwrap_or(false),
        unpack: if add { flags.switch("unpack")? } else { None },
        excludes: flags.all("exclude")?,
    })
}

fn volume(args: &str) -> Result<Vec<String>> {
    let volumes = match command(args) {
        Command::Exec(words) => words,
        Command::Shell(text) => text.split_whitespace().map(str::to_owned).collect(),
    };
    if volumes.iter().any(|v| v.trim().is_empty()) {
        return Err("VOLUME specified can not be an empty string".into());
    }
    Ok(volumes)
}

fn onbuild(node: &Node) -> Result<String> {
    let inner = node.args.split_whitespace().next().unwrap_or("").to_ascii_uppercase();
    match inner.as_str() {
        "ONBUILD" => Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into()),
        "FROM" | "MAINTAINER" => Err(format!("{inner} isn't allowed as an ONBUILD trigger")),
        other if !is_known(other) => Err(unknown(other)),
        _ => {
            // The bodies of heredocs are part of the stored trigger.
            let mut trigger = node.args.clone();
            for heredoc in &node.heredocs {
                trigger.push('\n');
                trigger.push_str(&heredoc.content);
                trigger.push_str(&heredoc.name);
            }
            Ok(trigger)
        }
    }
}

fn healthcheck(args: &str, flags: &mut Flags) -> Result<Healthcheck> {
    let (kind, rest) = args.split_once(char::is_whitespace).unwrap_or((args, ""));
    let mut check = Healthcheck {
        interval: flags.one("interval")?,
        timeout: flags.one("timeout")?,
        start_period: flags.one("start-period")?,
        start_interval: flags.one("start-interval")?,
        retries: flags.one("retries")?,
        ..Healthcheck::default()
    };
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.trim().is_empty() => vec!["NONE".into()],
        "NONE" => return Err("HEALTHCHECK NONE takes no arguments".into()),
        "CMD" => match command(rest.trim()) {
            Command::Exec(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            Command::Shell(text) if text.is_empty() => return Err("Missing command after HEALTHCHECK CMD".into()),
            Command::Shell(text) => vec!["CMD-SHELL".into(), text],
        },
        other => return Err(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")),
    };
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::super::parser::parse;
    use super::*;

    fn of(line: &str) -> Result<Instruction> {
        interpret(&parse(line).unwrap().nodes[0], '\\')
    }

    #[test]
    fn forms() {
        assert_eq!(
            of("FROM --platform=$BUILDPLATFORM a:1 AS Base").unwrap(),
            Instruction::From {
                image: "a:1".into(),
                platform: Some("$BUILDPLATFORM".into()),
                name: Some("base".into())
            }
        );
        assert_eq!(of("CMD [\"a\", \"b\"]").unwrap(), Instruction::Cmd(Command::Exec(vec!["a".into(), "b".into()])));
        assert_eq!(of("CMD [a]").unwrap(), Instruction::Cmd(Command::Shell("[a]".into())));
        assert_eq!(
            of("ENV a=1 b=\"2 3\"").unwrap(),
            Instruction::Env(vec![("a".into(), "1".into()), ("b".into(), "\"2 3\"".into())])
        );
        assert_eq!(of("ENV a 1  2").unwrap(), Instruction::Env(vec![("a".into(), "1  2".into())]));
        assert_eq!(
            of("ARG a b=c").unwrap(),
            Instruction::Arg(vec![("a".into(), None), ("b".into(), Some("c".into()))])
        );
        let Instruction::Copy(copy) = of("COPY --link --from=x --chmod=755 a b /c/").unwrap() else { panic!() };
        assert_eq!(
            (copy.sources.len(), copy.destination.as_str(), copy.link, copy.from.as_deref()),
            (2, "/c/", true, Some("x"))
        );
        let Instruction::Healthcheck(check) = of("HEALTHCHECK --interval=5s CMD curl -f x").unwrap() else { panic!() };
        assert_eq!(check.test, ["CMD-SHELL", "curl -f x"]);
        assert_eq!(of("ONBUILD RUN x").unwrap(), Instruction::Onbuild("RUN x".into()));
    }

    #[test]
    fn errors() {
        for (line, part) in [
            ("FROM a b", "either one or three"),
            ("FROM a AS 1x", "invalid name for build stage"),
            ("COPY a", "at least two arguments"),
            ("COPY --nope a b", "unknown flag: --nope"),
            ("COPY --checksum=x a b", "unknown flag: --checksum"),
            ("RNU x", "unknown instruction: RNU (did you mean RUN?)"),
            ("ENV a", "must have two arguments"),
            ("ENV =x", "names can not be blank"),
            ("SHELL sh", "JSON form"),
            ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD"),
            ("HEALTHCHECK FOO", "Unknown type"),
            ("VOLUME [\"\"]", "empty string"),
            ("RUN --network=foo x", "invalid network mode"),
            ("COPY a <<EOF\nEOF", "heredoc as a destination"),
            ("WORKDIR", "exactly one argument"),
        ] {
            let message = of(line).unwrap_err();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
