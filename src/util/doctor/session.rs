//! The user's session: where sockets lie, what survives logging out.

use super::{Finding, Host, shown};
use std::os::unix::fs::MetadataExt;

pub(super) fn runtime_dir(host: &Host) -> Finding {
    let name = "runtime folder";
    if host.uid == 0 {
        return Finding::ok(name, "/run");
    }
    let usual = format!("/run/user/{}", host.uid);
    let Some(dir) = &host.runtime_dir else {
        let line = if host.exists(&usual) {
            format!("export XDG_RUNTIME_DIR={usual}")
        } else {
            format!("mkdir -m 700 -p /tmp/run-{0} && export XDG_RUNTIME_DIR=/tmp/run-{0}", host.uid)
        };
        return Finding::bad(name, "XDG_RUNTIME_DIR is not set: the daemon has no place for its socket", &[&line]);
    };
    match std::fs::metadata(dir) {
        Err(_) => {
            let line = format!("sudo mkdir -m 700 -p {1} && sudo chown {0} {1}", host.user, shown(dir));
            Finding::bad(name, format!("XDG_RUNTIME_DIR names {}, which is not there", shown(dir)), &[&line])
        }
        Ok(found) if found.uid() != host.uid => {
            let text = format!(
                "{} belongs to somebody else (uid {}): \"su\" keeps it, log in instead",
                shown(dir),
                found.uid()
            );
            Finding::bad(name, text, &[&format!("export XDG_RUNTIME_DIR={usual}")])
        }
        Ok(found) if found.mode() & 0o077 != 0 => {
            let line = format!("chmod 700 {}", shown(dir));
            Finding::note(name, format!("{} can be entered by others", shown(dir)), &[&line])
        }
        Ok(_) => Finding::ok(name, shown(dir)),
    }
}

/// systemd ends what a user started when the last session closes.
pub(super) fn linger(host: &Host) -> Finding {
    let name = "after logout";
    if !host.exists("/run/systemd/system") {
        return Finding::ok(name, "containers go on");
    }
    if host.exists(&format!("/var/lib/systemd/linger/{}", host.user)) {
        return Finding::ok(name, "containers go on (linger is on)");
    }
    let line = format!("sudo loginctl enable-linger {}", host.user);
    Finding::note(name, "containers of a user service end with the last session", &[&line])
}

pub(super) fn files(_: &Host) -> Finding {
    let name = "open files";
    match nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if hard < 4096 => {
            let text = format!("at most {hard} per process: many containers or connections at once fail");
            Finding::note(name, text, &["ulimit -n 65536   # or LimitNOFILE= in the service"])
        }
        Ok((_, hard)) => {
            Finding::ok(name, if hard == u64::MAX { "unlimited".to_owned() } else { format!("up to {hard}") })
        }
        Err(e) => Finding::note(name, e.desc(), &[]),
    }
}
