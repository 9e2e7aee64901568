//! Name constraints in the certificates of the CA, and whether a request keeps to them.
//!
//! ```text
//! settings ─write─▶ root, intermediate ─read─▶ check(request)
//! ```
//! A certificate carries those of hosts alone. The TLS library knows no others and refuses every URI and mailbox below a
//! CA that constrains them, so that those of URIs and mailboxes are kept by whoever issues, and by nobody who verifies.

use ipnet::IpNet;
use rcgen::{CidrSubnet, GeneralSubtree};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::name::{LeafRequest, San};
use super::{CaError, LeafName};
use crate::model::constraints::{Block, Domain, NameConstraints};

/// What a certificate can say of them.
pub(super) fn in_certificates(constraints: &NameConstraints) -> NameConstraints {
    NameConstraints { uri: None, email: None, ..constraints.clone() }
}

pub(super) fn write(constraints: &NameConstraints) -> Option<rcgen::NameConstraints> {
    let domains = constraints.dns.iter().flatten().map(|Domain(name)| GeneralSubtree::DnsName(name.clone()));
    let blocks =
        constraints.ip.iter().flatten().map(|Block(block)| {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(block.addr(), block.prefix_len()))
        });
    let permitted_subtrees: Vec<GeneralSubtree> = domains.chain(blocks).collect();
    (!permitted_subtrees.is_empty())
        .then(|| rcgen::NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() })
}

/// As [`write`] wrote them.
pub(super) fn read(certificate: &X509Certificate<'_>) -> Result<NameConstraints, String> {
    let mut constraints = NameConstraints::default();
    let extensions = certificate.extensions().iter().map(|extension| extension.parsed_extension());
    let found = extensions.filter_map(|extension| match extension {
        ParsedExtension::NameConstraints(constraints) => Some(constraints),
        _ => None,
    });
    for subtree in found.flat_map(|constraints| constraints.permitted_subtrees.iter().flatten()) {
        match &subtree.base {
            GeneralName::DNSName(name) => {
                constraints.dns.get_or_insert_default().push(Domain((*name).to_ascii_lowercase()));
            }
            GeneralName::IPAddress(bytes) => {
                let block = block(bytes).ok_or("holds a certificate with broken name constraints")?;
                constraints.ip.get_or_insert_default().push(Block(block));
            }
            _ => return Err("holds a certificate with name constraints that are not Portolan's".into()),
        }
    }
    Ok(constraints)
}

/// RFC 5280 §4.2.1.10: address and mask, one after the other.
fn block(bytes: &[u8]) -> Option<IpNet> {
    let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
    let (address, mask) = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (Ok(v4), _) => (v4.into(), <[u8; 4]>::try_from(mask).ok()?.into()),
        (_, Ok(v6)) => (std::net::IpAddr::from(v6), <[u8; 16]>::try_from(mask).ok()?.into()),
        _ => return None,
    };
    IpNet::with_netmask(address, mask).ok()
}

/// `root`: they are the root's, and not of the settings.
///
/// Who verifies (RFC 6125, and openssl among others) takes a common name that looks like a host for one, where there is no
/// host among the names.
pub(super) fn check(
    issuer: &str,
    constraints: &NameConstraints,
    root: bool,
    request: &LeafRequest,
) -> Result<(), CaError> {
    let refused = |name: String| {
        let permitted = constraints.to_string();
        Err(CaError::Constrained { issuer: issuer.into(), name, permitted, root })
    };
    for name in &request.names {
        let permitted = match name {
            San::Host(name) => constraints.permits_host(name),
            San::Uri(uri) => constraints.permits_uri(uri),
            San::Email(address) => constraints.permits_email(address),
        };
        if !permitted {
            return refused(name.to_string());
        }
    }
    match request.common_name.as_deref().filter(|name| looks_like_a_host(name)) {
        Some(name) if !has_host(request) && !constraints.permits_host(&LeafName::Dns(name.to_ascii_lowercase())) => {
            refused(format!("CN={name}"))
        }
        _ => Ok(()),
    }
}

/// Whether the first of the names may stand in the subject as well.
pub(super) fn permit_subject(constraints: &NameConstraints, request: &LeafRequest) -> bool {
    let subject = request.subject().unwrap_or_default();
    request.common_name.is_some()
        || has_host(request)
        || !looks_like_a_host(&subject)
        || constraints.permits_host(&LeafName::Dns(subject))
}

fn has_host(request: &LeafRequest) -> bool {
    request.names.iter().any(|name| matches!(name, San::Host(LeafName::Dns(_))))
}

fn looks_like_a_host(name: &str) -> bool {
    name.contains('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
