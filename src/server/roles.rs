//! What a client may do by the name in its certificate. Without a word of the
//! configuration everybody may do everything, as with dockerd. Pure.

use super::router::Route;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Full,
    /// Looks and changes nothing.
    ReadOnly,
}

impl Role {
    /// Whether a route may be asked for. A GET that opens a container's terminal is
    /// not one that only looks.
    pub fn allows(self, route: &Route) -> bool {
        match self {
            Role::Full => true,
            Role::ReadOnly => matches!(route.method, "GET" | "HEAD") && !route.pattern.ends_with("/attach/ws"),
        }
    }
}

/// Roles by common name; `*` is everybody who is not named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles(BTreeMap<String, Role>);

impl Roles {
    pub fn parse(pairs: &[(String, String)]) -> Result<Self> {
        let role = |(name, text): &(String, String)| {
            let role = match text.as_str() {
                "full" => Role::Full,
                "read-only" => Role::ReadOnly,
                _ => {
                    return Err(Error::invalid(format!(
                        "invalid role {text:?} of {name}: use \"full\" or \"read-only\""
                    )));
                }
            };
            Ok((name.clone(), role))
        };
        Ok(Self(pairs.iter().map(role).collect::<Result<_>>()?))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn of(&self, name: Option<&str>) -> Role {
        let named = name.filter(|n| *n != "*").and_then(|n| self.0.get(n));
        named.or_else(|| self.0.get("*")).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{router, routes};

    fn roles(pairs: &[(&str, &str)]) -> Result<Roles> {
        Roles::parse(&pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn by_name_and_for_the_rest() {
        assert_eq!(Roles::default().of(Some("x")), Role::Full);
        let some = roles(&[("ann", "read-only")]).unwrap();
        assert_eq!(
            (some.of(Some("ann")), some.of(Some("bob")), some.of(None)),
            (Role::ReadOnly, Role::Full, Role::Full)
        );
        let most = roles(&[("*", "read-only"), ("root", "full")]).unwrap();
        assert_eq!(
            (most.of(Some("root")), most.of(Some("x")), most.of(None)),
            (Role::Full, Role::ReadOnly, Role::ReadOnly)
        );
        // A certificate cannot name itself everybody.
        assert_eq!(roles(&[("*", "full"), ("a", "read-only")]).unwrap().of(Some("*")), Role::Full);
        assert!(roles(&[("a", "admin")]).is_err());
    }

    #[test]
    fn looking_is_allowed() {
        let may = |method, path| {
            let (route, _) = router::find(routes::TABLES, method, path).unwrap();
            assert!(Role::Full.allows(route));
            Role::ReadOnly.allows(route)
        };
        assert!(may("GET", "/containers/json") && may("HEAD", "/_ping") && may("GET", "/events"));
        assert!(!may("POST", "/containers/create") && !may("DELETE", "/containers/a"));
        assert!(!may("GET", "/containers/a/attach/ws") && !may("PUT", "/containers/a/archive"));
    }
}
