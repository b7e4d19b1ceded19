//! `ssh://`: the system's ssh runs `docker system dial-stdio` on the other machine,
//! with our end of a socket pair as its stdin and stdout.

use crate::client::transport::Trouble;
use crate::error::{Error, Result};
use crate::util::thread;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::PoisonError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// A socket on the other machine in place of its default one.
    path: String,
}

impl Target {
    /// `[user@]host[:port][/path]`. What could be taken for an option of ssh is refused.
    pub fn parse(rest: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("ssh host connection is not valid: {why}"));
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if user.is_some_and(|u| u.contains(':')) {
            return Err(bad("plain-text password is not supported"));
        }
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, Some(port.parse().map_err(|_| bad("the port is no number"))?))
            }
            _ => (host, None),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(bad("no host specified"));
        }
        if host.starts_with('-') || user.is_some_and(|u| u.is_empty() || u.starts_with('-')) {
            return Err(bad("invalid user or host"));
        }
        let path = if path == "/" { "" } else { path };
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port, path: path.to_owned() })
    }

    fn arguments(&self) -> Vec<String> {
        let mut args: Vec<String> = ["-o", "ConnectTimeout=30", "-T"].map(str::to_owned).to_vec();
        if let Some(user) = &self.user {
            args.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            args.extend(["-p".to_owned(), port.to_string()]);
        }
        args.extend(["--".to_owned(), self.host.clone(), "docker".to_owned()]);
        if !self.path.is_empty() {
            args.push(format!("--host=unix://{}", self.path));
        }
        args.extend(["system".to_owned(), "dial-stdio".to_owned()]);
        args
    }

    pub fn dial(&self, trouble: &Trouble) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let args = self.arguments();
        let mut child = Command::new("ssh")
            .args(&args)
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| io::Error::other(format!("exec: \"ssh\": {}", crate::error::errno_text(&e))))?;
        let stderr = child.stderr.take();
        let trouble = trouble.clone();
        // Reads what ssh complains of, and leaves it where a failed request looks.
        let watch = move || {
            // Signals are the main thread's business.
            let _ = nix::sys::signal::SigSet::all().thread_block();
            let mut said = String::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.by_ref().take(16 * 1024).read_to_string(&mut said);
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            let Ok(status) = child.wait() else { return };
            if !status.success() {
                let command = format!("ssh {}", args.join(" "));
                let how = status.to_string().replace(": ", " ");
                let text = format!(
                    "command [{command}] has exited with {how}, make sure the URL is valid, and Docker 18.09 or later is installed on the remote host: stderr={said}"
                );
                *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.trim_end().to_owned());
            }
        };
        thread::start("work", 128 * 1024, watch)?;
        Ok(ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let t = Target::parse("u@h:22").unwrap();
        assert_eq!(t.arguments().join(" "), "-o ConnectTimeout=30 -T -l u -p 22 -- h docker system dial-stdio");
        let t = Target::parse("h/run/x.sock").unwrap();
        assert!(t.arguments().join(" ").ends_with("-- h docker --host=unix:///run/x.sock system dial-stdio"));
        assert!(Target::parse("-oProxyCommand=x").is_err());
        assert!(Target::parse("u:secret@h").is_err() && Target::parse("").is_err());
    }
}
