//! Names that a certificate is issued for, and for whom it is.
//!
//! ```text
//! --dns, --ip, --uri, --email ─parse─▶ San ─┐
//! --client, --server, --cn ─────────────────┴─▶ LeafRequest ─▶ issue
//! ```

use std::fmt;
use std::net::IpAddr;

use super::{CaError, LeafName};

/// The upper bound of what SPIFFE allows, and far above what any other name needs.
const LONGEST_URI: usize = 2048;
/// ub-common-name of RFC 5280, appendix A.1.
pub(super) const LONGEST_COMMON_NAME: usize = 64;

/// A subject alternative name (RFC 5280 §4.2.1.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum San {
    Host(LeafName),
    Uri(String),
    Email(String),
}

/// Which side of a handshake may show it (extended key usage, RFC 5280 §4.2.1.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purposes {
    pub client: bool,
    pub server: bool,
}

/// What a certificate is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRequest {
    pub names: Vec<San>,
    /// `None` is the first name that fits.
    pub common_name: Option<String>,
    pub purposes: Purposes,
}

impl San {
    pub fn dns(raw: &str) -> Result<San, CaError> {
        match raw.parse()? {
            name @ LeafName::Dns(_) => Ok(San::Host(name)),
            LeafName::Ip(_) => Err(refused(raw, "it is an address; write --ip")),
        }
    }

    pub fn ip(raw: &str) -> Result<San, CaError> {
        let address: IpAddr = raw.parse().map_err(|_| refused(raw, "it is no IP address"))?;
        Ok(San::Host(LeafName::Ip(address)))
    }

    /// RFC 3986, as far as it matters here; a SPIFFE ID as its readers check it (SPIFFE-ID, section 2).
    pub fn uri(raw: &str) -> Result<San, CaError> {
        let visible = raw.bytes().all(|byte| byte.is_ascii_graphic() && !br#"<>"{}|\^`"#.contains(&byte));
        let scheme = raw.split_once(':').filter(|(scheme, rest)| {
            let letters = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(letters) && !rest.is_empty()
        });
        match scheme {
            _ if raw.len() > LONGEST_URI => Err(refused(raw, "it is longer than 2048 characters")),
            Some((scheme, rest)) if visible && scheme.eq_ignore_ascii_case("spiffe") => spiffe(raw, scheme, rest),
            Some(_) if visible => Ok(San::Uri(raw.into())),
            _ => Err(refused(raw, "it is no URI; write it like spiffe://example.org/web")),
        }
    }

    pub fn email(raw: &str) -> Result<San, CaError> {
        let why = "it is no address; write it like anna@example.org";
        let (local, domain) = raw.rsplit_once('@').ok_or_else(|| refused(raw, why))?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !br#"@<>()[],;:\""#.contains(&byte);
        let domain: LeafName = domain.parse().map_err(|_| refused(raw, why))?;
        match domain {
            LeafName::Dns(domain) if !domain.starts_with('*') && !local.is_empty() && local.bytes().all(plain) => {
                Ok(San::Email(format!("{local}@{domain}")))
            }
            _ => Err(refused(raw, why)),
        }
    }

    /// The name alone.
    pub fn text(&self) -> String {
        match self {
            San::Host(name) => name.to_string(),
            San::Uri(name) | San::Email(name) => name.clone(),
        }
    }

    fn is_spiffe(&self) -> bool {
        matches!(self, San::Uri(uri) if uri.starts_with("spiffe://"))
    }
}

/// As openssl writes it.
impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            San::Host(LeafName::Dns(name)) => write!(f, "DNS:{name}"),
            San::Host(LeafName::Ip(address)) => write!(f, "IP:{address}"),
            San::Uri(uri) => write!(f, "URI:{uri}"),
            San::Email(address) => write!(f, "email:{address}"),
        }
    }
}

impl LeafRequest {
    /// For servers alone, as handshakes ask for it.
    pub fn server(names: &[LeafName]) -> LeafRequest {
        LeafRequest {
            names: names.iter().cloned().map(San::Host).collect(),
            common_name: None,
            purposes: Purposes { client: false, server: true },
        }
    }

    /// What no single name shows: together they must make a certificate that somebody can use.
    pub(super) fn check(&self) -> Result<(), CaError> {
        let LeafRequest { names, common_name, purposes } = self;
        let hosts = names.iter().any(|name| matches!(name, San::Host(_)));
        if names.is_empty() && (common_name.is_none() || purposes.server) {
            return Err(CaError::NoName);
        }
        if purposes.server && !hosts {
            return Err(CaError::NoHost);
        }
        let uris = names.iter().filter(|name| matches!(name, San::Uri(_))).count();
        if let Some(spiffe) = names.iter().find(|name| name.is_spiffe()).filter(|_| uris > 1) {
            // X509-SVID, section 2: validators reject any other number.
            return Err(refused(&spiffe.text(), "a certificate with a SPIFFE ID has no other URI"));
        }
        match common_name {
            Some(name) if name.is_empty() || name.chars().any(char::is_control) => {
                Err(refused(name, "a common name is text without control characters"))
            }
            Some(name) if name.chars().count() > LONGEST_COMMON_NAME => {
                Err(refused(name, "a common name has at most 64 characters"))
            }
            _ => Ok(()),
        }
    }

    /// For people who read it, and for lists of certificates in browsers; who verifies a server looks at the names
    /// alone (RFC 9525 §2).
    pub fn subject(&self) -> Option<String> {
        let fits = |name: &String| name.len() <= LONGEST_COMMON_NAME;
        self.common_name.clone().or_else(|| self.names.iter().map(San::text).find(fits))
    }
}

fn spiffe(raw: &str, scheme: &str, rest: &str) -> Result<San, CaError> {
    let segment = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    let (domain, path) =
        rest.strip_prefix("//").map(|rest| rest.split_once('/').unwrap_or((rest, ""))).unwrap_or_default();
    let lower = |text: &str| !text.chars().any(|c| c.is_ascii_uppercase());
    let segments = path.is_empty() && !rest.ends_with('/')
        || path.split('/').all(|part| segment(part) && part != "." && part != "..");
    match scheme == "spiffe" && segment(domain) && lower(domain) && segments {
        true => Ok(San::Uri(raw.into())),
        false => Err(refused(raw, "it is no SPIFFE ID; write it like spiffe://example.org/shop/web")),
    }
}

fn refused(name: &str, why: &str) -> CaError {
    CaError::Name { name: name.into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_their_readers_take_them() {
        for uri in ["spiffe://example.org", "spiffe://example.org/shop/web", "urn:uuid:4", "https://a.example/x?y#z"] {
            assert_eq!(San::uri(uri).expect(uri).to_string(), format!("URI:{uri}"));
        }
        let long = format!("urn:{}", "a".repeat(LONGEST_URI));
        for uri in [
            "",
            "web",
            ":x",
            "1a:x",
            "a b:c",
            "urn:",
            "urn:a b",
            "urn:ü",
            "spiffe:web",
            "spiffe://",
            "spiffe://a/",
            "SPIFFE://a/b",
            "spiffe://A/b",
            "spiffe://a//b",
            "spiffe://a/../b",
            "spiffe://a/b?c",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            &long,
        ] {
            assert!(San::uri(uri).is_err(), "{uri}");
        }
        assert_eq!(San::email("Anna@Example.org").expect("valid").to_string(), "email:Anna@example.org");
        for email in ["", "anna", "@a.example", "a b@a.example", "a@", "a@*.example", "a@b@c.example", "a@10.0.0.1"] {
            assert!(San::email(email).is_err(), "{email}");
        }
        assert!(San::dns("10.0.0.1").expect_err("an address").to_string().contains("--ip"));
        assert_eq!(San::ip("::1").expect("valid").to_string(), "IP:::1");
        assert!(San::ip("a.example").is_err());
    }

    #[test]
    fn what_nobody_could_use_is_refused() {
        let request = |names: &[San], cn: Option<&str>, client, server| LeafRequest {
            names: names.to_vec(),
            common_name: cn.map(String::from),
            purposes: Purposes { client, server },
        };
        let dns = San::dns("a.example").expect("valid");
        let uri = |raw: &str| San::uri(raw).expect("valid");
        request(&[], Some("alice"), true, false).check().expect("a client may have a subject alone");
        request(&[uri("urn:a"), uri("urn:b")], None, true, false).check().expect("two names");
        request(&[dns.clone(), uri("spiffe://a/b")], None, true, true).check().expect("both sides");
        assert!(matches!(request(&[], None, true, false).check(), Err(CaError::NoName)));
        assert!(matches!(request(&[], Some("a"), true, true).check(), Err(CaError::NoName)));
        assert!(matches!(request(&[uri("urn:a")], None, true, true).check(), Err(CaError::NoHost)));
        assert!(request(&[uri("urn:a"), uri("spiffe://a/b")], None, true, false).check().is_err());
        for cn in ["", "a\nb", &"a".repeat(65)] {
            assert!(request(std::slice::from_ref(&dns), Some(cn), true, true).check().is_err(), "{cn}");
        }
        assert_eq!(request(&[dns], None, true, true).subject().as_deref(), Some("a.example"));
    }
}
