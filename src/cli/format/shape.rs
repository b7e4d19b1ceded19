//! What Go's types would know about an inspected object and its JSON does not
//! say: which objects are maps and which structs, which `null` is a nil slice, and
//! which optional fields are there although they are left out. Pure.
//!
//! Docker tries a template on its types first and on the raw JSON after; both
//! spellings of a name (`.ID`, `.Id`) work for that reason, and here in one pass.

use std::rc::Rc;

use super::value::{Fields, Value};

/// Objects whose keys are data.
const MAPS: &[&str] = &[
    "Annotations",
    "AuxiliaryAddresses",
    "Containers",
    "Data",
    "Details",
    "DriverOpts",
    "Endpoints",
    "EndpointsConfig",
    "ExposedPorts",
    "IndexConfigs",
    "Labels",
    "LogOpts",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "Services",
    "Status",
    "StorageOpt",
    "Sysctls",
    "TLSMaterial",
    "Tmpfs",
    "Volumes",
];

/// `null` where Go has a pointer.
const POINTERS: &[&str] = &[
    "Bridge",
    "ClusterInfo",
    "ClusterVolume",
    "Descriptor",
    "Health",
    "Healthcheck",
    "IPAMConfig",
    "ImageManifestDescriptor",
    "Init",
    "MemorySwappiness",
    "OomKillDisable",
    "PidsLimit",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
    "UsageData",
];

/// Fields that are left out when empty, and are there all the same.
const STRINGS: &[&str] =
    &["Author", "Comment", "Container", "DockerVersion", "OsVersion", "Parent", "StopSignal", "Variant"];
const LISTS: &[&str] = &["Manifests", "Mounts", "OnBuild", "Peers", "SecondaryIPAddresses", "Shell"];
const FLAGS: &[&str] = &["ArgsEscaped", "NetworkDisabled"];

/// Go's name of a field, its name in JSON.
const NAMES: &[(&str, &str)] = &[
    ("APIVersion", "ApiVersion"),
    ("CPUCount", "CpuCount"),
    ("CPUPercent", "CpuPercent"),
    ("CPUPeriod", "CpuPeriod"),
    ("CPUQuota", "CpuQuota"),
    ("CPURealtimePeriod", "CpuRealtimePeriod"),
    ("CPURealtimeRuntime", "CpuRealtimeRuntime"),
    ("CPUShares", "CpuShares"),
    ("DNS", "Dns"),
    ("DNSOptions", "DnsOptions"),
    ("DNSSearch", "DnsSearch"),
    ("HostIP", "HostIp"),
    ("ID", "Id"),
    ("NanoCPUs", "NanoCpus"),
];

/// The JSON of an inspected object as Go would have it.
pub fn object(value: Value) -> Value {
    shaped(value, "", false)
}

/// `keyed`: the value is one of a map's, so its key tells nothing.
fn shaped(value: Value, key: &str, keyed: bool) -> Value {
    match value {
        Value::Map(m) if !keyed && MAPS.contains(&key) => {
            Value::map(m.iter().map(|(k, v)| (k.clone(), shaped(v.clone(), k, true))).collect())
        }
        Value::Map(m) => {
            // A container's Config is a struct, a log driver's a map.
            let options = |k: &str| key == "LogConfig" && k == "Config";
            let shape = |k: &Rc<str>, v: &Value| shaped(v.clone(), if options(k) { "Options" } else { k }, false);
            let fields = m.iter().map(|(k, v)| (k.clone(), shape(k, v))).collect();
            Value::Struct(Rc::new(Fields { type_name: "interface {}", fields }))
        }
        Value::List(items) => Value::list(items.iter().map(|v| shaped(v.clone(), "", true)).collect()),
        Value::Missing if keyed => Value::NilList,
        Value::Missing if MAPS.contains(&key) => Value::NilMap,
        Value::Missing if POINTERS.contains(&key) => Value::Nil,
        Value::Missing => Value::NilList,
        other => other,
    }
}

/// A field by Go's name where its JSON name is another.
pub(super) fn renamed(value: &Value, name: &str) -> Option<Value> {
    let (_, other) = NAMES.iter().find(|(go, _)| *go == name)?;
    value.get(other).cloned()
}

/// A field that the JSON of an inspected struct does not show.
pub(super) fn absent(name: &str) -> Option<Value> {
    if POINTERS.contains(&name) {
        return Some(Value::Nil);
    }
    if STRINGS.contains(&name) {
        return Some(Value::str(""));
    }
    if FLAGS.contains(&name) {
        return Some(Value::Bool(false));
    }
    if LISTS.contains(&name) {
        return Some(Value::NilList);
    }
    MAPS.contains(&name).then_some(Value::NilMap)
}

#[cfg(test)]
mod tests {
    use super::super::template::Template;
    use super::*;

    #[test]
    fn reads_as_docker_does() {
        let json = r#"{"Id":"x","State":{"Status":"created","Pid":0},"Config":{"Labels":{"a":"b"},"Cmd":null,"Volumes":null},
            "HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"LogConfig":{"Type":"json-file","Config":{}},"PidsLimit":null,"CpuShares":2}}"#;
        let value = object(crate::util::json::from_str(json).unwrap());
        for (template, expected) in [
            ("{{.ID}}{{.Id}}", "xx"),
            ("{{.State}}{{if .State.Health}}y{{end}}{{.State.Health}}", "{created 0}<nil>"),
            (
                "{{.Config.Labels.zz}} {{.Config.Labels}} {{.Config.Cmd}} {{json .Config.Cmd}}",
                "<no value> map[a:b] [] null",
            ),
            ("{{.Config.ExposedPorts}} {{.Config.Volumes}} {{.Config.Healthcheck}}", "map[] map[] <nil>"),
            ("{{.HostConfig.RestartPolicy}} {{.HostConfig.LogConfig}}", "{no 0} {json-file map[]}"),
            ("{{.HostConfig.PidsLimit}} {{.HostConfig.CPUShares}}", "<nil> 2"),
        ] {
            assert_eq!(Template::parse(template).unwrap().inspecting().render(&value).unwrap(), expected, "{template}");
        }
        for (template, expected) in [
            (
                "{{.State.Health.Status}}",
                "template: :1:8: executing \"\" at <.State.Health.Status>: map has no entry for key \"Health\"",
            ),
            ("{{.State.Nope}}", "template: :1:8: executing \"\" at <.State.Nope>: map has no entry for key \"Nope\""),
            (
                "{{.Id.Foo}}",
                "template: :1:5: executing \"\" at <.Id.Foo>: can't evaluate field Foo in type interface {}",
            ),
        ] {
            let got = Template::parse(template).unwrap().inspecting().render(&value).unwrap_err();
            assert_eq!(got, expected, "{template}");
        }
    }
}
