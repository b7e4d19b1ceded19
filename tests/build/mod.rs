//! Builds from Dockerfiles: what is in the image afterwards, and what is left
//! behind. Steps run without a network, so that nothing here depends on one.

use crate::harness::{Client, Daemon, eventually};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Contexts, Dockerfiles and commands that do not behave.
mod bad;
/// The cache: what hits, what misses, pruning, and ids that stay.
mod cache;
/// `--check` and `--call`: the file is judged and told, nothing is built.
mod calls;
/// The original client, compose, the Python SDK.
mod clients;
/// One case for each row of the language, with what the real builders made of it.
mod corpus;
/// Errors with their places; what a failed build leaves.
mod errors;
/// Instructions, flags and forms, and the tree and configuration they make.
mod language;
/// Contexts of thousands of files, which the daemon keeps.
mod large;
/// Results: folders, archives, registries.
mod output;
/// Several platforms, images in folders.
mod platforms;
/// Sources that the daemon fetches itself.
mod remote;
/// RUN: its mounts, users, environment and secrets.
mod run;

/// A context folder with these files.
fn context(d: &Daemon, name: &str, files: &[(&str, &str)]) -> PathBuf {
    for (path, text) in files {
        d.scratch.file(&format!("{name}/{path}"), text);
    }
    d.scratch.join(name)
}

/// Builds `name` from a folder of that name and gives everything that was shown.
fn build(d: &Daemon, client: Client, name: &str, files: &[(&str, &str)], flags: &[&str]) -> crate::harness::Output {
    let folder = context(d, name, files).display().to_string();
    let mut args = vec!["build", "--network", "none", "-t", name];
    args.extend(flags);
    args.push(&folder);
    d.with(client, &args)
}

/// A shell in the image.
fn sh(d: &Daemon, image: &str, script: &str) -> String {
    let args = ["run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", script];
    d.docker(&args).ok().trim().to_owned()
}

/// A registry of this test's own, ended with it.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one and gives its `host:port`.
fn registry(d: &Daemon) -> (Registry, String) {
    // A port that was free a moment ago.
    let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let data = d.scratch.dir("registry");
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
        data.display()
    );
    let config = d.scratch.file("registry.yml", config);
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
    let registry = Registry(command.spawn().unwrap());
    eventually("the registry", || TcpStream::connect(&host).is_ok());
    (registry, host)
}
