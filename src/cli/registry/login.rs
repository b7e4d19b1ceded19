//! `docker login`: asks the daemon whether the credentials are good, then keeps
//! them where the configuration says.
//!
//! Invariant: the password is never echoed, and nothing is stored that the
//! registry refused.

use crate::api::registry::{AuthConfig, AuthReply};
use crate::cli::context::Context;
use crate::cli::credentials::{self, Credentials};
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

/// Log in to a registry
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Login {
    /// password or token
    #[argh(option, short = 'p', arg_name = "string")]
    pub password: Option<String>,
    /// read the password from STDIN
    #[argh(switch)]
    pub password_stdin: bool,
    /// user name
    #[argh(option, short = 'u', arg_name = "string")]
    pub username: Option<String>,
    #[argh(positional)]
    pub server: Option<String>,
}

const NO_TERMINAL: &str = "Error: Cannot perform an interactive login from a non TTY device";
const MAX_SECRET: u64 = 64 << 10;

impl Verb for Login {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let server = credentials::key(self.server.as_deref().filter(|s| !s.is_empty()).unwrap_or("docker.io"));
        let username = self.username.clone().unwrap_or_default();
        let password = self.given_password(cx, &username)?;
        if username.is_empty() && password.is_empty() && self.existing(cx, &server)? {
            return Ok(ExitCode::SUCCESS);
        }
        let wanted = ask_for_the_rest(cx, &server, username, password)?;
        let reply = authenticate(cx, &wanted)?;
        keep(cx, wanted, &reply)?;
        writeln!(cx.out, "{}", reply.status)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Login {
    fn given_password(&self, cx: &mut Context, username: &str) -> Result<String> {
        if let Some(password) = self.password.as_deref().filter(|p| !p.is_empty()) {
            writeln!(cx.err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")?;
            if self.password_stdin {
                return Err(Error::invalid("conflicting options: cannot specify both --password and --password-stdin"));
            }
            return Ok(password.to_owned());
        }
        if !self.password_stdin {
            return Ok(String::new());
        }
        if username.is_empty() {
            return Err(Error::invalid("the --password-stdin option requires --username to be set"));
        }
        let mut text = String::new();
        std::io::stdin().lock().take(MAX_SECRET).read_to_string(&mut text)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }

    /// Tries what is stored already. False: somebody has to type.
    fn existing(&self, cx: &mut Context, server: &str) -> Result<bool> {
        let Some(stored) = credentials::get(cx.config(), server)?.filter(|c| !c.is_empty()) else { return Ok(false) };
        writeln!(cx.err, "Authenticating with existing credentials... [Username: {}]\n", stored.username)?;
        writeln!(
            cx.err,
            " Info -> To login with a different account, run 'docker logout' followed by 'docker login'\n\n"
        )?;
        match authenticate(cx, &stored) {
            Ok(reply) => {
                keep(cx, stored, &reply)?;
                writeln!(cx.out, "{}", reply.status)?;
                Ok(true)
            }
            Err(e) => {
                writeln!(cx.err, "Login did not succeed, error: {e}")?;
                Ok(false)
            }
        }
    }
}

fn ask_for_the_rest(cx: &mut Context, server: &str, username: String, password: String) -> Result<Credentials> {
    let mut wanted = Credentials { server: server.to_owned(), username, password, ..Credentials::default() };
    if !wanted.username.is_empty() && !wanted.password.is_empty() {
        return Ok(wanted);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Error::invalid(NO_TERMINAL));
    }
    if wanted.username.is_empty() {
        if server == credentials::HUB {
            writeln!(
                cx.out,
                "Log in with your Docker ID or email address to push and pull images from Docker Hub.\nA personal access token can be used in place of the password.\n"
            )?;
        }
        write!(cx.out, "Username: ")?;
        cx.out.flush()?;
        wanted.username = read_line()?;
        if wanted.username.is_empty() {
            return Err(Error::invalid("username is required"));
        }
    }
    if wanted.password.is_empty() {
        write!(cx.out, "Password: ")?;
        cx.out.flush()?;
        let silent = Silence::begin()?;
        let line = read_line();
        drop(silent);
        writeln!(cx.out)?;
        wanted.password = line?;
        if wanted.password.is_empty() {
            return Err(Error::invalid("password is required"));
        }
    }
    Ok(wanted)
}

fn read_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// No echo while it lives.
struct Silence(nix::sys::termios::Termios);

impl Silence {
    fn begin() -> Result<Self> {
        let before = tcgetattr(std::io::stdin()).map_err(|e| Error::system(format!("read terminal settings: {e}")))?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &quiet)
            .map_err(|e| Error::system(format!("turn off the echo: {e}")))?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

fn authenticate(cx: &mut Context, wanted: &Credentials) -> Result<AuthReply> {
    let body = AuthConfig {
        username: wanted.username.clone(),
        password: wanted.password.clone(),
        serveraddress: wanted.server.clone(),
        identitytoken: wanted.identity_token.clone(),
        registrytoken: wanted.registry_token.clone(),
        ..AuthConfig::default()
    };
    cx.client()?.post("/auth").json_body(&body)?.json()
}

/// Stores what was accepted; a token in place of the password, if one came.
fn keep(cx: &mut Context, mut accepted: Credentials, reply: &AuthReply) -> Result<()> {
    if !reply.identity_token.is_empty() {
        accepted.password.clear();
        accepted.identity_token.clone_from(&reply.identity_token);
    }
    // A keychain that cannot be read says so when it is written to.
    if credentials::get(cx.config(), &accepted.server).ok().flatten().as_ref() == Some(&accepted) {
        return Ok(());
    }
    let mut config = cx.config().clone();
    let plain = credentials::is_plain(&config, &accepted.server);
    credentials::store(&mut config, &accepted).map_err(|e| e.context("Error saving credentials"))?;
    if plain && !accepted.password.is_empty() {
        writeln!(
            cx.err,
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
            config.path().display()
        )?;
    }
    Ok(())
}
