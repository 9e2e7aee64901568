//! Who a certificate says its bearer is. Nobody's word until the certificate is verified.

use std::net::IpAddr;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Name;

use crate::model::certificate::hex;
use crate::model::mtls::IdentityMatch;

use super::content::sha256_hex;

/// What stands in a client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As text, `CN=web, O=Acme`.
    pub subject: String,
    pub issuer: String,
    /// Lower-case hex.
    pub serial: String,
    pub dns: Vec<String>,
    pub uris: Vec<String>,
    pub emails: Vec<String>,
    pub ips: Vec<IpAddr>,
    /// Lower-case hex SHA-256 of the certificate.
    pub fingerprint: String,
    /// Lower-case hex SHA-256 of its subject's public key info.
    pub spki: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Every subject alternative name with its kind, `DNS:web.example`, as reports show them.
    pub names: Vec<String>,
    subject_attributes: Vec<Attribute>,
    issuer_attributes: Vec<Attribute>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attribute {
    /// In dots.
    oid: String,
    value: String,
}

impl Identity {
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Identity, String> {
        let (rest, parsed) = parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err("bytes follow the certificate".into());
        }
        let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let mut identity = Identity {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: hex(parsed.raw_serial()),
            dns: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            ips: Vec::new(),
            fingerprint: sha256_hex(certificate),
            spki: sha256_hex(parsed.public_key().raw),
            not_before: Timestamp::from_second(parsed.validity().not_before.timestamp()).unwrap_or(Timestamp::MIN),
            not_after: Timestamp::from_second(parsed.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX),
            names: Vec::new(),
            subject_attributes: attributes(parsed.subject()),
            issuer_attributes: attributes(parsed.issuer()),
        };
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => identity.dns.push(name.to_ascii_lowercase()),
                GeneralName::URI(uri) => identity.uris.push(uri.to_string()),
                GeneralName::RFC822Name(mailbox) => identity.emails.push(mailbox.to_string()),
                GeneralName::IPAddress(octets) => identity.ips.extend(address(octets)),
                _ => {}
            }
        }
        identity.names = identity.labelled();
        Ok(identity)
    }

    /// Whether everything that the entry names holds. The common name is an attribute and no DNS name.
    pub fn satisfies(&self, entry: &IdentityMatch) -> bool {
        let IdentityMatch { dns, uri, email, ip, subject, issuer, spki, fingerprint } = entry;
        let all = |wanted: &std::collections::BTreeMap<_, _>, given: &[Attribute]| {
            wanted.iter().all(|(oid, value): (&std::sync::Arc<str>, &std::sync::Arc<str>)| {
                given.iter().any(|attribute| *attribute.oid == **oid && *attribute.value == **value)
            })
        };
        dns.as_ref().is_none_or(|wanted| self.dns.iter().any(|name| wanted.matches(name)))
            && uri.as_ref().is_none_or(|wanted| self.uris.iter().any(|uri| wanted.matches(uri)))
            && email.as_ref().is_none_or(|wanted| self.emails.iter().any(|mailbox| wanted.matches(mailbox)))
            && ip.as_ref().is_none_or(|wanted| self.ips.contains(&wanted.to_canonical()))
            && all(subject, &self.subject_attributes)
            && all(issuer, &self.issuer_attributes)
            && spki.as_ref().is_none_or(|wanted| *self.spki == **wanted)
            && fingerprint.as_ref().is_none_or(|wanted| *self.fingerprint == **wanted)
    }

    fn labelled(&self) -> Vec<String> {
        let dns = self.dns.iter().map(|name| format!("DNS:{name}"));
        let uris = self.uris.iter().map(|uri| format!("URI:{uri}"));
        let emails = self.emails.iter().map(|mailbox| format!("email:{mailbox}"));
        let ips = self.ips.iter().map(|ip| format!("IP:{ip}"));
        dns.chain(uris).chain(emails).chain(ips).collect()
    }
}

/// A value in an encoding without one reading is nobody's exact value.
fn attributes(name: &X509Name<'_>) -> Vec<Attribute> {
    let text = name.iter_attributes().filter_map(|attribute| {
        Some(Attribute { oid: attribute.attr_type().to_id_string(), value: attribute.as_str().ok()?.to_string() })
    });
    text.collect()
}

/// RFC 5280 §4.2.1.6. Eight or 32 octets would be a network, which is nobody.
fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok().map(|ip| ip.to_canonical())
}
