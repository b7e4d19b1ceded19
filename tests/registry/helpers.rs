//! Credential helpers (`docker-credential-NAME` in PATH) and `docker search`, by
//! both clients: what ours says is what the original says.

use super::scripted::{Reply, Scripted};
use super::{real, tokens};
use crate::harness::registry::Registry;
use crate::harness::{Client, Daemon, Output, command, probe};
use crate::need;
use std::os::unix::fs::PermissionsExt;

/// Keeps each server's entry in a file of its own, as it came.
const HELPER: &str = r#"#!/bin/sh
cd "$HOME/kept" || exit 9
echo "$1" >>"$HOME/calls"
case $1 in
store)
    entry=$(cat)
    name=$(printf %s "$entry" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | tr / _)
    printf %s "$entry" >"$name" ;;
get)
    name=$(tr / _)
    [ -f "$name" ] || { echo "credentials not found in native keychain"; exit 1; }
    cat "$name" ;;
erase) rm -f "$(tr / _)" ;;
list)
    for name in *; do
        [ -f "$name" ] && sed 's/.*"ServerURL":"\([^"]*\)","Username":"\([^"]*\)".*/{"\1":"\2"}/' "$name"
    done
    [ -f "$name" ] || echo "{}" ;;
esac
"#;

const BROKEN: &str = "#!/bin/sh\ncat >/dev/null\necho 'the keychain is on fire'\nexit 3\n";

struct Place {
    d: Daemon,
}

impl Place {
    fn new(d: Daemon) -> Self {
        for (name, text) in [("kept", HELPER), ("broken", BROKEN)] {
            let path = d.scratch.file(&format!("helpers/docker-credential-{name}"), text);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        d.scratch.dir("home/kept");
        Self { d }
    }

    fn configure(&self, json: &str) {
        self.d.scratch.file("home/.docker/config.json", json);
    }

    fn config(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.d.scratch.join("home/.docker/config.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn run(&self, client: Client, args: &[&str], input: &str) -> Output {
        let mut cli = self.d.cli(client);
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.d.scratch.join("helpers").display());
        command::run_with_input(cli.args(args).env("PATH", path), input.into())
    }

    fn kept(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.d.scratch.join("home/kept")).unwrap();
        names.map(|n| n.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn helpers_keep_passwords_instead_of_the_file() {
    need!(Registry::needs(), probe::busybox());
    let place = Place::new(Daemon::with_busybox());
    let path = place.d.scratch.file("htpasswd", real::HTPASSWD);
    let auth = format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", path.display());
    let registry = Registry::start(&place.d.scratch, "registry", "", &auth);
    let name = format!("{}/box:v1", registry.address);
    place.d.docker(&["tag", "busybox", &name]).ok();
    let login = ["login", "-u", "bob", "--password-stdin", &registry.address];
    let stores = [
        r#"{"credsStore":"kept"}"#.to_owned(),
        format!(r#"{{"credsStore":"broken","credHelpers":{{"{}":"kept"}}}}"#, registry.address),
    ];
    for (client, store) in place.d.clients().into_iter().flat_map(|c| stores.iter().map(move |s| (c, s))) {
        place.configure(store);
        let out = place.run(client, &login, "secret");
        assert!(!out.stderr.contains("unencrypted"), "{out}");
        assert!(out.ok().contains("Login Succeeded"));
        assert_eq!(place.kept(), std::slice::from_ref(&registry.address));
        let config = place.config();
        assert!(!config.to_string().contains("Ym9iOnNlY3JldA"), "{config}");
        assert!(config["auths"][&registry.address].get("auth").is_none(), "{config}");
        place.run(client, &["push", &name], "").contains("v1: digest: sha256:").ok();
        place.run(client, &["pull", &name], "").contains("Status: Image is up to date").ok();
        // What is kept is offered without a password being asked for.
        place.run(client, &["login", &registry.address], "").contains("Login Succeeded").ok();
        place.run(client, &["logout", &registry.address], "").contains("Removing login credentials for ").ok();
        assert!(place.kept().is_empty(), "{:?}", place.kept());
        let words = place.run(client, &["push", &name], "").fails(1);
        assert!(words.contains("no basic auth credentials"), "{words}");
    }
}

#[test]
fn identity_tokens_go_to_helpers_under_a_name_of_their_own() {
    need!(Registry::needs(), probe::busybox(), probe::program("openssl", "openssl"));
    let place = Place::new(Daemon::with_busybox());
    let (_server, registry) = tokens::start(&place.d.scratch, false);
    let name = format!("{}/shut/box:v1", registry.address);
    place.d.docker(&["tag", "busybox", &name]).ok();
    for client in place.d.clients() {
        place.configure(r#"{"credsStore":"kept"}"#);
        place.run(client, &["login", "-u", "bob", "--password-stdin", &registry.address], "secret").ok();
        let entry = std::fs::read_to_string(place.d.scratch.join("home/kept").join(&registry.address)).unwrap();
        let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
        let want =
            serde_json::json!({"ServerURL": registry.address, "Username": "<token>", "Secret": "identity of bob"});
        assert_eq!(entry, want);
        place.run(client, &["push", &name], "").contains("v1: digest: sha256:").ok();
        place.run(client, &["logout", &registry.address], "").ok();
        assert!(place.kept().is_empty(), "{:?}", place.kept());
    }
}

#[test]
fn helpers_that_fail_are_quoted() {
    need!(Registry::needs(), probe::busybox());
    let place = Place::new(Daemon::with_busybox());
    let registry = Registry::plain(&place.d.scratch);
    let name = format!("{}/box:v1", registry.address);
    place.d.docker(&["tag", "busybox", &name]).ok();
    let login = ["login", "-u", "bob", "--password-stdin", registry.address.as_str()];
    let commands: [&[&str]; 3] = [&login, &["push", "-q", &name], &["pull", "-q", &name]];
    for helper in ["broken", "absent"] {
        for args in commands {
            let said = place.d.clients().into_iter().map(|client| {
                place.configure(&format!(r#"{{"auths":{{"{}":{{}}}},"credsStore":"{helper}"}}"#, registry.address));
                let out = place.run(client, args, "secret");
                // Where it may go on without, ours warns; the original is silent.
                let warning = client == Client::Ours && out.stderr.starts_with("WARNING: error getting credentials");
                assert!(client == Client::Real || warning == (args[0] != "login"), "{out}");
                let words = |l: &&str| !l.is_empty() && !l.starts_with("WARNING: error getting credentials");
                let stderr: Vec<&str> = out.stderr.lines().map(str::trim).filter(words).collect();
                (out.code, out.stdout.clone(), stderr.join("\n"))
            });
            let said: Vec<_> = said.collect();
            assert!(said.iter().all(|s| *s == said[0]), "{helper} {args:?}: {said:#?}");
        }
        // The original says nothing of it: it counts its four tries as three.
        let out = place.run(Client::Ours, &["logout", &registry.address], "");
        out.contains("WARNING: could not erase credentials:").ok();
    }
}

#[test]
fn an_index_is_searched() {
    let d = Daemon::start();
    let server = Scripted::start_with_ping(|ask| {
        let Some(query) = ask.target.strip_prefix("/v1/search?") else { return Reply::new(404, "") };
        if query.contains("q=busy") {
            return Reply::new(429, "slow down");
        }
        let hit = |name: &str, stars: u32, official: bool, text: &str| serde_json::json!({"name": name, "star_count": stars, "is_official": official, "is_automated": false, "description": text});
        let long = "a description of many words that is longer than a table wants\nand has a second line";
        let mut hits =
            vec![hit("team/thing", 3, false, long), hit("thing", 120, true, "The thing"), hit("x/thing", 0, false, "")];
        if query.ends_with("n=2") {
            hits.truncate(2);
        }
        let page = serde_json::json!({"num_pages": 1, "num_results": hits.len(), "results": hits, "query": "thing", "page": 1});
        Reply::new(200, page.to_string()).with("Content-Type", "application/json")
    });
    let term = format!("{}/thing", server.address);
    let busy = format!("{}/busy", server.address);
    let commands: [&[&str]; 12] = [
        &["search", &term],
        &["search", "--no-trunc", &term],
        &["search", "--limit", "2", &term],
        &["search", "--filter", "stars=3", &term],
        &["search", "--filter", "is-official=true", &term],
        &["search", "--filter", "is-official=false", "-f", "stars=1", &term],
        &["search", "--format", "{{.Name}}|{{.StarCount}}|{{.IsOfficial}}|{{.Description}}", &term],
        &["search", "--format", "json", &term],
        &["search", "--filter", "nonsense=1", &term],
        &["search", "--filter", "stars=many", &term],
        &["search", "--limit", "101", &term],
        &["search", &busy],
    ];
    for args in commands {
        let said: Vec<_> = d
            .clients()
            .into_iter()
            .map(|client| {
                let out = d.with(client, args);
                (out.code, out.stdout.clone(), out.stderr.trim().to_owned())
            })
            .collect();
        assert!(said.iter().all(|s| *s == said[0]), "{args:?}: {said:#?}");
    }
    let table = d.docker(&["search", &term]).ok();
    assert!(table.starts_with("NAME") && table.lines().count() == 4, "{table}");
    assert!(server.asked().iter().any(|a| a.target == "/v1/search?q=thing&n=25"), "{:?}", server.asked().first());
}
