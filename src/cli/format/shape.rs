//! What Go's types would know about `info`, `version` and contexts and their JSON
//! does not say: which objects are maps and which structs, which `null` is a nil
//! slice. What `inspect` shows has its types in `gotypes`. Pure.

use std::rc::Rc;

use super::value::{Fields, Value};

/// Objects whose keys are data.
const MAPS: &[&str] = &[
    "Annotations", "AuxiliaryAddresses", "Containers", "Data", "Details", "DriverOpts", "Endpoints", "EndpointsConfig",
    "ExposedPorts", "IndexConfigs", "Labels", "LogOpts", "Networks", "Options", "PortBindings", "Ports", "Runtimes",
    "Services", "Status", "StorageOpt", "Sysctls", "TLSMaterial", "Tmpfs", "Volumes",
];

/// Go's name of a field, its name in JSON.
const NAMES: &[(&str, &str)] = &[("APIVersion", "ApiVersion"), ("ID", "Id")];

/// The JSON of an object as Go would have it.
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
            let fields = m.iter().map(|(k, v)| (k.clone(), shaped(v.clone(), k, false))).collect();
            Value::Struct(Rc::new(Fields { type_name: "interface {}", fields }))
        }
        Value::List(items) => Value::list(items.iter().map(|v| shaped(v.clone(), "", true)).collect()),
        Value::Missing if keyed => Value::NilList,
        Value::Missing if MAPS.contains(&key) => Value::NilMap,
        Value::Missing => Value::NilList,
        other => other,
    }
}

/// A field by Go's name where its JSON name is another.
pub(super) fn renamed(value: &Value, name: &str) -> Option<Value> {
    let (_, other) = NAMES.iter().find(|(go, _)| *go == name)?;
    value.get(other).cloned()
}
