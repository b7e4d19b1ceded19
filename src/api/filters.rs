//! The `filters` query value: a JSON map in one of two forms. Pure.
//!
//! Different keys AND together; values of one key OR, except `label`, which ANDs.

use crate::error::{Error, Result};
use crate::util::json;
use crate::util::order;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// `{"k":["v"]}` or the older `{"k":{"v":true}}`; nothing is no filter.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let wrong = || Error::invalid("invalid filter");
        let value: serde_json::Value = json::from_str(text).map_err(|_| wrong())?;
        let map = match value {
            serde_json::Value::Null => return Ok(Self::default()),
            serde_json::Value::Object(map) => map,
            _ => return Err(wrong()),
        };
        let mut filters = Self::default();
        for (key, value) in map {
            let list = filters.0.entry(key).or_default();
            match value {
                serde_json::Value::Null => {}
                serde_json::Value::Array(values) => {
                    for v in values {
                        list.push(v.as_str().ok_or_else(wrong)?.to_owned());
                    }
                }
                // Go ignores the truth of the old form's values, so do we.
                serde_json::Value::Object(values) => {
                    for (v, flag) in values {
                        if !flag.is_boolean() {
                            return Err(wrong());
                        }
                        list.push(v);
                    }
                }
                _ => return Err(wrong()),
            }
        }
        Ok(filters)
    }

    /// What the client sends. Empty for no filter.
    pub fn encode(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let map: BTreeMap<&str, BTreeMap<&str, bool>> =
            order::map(self.0.iter().map(|(k, v)| (k.as_str(), order::map(v.iter().map(|v| (v.as_str(), true))))));
        json::to_string(&map).unwrap_or_default()
    }

    pub fn add(&mut self, key: &str, value: &str) {
        let list = self.0.entry(key.to_owned()).or_default();
        if !list.iter().any(|v| v == value) {
            list.push(value.to_owned());
        }
    }

    /// Refuses keys that the call does not know.
    pub fn check(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|k| !known.contains(&k.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The values of a key, none if it was not given.
    pub fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_slice()))
    }

    pub fn remove(&mut self, key: &str) -> Vec<String> {
        self.0.remove(key).unwrap_or_default()
    }

    /// A key that is one of true, 1, false, 0.
    pub fn bool(&self, key: &str, default: bool) -> Result<bool> {
        let Some(values) = self.0.get(key) else { return Ok(default) };
        match values.as_slice() {
            [v] if v == "1" || v == "true" => Ok(true),
            [v] if v == "0" || v == "false" => Ok(false),
            [] => Err(Error::invalid(format!("invalid filter '{key}'"))),
            many => Err(Error::invalid(format!("invalid filter '{key}=[{}]'", many.join(" ")))),
        }
    }

    /// True without the key, or if one of its values is `source`.
    pub fn exact(&self, key: &str, source: &str) -> bool {
        self.0.get(key).is_none_or(|values| values.is_empty() || values.iter().any(|v| v == source))
    }

    /// True without the key, or if one of its values is a prefix of `source`.
    pub fn prefix(&self, key: &str, source: &str) -> bool {
        self.0.get(key).is_none_or(|values| values.is_empty() || values.iter().any(|v| source.starts_with(v.as_str())))
    }

    /// True without the key, or if one of its values occurs in `source`, as a
    /// regular expression or, when it is none, as text.
    pub fn regex(&self, key: &str, source: &str) -> bool {
        let Some(values) = self.0.get(key) else { return true };
        values.is_empty()
            || values.iter().any(|v| match regex_lite::Regex::new(v) {
                Ok(regex) => regex.is_match(source),
                Err(_) => source.contains(v.as_str()),
            })
    }

    /// Every `name` or `name=value` of the key must be among the pairs.
    pub fn pairs(&self, key: &str, pairs: &BTreeMap<String, String>) -> bool {
        self.get(key).iter().all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => pairs.get(name).is_some_and(|v| v == value),
            None => pairs.contains_key(wanted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let new = Filters::parse(r#"{"label":["a=b"],"status":["running","paused"]}"#).unwrap();
        let old = Filters::parse(r#"{"label":{"a=b":true},"status":{"paused":true,"running":true}}"#).unwrap();
        assert_eq!(new.get("label"), old.get("label"));
        assert!(old.exact("status", "paused") && !old.exact("status", "exited"));
        assert_eq!(Filters::parse(&old.encode()).unwrap(), old);
    }

    #[test]
    fn refusals_read_as_the_original() {
        for bad in ["bad", "[]", r#"{"label":"x"}"#, "5"] {
            assert_eq!(Filters::parse(bad).unwrap_err().to_string(), "invalid filter", "{bad}");
        }
        let f = Filters::parse(r#"{"dangling":["x"],"nosuch":["y"]}"#).unwrap();
        assert_eq!(f.bool("dangling", false).unwrap_err().to_string(), "invalid filter 'dangling=[x]'");
        assert_eq!(f.check(&["dangling"]).unwrap_err().to_string(), "invalid filter 'nosuch'");
        f.check(&["dangling", "nosuch"]).unwrap();
    }

    #[test]
    fn labels_and_together() {
        let pairs = BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]);
        let yes = Filters::parse(r#"{"label":["a=b","c"]}"#).unwrap();
        let no = Filters::parse(r#"{"label":["a=b","d"]}"#).unwrap();
        assert!(yes.pairs("label", &pairs) && !no.pairs("label", &pairs));
    }
}
