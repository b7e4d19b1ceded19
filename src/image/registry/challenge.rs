//! `WWW-Authenticate` (RFC 9110 §11.6.1) as registries send it. Pure.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Lower case: "basic", "bearer".
    pub scheme: String,
    /// Keys in lower case.
    pub params: BTreeMap<String, String>,
}

impl Challenge {
    pub fn param(&self, key: &str) -> &str {
        self.params.get(key).map_or("", String::as_str)
    }
}

/// Every challenge of one header value; several may share it, separated by the
/// same comma that separates parameters. Malformed rests are dropped.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let word_end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let word = &rest[..word_end];
        if word.is_empty() {
            return found;
        }
        let after = rest[word_end..].trim_start_matches([' ', '\t']);
        let Some(value) = after.strip_prefix('=') else {
            // No `=`: the name of the next scheme.
            found.push(Challenge { scheme: word.to_ascii_lowercase(), params: BTreeMap::new() });
            rest = after;
            continue;
        };
        let Some(current) = found.last_mut() else { return found };
        let (value, behind) = parameter_value(value.trim_start_matches([' ', '\t']));
        current.params.insert(word.to_ascii_lowercase(), value);
        rest = behind;
    }
}

fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer() {
        let c = parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push",error="insufficient_scope""#,
        );
        assert_eq!(c.len(), 1);
        assert_eq!(c[0].scheme, "bearer");
        assert_eq!(c[0].param("realm"), "https://auth.docker.io/token");
        assert_eq!(c[0].param("scope"), "repository:a/b:pull,push");
        assert_eq!(c[0].param("error"), "insufficient_scope");
    }

    #[test]
    fn several_and_odd_ones() {
        let c = parse(r#"BASIC Realm=plain, Bearer realm = "a \"q\", b" , service=x"#);
        assert_eq!(c.iter().map(|c| c.scheme.as_str()).collect::<Vec<_>>(), ["basic", "bearer"]);
        assert_eq!(c[0].param("realm"), "plain");
        assert_eq!(c[1].param("realm"), r#"a "q", b"#);
        assert_eq!(c[1].param("service"), "x");
        assert_eq!(parse("Negotiate")[0].scheme, "negotiate");
        assert!(parse("").is_empty());
        assert!(parse("=x").is_empty());
        assert_eq!(parse("Bearer realm=\"open")[0].param("realm"), "open");
    }
}
