//! Go's types of what `inspect` shows, as far as a template can tell them: their
//! fields in order, which the JSON leaves out when they are empty, and how a
//! whole value is printed. Pure.
//!
//! Docker tries a template on its types first and on the raw JSON after, so that
//! both spellings of a name (`.ID`, `.Id`) work; here it is one pass: a value is
//! its JSON and the name of its type, and a name that the type has not is looked
//! up in the JSON, whose values have no type.

use super::value::{Fields, Value};
use std::fmt;
use std::rc::Rc;

/// The type of raw JSON.
pub const RAW: &str = "interface {}";

/// A type's name and its fields in order of declaration, `Name:type`; embedded
/// ones have a + in front.
const STRUCTS: &[(&str, &str)] = &[
    ("blkiodev.ThrottleDevice", "Path:string;Rate:uint64"),
    ("blkiodev.WeightDevice", "Path:string;Weight:uint16"),
    (
        "container.Config",
        "Hostname:string;Domainname:string;User:string;AttachStdin:bool;AttachStdout:bool;AttachStderr:bool;\
         ExposedPorts:nat.PortSet;Tty:bool;OpenStdin:bool;StdinOnce:bool;Env:[]string;Cmd:strslice.StrSlice;\
         Healthcheck:*v1.HealthcheckConfig;ArgsEscaped:bool;Image:string;Volumes:map[string]struct {};\
         WorkingDir:string;Entrypoint:strslice.StrSlice;NetworkDisabled:bool;MacAddress:string;OnBuild:[]string;\
         Labels:map[string]string;StopSignal:string;StopTimeout:*int;Shell:strslice.StrSlice",
    ),
    (
        "container.ContainerJSONBase",
        "ID:string;Created:string;Path:string;Args:[]string;State:*container.State;Image:string;\
         ResolvConfPath:string;HostnamePath:string;HostsPath:string;LogPath:string;Name:string;RestartCount:int;\
         Driver:string;Platform:string;MountLabel:string;ProcessLabel:string;AppArmorProfile:string;\
         ExecIDs:[]string;HostConfig:*container.HostConfig;GraphDriver:storage.DriverData;SizeRw:*int64;\
         SizeRootFs:*int64",
    ),
    (
        "container.DefaultNetworkSettings",
        "EndpointID:string;Gateway:string;GlobalIPv6Address:string;GlobalIPv6PrefixLen:int;IPAddress:string;\
         IPPrefixLen:int;IPv6Gateway:string;MacAddress:string",
    ),
    ("container.DeviceMapping", "PathOnHost:string;PathInContainer:string;CgroupPermissions:string"),
    (
        "container.DeviceRequest",
        "Driver:string;Count:int;DeviceIDs:[]string;Capabilities:[][]string;Options:map[string]string",
    ),
    ("container.Health", "Status:string;FailingStreak:int;Log:[]*container.HealthcheckResult"),
    ("container.HealthcheckResult", "Start:time.Time;End:time.Time;ExitCode:int;Output:string"),
    (
        "container.HostConfig",
        "Binds:[]string;ContainerIDFile:string;LogConfig:container.LogConfig;NetworkMode:container.NetworkMode;\
         PortBindings:nat.PortMap;RestartPolicy:container.RestartPolicy;AutoRemove:bool;VolumeDriver:string;\
         VolumesFrom:[]string;ConsoleSize:[2]uint;Annotations:map[string]string;CapAdd:strslice.StrSlice;\
         CapDrop:strslice.StrSlice;CgroupnsMode:container.CgroupnsMode;DNS:[]string;DNSOptions:[]string;\
         DNSSearch:[]string;ExtraHosts:[]string;GroupAdd:[]string;IpcMode:container.IpcMode;\
         Cgroup:container.CgroupSpec;Links:[]string;OomScoreAdj:int;PidMode:container.PidMode;Privileged:bool;\
         PublishAllPorts:bool;ReadonlyRootfs:bool;SecurityOpt:[]string;StorageOpt:map[string]string;\
         Tmpfs:map[string]string;UTSMode:container.UTSMode;UsernsMode:container.UsernsMode;ShmSize:int64;\
         Sysctls:map[string]string;Runtime:string;Isolation:container.Isolation;+Resources:container.Resources;\
         Mounts:[]mount.Mount;MaskedPaths:[]string;ReadonlyPaths:[]string;Init:*bool",
    ),
    (
        "container.InspectResponse",
        "+ContainerJSONBase:*container.ContainerJSONBase;Mounts:[]container.MountPoint;Config:*container.Config;\
         NetworkSettings:*container.NetworkSettings;ImageManifestDescriptor:*v1.Descriptor",
    ),
    ("container.LogConfig", "Type:string;Config:map[string]string"),
    (
        "container.MountPoint",
        "Type:mount.Type;Name:string;Source:string;Destination:string;Driver:string;Mode:string;RW:bool;\
         Propagation:mount.Propagation",
    ),
    (
        "container.NetworkSettings",
        "+NetworkSettingsBase:container.NetworkSettingsBase;\
         +DefaultNetworkSettings:container.DefaultNetworkSettings;Networks:map[string]*network.EndpointSettings",
    ),
    (
        "container.NetworkSettingsBase",
        "Bridge:string;SandboxID:string;SandboxKey:string;Ports:nat.PortMap;HairpinMode:bool;\
         LinkLocalIPv6Address:string;LinkLocalIPv6PrefixLen:int;SecondaryIPAddresses:[]network.Address;\
         SecondaryIPv6Addresses:[]network.Address",
    ),
    (
        "container.Resources",
        "CPUShares:int64;Memory:int64;NanoCPUs:int64;CgroupParent:string;BlkioWeight:uint16;\
         BlkioWeightDevice:[]*blkiodev.WeightDevice;BlkioDeviceReadBps:[]*blkiodev.ThrottleDevice;\
         BlkioDeviceWriteBps:[]*blkiodev.ThrottleDevice;BlkioDeviceReadIOps:[]*blkiodev.ThrottleDevice;\
         BlkioDeviceWriteIOps:[]*blkiodev.ThrottleDevice;CPUPeriod:int64;CPUQuota:int64;CPURealtimePeriod:int64;\
         CPURealtimeRuntime:int64;CpusetCpus:string;CpusetMems:string;Devices:[]container.DeviceMapping;\
         DeviceCgroupRules:[]string;DeviceRequests:[]container.DeviceRequest;KernelMemory:int64;\
         KernelMemoryTCP:int64;MemoryReservation:int64;MemorySwap:int64;MemorySwappiness:*int64;\
         OomKillDisable:*bool;PidsLimit:*int64;Ulimits:[]*units.Ulimit;CPUCount:int64;CPUPercent:int64;\
         IOMaximumIOps:uint64;IOMaximumBandwidth:uint64",
    ),
    ("container.RestartPolicy", "Name:container.RestartPolicyMode;MaximumRetryCount:int"),
    (
        "container.State",
        "Status:string;Running:bool;Paused:bool;Restarting:bool;OOMKilled:bool;Dead:bool;Pid:int;ExitCode:int;\
         Error:string;StartedAt:string;FinishedAt:string;Health:*container.Health",
    ),
    (
        "image.InspectResponse",
        "ID:string;RepoTags:[]string;RepoDigests:[]string;Parent:string;Comment:string;Created:string;\
         Container:string;ContainerConfig:*container.Config;DockerVersion:string;Author:string;\
         Config:*v1.DockerOCIImageConfig;Architecture:string;Variant:string;Os:string;OsVersion:string;Size:int64;\
         VirtualSize:int64;GraphDriver:storage.DriverData;RootFS:image.RootFS;Metadata:image.Metadata;\
         Descriptor:*v1.Descriptor;Manifests:[]image.ManifestSummary",
    ),
    ("image.Metadata", "LastTagTime:time.Time"),
    ("image.RootFS", "Type:string;Layers:[]string"),
    (
        "mount.BindOptions",
        "Propagation:mount.Propagation;NonRecursive:bool;CreateMountpoint:bool;ReadOnlyNonRecursive:bool;\
         ReadOnlyForceRecursive:bool",
    ),
    ("mount.ClusterOptions", ""),
    ("mount.Driver", "Name:string;Options:map[string]string"),
    ("mount.ImageOptions", "Subpath:string"),
    (
        "mount.Mount",
        "Type:mount.Type;Source:string;Target:string;ReadOnly:bool;Consistency:mount.Consistency;\
         BindOptions:*mount.BindOptions;VolumeOptions:*mount.VolumeOptions;ImageOptions:*mount.ImageOptions;\
         TmpfsOptions:*mount.TmpfsOptions;ClusterOptions:*mount.ClusterOptions",
    ),
    ("mount.TmpfsOptions", "SizeBytes:int64;Mode:fs.FileMode;Options:[][]string"),
    ("mount.VolumeOptions", "NoCopy:bool;Labels:map[string]string;Subpath:string;DriverConfig:*mount.Driver"),
    ("nat.PortBinding", "HostIP:string;HostPort:string"),
    ("network.Address", "Addr:string;PrefixLen:int"),
    ("network.ConfigReference", "Network:string"),
    ("network.EndpointIPAMConfig", "IPv4Address:string;IPv6Address:string;LinkLocalIPs:[]string"),
    (
        "network.EndpointResource",
        "Name:string;EndpointID:string;MacAddress:string;IPv4Address:string;IPv6Address:string",
    ),
    (
        "network.EndpointSettings",
        "IPAMConfig:*network.EndpointIPAMConfig;Links:[]string;Aliases:[]string;MacAddress:string;\
         DriverOpts:map[string]string;GwPriority:int;NetworkID:string;EndpointID:string;Gateway:string;\
         IPAddress:string;IPPrefixLen:int;IPv6Gateway:string;GlobalIPv6Address:string;GlobalIPv6PrefixLen:int;\
         DNSNames:[]string",
    ),
    ("network.IPAM", "Driver:string;Options:map[string]string;Config:[]network.IPAMConfig"),
    ("network.IPAMConfig", "Subnet:string;IPRange:string;Gateway:string;AuxAddress:map[string]string"),
    (
        "network.Inspect",
        "Name:string;ID:string;Created:time.Time;Scope:string;Driver:string;EnableIPv4:bool;EnableIPv6:bool;\
         IPAM:network.IPAM;Internal:bool;Attachable:bool;Ingress:bool;ConfigFrom:network.ConfigReference;\
         ConfigOnly:bool;Containers:map[string]network.EndpointResource;Options:map[string]string;\
         Labels:map[string]string;Peers:[]network.PeerInfo;Services:map[string]network.ServiceInfo",
    ),
    ("network.PeerInfo", "Name:string;IP:string"),
    ("storage.DriverData", "Data:map[string]string;Name:string"),
    ("units.Ulimit", "Name:string;Hard:int64;Soft:int64"),
    ("v1.DockerOCIImageConfig", "+ImageConfig:v1.ImageConfig;+DockerOCIImageConfigExt:v1.DockerOCIImageConfigExt"),
    ("v1.DockerOCIImageConfigExt", "Healthcheck:*v1.HealthcheckConfig;OnBuild:[]string;Shell:[]string"),
    (
        "v1.HealthcheckConfig",
        "Test:[]string;Interval:time.Duration;Timeout:time.Duration;StartPeriod:time.Duration;\
         StartInterval:time.Duration;Retries:int",
    ),
    (
        "v1.ImageConfig",
        "User:string;ExposedPorts:map[string]struct {};Env:[]string;Entrypoint:[]string;Cmd:[]string;\
         Volumes:map[string]struct {};WorkingDir:string;Labels:map[string]string;StopSignal:string;\
         ArgsEscaped:bool",
    ),
    ("volume.UsageData", "RefCount:int64;Size:int64"),
    (
        "volume.Volume",
        "ClusterVolume:*volume.ClusterVolume;CreatedAt:string;Driver:string;Labels:map[string]string;\
         Mountpoint:string;Name:string;Options:map[string]string;Scope:string;Status:map[string]interface {};\
         UsageData:*volume.UsageData",
    ),
];

/// Names for other types. What else has a name is a string, or a struct that
/// nobody needs to see whole.
const NAMED: &[(&str, &str)] = &[
    ("fs.FileMode", "uint32"),
    ("nat.PortMap", "map[nat.Port][]nat.PortBinding"),
    ("nat.PortSet", "map[nat.Port]struct {}"),
    ("strslice.StrSlice", "[]string"),
    ("time.Duration", "int64"),
];

/// What nothing can be said of: a pointer inside something else.
const ADDRESS: &str = "0xc000000000";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Number,
    Text,
    List(&'static str),
    Map(&'static str),
    Pointer(&'static str),
    /// Its fields.
    Struct(&'static str),
    Raw,
}

fn kind(ty: &'static str) -> Kind {
    if let Some((_, under)) = NAMED.iter().find(|(name, _)| *name == ty) {
        return kind(under);
    }
    if let Some((_, fields)) = STRUCTS.iter().find(|(name, _)| *name == ty) {
        return Kind::Struct(fields);
    }
    if let Some(target) = ty.strip_prefix('*') {
        return Kind::Pointer(target);
    }
    if let Some((_, element)) = ty.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return Kind::List(element);
    }
    if let Some((_, element)) = ty.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        return Kind::Map(element);
    }
    match ty {
        "bool" => Kind::Bool,
        "struct {}" => Kind::Struct(""),
        "image.ManifestSummary" | "network.ServiceInfo" | "v1.Descriptor" | "volume.ClusterVolume" | RAW => Kind::Raw,
        _ if ty.starts_with("int") || ty.starts_with("uint") => Kind::Number,
        _ => Kind::Text,
    }
}

struct Field {
    name: &'static str,
    ty: &'static str,
    embedded: bool,
}

fn fields(text: &'static str) -> impl Iterator<Item = Field> {
    text.split(';').filter_map(|field| {
        let (name, ty) = field.split_once(':')?;
        let embedded = name.starts_with('+');
        Some(Field { name: name.trim_start_matches('+'), ty, embedded })
    })
}

/// Of the JSON of a struct; names in JSON differ in case alone, but for one.
fn raw_member(raw: &Value, name: &str) -> Value {
    let name = if name == "AuxAddress" { "AuxiliaryAddresses" } else { name };
    let Value::Map(entries) = raw else { return Value::Missing };
    let exact = entries.iter().find(|(key, _)| &**key == name);
    exact
        .or_else(|| entries.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)))
        .map_or(Value::Missing, |(_, value)| value.clone())
}

/// A field of a value of type `ty`, its own or of an embedded struct.
pub fn member(ty: &'static str, raw: &Value, name: &str) -> Option<Value> {
    match kind(ty) {
        Kind::Pointer(target) => member(target, raw, name),
        Kind::Struct(text) => fields(text).find_map(|field| match (field.name == name, field.embedded) {
            (true, true) => Some(Value::Go(field.ty, Rc::new(raw.clone()))),
            (true, false) => Some(Value::Go(field.ty, Rc::new(raw_member(raw, name)))),
            (false, true) => member(field.ty, raw, name),
            (false, false) => None,
        }),
        Kind::Map(element) => {
            let Value::Map(entries) = raw else { return None };
            let found = entries.iter().find(|(key, _)| &**key == name)?;
            Some(Value::Go(element, Rc::new(found.1.clone())))
        }
        _ => None,
    }
}

/// What a type gives for nothing.
fn zero(ty: &'static str) -> Value {
    match kind(ty) {
        Kind::Bool => Value::Bool(false),
        Kind::Number => Value::Int(0),
        Kind::Text => Value::str(""),
        Kind::List(_) => Value::NilList,
        Kind::Map(_) => Value::NilMap,
        Kind::Pointer(_) => Value::Nil,
        Kind::Struct(_) => Value::map(Vec::new()),
        Kind::Raw => Value::Missing,
    }
}

/// The value without its type; what is in it keeps its own. Pointers are followed.
pub fn open(ty: &'static str, raw: &Value) -> Value {
    let inside = |element: &'static str, value: &Value| Value::Go(element, Rc::new(value.clone()));
    match (kind(ty), raw) {
        (Kind::Raw, Value::List(items)) => Value::list(items.iter().map(|v| inside(RAW, v)).collect()),
        (Kind::Raw, Value::Map(entries)) => {
            Value::map(entries.iter().map(|(k, v)| (k.clone(), inside(RAW, v))).collect())
        }
        (_, Value::Missing) => zero(ty),
        (Kind::Pointer(target), _) => open(target, raw),
        (Kind::List(element), Value::List(items)) => Value::list(items.iter().map(|v| inside(element, v)).collect()),
        (Kind::Map(element), Value::Map(entries)) => {
            Value::map(entries.iter().map(|(k, v)| (k.clone(), inside(element, v))).collect())
        }
        (Kind::Struct(text), _) => {
            let all = fields(text).filter_map(|f| Some((Rc::from(f.name), member(ty, raw, f.name)?)));
            Value::Struct(Rc::new(Fields { type_name: ty, fields: all.collect() }))
        }
        _ => raw.clone(),
    }
}

/// What JSON shows of it.
pub fn json(ty: &'static str, raw: &Value) -> Value {
    if matches!(raw, Value::Missing) { zero(ty) } else { raw.clone() }
}

/// A map's value for a key that it has not, by `index`.
pub fn nothing_in(ty: &'static str) -> Value {
    match kind(ty) {
        Kind::Pointer(target) => nothing_in(target),
        Kind::Map(element) => Value::Go(element, Rc::new(Value::Missing)),
        _ => Value::Missing,
    }
}

/// A nil pointer, in which no field can be looked up.
pub fn is_nil(ty: &'static str, raw: &Value) -> bool {
    matches!((kind(ty), raw), (Kind::Pointer(_), Value::Missing))
}

/// What `print` gets has not been followed: Go marks a pointer to a struct.
pub fn is_reference(ty: &'static str, raw: &Value) -> bool {
    matches!(kind(ty), Kind::Pointer(target) if matches!(kind(target), Kind::Struct(_)))
        && !matches!(raw, Value::Missing)
        && text_of(ty, raw).is_none()
}

/// Types that print themselves.
fn text_of(ty: &'static str, raw: &Value) -> Option<String> {
    let part = |name: &str| raw_member(raw, name).to_string();
    let number = match raw {
        Value::Int(n) => u64::try_from(*n).unwrap_or_default(),
        _ => 0,
    };
    Some(match ty {
        "time.Duration" => crate::util::units::duration(std::time::Duration::from_nanos(number)),
        "time.Time" => time(raw.as_str().unwrap_or("0001-01-01T00:00:00Z")),
        "fs.FileMode" => mode(number),
        "*units.Ulimit" => format!("{}={}:{}", part("Name"), part("Soft"), part("Hard")),
        "*blkiodev.WeightDevice" => format!("{}:{}", part("Path"), part("Weight")),
        "*blkiodev.ThrottleDevice" => format!("{}:{}", part("Path"), part("Rate")),
        _ => return None,
    })
}

/// Go's Time.String of a time in JSON.
fn time(text: &str) -> String {
    let Some((day, rest)) = text.split_once('T') else { return text.to_owned() };
    match rest.strip_suffix('Z') {
        Some(clock) => format!("{day} {clock} +0000 UTC"),
        None => {
            let (clock, zone) = rest.split_at(rest.len().saturating_sub(6));
            let zone = zone.replace(':', "");
            format!("{day} {clock} {zone} {zone}")
        }
    }
}

/// Go's FileMode.String, of permissions.
fn mode(bits: u64) -> String {
    let letters = "rwxrwxrwx".chars().enumerate();
    std::iter::once('-').chain(letters.map(|(i, c)| if bits >> (8 - i) & 1 == 1 { c } else { '-' })).collect()
}

/// Go's `%v`, with `names` its `%+v`; the outermost pointer is followed.
pub fn print(out: &mut dyn fmt::Write, ty: &'static str, raw: &Value, names: bool) -> fmt::Result {
    match kind(ty) {
        Kind::Pointer(target) if !matches!(raw, Value::Missing) && text_of(ty, raw).is_none() => {
            print(out, target, raw, names)
        }
        Kind::Raw => write!(out, "{raw}"),
        _ => within(out, ty, raw, names),
    }
}

/// The same inside something else, where a pointer is an address.
fn within(out: &mut dyn fmt::Write, ty: &'static str, raw: &Value, names: bool) -> fmt::Result {
    if let Some(text) = text_of(ty, raw).filter(|_| !is_nil(ty, raw)) {
        return out.write_str(&text);
    }
    let gap = |n: usize| if n == 0 { "" } else { " " };
    match (kind(ty), raw) {
        (Kind::Raw, Value::Missing) => out.write_str("<nil>"),
        (Kind::Struct(text), _) => {
            out.write_char('{')?;
            for (n, field) in fields(text).enumerate() {
                out.write_str(gap(n))?;
                if names {
                    write!(out, "{}:", field.name)?;
                }
                let value = if field.embedded { raw.clone() } else { raw_member(raw, field.name) };
                within(out, field.ty, &value, names)?;
            }
            out.write_char('}')
        }
        (_, Value::Missing) => write!(out, "{}", zero(ty)),
        (Kind::Pointer(_), _) => out.write_str(ADDRESS),
        (Kind::List(element), Value::List(items)) => {
            out.write_char('[')?;
            for (n, item) in items.iter().enumerate() {
                out.write_str(gap(n))?;
                within(out, element, item, names)?;
            }
            out.write_char(']')
        }
        (Kind::Map(element), Value::Map(entries)) => {
            out.write_str("map[")?;
            for (n, (key, value)) in Value::sorted(entries).iter().enumerate() {
                write!(out, "{}{key}:", gap(n))?;
                within(out, element, value, names)?;
            }
            out.write_char(']')
        }
        _ => write!(out, "{raw}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::template::Template;
    use super::*;

    #[track_caller]
    fn shows(json: &str, ty: &'static str, cases: &[(&str, Result<&str, &str>)]) {
        let value = Value::Go(ty, Rc::new(crate::util::json::from_str(json).unwrap()));
        for (template, expected) in cases {
            let got = Template::parse(template).unwrap().render(&value);
            assert_eq!(got.as_deref().map_err(String::as_str), *expected, "{template}");
        }
    }

    #[test]
    fn reads_as_docker_does() {
        let json = r#"{"Id":"x","State":{"Status":"created","Pid":0},"Config":{"Check":1,"Labels":{"a":"b"},"Cmd":null,"Volumes":null},
            "HostConfig":{"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"LogConfig":{"Type":"json-file","Config":{}},"PidsLimit":null,"CpuShares":2,
            "NetworkMode":"bridge","Ulimits":[{"Name":"nofile","Hard":2,"Soft":1}]},
            "Mounts":[{"Type":"bind","Source":"/s","Destination":"/d","Mode":"ro","RW":false,"Propagation":"rprivate"}]}"#;
        let missing = "template: :1:8: executing \"\" at <.State.Health.Status>: map has no entry for key \"Health\"";
        let unknown = "template: :1:8: executing \"\" at <.State.Nope>: map has no entry for key \"Nope\"";
        let scalar = "template: :1:5: executing \"\" at <.Id.Foo>: can't evaluate field Foo in type interface {}";
        let state = "created false false false false false 0 0    <nil>";
        shows(
            json,
            "container.InspectResponse",
            &[
                ("{{.ID}}{{.Id}}", Ok("xx")),
                ("{{.State}}{{if .State.Health}}y{{end}}{{.State.Health}}", Ok(&format!("{{{state}}}<nil>"))),
                ("{{printf \"%v\" .State}}", Ok(&format!("&{{{state}}}"))),
                (
                    "{{.Config.Labels.zz}} {{.Config.Labels}} {{.Config.Cmd}} {{json .Config.Cmd}}",
                    Ok("<no value> map[a:b] [] null"),
                ),
                ("{{.Config.ExposedPorts}} {{.Config.Volumes}} {{.Config.Healthcheck}}", Ok("map[] map[] <nil>")),
                ("{{.HostConfig.RestartPolicy}} {{.HostConfig.LogConfig}}", Ok("{no 0} {json-file map[]}")),
                ("{{printf \"%+v\" .HostConfig.RestartPolicy}}", Ok("{Name:no MaximumRetryCount:0}")),
                ("{{.HostConfig.PidsLimit}} {{.HostConfig.CPUShares}}", Ok("<nil> 2")),
                (
                    "{{.Config.Check}}{{.HostConfig.Ulimits}} {{(index .HostConfig.Ulimits 0).Soft}}",
                    Ok("1[nofile=1:2] 1"),
                ),
                ("{{.Mounts}} {{(index .Mounts 0).Driver}}", Ok("[{bind  /s /d  ro false rprivate}] ")),
                (
                    "{{printf \"%T %T %T\" .State .HostConfig.NetworkMode .Mounts}}",
                    Ok("*container.State container.NetworkMode []container.MountPoint"),
                ),
                (
                    "{{range $k, $v := .Config.Labels}}{{$k}}={{upper $v}}{{end}}{{index .Config.Labels \"q\"}}",
                    Ok("a=B"),
                ),
                ("{{eq .HostConfig.NetworkMode \"bridge\"}} {{len .Mounts}} {{len .ID}}", Ok("true 1 1")),
                ("{{.State.Health.Status}}", Err(missing)),
                ("{{.State.Nope}}", Err(unknown)),
                ("{{.Id.Foo}}", Err(scalar)),
            ],
        );
        let health = r#"{"Config":{"Healthcheck":{"Test":["CMD","x"],"Interval":90000000000,"Retries":4}}}"#;
        shows(
            health,
            "container.InspectResponse",
            &[
                ("{{.Config.Healthcheck}}", Ok("{[CMD x] 1m30s 0s 0s 0s 4}")),
                ("{{.Config.Healthcheck.Interval}} {{.Config.Healthcheck.Timeout}}", Ok("1m30s 0s")),
                ("{{json .Config.Healthcheck.Interval}} {{gt .Config.Healthcheck.Interval 5}}", Ok("90000000000 true")),
                ("{{.Config.StopTimeout}} {{.Config.Healthcheck.Retries}}", Ok("<nil> 4")),
            ],
        );
    }

    #[test]
    fn times_and_modes() {
        assert_eq!(time("2026-11-25T20:08:10.7636Z"), "2026-11-25 20:08:10.7636 +0000 UTC");
        assert_eq!(time("2026-11-25T20:08:10+02:00"), "2026-11-25 20:08:10 +0200 +0200");
        assert_eq!((mode(0), mode(0o750)), ("----------".into(), "-rwxr-x---".into()));
    }

    #[test]
    fn every_type_that_is_named_is_known() {
        for (name, text) in STRUCTS {
            for field in fields(text) {
                let ty = field.ty.rsplit(['*', ']']).next().unwrap();
                assert!(
                    !ty.contains('.')
                        || kind(ty) != Kind::Text
                        || ty.contains("Mode")
                        || ty.starts_with("mount.")
                        || ["container.Isolation", "container.CgroupSpec", "time.Time"].contains(&ty),
                    "{name}.{}: {ty}",
                    field.name
                );
            }
        }
    }
}
