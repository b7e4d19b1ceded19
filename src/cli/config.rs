//! `config.json`: Docker's file with Docker's keys, shared with the real client
//! and with every tool that reads it. Runs in the docker process.
//!
//! Invariants: unknown keys survive a write, the file is replaced whole or not at
//! all, and it is never readable by others (it holds passwords).

use crate::util::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::cli::format::value::Value;
use crate::error::{Context as _, Error, Result, errno_text};
use crate::util::atomic_file::{self, Durability};

#[derive(Clone, Default)]
pub struct Config {
    path: PathBuf,
    members: Vec<(Rc<str>, Value)>,
}

impl Config {
    /// A file that is not there, or holds nothing, is an empty configuration.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let shown = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::system(format!("open {shown}: {}", errno_text(&e)))),
        };
        let members = match text.trim() {
            "" => Vec::new(),
            text => match json::from_str(text) {
                Ok(Value::Map(members)) => members.to_vec(),
                Ok(_) => return Err(Error::invalid(format!("{shown}: not an object"))),
                Err(e) => return Err(Error::invalid(format!("{shown}: {e}"))),
            },
        };
        Ok(Self { path, members })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.members.iter().find(|(k, _)| &**k == key).map(|(_, v)| v)
    }
    /// A text, absent when empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str).filter(|s| !s.is_empty())
    }
    /// An object of strings, as `HttpHeaders`.
    pub fn strings(&self, key: &str) -> Vec<(String, String)> {
        let members = self.members(key).into_iter();
        members.filter_map(|(k, v)| Some((k.as_ref().to_owned(), v.as_str()?.to_owned()))).collect()
    }
    /// The members of an object, none when it is not there.
    pub fn members(&self, key: &str) -> Vec<(Rc<str>, Value)> {
        match self.get(key) {
            Some(Value::Map(m)) => m.to_vec(),
            _ => Vec::new(),
        }
    }
    pub fn list(&self, key: &str) -> Vec<String> {
        match self.get(key) {
            Some(Value::List(items)) => items.iter().filter_map(|i| i.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        }
    }

    pub fn set(&mut self, key: &str, value: Value) {
        match self.members.iter_mut().find(|(k, _)| &**k == key) {
            Some(slot) => slot.1 = value,
            None => self.members.push((Rc::from(key), value)),
        }
    }
    pub fn remove(&mut self, key: &str) {
        self.members.retain(|(k, _)| &**k != key);
    }

    /// Puts `value` into the object `key`, which is made when it is not there.
    pub fn set_member(&mut self, key: &str, name: &str, value: Value) {
        let mut members = self.members(key);
        match members.iter_mut().find(|(k, _)| &**k == name) {
            Some(slot) => slot.1 = value,
            None => members.push((Rc::from(name), value)),
        }
        self.set(key, Value::map(members));
    }
    /// Whether there was something to remove.
    pub fn remove_member(&mut self, key: &str, name: &str) -> bool {
        let mut members = self.members(key);
        let before = members.len();
        members.retain(|(k, _)| &**k != name);
        let removed = members.len() != before;
        if removed {
            self.set(key, Value::map(members));
        }
        removed
    }

    /// Writes it back; a symbolic link stays one (dotfile managers use them).
    pub fn save(&self) -> Result<()> {
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        if let Some(dir) = target.parent() {
            use std::os::unix::fs::DirBuilderExt;
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .with_context(|| format!("mkdir {}", dir.display()))?;
        }
        let mut members = self.members.clone();
        if !members.iter().any(|(k, _)| &**k == "auths") {
            members.insert(0, (Rc::from("auths"), Value::map(Vec::new())));
        }
        let text = Value::map(members).to_json_indented(true, "\t");
        atomic_file::write(&target, text.as_bytes(), Durability::Synced)
            .with_context(|| format!("write {}", target.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn unknown_keys_survive() {
        let dir = std::env::temp_dir().join(format!("coracle-config-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), r#"{"zz":[1,{"b":2,"a":1}],"currentContext":"x"}"#).unwrap();
        let mut config = Config::load(&dir).unwrap();
        assert_eq!(config.text("currentContext"), Some("x"));
        config.remove("currentContext");
        config.set_member("auths", "host", Value::str("<t>"));
        config.save().unwrap();
        let text = fs::read_to_string(dir.join("config.json")).unwrap();
        assert_eq!(
            text.split_whitespace().collect::<String>(),
            r#"{"zz":[1,{"b":2,"a":1}],"auths":{"host":"\u003ct\u003e"}}"#
        );
        assert_eq!(fs::metadata(dir.join("config.json")).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(dir.join("config.json"), "{").unwrap();
        assert!(Config::load(&dir).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
