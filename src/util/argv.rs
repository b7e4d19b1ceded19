//! Command lines by the rules of Go's pflag, driven by argh's own description of
//! a command: `-it`, `--x=y`, `-p80:80`, `--rm=false`, the last one wins, hidden
//! old names. What comes out is a canonical line that argh then only has to fill
//! into its struct. Pure; used by the client and by the daemon.
//!
//! Invariant: whatever passes here, argh accepts; so every complaint a user sees
//! is worded here, in pflag's words.

use crate::util::units;
use argh::{FlagInfo, FlagInfoKind, Optionality};

/// What is special about one command's line.
#[derive(Clone, Copy)]
pub struct Syntax<'a> {
    pub flags: &'a [FlagInfo<'a>],
    /// Long names (with dashes) of flags that this command lacks though its struct has them.
    pub without: &'a [&'a str],
    /// Hidden names: (old, new). With `true` a notice is due when it is used.
    pub aliases: &'a [(&'a str, &'a str, bool)],
    /// Options end at the first positional (run, exec, create, top).
    pub options_first: bool,
    /// Judges the value of a list flag, named with its dashes.
    pub check: fn(flag: &str, value: &str) -> Result<(), String>,
}

/// One parsed line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Long name with dashes and the canonical value, in order.
    pub options: Vec<(String, String)>,
    pub positionals: Vec<String>,
    pub help: bool,
    /// To be said on stderr before anything else.
    pub notices: Vec<String>,
}

impl Line {
    /// The canonical line for argh: long options, `--`, positionals.
    pub fn argv(&self, flags: &[FlagInfo<'_>]) -> Vec<&str> {
        let mut argv = Vec::with_capacity(self.options.len() * 2 + 1 + self.positionals.len());
        for (name, value) in &self.options {
            let switch = flags.iter().any(|f| f.long == name && matches!(f.kind, FlagInfoKind::Switch));
            match (switch, value.as_str()) {
                (true, "true") => argv.push(name.as_str()),
                (true, _) => {}
                (false, value) => argv.extend([name.as_str(), value]),
            }
        }
        argv.push("--");
        argv.extend(self.positionals.iter().map(String::as_str));
        argv
    }
    /// The value that counts of a flag that is given at most once.
    pub fn last(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// No list of this command has rules of its own.
pub fn no_check(_: &str, _: &str) -> Result<(), String> {
    Ok(())
}

/// Reads `args`; the error is the sentence to print.
pub fn parse(syntax: &Syntax<'_>, args: &[String]) -> Result<Line, String> {
    let mut line = Line::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            line.positionals.extend(rest.cloned());
            break;
        } else if let Some(long) = arg.strip_prefix("--") {
            long_option(syntax, &mut line, arg, long, &mut rest)?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            short_options(syntax, &mut line, &arg[1..], &mut rest)?;
        } else {
            line.positionals.push(arg.clone());
            if syntax.options_first {
                line.positionals.extend(rest.cloned());
                break;
            }
        }
    }
    Ok(line)
}

fn long_option<'i>(
    syntax: &Syntax<'_>,
    line: &mut Line,
    arg: &str,
    body: &str,
    rest: &mut impl Iterator<Item = &'i String>,
) -> Result<(), String> {
    let (name, value) = match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(format!("bad flag syntax: {arg}"));
    }
    let mut wanted = name;
    if let Some((old, new, notice)) = syntax.aliases.iter().find(|(old, ..)| *old == name) {
        if *notice {
            line.notices.push(format!("Flag --{old} has been deprecated, use --{new} instead"));
        }
        wanted = new;
    }
    let flag = find(syntax, |f| f.long.strip_prefix("--") == Some(wanted));
    let Some(flag) = flag else { return Err(format!("unknown flag: --{name}")) };
    let value = match value {
        Some(value) => value,
        None if is_bool(flag) => "true",
        None => rest.next().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
    };
    set(syntax, line, flag, value)
}

fn short_options<'i>(
    syntax: &Syntax<'_>,
    line: &mut Line,
    cluster: &str,
    rest: &mut impl Iterator<Item = &'i String>,
) -> Result<(), String> {
    for (at, c) in cluster.char_indices() {
        let Some(flag) = find(syntax, |f| f.short == Some(c)) else {
            if c == 'h' {
                line.notices.push("Flag shorthand -h has been deprecated, use --help".into());
                line.help = true;
                continue;
            }
            return Err(format!("unknown shorthand flag: {} in -{}", quoted(c), &cluster[at..]));
        };
        let after = &cluster[at + c.len_utf8()..];
        let value = match after.strip_prefix('=') {
            Some(value) if !after.is_empty() => value,
            _ if is_bool(flag) => {
                set(syntax, line, flag, "true")?;
                continue;
            }
            _ if !after.is_empty() => after,
            _ => rest.next().ok_or_else(|| format!("flag needs an argument: {} in -{}", quoted(c), &cluster[at..]))?,
        };
        return set(syntax, line, flag, value);
    }
    Ok(())
}

fn quoted(c: char) -> String {
    format!("'{c}'")
}

fn find<'a>(syntax: &Syntax<'a>, is: impl Fn(&FlagInfo<'_>) -> bool) -> Option<&'a FlagInfo<'a>> {
    syntax.flags.iter().find(|f| is(f) && !syntax.without.contains(&f.long))
}

/// Whether the flag stands alone: a switch, or one that is on unless `=false`.
pub fn is_bool(flag: &FlagInfo<'_>) -> bool {
    matches!(flag.kind, FlagInfoKind::Switch | FlagInfoKind::Option { arg_name: "bool" })
}

fn set(syntax: &Syntax<'_>, line: &mut Line, flag: &FlagInfo<'_>, value: &str) -> Result<(), String> {
    let invalid = |why: String| {
        let names = match flag.short {
            Some(c) => format!("-{c}, {}", flag.long),
            None => flag.long.to_owned(),
        };
        format!("invalid argument {} for \"{names}\" flag: {why}", units::quote(value))
    };
    let value = canonical(flag, value).map_err(invalid)?;
    (syntax.check)(flag.long, &value).map_err(invalid)?;
    if flag.long == "--help" {
        line.help = value == "true";
        return Ok(());
    }
    if flag.optionality != Optionality::Repeating {
        line.options.retain(|(name, _)| name != flag.long);
    }
    line.options.push((flag.long.to_owned(), value));
    Ok(())
}

/// The value by the flag's type word: numbers in decimal, sizes in bytes,
/// durations in nanoseconds, CPUs in billionths.
fn canonical(flag: &FlagInfo<'_>, value: &str) -> Result<String, String> {
    let word = match &flag.kind {
        FlagInfoKind::Switch => "bool",
        FlagInfoKind::Option { arg_name } => arg_name,
    };
    Ok(match word {
        "bool" => units::parse_bool(value)?.to_string(),
        "int" => units::parse_int(value, 64)?.to_string(),
        "uint" => units::parse_uint(value, 63)?.to_string(),
        "uint16" => units::parse_uint(value, 16)?.to_string(),
        "bytes" if flag.long == "--memory-swap" && value == "-1" => value.to_owned(),
        "bytes" => units::parse_bytes(value)?.to_string(),
        "duration" => units::parse_duration(value)?.to_string(),
        "decimal" => units::parse_nano_cpus(value)?.to_string(),
        "filter" if !value.contains('=') => return Err("bad format of filter (expected name=value)".into()),
        _ => value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use argh::{ArgsInfo, FromArgs};

    /// test
    #[derive(FromArgs, ArgsInfo, Debug)]
    #[argh(help_triggers("--help"))]
    #[allow(dead_code)]
    struct T {
        /// a
        #[argh(switch, short = 'i')]
        interactive: bool,
        /// b
        #[argh(switch, short = 't')]
        tty: bool,
        /// c
        #[argh(option, short = 'p', arg_name = "list")]
        publish: Vec<String>,
        /// d
        #[argh(option, arg_name = "bool", default = "true")]
        sig_proxy: bool,
        /// e
        #[argh(option, short = 'm', arg_name = "bytes")]
        memory: Option<i64>,
        /// f
        #[argh(option, arg_name = "string")]
        network: Option<String>,
        #[argh(positional)]
        image: String,
        #[argh(positional, greedy)]
        command: Vec<String>,
    }

    fn read(args: &[&str]) -> Result<Line, String> {
        let info = T::get_args_info();
        let syntax = Syntax {
            flags: info.flags,
            without: &[],
            aliases: &[("net", "network", false), ("mem", "memory", true)],
            options_first: true,
            check: no_check,
        };
        parse(&syntax, &args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    fn fill(args: &[&str]) -> T {
        let line = read(args).unwrap();
        T::from_args(&["t"], &line.argv(T::get_args_info().flags)).unwrap()
    }

    #[test]
    fn pflag_forms() {
        let t =
            fill(&["-it", "-p80:80", "-p=81:81", "--net=host", "-m", "1k", "busybox", "sh", "-c", "help", "--", "-"]);
        assert!(t.interactive && t.tty && t.sig_proxy);
        assert_eq!(t.publish, ["80:80", "81:81"]);
        assert_eq!(t.network.as_deref(), Some("host"));
        assert_eq!(t.memory, Some(1024));
        assert_eq!((t.image.as_str(), t.command.join(" ").as_str()), ("busybox", "sh -c help -- -"));
        let t = fill(&["--tty", "--tty=false", "--sig-proxy=false", "--network", "a", "--network", "b", "--", "-x"]);
        assert!(!t.tty && !t.sig_proxy);
        assert_eq!((t.network.as_deref(), t.image.as_str()), (Some("b"), "-x"));
    }

    #[test]
    fn complaints() {
        assert_eq!(read(&["--foo=1"]).unwrap_err(), "unknown flag: --foo");
        assert_eq!(read(&["-izt"]).unwrap_err(), "unknown shorthand flag: 'z' in -zt");
        assert_eq!(read(&["-ip"]).unwrap_err(), "flag needs an argument: 'p' in -p");
        assert_eq!(read(&["--network"]).unwrap_err(), "flag needs an argument: --network");
        assert_eq!(read(&["-mx"]).unwrap_err(), "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'");
        assert_eq!(read(&["--mem", "1"]).unwrap().notices, ["Flag --mem has been deprecated, use --memory instead"]);
        assert!(read(&["-h"]).unwrap().help && read(&["--help", "x"]).unwrap().help);
    }
}
