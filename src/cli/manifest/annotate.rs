//! `docker manifest annotate`.

use crate::cli::context::Context;
use crate::cli::manifest::lists;
use crate::cli::tree::Verb;
use crate::error::{Error, Result};
use argh::{ArgsInfo, FromArgs};
use std::process::ExitCode;

/// Add facts to an image of a manifest list
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(help_triggers("--help"))]
pub struct Annotate {
    /// architecture
    #[argh(option, arg_name = "string")]
    pub arch: Option<String>,
    /// operating system
    #[argh(option, arg_name = "string")]
    pub os: Option<String>,
    /// features of the operating system
    #[argh(option, arg_name = "strings")]
    pub os_features: Vec<String>,
    /// version of the operating system
    #[argh(option, arg_name = "string")]
    pub os_version: Option<String>,
    /// variant of the architecture
    #[argh(option, arg_name = "string")]
    pub variant: Option<String>,
    #[argh(positional)]
    pub list: String,
    #[argh(positional)]
    pub manifest: String,
}

/// What Docker's client takes for a platform: system and architectures.
const KNOWN: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64", "arm", "arm64"]),
];

impl Verb for Annotate {
    fn run(self, cx: &mut Context) -> Result<ExitCode> {
        let (list, manifest) = (lists::parse(&self.list)?, lists::parse(&self.manifest)?);
        let found = lists::entry(cx, &list, &manifest)?;
        let Some(mut entry) = found else {
            let (manifest, list) = (&self.manifest, &self.list);
            return Err(Error::not_found(format!("manifest for image {manifest} does not exist in {list}")));
        };
        let platform = entry.descriptor.platform.get_or_insert_default();
        let set = |slot: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                slot.clone_from(value);
            }
        };
        set(&mut platform.os, &self.os);
        set(&mut platform.architecture, &self.arch);
        set(&mut platform.os_version, &self.os_version);
        set(&mut platform.variant, &self.variant);
        for feature in self.os_features.iter().flat_map(|f| f.split(',')).filter(|f| !f.is_empty()) {
            if !platform.os_features.iter().any(|have| have == feature) {
                platform.os_features.push(feature.to_owned());
            }
        }
        let supported =
            KNOWN.iter().any(|(os, all)| *os == platform.os && all.contains(&platform.architecture.as_str()));
        if !supported {
            let (os, arch) = (self.os.unwrap_or_default(), self.arch.unwrap_or_default());
            return Err(Error::invalid(format!(
                "manifest entry for image has unsupported os/arch combination: {os}/{arch}"
            )));
        }
        lists::save(cx, &list, &manifest, &entry)?;
        Ok(ExitCode::SUCCESS)
    }
}
