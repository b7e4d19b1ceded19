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

/// Structs that are printed with the fields that their JSON leaves out: the
/// list or field they stand in, one field that tells them, all fields in order
/// with the text of a zero.
const WHOLE: &[(&str, &str, &[(&str, &str)])] = &[
    (
        "Healthcheck",
        "Test",
        &[
            ("Test", "[]"),
            ("Interval", "0s"),
            ("Timeout", "0s"),
            ("StartPeriod", "0s"),
            ("StartInterval", "0s"),
            ("Retries", "0"),
        ],
    ),
    (
        "Mounts",
        "Destination",
        &[
            ("Type", ""),
            ("Name", ""),
            ("Source", ""),
            ("Destination", ""),
            ("Driver", ""),
            ("Mode", ""),
            ("RW", "false"),
            ("Propagation", ""),
        ],
    ),
    ("Config", "Subnet", &[("Subnet", ""), ("IPRange", ""), ("Gateway", ""), ("AuxiliaryAddresses", "map[]")]),
];
const DURATIONS: &[&str] = &["Interval", "Timeout", "StartPeriod", "StartInterval"];

fn shown(text: String, value: Value) -> Value {
    Value::Shown(Rc::new((text, value)))
}

/// A struct as Go prints its type, where that is not what its JSON says.
fn typed(value: Value, key: &str) -> Value {
    let text = |name: &str| value.get(name).map(ToString::to_string).unwrap_or_default();
    if key == "Ulimits" {
        let text = format!("{}={}:{}", text("Name"), text("Soft"), text("Hard"));
        return shown(text, value);
    }
    let Some((.., fields)) = WHOLE.iter().find(|(place, mark, _)| *place == key && value.get(mark).is_some()) else {
        return value;
    };
    let texts: Vec<String> = fields
        .iter()
        .map(|(name, zero)| value.get(name).map_or_else(|| (*zero).to_owned(), ToString::to_string))
        .collect();
    shown(format!("{{{}}}", texts.join(" ")), value)
}

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
            let shape = |k: &Rc<str>, v: &Value| match v {
                Value::Int(n) if key == "Healthcheck" && DURATIONS.contains(&&**k) => {
                    let time = std::time::Duration::from_nanos(u64::try_from(*n).unwrap_or_default());
                    shown(crate::util::units::duration(time), v.clone())
                }
                _ => shaped(v.clone(), if options(k) { "Options" } else { k }, false),
            };
            let fields = m.iter().map(|(k, v)| (k.clone(), shape(k, v))).collect();
            typed(Value::Struct(Rc::new(Fields { type_name: "interface {}", fields })), key)
        }
        Value::List(items) => Value::list(items.iter().map(|v| typed(shaped(v.clone(), "", true), key)).collect()),
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
pub(super) fn absent(of: &Value, name: &str) -> Option<Value> {
    let (mount, health) = (of.get("Destination").is_some(), of.get("Test").is_some());
    if mount && ["Name", "Driver"].contains(&name) {
        return Some(Value::str(""));
    }
    if health && DURATIONS.contains(&name) {
        return Some(shown("0s".into(), Value::Int(0)));
    }
    if health && name == "Retries" {
        return Some(Value::Int(0));
    }
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
        let json = r#"{"Id":"x","State":{"Status":"created","Pid":0},"Config":{"Check":1,"Labels":{"a":"b"},"Cmd":null,"Volumes":null},
            "HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"LogConfig":{"Type":"json-file","Config":{}},"PidsLimit":null,"CpuShares":2,
            "Ulimits":[{"Name":"nofile","Hard":2,"Soft":1}]},
            "Mounts":[{"Type":"bind","Source":"/s","Destination":"/d","Mode":"ro","RW":false,"Propagation":"rprivate"}]}"#;
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
            ("{{.Config.Check}}{{.HostConfig.Ulimits}} {{(index .HostConfig.Ulimits 0).Soft}}", "1[nofile=1:2] 1"),
            ("{{.Mounts}} {{(index .Mounts 0).Driver}}", "[{bind  /s /d  ro false rprivate}] "),
        ] {
            assert_eq!(Template::parse(template).unwrap().inspecting().render(&value).unwrap(), expected, "{template}");
        }
        let health = r#"{"Config":{"Healthcheck":{"Test":["CMD","x"],"Interval":90000000000,"Retries":4}}}"#;
        let health = object(crate::util::json::from_str(health).unwrap());
        for (template, expected) in [
            ("{{.Config.Healthcheck}}", "{[CMD x] 1m30s 0s 0s 0s 4}"),
            ("{{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Timeout}}", "1m30s 0s"),
            ("{{json .Config.Healthcheck.Interval}} {{gt .Config.Healthcheck.Interval 5}}", "90000000000 true"),
        ] {
            assert_eq!(
                Template::parse(template).unwrap().inspecting().render(&health).unwrap(),
                expected,
                "{template}"
            );
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
