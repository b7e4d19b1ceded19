//! `ssh://` through a real OpenSSH server: its own host key, one key that is let in,
//! a high port of loopback, run by the very user that runs the tests. On the other
//! side stands our `docker system dial-stdio`, or the original's.

use crate::harness::{Client, Daemon, Scratch, eventually, probe, run};
use crate::need;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

struct Server {
    child: Child,
    port: u16,
    scratch: Scratch,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `docker` is what the remote command finds under that name.
    fn start(daemon: &Daemon, docker: &Path) -> Self {
        let scratch = Scratch::new();
        for name in ["host", "own", "other"] {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(scratch.join(name))).ok();
        }
        fs::copy(scratch.join("own.pub"), scratch.join("authorized")).unwrap();
        symlink(docker, scratch.dir("bin").join("docker")).unwrap();
        let port = super::free_port();
        let dir = scratch.path().display();
        let config = scratch.file(
            "sshd_config",
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nPidFile none\nAuthorizedKeysFile {dir}/authorized\n\
                 StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 SetEnv PATH={dir}/bin:/usr/bin:/bin DOCKER_HOST={} HOME={dir}\n",
                daemon.host()
            ),
        );
        let child = Command::new(probe::find("sshd").unwrap())
            .args(["-D", "-e", "-f"])
            .arg(config)
            .stdin(Stdio::null())
            .stderr(fs::File::create(scratch.join("sshd.log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { child, port, scratch };
        eventually("the ssh server", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let host_key = fs::read_to_string(server.scratch.join("host.pub")).unwrap();
        server.scratch.file("known_hosts", format!("[127.0.0.1]:{port} {host_key}"));
        server
    }

    /// A folder whose `ssh` is the system's with this test's keys, and a client in it.
    fn client(&self, program: &Path, identity: &str) -> Command {
        let dir = self.scratch.dir(&format!("from-{identity}"));
        let ssh = dir.join("ssh");
        fs::write(
            &ssh,
            format!(
                "#!/bin/sh\nexec /usr/bin/ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile={0}/known_hosts -i {0}/{identity} \"$@\"\n",
                self.scratch.path().display()
            ),
        )
        .unwrap();
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", dir.display()))
            .env("HOME", &dir)
            .env("DOCKER_HOST", self.address())
            .current_dir(&dir);
        command
    }

    fn address(&self) -> String {
        format!("ssh://{}@127.0.0.1:{}", user(), self.port)
    }
}

fn user() -> String {
    run(Command::new("id").arg("-un")).ok().trim().to_owned()
}

/// The user's shell must let a command run.
fn login_shell() -> Result<(), String> {
    let name = user();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let shell = passwd.lines().find(|l| l.starts_with(&format!("{name}:"))).and_then(|l| l.rsplit(':').next());
    match shell {
        Some(shell) if !shell.contains("nologin") && !shell.contains("false") => Ok(()),
        _ => Err(format!("{name} has no login shell; give one with: sudo usermod --shell /bin/sh {name}")),
    }
}

fn programs(daemon: &Daemon) -> Vec<PathBuf> {
    let path = |client| match client {
        Client::Ours => daemon.scratch.join("bin/docker"),
        Client::Real => probe::real_docker_path(),
    };
    daemon.clients().into_iter().map(path).collect()
}

#[test]
fn both_clients_through_both_ends() {
    need!(probe::program("sshd", "openssh-server"), probe::program("ssh-keygen", "openssh-client"));
    need!(login_shell(), probe::busybox());
    let daemon = Daemon::with_busybox();
    for remote in programs(&daemon) {
        let server = Server::start(&daemon, &remote);
        for local in programs(&daemon) {
            let docker = |args: &[&str]| run(server.client(&local, "own").args(args));
            docker(&["version", "-f", "{{.Server.Os}}"]).prints("linux");
            let mut command = server.client(&local, "own");
            command.args([
                "run",
                "--rm",
                "-i",
                "--network=none",
                "busybox",
                "sh",
                "-c",
                "wc -c; echo after >&2; exit 4",
            ]);
            let out = crate::harness::command::run_with_input(&mut command, vec![b'x'; 300_000]);
            assert!(
                out.stdout.trim() == "300000" && out.stderr.trim() == "after" && out.code == 4,
                "{local:?} {remote:?}: {out}\n{}",
                fs::read_to_string(server.scratch.join("sshd.log")).unwrap_or_default()
            );
        }
    }
}

#[test]
fn contexts_other_sockets_and_refusals() {
    need!(probe::program("sshd", "openssh-server"), probe::program("ssh-keygen", "openssh-client"));
    need!(login_shell());
    let daemon = Daemon::start();
    let ours = daemon.scratch.join("bin/docker");
    let server = Server::start(&daemon, &ours);
    let docker = |args: &[&str]| run(server.client(&ours, "own").env_remove("DOCKER_HOST").args(args));
    let address = server.address();
    docker(&["context", "create", "far", "--docker", &format!("host={address}")]).ok();
    docker(&["--context", "far", "version", "-f", "{{.Server.Os}}"]).prints("linux");
    // A path names a socket on the other machine.
    let with_path = format!("{address}{}", daemon.socket().display());
    docker(&["-H", &with_path, "version", "-f", "{{.Server.Os}}"]).prints("linux");
    for program in programs(&daemon) {
        let text = run(server.client(&program, "other").arg("ps")).fails(1);
        assert!(
            text.contains("exited with exit status 255") && text.contains("Permission denied"),
            "{program:?}: {text}"
        );
        let nowhere = format!("{address}/nowhere.sock");
        let text = run(server.client(&program, "own").args(["-H", &nowhere, "ps"])).fails(1);
        assert!(text.contains("error during connect") || text.contains("Cannot connect"), "{program:?}: {text}");
    }
}
