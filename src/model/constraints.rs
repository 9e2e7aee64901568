//! What names a CA may put into certificates (RFC 5280 §4.2.1.10). A kind that is left out is not constrained; of one that
//! is named, whatever none of its entries permits is refused.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::certificate::LeafName;
use super::host::HostPattern;
use super::nets;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NameConstraints {
    /// Domains: each with everything below it.
    pub dns: Option<Vec<Domain>>,
    /// CIDR blocks.
    pub ip: Option<Vec<Block>>,
    /// Hosts of URIs, SPIFFE's trust domains among them; with a dot before it, everything below a domain.
    pub uri: Option<Vec<Holder>>,
    /// Hosts of mailboxes; with a dot before it, everything below a domain.
    pub email: Option<Vec<Holder>>,
}

/// `example.com`, lower-case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Domain(pub String);

/// `10.0.0.0/8` or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Block(pub IpNet);

/// `example.com` or `.example.com`, lower-case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Holder(pub String);

impl NameConstraints {
    /// The kinds that are named without an entry, by which nothing at all would be permitted.
    pub fn empty_kinds(&self) -> Vec<&'static str> {
        let NameConstraints { dns, ip, uri, email } = self;
        let kinds = [
            ("dns", dns.as_ref().is_some_and(Vec::is_empty)),
            ("ip", ip.as_ref().is_some_and(Vec::is_empty)),
            ("uri", uri.as_ref().is_some_and(Vec::is_empty)),
            ("email", email.as_ref().is_some_and(Vec::is_empty)),
        ];
        kinds.into_iter().filter(|(_, empty)| *empty).map(|(kind, _)| kind).collect()
    }

    pub fn permits_host(&self, name: &LeafName) -> bool {
        match name {
            LeafName::Dns(name) => within(self.dns.as_deref(), |domain| is_at_or_below(name, &domain.0)),
            LeafName::Ip(address) => within(self.ip.as_deref(), |block| block.0.contains(address)),
        }
    }

    /// One without a host is of nobody's.
    pub fn permits_uri(&self, uri: &str) -> bool {
        within(self.uri.as_deref(), |holder| host_of(uri).is_some_and(|host| holder.has(&host)))
    }

    pub fn permits_email(&self, address: &str) -> bool {
        let host = address.rsplit_once('@').map(|(_, host)| host);
        within(self.email.as_deref(), |holder| host.is_some_and(|host| holder.has(host)))
    }
}

fn within<T>(permitted: Option<&[T]>, is: impl Fn(&T) -> bool) -> bool {
    permitted.is_none_or(|permitted| permitted.iter().any(is))
}

fn is_at_or_below(name: &str, domain: &str) -> bool {
    name == domain || is_below(name, domain)
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// RFC 3986 §3.2: between `//` and the path, without user and port.
fn host_of(uri: &str) -> Option<String> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = host.split(':').next().filter(|host| !host.is_empty())?;
    Some(host.to_ascii_lowercase())
}

impl Holder {
    fn has(&self, host: &str) -> bool {
        match self.0.strip_prefix('.') {
            Some(domain) => is_below(host, domain),
            None => host == self.0,
        }
    }
}

fn domain(raw: &str) -> Result<String, String> {
    match raw.parse()? {
        HostPattern::Exact(name) if name.parse::<IpAddr>().is_err() => Ok(name.to_string()),
        HostPattern::Exact(_) => Err(format!("\"{raw}\" is an address; write it under ip")),
        _ => Err(format!("\"{raw}\" is a wildcard; write the domain alone, which stands for everything below it too")),
    }
}

impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(raw: String) -> Result<Domain, String> {
        domain(&raw).map(Domain)
    }
}

impl TryFrom<String> for Block {
    type Error = String;

    fn try_from(raw: String) -> Result<Block, String> {
        nets::parse(&raw).map(Block)
    }
}

impl TryFrom<String> for Holder {
    type Error = String;

    fn try_from(raw: String) -> Result<Holder, String> {
        match raw.trim().strip_prefix('.') {
            Some(rest) => Ok(Holder(format!(".{}", domain(rest)?))),
            None => domain(&raw).map(Holder),
        }
    }
}

impl From<Domain> for String {
    fn from(Domain(domain): Domain) -> String {
        domain
    }
}

impl From<Block> for String {
    fn from(Block(block): Block) -> String {
        block.to_string()
    }
}

impl From<Holder> for String {
    fn from(Holder(holder): Holder) -> String {
        holder
    }
}

impl fmt::Display for NameConstraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NameConstraints { dns, ip, uri, email } = self;
        let text = |list: &[String]| list.join(", ");
        let kinds = [
            ("dns", dns.as_ref().map(|list| list.iter().map(|domain| domain.0.clone()).collect::<Vec<_>>())),
            ("ip", ip.as_ref().map(|list| list.iter().map(|block| block.0.to_string()).collect())),
            ("uri", uri.as_ref().map(|list| list.iter().map(|holder| holder.0.clone()).collect())),
            ("email", email.as_ref().map(|list| list.iter().map(|holder| holder.0.clone()).collect())),
        ];
        let named = kinds.iter().filter_map(|(kind, list)| Some(format!("{kind}: {}", text(list.as_ref()?))));
        f.write_str(&named.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constraints(json: &str) -> NameConstraints {
        serde_json::from_str(json).expect(json)
    }

    fn dns(name: &str) -> LeafName {
        LeafName::Dns(name.into())
    }

    #[test]
    fn a_domain_stands_for_what_is_below_it_and_a_block_for_its_addresses() {
        let some = constraints(r#"{ "dns": ["Example.COM", "localhost"], "ip": ["10.0.0.0/8", "::1"] }"#);
        for (name, permitted) in [
            ("example.com", true),
            ("a.b.example.com", true),
            ("*.example.com", true),
            ("localhost", true),
            ("hello.localhost", true),
            ("notexample.com", false),
            (".example.com", false),
            ("example.com.evil", false),
            ("*.com", false),
            ("com", false),
        ] {
            assert_eq!(some.permits_host(&dns(name)), permitted, "{name}");
        }
        for (address, permitted) in [("10.1.2.3", true), ("11.0.0.1", false), ("::1", true), ("::2", false)] {
            assert_eq!(some.permits_host(&LeafName::Ip(address.parse().expect(address))), permitted, "{address}");
        }
        assert!(some.permits_uri("urn:anything") && some.permits_email("anna@anywhere.example"), "not named");
        assert!(NameConstraints::default().permits_host(&dns("anything")));
        assert_eq!(some.to_string(), "dns: example.com, localhost; ip: 10.0.0.0/8, ::1/128");
    }

    #[test]
    fn a_holder_is_a_host_or_what_is_below_a_domain() {
        let some = constraints(r#"{ "uri": ["Example.org", ".apps.example"], "email": ["example.org"] }"#);
        for (uri, permitted) in [
            ("spiffe://example.org/web", true),
            ("https://user@EXAMPLE.org:8443/x", true),
            ("spiffe://a.example.org/web", false),
            ("spiffe://shop.apps.example", true),
            ("spiffe://apps.example/web", false),
            ("https://example.org.evil/", false),
            ("https://evil/?//example.org/", false),
            ("urn:example.org", false),
            ("https:///example.org", false),
        ] {
            assert_eq!(some.permits_uri(uri), permitted, "{uri}");
        }
        for (address, permitted) in [("anna@example.org", true), ("anna@a.example.org", false), ("anna", false)] {
            assert_eq!(some.permits_email(address), permitted, "{address}");
        }
    }

    #[test]
    fn what_is_no_domain_or_block_is_refused_and_an_empty_kind_is_named() {
        for json in [
            r#"{ "dns": ["*.example.com"] }"#,
            r#"{ "dns": ["10.0.0.1"] }"#,
            r#"{ "dns": [".example.com"] }"#,
            r#"{ "dns": [""] }"#,
            r#"{ "ip": ["example.com"] }"#,
            r#"{ "uri": ["spiffe://example.org"] }"#,
            r#"{ "email": ["anna@example.org"] }"#,
            r#"{ "names": [] }"#,
        ] {
            assert!(serde_json::from_str::<NameConstraints>(json).is_err(), "{json}");
        }
        assert_eq!(constraints(r#"{ "dns": [], "ip": ["::/0"], "email": [] }"#).empty_kinds(), ["dns", "email"]);
        let all = r#"{"dns":["example.com"],"ip":["10.0.0.0/8"],"uri":[".a.example"],"email":["b.example"]}"#;
        assert_eq!(serde_json::to_string(&constraints(all)).expect("written"), all);
    }
}
