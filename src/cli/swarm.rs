//! Commands of swarm mode, managed plugins and content trust: this engine has none
//! of them, and says so. What a daemon has to say about it is asked first: its
//! sentence is the one that scripts know.

use crate::cli::context::Context;
use crate::cli::format::table;
use crate::cli::tree::Verb;
use crate::client::{Client, Request, segment};
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::io::Write;
use std::process::ExitCode;

/// A command whose flags are not looked at
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Raw {
    #[argh(positional, greedy)]
    pub line: Vec<String>,
}

impl Verb for Raw {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let command = cx.command.trim_start_matches("docker ").to_owned();
        let (group, verb) = command.split_once(' ').unwrap_or((&command, ""));
        let absent = || Error::not_implemented(format!("docker {command}: not part of this client"));
        if group == "trust" {
            return Err(
                absent().with_hint("Images are identified by digest; signatures of this kind are not supported.")
            );
        }
        let client = cx.client()?;
        let name = self.line.iter().find(|w| !w.starts_with('-')).map_or("", String::as_str);
        if verb == "inspect" {
            // The empty array that inspect prints before what went wrong.
            writeln!(cx.out, "[]")?;
        }
        match (group, verb) {
            ("plugin", "ls" | "list") => return plugins(cx, &client),
            ("plugin", "create") => client.post("/plugins/create").query("name", name).done()?,
            ("plugin", "install") => client.post("/plugins/pull").query("remote", name).done()?,
            ("plugin", _) => plugin(&client, verb, name).done()?,
            ("volume", "update") => {
                client.get(format!("/volumes/{}", segment(name))).done()?;
                return Err(Error::invalid("can only update cluster volumes"));
            }
            ("swarm", "init") => {
                let body = serde_json::json!({ "ListenAddr": "0.0.0.0:2377" });
                client.post("/swarm/init").json_body(&body)?.done()?;
            }
            ("swarm", "join") => {
                let body = serde_json::json!({ "RemoteAddrs": [name] });
                client.post("/swarm/join").json_body(&body)?.done()?;
            }
            ("swarm", "leave") => {
                let force = self.line.iter().any(|w| w == "-f" || w == "--force");
                client.post("/swarm/leave").query_if("force", force).done()?;
            }
            ("swarm", "unlock") => client.get("/info").done()?,
            ("swarm", "unlock-key") => {
                client.get("/swarm/unlockkey").done().map_err(|e| e.context("could not fetch unlock key"))?;
            }
            ("swarm", _) => client.get("/swarm").done()?,
            ("node", _) => client.get("/nodes").done()?,
            ("secret", _) => client.get("/secrets").done()?,
            ("config", _) => client.get("/configs").done()?,
            _ => client.get("/services").done()?,
        }
        Err(absent())
    }
}

fn plugin<'c>(client: &'c Client, verb: &str, name: &str) -> Request<'c> {
    let path = format!("/plugins/{}", segment(name));
    match verb {
        "rm" | "remove" => client.delete(path),
        "enable" => client.post(format!("{path}/enable")).query("timeout", "30"),
        "disable" => client.post(format!("{path}/disable")),
        "push" => client.post(format!("{path}/push")),
        "set" => client.post(format!("{path}/set")),
        "upgrade" => client.post(format!("{path}/upgrade")),
        _ => client.get(format!("{path}/json")),
    }
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Plugin {
    id: String,
    name: String,
    enabled: bool,
    config: PluginConfig,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct PluginConfig {
    description: String,
}

fn plugins(cx: &mut Context, client: &Client) -> Result<ExitCode> {
    let found: Vec<Plugin> = client.get("/plugins").json()?;
    let mut text = String::from("ID\tNAME\tDESCRIPTION\tENABLED\n");
    for p in &found {
        let id = crate::util::id::short(&p.id);
        text.push_str(&format!("{id}\t{}\t{}\t{}\n", p.name, p.config.description, p.enabled));
    }
    cx.out.write_all(table::align(&text, table::LIST).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
