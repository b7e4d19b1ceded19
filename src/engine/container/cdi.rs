//! Devices by the Container Device Interface: `--device vendor/class=name`, and
//! `--gpus` where a vendor's description of its GPUs is installed. The files of
//! the spec directories are read when a container that asks for them starts.
//!
//! What a description asks for becomes device nodes, mounts, variables, groups
//! and links of the container's spec. Its hooks are programs to be run with the
//! host's view; we run none. Two that every GPU's description has are done
//! instead: links are made, and the folders for the linker's cache become
//! LD_LIBRARY_PATH.

use crate::api::container::{DeviceRequest, HostConfig};
use crate::error::{Error, Result};
use crate::runtime::spec::{Device, Mount, Propagation, Source};
use crate::util::order;
use crate::util::{json, yaml};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Whose descriptions `--gpus` looks for, in this order.
const GPU_KINDS: [&str; 2] = ["nvidia.com/gpu", "amd.com/gpu"];
/// Of one request; a count is what the client says.
const MOST_GPUS: i64 = 1024;
const MAX_FILE: u64 = 16 << 20;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Description {
    kind: String,
    devices: Vec<Named>,
    container_edits: Edits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Named {
    name: String,
    container_edits: Edits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Bind>,
    hooks: Vec<Hook>,
    additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Node {
    path: String,
    host_path: String,
    permissions: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Bind {
    host_path: String,
    container_path: String,
    options: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Hook {
    hook_name: String,
    args: Vec<String>,
}

/// What all asked devices together change in a container.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub env: Vec<String>,
    pub devices: Vec<Device>,
    pub mounts: Vec<Mount>,
    pub groups: Vec<String>,
    /// Target and path of symbolic links.
    pub links: Vec<(String, String)>,
}

/// Every device that can be asked for: `vendor/class=name`.
pub fn names(dirs: &[String]) -> Vec<String> {
    let mut names: Vec<String> = load(dirs)
        .into_iter()
        .flat_map(|(_, d)| d.devices.into_iter().map(move |n| format!("{}={}", d.kind, n.name)).collect::<Vec<_>>())
        .collect();
    order::sort(&mut names);
    names.dedup();
    names
}

/// What a container's device requests come to; the refusals are Docker's.
pub fn changes(host: &HostConfig, dirs: &[String]) -> Result<Changes> {
    let requests = host.device_requests.as_deref().unwrap_or_default();
    if requests.is_empty() {
        return Ok(Changes::default());
    }
    let known = load(dirs);
    let mut asked = Vec::new();
    for request in requests {
        if request.driver == "cdi" {
            asked.extend(request.device_ids.clone().unwrap_or_default());
        } else {
            asked.extend(gpus(request, &known)?);
        }
    }
    let missing: Vec<&str> = asked.iter().map(String::as_str).filter(|name| find(&known, name).is_none()).collect();
    if !missing.is_empty() {
        return Err(Error::system(format!(
            "CDI device injection failed: unresolvable CDI devices {}",
            missing.join(", ")
        )));
    }
    let mut changes = Changes::default();
    let mut described: Vec<&Path> = Vec::new();
    for (path, description, device) in asked.iter().filter_map(|name| find(&known, name)) {
        // What holds for all devices of a file comes once.
        if !described.contains(&path) {
            described.push(path);
            apply(&description.container_edits, &mut changes)?;
        }
        apply(&device.container_edits, &mut changes)?;
    }
    Ok(changes)
}

/// `--gpus` as names of devices: all, by id, or the first so many.
fn gpus(request: &DeviceRequest, known: &[(PathBuf, Description)]) -> Result<Vec<String>> {
    let capabilities: Vec<&str> = request.capabilities.iter().flatten().flatten().map(String::as_str).collect();
    let vendor = match request.driver.as_str() {
        "" => "",
        "nvidia" => "nvidia.com",
        "amd" => "amd.com",
        _ => "none",
    };
    let kind = GPU_KINDS.iter().find(|kind| {
        kind.starts_with(vendor) && capabilities.contains(&"gpu") && known.iter().any(|(_, d)| d.kind == **kind)
    });
    let Some(kind) = kind else {
        let list = |l: &[String]| format!("[{}]", l.join(" "));
        let sets: Vec<String> = request.capabilities.iter().flatten().map(|c| list(c)).collect();
        return Err(Error::system(format!(
            "could not select device driver \"{}\" with capabilities: {}",
            request.driver,
            list(&sets)
        )));
    };
    let ids = request.device_ids.as_deref().unwrap_or_default();
    Ok(match (ids, request.count) {
        ([], count) if count < 0 => vec![format!("{kind}=all")],
        // The first one that nobody has is the one to complain about.
        ([], count) => (0..count.min(MOST_GPUS)).map(|n| format!("{kind}={n}")).collect(),
        (ids, _) => ids.iter().map(|id| format!("{kind}={id}")).collect(),
    })
}

/// A later directory wins over an earlier one; in one directory a name that two
/// files describe is nobody's.
fn find<'a>(known: &'a [(PathBuf, Description)], name: &str) -> Option<(&'a Path, &'a Description, &'a Named)> {
    let (kind, device) = name.split_once('=')?;
    let fits = known.iter().filter(|(_, d)| d.kind == kind).filter_map(|(path, description)| {
        let named = description.devices.iter().find(|n| n.name == device)?;
        Some((path.as_path(), description, named))
    });
    let fits: Vec<_> = fits.collect();
    let last = *fits.last()?;
    let rivals = fits.iter().filter(|(path, ..)| path.parent() == last.0.parent()).count();
    (rivals == 1).then_some(last)
}

fn load(dirs: &[String]) -> Vec<(PathBuf, Description)> {
    let mut found = Vec::new();
    for dir in dirs.iter().filter(|d| !d.is_empty()) {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        order::sort(&mut paths);
        for path in paths {
            match read(&path) {
                Ok(Some(description)) => found.push((path, description)),
                Ok(None) => {}
                Err(e) => crate::warn!("cannot read a CDI description", "path" = path.display(), "error" = e),
            }
        }
    }
    found
}

fn read(path: &Path) -> Result<Option<Description>> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if !["json", "yaml", "yml"].contains(&extension) {
        return Ok(None);
    }
    if std::fs::metadata(path)?.len() > MAX_FILE {
        return Err(Error::invalid("the file is too large"));
    }
    parse(&std::fs::read_to_string(path)?, extension).map(Some)
}

/// Reads a description; what is not `json` is YAML.
pub fn parse(text: &str, extension: &str) -> Result<Description> {
    let description: Description = match extension {
        "json" => json::from_str(text),
        _ => json::from_slice(&json::to_vec(&yaml::parse(text).map_err(Error::invalid)?)?),
    }
    .map_err(|e| Error::invalid(e.to_string()))?;
    if !description.kind.contains('/') {
        return Err(Error::invalid(format!("invalid kind {:?}", description.kind)));
    }
    Ok(description)
}

fn apply(edits: &Edits, changes: &mut Changes) -> Result<()> {
    changes.env.extend(edits.env.iter().cloned());
    for node in &edits.device_nodes {
        let host = if node.host_path.is_empty() { &node.path } else { &node.host_path };
        if !Path::new(host).exists() {
            return Err(Error::system(format!(
                "CDI device injection failed: failed to stat CDI host device {host:?}: no such file or directory"
            )));
        }
        changes.devices.push(Device {
            host: host.into(),
            container: node.path.clone(),
            permissions: if node.permissions.is_empty() { "rwm".into() } else { node.permissions.clone() },
        });
    }
    for bind in &edits.mounts {
        let has = |word: &str| bind.options.iter().any(|o| o == word);
        changes.mounts.push(Mount {
            source: Source::Path { path: bind.host_path.clone().into(), recursive: has("rbind") },
            target: bind.container_path.clone(),
            readonly: has("ro"),
            recursive_readonly: false,
            propagation: Propagation::RPrivate,
            nosuid: has("nosuid"),
            nodev: has("nodev"),
            noexec: has("noexec"),
        });
    }
    changes.groups.extend(edits.additional_gids.iter().filter(|g| **g != 0).map(u32::to_string));
    edits.hooks.iter().for_each(|hook| stand_in(hook, changes));
    Ok(())
}

/// What a hook would have done, if we know it.
fn stand_in(hook: &Hook, changes: &mut Changes) {
    let values = |flag: &str| -> Vec<String> {
        let pairs = hook.args.windows(2).filter(|w| w[0] == flag).map(|w| w[1].clone());
        let joined = hook.args.iter().filter_map(|a| a.strip_prefix(flag)?.strip_prefix('=').map(str::to_owned));
        pairs.chain(joined).collect()
    };
    let is = |word: &str| hook.args.iter().any(|a| a == word);
    if is("create-symlinks") {
        let links = values("--link");
        changes
            .links
            .extend(links.iter().filter_map(|l| l.split_once("::")).map(|(t, p)| (t.to_owned(), p.to_owned())));
    } else if is("update-ldcache") {
        let folders = values("--folder").join(":");
        if !folders.is_empty() {
            changes.env.push(format!("LD_LIBRARY_PATH={folders}"));
        }
    } else {
        crate::warn!("a hook of a CDI description is not run", "hook" = hook.hook_name, "args" = hook.args.join(" "));
    }
}

/// The container's environment with the descriptions' variables: what the user
/// set stays.
pub fn merge_env(env: &mut Vec<String>, added: &[String]) {
    let mut names: BTreeMap<String, ()> =
        env.iter().filter_map(|e| Some((e.split_once('=')?.0.to_owned(), ()))).collect();
    for entry in added {
        let name = entry.split('=').next().unwrap_or_default();
        let path = name == "LD_LIBRARY_PATH";
        if !path {
            env.retain(|e| e.split('=').next() != Some(name));
        } else if names.contains_key(name) {
            continue;
        }
        names.insert(name.to_owned(), ());
        env.push(entry.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str, path: &str) -> (PathBuf, Description) {
        (path.into(), json::from_slice(text.as_bytes()).unwrap())
    }

    #[test]
    fn devices_are_found_by_priority() {
        let one = r#"{"kind":"a.com/x","devices":[{"name":"0","containerEdits":{"env":["A=1"]}},{"name":"1"}]}"#;
        let two = r#"{"kind":"a.com/x","devices":[{"name":"0","containerEdits":{"env":["A=2"]}}]}"#;
        let known = [described(one, "/etc/cdi/a.json"), described(two, "/run/cdi/a.json")];
        assert_eq!(find(&known, "a.com/x=0").unwrap().2.container_edits.env, ["A=2"]);
        assert!(find(&known, "a.com/x=1").is_some() && find(&known, "a.com/x=2").is_none());
        let known = [described(one, "/etc/cdi/a.json"), described(two, "/etc/cdi/b.json")];
        assert!(find(&known, "a.com/x=0").is_none(), "two rivals");
    }

    #[test]
    fn gpus_become_names() {
        let known = [described(r#"{"kind":"nvidia.com/gpu"}"#, "/etc/cdi/n.json")];
        let request = |count, ids: &[&str]| DeviceRequest {
            count,
            device_ids: Some(ids.iter().map(|s| (*s).to_owned()).collect()),
            capabilities: Some(vec![vec!["gpu".into()]]),
            ..DeviceRequest::default()
        };
        assert_eq!(gpus(&request(-1, &[]), &known).unwrap(), ["nvidia.com/gpu=all"]);
        assert_eq!(gpus(&request(2, &[]), &known).unwrap(), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
        assert_eq!(gpus(&request(0, &["UUID"]), &known).unwrap(), ["nvidia.com/gpu=UUID"]);
        assert_eq!(
            gpus(&request(-1, &[]), &[]).unwrap_err().message(),
            "could not select device driver \"\" with capabilities: [[gpu]]"
        );
    }

    #[test]
    fn hooks_are_stood_in_for() {
        let mut changes = Changes::default();
        let hook = |args: &[&str]| Hook { args: args.iter().map(|s| (*s).to_owned()).collect(), ..Hook::default() };
        stand_in(&hook(&["h", "create-symlinks", "--link", "libx.so.1::/usr/lib/libx.so"]), &mut changes);
        stand_in(&hook(&["h", "update-ldcache", "--folder", "/a", "--folder=/b"]), &mut changes);
        assert_eq!(changes.links, [("libx.so.1".to_owned(), "/usr/lib/libx.so".to_owned())]);
        let mut env = vec!["PATH=/bin".to_owned(), "V=user".to_owned()];
        merge_env(&mut env, &[changes.env[0].clone(), "V=cdi".into()]);
        assert_eq!(env, ["PATH=/bin", "LD_LIBRARY_PATH=/a:/b", "V=cdi"]);
    }
}
