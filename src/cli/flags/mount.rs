//! `--mount type=…,src=…,dst=…`.

use crate::api::container::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};
use crate::cli::flags::list::csv;
use crate::util::units;

/// Reads one value. A relative source that says so (`.`, `./x`) is made absolute.
pub fn parse(value: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".into(), ..Mount::default() };
    for field in csv(value)? {
        let (key, text) = match field.split_once('=') {
            Some((key, text)) => (key.to_ascii_lowercase(), text),
            None => match field.to_ascii_lowercase().as_str() {
                key @ ("readonly" | "ro" | "volume-nocopy" | "bind-nonrecursive") => (key.to_owned(), "true"),
                _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
            },
        };
        set(&mut mount, &key, text, &field)?;
    }
    finish(mount)
}

fn set(mount: &mut Mount, key: &str, text: &str, field: &str) -> Result<(), String> {
    let bool = || units::parse_bool(text).map_err(|_| format!("invalid value for {key}: {text}"));
    match key {
        "type" => mount.kind = text.to_ascii_lowercase(),
        "source" | "src" => mount.source = source(text),
        "target" | "dst" | "destination" => mount.target = text.to_owned(),
        "readonly" | "ro" => mount.read_only = bool()?,
        "consistency" => mount.consistency = text.to_ascii_lowercase(),
        "bind-propagation" => bind(mount).propagation = text.to_ascii_lowercase(),
        "bind-nonrecursive" => bind(mount).non_recursive = bool()?,
        "bind-recursive" => match text {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                let known = "must be \"enabled\", \"disabled\", \"writable\", or \"readonly\"";
                return Err(format!("invalid value for {key}: {text} ({known})"));
            }
        },
        "volume-subpath" => volume(mount).subpath = text.to_owned(),
        "volume-nocopy" => volume(mount).no_copy = bool()?,
        "volume-label" => {
            let (name, label) = text.split_once('=').unwrap_or((text, ""));
            volume(mount).labels.get_or_insert_default().insert(name.to_owned(), label.to_owned());
        }
        "volume-driver" => driver(mount).name = text.to_owned(),
        "volume-opt" => {
            let (name, option) = text.split_once('=').unwrap_or((text, ""));
            driver(mount).options.get_or_insert_default().insert(name.to_owned(), option.to_owned());
        }
        "image-subpath" => mount.image_options.get_or_insert_with(ImageOptions::default).subpath = text.to_owned(),
        "tmpfs-size" => {
            let size = units::parse_bytes(text).map_err(|_| format!("invalid value for {key}: {text}"))?;
            tmpfs(mount).size_bytes = size;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(text, 8).map_err(|_| format!("invalid value for {key}: {text}"))?;
            tmpfs(mount).mode = mode;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn source(text: &str) -> String {
    if text != "." && !text.starts_with("./") {
        return text.to_owned();
    }
    super::volume::absolute(text)
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_with(BindOptions::default)
}
fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    let options = mount.volume_options.get_or_insert_with(VolumeOptions::default);
    options.driver_config.get_or_insert_with(DriverConfig::default);
    options
}
fn driver(mount: &mut Mount) -> &mut DriverConfig {
    volume(mount).driver_config.get_or_insert_with(DriverConfig::default)
}
fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default)
}

/// What the fields must be together.
fn finish(mount: Mount) -> Result<Mount, String> {
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    let kind = &mount.kind;
    let mixed = [
        ("volume", mount.volume_options.is_some()),
        ("bind", mount.bind_options.is_some()),
        ("image", mount.image_options.is_some()),
        ("tmpfs", mount.tmpfs_options.is_some()),
    ];
    if let Some((name, _)) = mixed.iter().find(|(name, set)| *set && name != kind) {
        return Err(format!("cannot mix '{name}-*' options with mount type '{kind}'"));
    }
    if let Some(options) = &mount.bind_options {
        let needs = |option: &str, what: &str| {
            Err(format!("option 'bind-recursive={option}' requires '{what}' to be specified in conjunction"))
        };
        if options.read_only_non_recursive && !mount.read_only {
            return needs("writable", "readonly");
        }
        if options.read_only_force_recursive && !mount.read_only {
            return needs("readonly", "readonly");
        }
        if options.read_only_force_recursive && options.propagation != "rprivate" {
            return needs("readonly", "bind-propagation=rprivate");
        }
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let m = parse("type=bind,\"src=/a,x\",dst=/b,readonly,bind-propagation=rshared").unwrap();
        assert_eq!((m.source.as_str(), m.read_only), ("/a,x", true));
        assert_eq!(m.bind_options.unwrap().propagation, "rshared");
        assert_eq!(parse("type=bind").unwrap_err(), "target is required");
        assert_eq!(parse("foo=bar").unwrap_err(), "unexpected key 'foo' in 'foo=bar'");
        assert_eq!(
            parse("type=bind,src=/a,dst=/b,volume-nocopy=true").unwrap_err(),
            "cannot mix 'volume-*' options with mount type 'bind'"
        );
        assert_eq!(parse("type=tmpfs,dst=/b,tmpfs-mode=1770").unwrap().tmpfs_options.unwrap().mode, 0o1770);
    }
}
