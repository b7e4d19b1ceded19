//! What a container gets from its image: Docker's rules for joining the two
//! configurations, and the environment that results. Pure.

use crate::api::container::{ContainerConfig, Healthcheck};
use crate::error::{Error, Result};
use crate::util::order;

pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Fills `user` from `image`; the user's word wins.
pub fn merge(user: &mut ContainerConfig, image: &ContainerConfig) -> Result<()> {
    if user.user.is_empty() {
        user.user.clone_from(&image.user);
    }
    if let Some(ports) = image.exposed_ports.as_ref().filter(|p| !p.is_empty()) {
        let mine = user.exposed_ports.get_or_insert_default();
        for (port, value) in ports {
            mine.entry(port.clone()).or_insert(*value);
        }
    }
    merge_env(user, image);
    if let Some(labels) = &image.labels {
        let mine = user.labels.get_or_insert_default();
        for (key, value) in labels {
            mine.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if is_empty(&user.entrypoint) {
        if is_empty(&user.cmd) {
            user.cmd.clone_from(&image.cmd);
            user.args_escaped = image.args_escaped;
        }
        if user.entrypoint.is_none() {
            user.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if let Some(check) = &image.healthcheck {
        merge_health(user.healthcheck.get_or_insert_default(), check);
    }
    if user.working_dir.is_empty() {
        user.working_dir.clone_from(&image.working_dir);
    }
    if user.stop_signal.is_empty() {
        user.stop_signal.clone_from(&image.stop_signal);
    }
    if user.shell.is_none() {
        user.shell.clone_from(&image.shell);
    }
    if let Some(volumes) = image.volumes.as_ref().filter(|v| !v.is_empty()) {
        let mine = user.volumes.get_or_insert_default();
        for (path, value) in volumes {
            mine.entry(path.clone()).or_insert(*value);
        }
    }
    // `--entrypoint ""` arrives as [""] and means: none, not even the image's.
    if user.entrypoint.as_ref().is_some_and(|e| e.len() == 1 && e[0].is_empty()) {
        user.entrypoint = None;
    }
    if is_empty(&user.entrypoint) && is_empty(&user.cmd) {
        return Err(Error::invalid("no command specified"));
    }
    Ok(())
}

/// The name in `K=V` or `K`.
fn name_of(entry: &str) -> String {
    entry.split('=').next().unwrap_or_default().to_owned()
}

/// By names in a map, here and below: images name what they like as often as they like.
fn merge_env(user: &mut ContainerConfig, image: &ContainerConfig) {
    let Some(theirs) = image.env.as_ref().filter(|e| !e.is_empty()) else { return };
    let mine = user.env.get_or_insert_default();
    let mut names = order::map(mine.iter().map(|e| (name_of(e), 0)));
    for entry in theirs {
        if names.insert(name_of(entry), 0).is_none() {
            mine.push(entry.clone());
        }
    }
}

fn merge_health(user: &mut Healthcheck, image: &Healthcheck) {
    if user.test.is_empty() {
        user.test.clone_from(&image.test);
    }
    for (mine, theirs) in [
        (&mut user.interval, image.interval),
        (&mut user.timeout, image.timeout),
        (&mut user.start_period, image.start_period),
        (&mut user.start_interval, image.start_interval),
        (&mut user.retries, image.retries),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
}

/// Path and arguments as executed.
pub fn command(config: &ContainerConfig) -> (String, Vec<String>) {
    let mut words: Vec<String> = config.entrypoint.iter().chain(config.cmd.iter()).flatten().cloned().collect();
    if words.is_empty() {
        return (String::new(), words);
    }
    let path = words.remove(0);
    (path, words)
}

/// The environment of the first process: PATH, HOSTNAME, TERM, links, then the
/// configuration's own, each in the place where its name first stood.
pub fn environment(config: &ContainerConfig, hostname: &str, links: &[String]) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned()];
    if !hostname.is_empty() {
        env.push(format!("HOSTNAME={hostname}"));
    }
    if config.tty {
        env.push("TERM=xterm".into());
    }
    env.extend(links.iter().cloned());
    replace_or_append(&mut env, config.env.as_deref().unwrap_or_default());
    env
}

/// `K=V` replaces or is appended, a bare `K` removes.
pub fn replace_or_append(env: &mut Vec<String>, changes: &[String]) {
    let mut places = order::map(env.iter().enumerate().rev().map(|(at, e)| (name_of(e), at)));
    for change in changes {
        let name = name_of(change);
        match (change.contains('='), places.get(&name).copied()) {
            (true, Some(at)) => env[at].clone_from(change),
            (true, None) => {
                places.insert(name, env.len());
                env.push(change.clone());
            }
            (false, Some(at)) => {
                places.remove(&name);
                env[at].clear();
            }
            (false, None) => {}
        }
    }
    env.retain(|entry| !entry.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|s| (*s).to_owned()).collect())
    }

    #[test]
    fn entrypoint_and_cmd() {
        let image = ContainerConfig { cmd: words(&["c"]), entrypoint: words(&["e"]), ..Default::default() };
        let case = |entrypoint, cmd| {
            let mut user = ContainerConfig { cmd, entrypoint, ..Default::default() };
            merge(&mut user, &image).map(|()| command(&user))
        };
        let expect = |path: &str, args: &[&str]| (path.to_owned(), words(args).unwrap());
        assert_eq!(case(None, None).unwrap(), expect("e", &["c"]));
        assert_eq!(case(None, words(&["x"])).unwrap(), expect("e", &["x"]));
        assert_eq!(case(words(&["y"]), None).unwrap(), expect("y", &[]), "a new entrypoint drops the image's cmd");
        assert_eq!(case(words(&[""]), words(&["x"])).unwrap(), expect("x", &[]));
        assert_eq!(case(words(&[""]), None).unwrap_err().message(), "no command specified");
        assert_eq!(case(words(&[]), None).unwrap(), expect("c", &[]));
    }

    #[test]
    fn env_keeps_its_order() {
        let mut user = ContainerConfig { env: words(&["X=1", "B=mine"]), cmd: words(&["c"]), ..Default::default() };
        let image = ContainerConfig { env: words(&["PATH=/bin", "B=theirs"]), ..Default::default() };
        merge(&mut user, &image).unwrap();
        assert_eq!(user.env, words(&["X=1", "B=mine", "PATH=/bin"]));
        user.tty = true;
        assert_eq!(
            environment(&user, "h", &[]),
            words(&["PATH=/bin", "HOSTNAME=h", "TERM=xterm", "X=1", "B=mine"]).unwrap()
        );
        user.env = words(&["HOSTNAME", "A=1", "A", "B=1", "A=2", "B=2", "TERM="]);
        assert_eq!(environment(&user, "h", &[]), words(&[DEFAULT_PATH, "TERM=", "B=2", "A=2"]).unwrap());
        user.env = words(&["HOSTNAME", "TERM="]);
        assert_eq!(environment(&user, "h", &[]), words(&[DEFAULT_PATH, "TERM="]).unwrap());
    }

    #[test]
    fn health_is_merged_field_by_field() {
        let check = |test: &[&str], interval, retries| {
            Some(Healthcheck { test: words(test).unwrap(), interval, retries, ..Default::default() })
        };
        let mut user = ContainerConfig { healthcheck: check(&[], 5, 0), cmd: words(&["c"]), ..Default::default() };
        let image = ContainerConfig { healthcheck: check(&["CMD", "x"], 9, 7), ..Default::default() };
        merge(&mut user, &image).unwrap();
        assert_eq!(user.healthcheck, check(&["CMD", "x"], 5, 7));
    }
}
