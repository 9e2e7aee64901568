//! Client-certificate policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::tree::{Node, Tree};
use crate::model::diagnostic::Diagnostic;
use crate::model::id::Kind;
use crate::model::mtls::{ClientRules, DnsMatch, EmailMatch, IdentityMatch, MtlsPolicy, UriMatch};
use crate::model::schema::{ClientAuthMode, IdentityMatchSpec, MtlsPolicySpec};

use super::Author;
use super::reading::Reading;

/// Attributes of a distinguished name as users call them (RFC 4514 §3, RFC 4519), and their OIDs.
const ATTRIBUTES: [(&str, &str); 12] = [
    ("CN", "2.5.4.3"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("ORGANIZATIONIDENTIFIER", "2.5.4.97"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];

pub(super) fn policy(name: &str, tree: &Tree, author: &Author, findings: &mut Vec<Diagnostic>) -> MtlsPolicy {
    let mut reading = Reading::<MtlsPolicySpec>::of(author.id(Kind::MtlsPolicy, name), tree, findings);
    let MtlsPolicySpec { mode, trust, allow, revoked, forward, handshake, depth } = std::mem::take(&mut reading.spec);
    // Whoever says nothing means what the word policy promises.
    let mode = mode.unwrap_or(ClientAuthMode::Require);
    let trust = trust.unwrap_or_default();
    let verifies = matches!(mode, ClientAuthMode::Require | ClientAuthMode::VerifyIfGiven);
    let given = |field: &str| tree.field(field).is_some_and(|value| value.node != Node::Null);
    if verifies && trust.is_empty() && !reading.is_broken("trust") {
        let why = "nothing can be verified without a CA: name one or several bundles, as in trust: [partners-ca]";
        reading.invalid("trust", why);
    }
    if !verifies && given("allow") {
        let why = "only a verified certificate has an identity: allow needs mode verify_if_given or require";
        reading.invalid("allow", why);
    }
    let allow = allow.map(|entries| {
        if entries.is_empty() && !reading.is_broken("allow") {
            reading.invalid(
                "allow",
                "the list is empty, so that nobody would be let in; leave it out for whoever is verified",
            );
        }
        let read = |(index, entry)| identity(&mut reading, &format!("allow.{index}"), entry);
        entries.into_iter().enumerate().map(read).collect()
    });
    if !verifies && forward.as_ref().is_some_and(|forward| !forward.is_empty()) {
        let why = "only a verified certificate is told to endpoints: forward needs mode verify_if_given or require";
        reading.invalid("forward", why);
    }
    let rules = ClientRules {
        mode,
        allow,
        forward: forward.unwrap_or_default(),
        handshake: handshake.unwrap_or_default(),
        depth,
    };
    MtlsPolicy {
        origin: tree.origin.clone(),
        rules,
        trust,
        revoked: revoked.unwrap_or_default(),
        denied: reading.denied,
        id: reading.id,
    }
}

fn identity(reading: &mut Reading<'_, MtlsPolicySpec>, at: &str, spec: IdentityMatchSpec) -> IdentityMatch {
    let IdentityMatchSpec { dns, uri, email, ip, subject, issuer, spki, fingerprint } = spec;
    let before = reading.faults.len();
    let mut identity = IdentityMatch::default();
    let mut wrong = |field: &str, why: String| reading.invalid(&format!("{at}.{field}"), why);
    match dns.as_deref().map(DnsMatch::parse).transpose() {
        Ok(dns) => identity.dns = dns,
        Err(why) => wrong("dns", why),
    }
    match uri.as_deref().map(UriMatch::parse).transpose() {
        Ok(uri) => identity.uri = uri,
        Err(why) => wrong("uri", why),
    }
    match email.as_deref().map(EmailMatch::parse).transpose() {
        Ok(email) => identity.email = email,
        Err(why) => wrong("email", why),
    }
    match ip.as_deref().map(|raw| raw.trim().parse().map_err(|_| format!("\"{raw}\" is no address"))).transpose() {
        Ok(ip) => identity.ip = ip,
        Err(why) => wrong("ip", why),
    }
    for (field, given, read) in [("subject", subject, &mut identity.subject), ("issuer", issuer, &mut identity.issuer)]
    {
        match given.map(attributes).transpose() {
            Ok(attributes) => *read = attributes.unwrap_or_default(),
            Err(why) => wrong(field, why),
        }
    }
    for (field, given, read) in
        [("spki", spki, &mut identity.spki), ("fingerprint", fingerprint, &mut identity.fingerprint)]
    {
        match given.map(digest).transpose() {
            Ok(digest) => *read = digest,
            Err(why) => wrong(field, why),
        }
    }
    // An entry that says nothing would let everybody in.
    if identity == IdentityMatch::default() && reading.faults.len() == before {
        reading
            .invalid(at, "an entry names at least one of dns, uri, email, ip, subject, issuer, spki and fingerprint");
    }
    identity
}

fn attributes(given: BTreeMap<String, String>) -> Result<BTreeMap<Arc<str>, Arc<str>>, String> {
    if given.is_empty() {
        return Err("no attribute is given; write them as in { O: Acme, CN: web }".into());
    }
    let mut read = BTreeMap::new();
    for (name, value) in given {
        let folded = name.trim().to_ascii_uppercase();
        let known = ATTRIBUTES.iter().find(|(known, _)| *known == folded).map(|(_, oid)| *oid);
        let is_oid = folded.contains('.') && folded.split('.').all(|arc| !arc.is_empty() && arc.parse::<u64>().is_ok());
        let oid = match known {
            Some(oid) => oid.to_string(),
            None if is_oid => folded,
            None => {
                let known: Vec<&str> = ATTRIBUTES.iter().map(|(name, _)| *name).collect();
                return Err(format!("\"{name}\" is no attribute; there are {}, and OIDs in dots", known.join(", ")));
            }
        };
        if read.insert(oid.into(), value.as_str().into()).is_some() {
            return Err(format!("\"{name}\" is given twice"));
        }
    }
    Ok(read)
}

fn digest(raw: String) -> Result<Arc<str>, String> {
    let digest = raw.trim();
    match digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        true => Ok(digest.into()),
        false => Err(format!("\"{raw}\" is no SHA-256 in lower-case hex, which is 64 digits without colons")),
    }
}
