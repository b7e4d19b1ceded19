//! Bodies in: [`json`] with the texts that the original answers. Pure.

use crate::error::Error;
use crate::util::json;
use serde::de::DeserializeOwned;

/// One whole document. Errors are 400 in the words of the original.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    json::from_stranger(bytes).map_err(refused)
}

/// No body at all, where that is allowed: every field has its zero value.
pub fn from_nothing<T: DeserializeOwned>() -> Result<T, Error> {
    json::from_nothing().map_err(refused)
}

fn refused(wrong: json::Wrong) -> Error {
    match wrong.is_trailing() {
        true => Error::invalid(wrong.to_string()),
        false => Error::invalid(format!("invalid JSON: {wrong}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::container::{ContainerConfig, CreateRequest, HostConfig};
    use crate::api::volume::VolumeCreate;

    #[test]
    fn names_match_in_any_case_and_null_is_absent() {
        let r: CreateRequest = from_slice(
            br#"{"image":"a","ENV":null,"Cmd":"x","hostconfig":{"memory":5,"Init":true,"ConsoleSize":[1]},"Nope":{}}"#,
        )
        .unwrap();
        assert_eq!(r.config.image, "a");
        assert_eq!(r.config.env, None);
        assert_eq!(r.config.cmd, Some(vec!["x".to_owned()]));
        let host = r.host_config.unwrap();
        assert_eq!((host.memory, host.init, host.console_size), (5, Some(true), [1, 0]));
        assert_eq!(r.networking_config, None);
    }

    #[test]
    fn a_null_value_inside_a_map_stays() {
        let h: HostConfig = from_slice(br#"{"PortBindings":{"80/tcp":null,"81/tcp":[{"HostPort":"1"}]}}"#).unwrap();
        let ports = h.port_bindings.unwrap();
        assert_eq!(ports["80/tcp"], None);
        assert_eq!(ports["81/tcp"].as_ref().unwrap()[0].host_port, "1");
    }

    #[test]
    fn errors_read_as_the_original() {
        let text = |r: Result<CreateRequest, Error>| r.unwrap_err().to_string();
        assert_eq!(text(from_slice(b"{} x")), "unexpected content after JSON");
        assert_eq!(text(from_slice(b" ")), "invalid JSON: got EOF while reading request body");
        assert_eq!(text(from_slice(b"{")), "invalid JSON: unexpected EOF");
        assert_eq!(
            text(from_slice(b"{\n\"a\":1\nx")),
            "invalid JSON: invalid character 'x' after object key:value pair"
        );
        assert_eq!(text(from_slice(b"hm")), "invalid JSON: invalid character 'h' looking for beginning of value");
        assert_eq!(text(from_slice(br#"{"a":"b\x"}"#)), "invalid JSON: invalid character 'x' in string escape code");
        assert_eq!(
            text(from_slice(br#"{"HostConfig":{"Memory":"x"}}"#)),
            "invalid JSON: json: cannot unmarshal string into Go struct field .HostConfig.Memory of type int64"
        );
        assert_eq!(
            text(from_slice(br#"{"Image":5}"#)),
            "invalid JSON: json: cannot unmarshal number into Go struct field .Image of type string"
        );
        assert_eq!(
            text(from_slice(br#"{"HostConfig":{"Memory":1.5}}"#)),
            "invalid JSON: json: cannot unmarshal number 1.5 into Go struct field .HostConfig.Memory of type int64"
        );
        let zeros = [b"[0".to_vec(), b",0".repeat(200_000), b"]".to_vec()].concat();
        assert_eq!(text(from_slice(&zeros)).split(" at ").next(), Some("invalid JSON: too many values"));
        let e = from_slice::<VolumeCreate>(b"[]").unwrap_err().to_string();
        assert!(e.starts_with("invalid JSON: json: cannot unmarshal array into Go value of type"), "{e}");
    }

    #[test]
    fn encoding_keeps_order_and_nulls() {
        let text = json::to_string(&ContainerConfig::default()).unwrap();
        assert_eq!(
            text,
            r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,"AttachStderr":false,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":null,"Image":"","Volumes":null,"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":null}"#
        );
    }
}
