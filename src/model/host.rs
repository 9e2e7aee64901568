//! Host names as routes claim them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `*`, `shop.example.com` or `*.example.com` (exactly one label). Lower-case, without a trailing dot.
///
/// Gateway API's suffix wildcards (any number of labels) will be a variant of their own: wildcards differ by source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum HostPattern {
    Exact(Arc<str>),
    /// Holds what follows `*.`.
    Wildcard(Arc<str>),
    Any,
}

impl HostPattern {
    /// The pattern as it may stand in a certificate; `None` for any host.
    pub fn certificate_name(&self) -> Option<String> {
        match self {
            HostPattern::Any => None,
            other => Some(other.to_string()),
        }
    }

    /// Whether a request's host (lower-case, without port and trailing dot) is one of these.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            HostPattern::Exact(name) => **name == *host,
            HostPattern::Wildcard(suffix) => parent(host) == Some(suffix),
            HostPattern::Any => true,
        }
    }

    /// Whether every name that `other` matches is matched by this pattern.
    pub fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Any, _) => true,
            (HostPattern::Wildcard(suffix), HostPattern::Exact(name)) => parent(name) == Some(suffix),
            (a, b) => a == b,
        }
    }
}

/// What follows the first label: `example.com` of `shop.example.com`. A name that starts with a dot has no first label,
/// and a wildcard stands for one.
pub fn parent(name: &str) -> Option<&str> {
    name.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent)
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => f.write_str(name),
            HostPattern::Wildcard(suffix) => write!(f, "*.{suffix}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> String {
        pattern.to_string()
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(raw: String) -> Result<Self, String> {
        raw.parse()
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(raw: &str) -> Result<Self, String> {
        let host = raw.trim().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if host == "*" {
            return Ok(HostPattern::Any);
        }
        let (name, wildcard) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (host, false),
        };
        if let Ok(address) = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
            if wildcard {
                return Err(format!("\"{raw}\" puts a wildcard before an IP address; write the address alone"));
            }
            return Ok(HostPattern::Exact(address.to_string().into()));
        }
        check_name(name).map_err(|why| format!("\"{raw}\" is not a host name: {why}"))?;
        Ok(if wildcard { HostPattern::Wildcard(name.into()) } else { HostPattern::Exact(name.into()) })
    }
}

/// RFC 1123 labels, with the underscore that container names bring.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it is empty".into());
    }
    if name.len() > 253 {
        return Err("it is longer than 253 characters".into());
    }
    if name.contains("://") || name.contains('/') {
        return Err("write the host alone, without a scheme or a path".into());
    }
    if name.contains(':') {
        return Err("write the host alone, without a port".into());
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err("each label between dots has 1 to 63 characters".into());
        }
        if label.contains('*') {
            return Err("a wildcard stands for one whole first label only, as in *.example.com".into());
        }
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err("letters, digits, hyphens and dots only; write an international name in its xn-- form".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_lower_cased_and_lose_one_trailing_dot() {
        assert_eq!("Shop.Example.COM.".parse(), Ok(HostPattern::Exact("shop.example.com".into())));
    }

    #[test]
    fn a_wildcard_is_one_whole_first_label() {
        assert_eq!("*.example.com".parse(), Ok(HostPattern::Wildcard("example.com".into())));
        assert!("a.*.example.com".parse::<HostPattern>().is_err());
        assert!("sh*p.example.com".parse::<HostPattern>().is_err());
    }

    #[test]
    fn what_is_not_a_host_says_why() {
        for (raw, why) in
            [("https://a.example", "scheme"), ("a.example:443", "port"), ("", "empty"), ("bücher.example", "xn--")]
        {
            let error = raw.parse::<HostPattern>().expect_err(raw);
            assert!(error.contains(why), "{raw}: {error}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label_below_it() {
        let wildcard: HostPattern = "*.example.com".parse().expect("valid");
        assert!(wildcard.covers(&"a.example.com".parse().expect("valid")));
        assert!(!wildcard.covers(&"a.b.example.com".parse().expect("valid")));
        assert!(!wildcard.covers(&"example.com".parse().expect("valid")));
    }
}
