//! Who may come in with which client certificate, and what that is judged by: references by name, material by where it
//! is found.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diagnostic::{Denial, Origin};
use super::id::{Name, NameRef, ObjectId};
use super::schema::{ClientAuthMode, ForwardIdentity, HandshakeMode, StaleList};
use super::units::Span;

/// A client-certificate policy, as one source spells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MtlsPolicy {
    pub id: ObjectId,
    pub origin: Origin,
    pub rules: ClientRules,
    /// Bundles of CAs: a chain to a root of any of them is verified.
    pub trust: Vec<NameRef>,
    pub revoked: Vec<NameRef>,
    /// A policy that is denied denies every route that names it.
    pub denied: Option<Denial>,
}

/// What a policy says by itself, without what it refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientRules {
    pub mode: ClientAuthMode,
    /// Alternatives. Absent means whoever is verified.
    pub allow: Option<Vec<IdentityMatch>>,
    pub forward: Vec<ForwardIdentity>,
    pub handshake: HandshakeMode,
    /// The most intermediate certificates between the client's own and the root's.
    pub depth: Option<u8>,
}

/// One entry of `allow`. What is given must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IdentityMatch {
    pub dns: Option<DnsMatch>,
    pub uri: Option<UriMatch>,
    pub email: Option<EmailMatch>,
    pub ip: Option<IpAddr>,
    /// Attribute, as an OID in dots, to its exact value.
    pub subject: BTreeMap<Arc<str>, Arc<str>>,
    pub issuer: BTreeMap<Arc<str>, Arc<str>>,
    /// Lower-case hex SHA-256 of the subject's public key info.
    pub spki: Option<Arc<str>>,
    /// Lower-case hex SHA-256 of the certificate.
    pub fingerprint: Option<Arc<str>>,
}

/// A DNS name of a certificate: exact, or `*.` for one whole label. Lower-case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DnsMatch(Arc<str>);

/// A URI of a certificate: exact, or with `*` as one whole segment of its path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UriMatch(Arc<str>);

/// A mailbox, exact; its domain in any case (RFC 5280 §4.2.1.6).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EmailMatch(Arc<str>);

/// CAs that somebody trusts. Used for clients by policies and for endpoints by services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustBundle {
    pub id: ObjectId,
    pub origin: Origin,
    /// None where it is denied.
    pub from: Option<BundleSource>,
    pub denied: Option<Denial>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleSource {
    File(PathBuf),
    Pem(Arc<str>),
    /// The root of an issuer of ours, and what it has taken back.
    Issuer(Name),
}

/// Revocation lists of one or several CAs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub id: ObjectId,
    pub origin: Origin,
    /// None where it is denied.
    pub from: Option<ListSource>,
    pub stale: StaleList,
    pub denied: Option<Denial>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListSource {
    File(PathBuf),
    Pem(Arc<str>),
    Url { url: Arc<str>, refresh: Option<Span> },
}

impl DnsMatch {
    pub fn parse(raw: &str) -> Result<DnsMatch, String> {
        let name = raw.trim().to_ascii_lowercase();
        let labels = name.strip_prefix("*.").unwrap_or(&name);
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        match labels.len() <= 253 && labels.split('.').all(label) {
            true => Ok(DnsMatch(name.into())),
            false => Err(format!("\"{raw}\" is no DNS name; write it whole, or with *. for one label in front")),
        }
    }

    /// A name with a wildcard of its own stands for many, and is nobody's in particular: it never matches.
    pub fn matches(&self, name: &str) -> bool {
        if name.contains('*') {
            return false;
        }
        match self.0.strip_prefix("*.") {
            None => self.0.eq_ignore_ascii_case(name),
            Some(suffix) => name
                .split_once('.')
                .is_some_and(|(label, parent)| !label.is_empty() && suffix.eq_ignore_ascii_case(parent)),
        }
    }
}

impl UriMatch {
    pub fn parse(raw: &str) -> Result<UriMatch, String> {
        let uri = raw.trim();
        let wrong = |why: &str| Err(format!("\"{raw}\" {why}"));
        let Some((scheme, rest)) = uri.split_once(':') else {
            return wrong("is no URI: it has no scheme, as in spiffe://example.org/ns/shop");
        };
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !is_scheme || uri.bytes().any(|b| !b.is_ascii_graphic()) {
            return wrong("is no URI");
        }
        let path = rest.strip_prefix("//").map_or(rest, |rest| rest.find('/').map_or("", |at| &rest[at..]));
        let before = &uri[..uri.len() - path.len()];
        let partial = path.split('/').any(|segment| segment.contains('*') && segment != "*");
        match before.contains('*') || partial {
            true => wrong("has a * that is not one whole segment of the path, which is all that it can stand for"),
            false => Ok(UriMatch(uri.into())),
        }
    }

    /// Byte by byte: what two spellings of one URI have in common is not for us to say. A segment for which `*` stands is
    /// one of plain characters, so that no query, no fragment and no encoded slash comes in with it.
    pub fn matches(&self, uri: &str) -> bool {
        let (mut pattern, mut segments) = (self.0.split('/'), uri.split('/'));
        loop {
            match (pattern.next(), segments.next()) {
                (None, None) => return true,
                (Some("*"), Some(segment)) if is_plain(segment) => {}
                (Some(exact), Some(segment)) if exact == segment && exact != "*" => {}
                _ => return false,
            }
        }
    }
}

/// RFC 3986 §3.3 without escapes, and no dot segment.
fn is_plain(segment: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@".contains(&b);
    !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
}

impl EmailMatch {
    pub fn parse(raw: &str) -> Result<EmailMatch, String> {
        let mailbox = raw.trim();
        match mailbox.rsplit_once('@') {
            Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !mailbox.contains('*') => {
                Ok(EmailMatch(mailbox.into()))
            }
            _ => Err(format!("\"{raw}\" is no mailbox; write it whole, as in ops@example.com")),
        }
    }

    pub fn matches(&self, mailbox: &str) -> bool {
        let (own, other) = (self.0.rsplit_once('@'), mailbox.rsplit_once('@'));
        matches!((own, other), (Some((a, b)), Some((x, y))) if a == x && b.eq_ignore_ascii_case(y))
    }
}

impl fmt::Display for DnsMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for UriMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EmailMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_wildcard_is_one_whole_label() {
        for (pattern, name, expected) in [
            ("a.example", "a.example", true),
            ("A.example", "a.EXAMPLE", true),
            ("a.example", "a.example.", false),
            ("a.example", "xa.example", false),
            ("a.example", "a.example.evil", false),
            ("*.a.example", "x.a.example", true),
            ("*.a.example", "x.y.a.example", false),
            ("*.a.example", "a.example", false),
            ("*.a.example", ".a.example", false),
            ("*.a.example", "x.a.example.evil", false),
            ("*.a.example", "*.a.example", false),
        ] {
            assert_eq!(DnsMatch::parse(pattern).expect(pattern).matches(name), expected, "{pattern} {name}");
        }
        for wrong in ["", "*", "a.*.example", "*a.example", "*.", "a..b", "a b", "^a$", "*.*.example"] {
            assert!(DnsMatch::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_uri_wildcard_is_one_whole_segment_of_the_path() {
        let spiffe = "spiffe://td.example/ns/*/sa/web";
        for (pattern, uri, expected) in [
            (spiffe, "spiffe://td.example/ns/shop/sa/web", true),
            (spiffe, "spiffe://td.example/ns/shop/sa/web-x", false),
            (spiffe, "spiffe://td.example/ns/shop/sa/web/x", false),
            (spiffe, "spiffe://td.example/ns/shop/x/sa/web", false),
            (spiffe, "spiffe://td.example/ns//sa/web", false),
            (spiffe, "spiffe://td.example/ns/../sa/web", false),
            (spiffe, "spiffe://td.example/ns/a%2Fb/sa/web", false),
            (spiffe, "spiffe://td.example/ns/a?b/sa/web", false),
            (spiffe, "spiffe://td.example/ns/a#b/sa/web", false),
            (spiffe, "spiffe://td.example/ns/*/sa/web", false),
            (spiffe, "spiffe://td.example.evil/ns/shop/sa/web", false),
            (spiffe, "xspiffe://td.example/ns/shop/sa/web", false),
            ("spiffe://td.example/a", "spiffe://td.example/a", true),
            ("spiffe://td.example/a", "spiffe://td.example/a/", false),
            ("spiffe://td.example/a", "spiffe://td.example/A", false),
            ("spiffe://td.example/*", "spiffe://td.example/a", true),
            ("spiffe://td.example/*", "spiffe://td.example", false),
            ("urn:a:b", "urn:a:b", true),
        ] {
            assert_eq!(UriMatch::parse(pattern).expect(pattern).matches(uri), expected, "{pattern} {uri}");
        }
        for wrong in ["", "a", "*", "*://a/b", "spiffe://*/a", "spiffe://a/b*", "spiffe://a/**", "spiffe://a/ b"] {
            assert!(UriMatch::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mailbox_is_exact_but_for_the_case_of_its_domain() {
        let ops = EmailMatch::parse("ops@Example.com").expect("valid");
        assert!(ops.matches("ops@example.com"));
        for other in ["Ops@example.com", "xops@example.com", "ops@example.com.evil", "ops", "a@ops@example.com"] {
            assert!(!ops.matches(other), "{other}");
        }
        for wrong in ["", "ops", "@example.com", "ops@", "*@example.com"] {
            assert!(EmailMatch::parse(wrong).is_err(), "{wrong}");
        }
    }
}
