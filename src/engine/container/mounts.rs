//! From `-v` strings and `--mount` objects to mount records: parsing and
//! Docker's checks. Touches the disk only to ask whether a bind source exists.

use super::record::{MountKind, MountRecord};
use crate::api::container::Mount;
use crate::error::{Error, Result};
use crate::util::path;
use std::path::Path;

/// What a volume mount needs created, beside its record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    pub record: MountRecord,
    /// Labels and driver options of a volume that does not exist yet.
    pub labels: Option<std::collections::BTreeMap<String, String>>,
    pub driver_options: Option<std::collections::BTreeMap<String, String>>,
}

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];

/// `SRC:DST[:MODE]` or `DST`.
pub fn parse_bind(raw: &str, volume_driver: &str) -> Result<Parsed> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{raw}'"));
    let parts: Vec<&str> = raw.splitn(4, ':').collect();
    if parts[0].is_empty() {
        return Err(invalid());
    }
    let (source, target, mode) = match parts[..] {
        [target] => ("", target, ""),
        // Destination and mode is no specification.
        [_, target] if is_mode(target) => return Err(invalid()),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(invalid()),
    };
    if !is_mode(mode) && !mode.is_empty() {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    let words: Vec<&str> = mode.split(',').collect();
    let bind = source.starts_with('/');
    let kind = if bind { MountKind::Bind } else { MountKind::Volume };
    let propagation = words.iter().copied().find(|w| PROPAGATIONS.contains(w)).unwrap_or_default();
    let wrap = |e: Error| e.context(format_args!("invalid volume specification: '{raw}'"));
    check_target(target, kind.as_str()).map_err(wrap)?;
    let mut record = MountRecord {
        kind,
        destination: path::absolute(target),
        mode: mode.to_owned(),
        rw: !words.contains(&"ro"),
        no_copy: words.contains(&"nocopy"),
        ..MountRecord::default()
    };
    if bind {
        if record.no_copy {
            return Err(wrap(Error::invalid(
                "invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            )));
        }
        record.source = path::absolute(source);
        record.propagation = if propagation.is_empty() { "rprivate".into() } else { propagation.into() };
        record.create_source = true;
    } else {
        if !propagation.is_empty() {
            return Err(wrap(Error::invalid(
                "invalid mount config for type \"volume\": field BindOptions must not be specified",
            )));
        }
        record.name = source.to_owned();
        record.driver = driver_or_local(volume_driver);
    }
    Ok(Parsed { record, ..Parsed::default() })
}

/// `HostConfig.Mounts`.
pub fn parse_mount(mount: &Mount) -> Result<Parsed> {
    let config = |text: String| Error::invalid(format!("invalid mount config for type \"{}\": {text}", mount.kind));
    validate(mount)?;
    let mut record =
        MountRecord { destination: path::absolute(&mount.target), rw: !mount.read_only, ..MountRecord::default() };
    let mut parsed = Parsed::default();
    match mount.kind.as_str() {
        "bind" => {
            let options = mount.bind_options.clone().unwrap_or_default();
            record.kind = MountKind::Bind;
            record.source = path::absolute(&mount.source);
            record.propagation =
                if options.propagation.is_empty() { "rprivate".into() } else { options.propagation.clone() };
            record.non_recursive = options.non_recursive;
            record.read_only_non_recursive = options.read_only_non_recursive;
            record.create_source = options.create_mountpoint;
        }
        "volume" => {
            let options = mount.volume_options.clone().unwrap_or_default();
            let driver = options.driver_config.clone().unwrap_or_default();
            record.kind = MountKind::Volume;
            record.name.clone_from(&mount.source);
            record.driver = driver_or_local(&driver.name);
            record.no_copy = options.no_copy;
            record.subpath.clone_from(&options.subpath);
            parsed.labels = options.labels;
            parsed.driver_options = driver.options;
        }
        "tmpfs" => {
            record.kind = MountKind::Tmpfs;
            record.tmpfs_options = tmpfs_options(mount)?;
        }
        "image" => {
            record.kind = MountKind::Image;
            record.source.clone_from(&mount.source);
            record.subpath = mount.image_options.clone().unwrap_or_default().subpath;
            record.rw = false;
        }
        _ => return Err(config("mount type unknown".into())),
    }
    if Path::new(&record.subpath).is_absolute() || record.subpath.split('/').any(|c| c == "..") {
        return Err(config("subpath must be a relative path within the volume".into()));
    }
    parsed.record = record;
    Ok(parsed)
}

/// The checks that come before everything else at create.
pub fn validate(mount: &Mount) -> Result<()> {
    let kind = mount.kind.as_str();
    let config = |text: &str| Err(Error::invalid(format!("invalid mount config for type \"{kind}\": {text}")));
    for (present, owner, name) in [
        (mount.bind_options.is_some(), "bind", "BindOptions"),
        (mount.volume_options.is_some(), "volume", "VolumeOptions"),
        (mount.tmpfs_options.is_some(), "tmpfs", "TmpfsOptions"),
        (mount.image_options.is_some(), "image", "ImageOptions"),
    ] {
        if present && kind != owner && ["bind", "volume", "tmpfs", "image"].contains(&kind) {
            return Err(Error::invalid(format!("{name} must not be specified on mount type \"{kind}\"")));
        }
    }
    check_target(&mount.target, kind)?;
    match kind {
        "bind" => {
            if mount.source.is_empty() {
                return config("field Source must not be empty");
            }
            let options = mount.bind_options.clone().unwrap_or_default();
            if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
                return config(&format!("invalid propagation mode: {}", options.propagation));
            }
            if !mount.source.starts_with('/') {
                return config(&format!("invalid mount path: '{}' mount path must be absolute", mount.source));
            }
            if !options.create_mountpoint && std::fs::metadata(&mount.source).is_err() {
                return config(&format!("bind source path does not exist: {}", mount.source));
            }
        }
        "volume" if mount.source.is_empty() && mount.read_only => {
            return config("must not set ReadOnly mode when using anonymous volumes");
        }
        "tmpfs" if !mount.source.is_empty() => return config("field Source must not be specified"),
        "image" if mount.source.is_empty() => return config("field Source must not be empty"),
        "volume" | "tmpfs" | "image" => {}
        _ => return config("mount type unknown"),
    }
    Ok(())
}

fn check_target(target: &str, kind: &str) -> Result<()> {
    let config = |text: &str| Err(Error::invalid(format!("invalid mount config for type \"{kind}\": {text}")));
    match target {
        "" => config("field Target must not be empty"),
        _ if path::absolute(target) == "/" => config("invalid specification: destination can't be '/'"),
        _ if !target.starts_with('/') => config(&format!("invalid mount path: '{target}' mount path must be absolute")),
        _ => Ok(()),
    }
}

/// `HostConfig.Tmpfs` keys.
pub fn check_tmpfs_destination(target: &str) -> Result<()> {
    match target {
        _ if !target.starts_with('/') => {
            Err(Error::invalid(format!("invalid mount path: '{target}' mount path must be absolute")))
        }
        _ if path::absolute(target) == "/" => Err(Error::invalid("invalid specification: destination can't be '/'")),
        _ => Ok(()),
    }
}

fn tmpfs_options(mount: &Mount) -> Result<String> {
    let options = mount.tmpfs_options.clone().unwrap_or_default();
    let mut words = Vec::new();
    if mount.read_only {
        words.push("ro".to_owned());
    }
    if options.mode != 0 {
        words.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes != 0 {
        words.push(format!("size={}", options.size_bytes));
    }
    for option in options.options.unwrap_or_default() {
        match &option[..] {
            [flag] => words.push(flag.clone()),
            [key, value] => words.push(format!("{key}={value}")),
            _ => {
                return Err(Error::invalid(
                    "invalid mount config for type \"tmpfs\": invalid option array length, must be 1 or 2",
                ));
            }
        }
    }
    Ok(words.join(","))
}

/// Comma list of at most one word of each kind.
pub fn is_mode(mode: &str) -> bool {
    let kind = |word: &str| match word {
        "ro" | "rw" => Some(0),
        "z" | "Z" => Some(1),
        "nocopy" => Some(2),
        "consistent" | "cached" | "delegated" => Some(3),
        _ if PROPAGATIONS.contains(&word) => Some(4),
        _ => None,
    };
    let mut seen = [false; 5];
    !mode.is_empty()
        && mode.split(',').all(|word| kind(word).is_some_and(|k: usize| !std::mem::replace(&mut seen[k], true)))
}

/// `--volumes-from NAME[:MODE]`.
pub fn parse_volumes_from(spec: &str) -> Result<(&str, &str)> {
    match spec.split_once(':') {
        _ if spec.is_empty() => Err(Error::invalid("volumes-from specification cannot be an empty string")),
        None => Ok((spec, "rw")),
        Some((name, mode)) if is_mode(mode) && mode != "nocopy" => Ok((name, mode)),
        Some((_, mode)) => Err(Error::invalid(format!("invalid mode: {mode}"))),
    }
}

fn driver_or_local(driver: &str) -> String {
    if driver.is_empty() { "local".into() } else { driver.to_owned() }
}

/// How deep a path lies; mounts are made from the outside in.
pub fn depth(path: &str) -> usize {
    path.split('/').filter(|p| !p.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_parse_as_dockers() {
        let parsed = parse_bind("/tmp:/a/:ro,z", "").unwrap().record;
        assert_eq!(
            (parsed.kind, parsed.source.as_str(), parsed.destination.as_str(), parsed.rw, parsed.mode.as_str()),
            (MountKind::Bind, "/tmp", "/a", false, "ro,z")
        );
        assert_eq!(parsed.propagation, "rprivate");
        let parsed = parse_bind("data:/d:nocopy", "").unwrap().record;
        assert_eq!((parsed.kind, parsed.name.as_str(), parsed.no_copy), (MountKind::Volume, "data", true));
        assert_eq!(parse_bind("/only", "").unwrap().record.destination, "/only");
    }

    #[test]
    fn refusals_are_dockers() {
        let text = |raw: &str| parse_bind(raw, "").unwrap_err().message().to_owned();
        assert_eq!(
            text("/a:b"),
            "invalid volume specification: '/a:b': invalid mount config for type \"bind\": invalid mount path: 'b' \
             mount path must be absolute"
        );
        assert_eq!(text("x:/y:zz"), "invalid mode: zz");
        assert_eq!(text("/x:ro"), "invalid volume specification: '/x:ro'");
        assert_eq!(text("a:b:c:d"), "invalid volume specification: 'a:b:c:d'");
        assert_eq!(text("x:/y:ro,rw"), "invalid mode: ro,rw");
        let mount = Mount { kind: "bind".into(), source: "/nosuch".into(), target: "/x".into(), ..Default::default() };
        assert_eq!(
            parse_mount(&mount).unwrap_err().message(),
            "invalid mount config for type \"bind\": bind source path does not exist: /nosuch"
        );
    }

    #[test]
    fn paths_are_cleaned() {
        assert_eq!((depth("/"), depth("/a/b")), (0, 2));
    }
}
