//! What the certificates of an internal CA look like.
//!
//! ```text
//! name, clock ─▶ root ─signs─▶ intermediate ─signs─▶ leaf
//!           old root ─signs─▶ (cross) the new root
//! ```
//! Path lengths (RFC 5280 §4.2.1.9): below a root stand an intermediate and, in an overlap, the root after it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use crate::model::certificate::hex;

use super::certificate::{Authority, Validity, later, two_thirds};
use super::name::{LeafRequest, Purposes, San};
use super::store::Signing;
use super::{CaError, CaOptions, Issued, LeafName, constraints};

const DAY: Duration = Duration::from_secs(24 * 3600);
const ROOT_LIFE: Duration = Duration::from_secs(3652 * DAY.as_secs());
/// For clients, and for machines that have just booted, whose clock is behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);

/// A self-signed root. The short id tells roots apart that users replaced: a client that still trusts the old one shows
/// which it is.
pub(super) fn root(issuer: &str, options: &CaOptions, now: Timestamp) -> Result<Authority, CaError> {
    let broken = |why: String| CaError::Crypto { issuer: issuer.into(), why };
    let key = new_key().map_err(broken)?;
    let params = root_params(issuer, &key, BasicConstraints::Constrained(2), now, later(now, ROOT_LIFE));
    let mut params = params.map_err(broken)?;
    params.name_constraints = constraints::write(&options.constraints);
    let certificate = params.self_signed(&key).map_err(|error| broken(error.to_string()))?;
    Authority::new(certificate.into(), key, None).map_err(broken)
}

/// The new root as the old one vouches for it: its name and its key.
pub(super) fn cross(
    issuer: &str,
    old: &Authority,
    new: &Authority,
    until: Timestamp,
    now: Timestamp,
) -> Result<CertificateDer<'static>, CaError> {
    let broken = |why: String| CaError::Crypto { issuer: issuer.into(), why };
    let key = new.issuer.key();
    let mut params = root_params(issuer, key, BasicConstraints::Constrained(1), now, until).map_err(broken)?;
    params.name_constraints = constraints::write(&new.constraints);
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(key, &old.issuer).map_err(|error| broken(error.to_string()))?;
    Ok(certificate.into())
}

fn root_params(
    issuer: &str,
    key: &KeyPair,
    constraint: BasicConstraints,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, String> {
    let mut params = ca_params(constraint, now, not_after)?;
    let id = params.key_identifier(key);
    params.distinguished_name.push(DnType::CommonName, format!("Portolan {issuer} Root CA {}", hex(&id[..4])));
    Ok(params)
}

pub(super) fn intermediate(
    issuer: &str,
    root: &Authority,
    options: &CaOptions,
    now: Timestamp,
) -> Result<Authority, CaError> {
    let broken = |why: String| CaError::Crypto { issuer: issuer.into(), why };
    let key = new_key().map_err(broken)?;
    let not_after = later(now, options.intermediate_life).min(root.validity.not_after);
    let mut params = ca_params(BasicConstraints::Constrained(0), now, not_after).map_err(broken)?;
    let id = params.key_identifier(&key);
    params.distinguished_name.push(DnType::CommonName, format!("Portolan {issuer} Intermediate CA {}", hex(&id[..4])));
    params.name_constraints = constraints::write(&options.constraints);
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &root.issuer).map_err(|error| broken(error.to_string()))?;
    Authority::new(certificate.into(), key, Some(root)).map_err(broken)
}

/// Two thirds of its life are over, it would cut short a leaf of `ttl`, it says something else of names than the settings
/// do, or the clock went back behind its beginning. Not where a new one would hardly end later: at the end of the root's
/// own life, or for a leaf that asks for longer than any intermediate lives, which would otherwise cost a new one each time.
pub(super) fn intermediate_is_due(
    held: &Authority,
    root: &Authority,
    options: &CaOptions,
    ttl: Duration,
    now: Timestamp,
) -> bool {
    let Validity { not_before, not_after } = held.validity;
    let life = options.intermediate_life;
    // A day of a year.
    let short = not_after < later(now, ttl.min(life - life / 365));
    let aged = short || later(now, life / 3) >= not_after;
    let other = held.constraints != constraints::in_certificates(&options.constraints);
    now < not_before || other || aged && not_after < root.validity.not_after
}

/// `request` has been checked.
pub(super) fn leaf(
    issuer: &str,
    signing: &Signing,
    request: &LeafRequest,
    ttl: Duration,
    now: Timestamp,
) -> Result<Issued, CaError> {
    let broken = |why: String| CaError::Crypto { issuer: issuer.into(), why };
    let intermediate = &signing.intermediate;
    let key = new_key().map_err(broken)?;
    let validity = Validity {
        not_before: backdated(now),
        not_after: whole_seconds(later(now, ttl).min(intermediate.validity.not_after)),
    };
    let serial = random_serial().map_err(broken)?;
    let mut params = params(validity, serial).map_err(broken)?;
    params.subject_alt_names = request.names.iter().map(subject_alt_name).collect::<Result<_, CaError>>()?;
    // Without a common name the subject is empty.
    let subject = request.subject().filter(|_| constraints::permit_subject(&intermediate.constraints, request));
    if let Some(name) = subject {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    // ExplicitNoCa is also what makes rcgen add the subject key identifier.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let Purposes { client, server } = request.purposes;
    let purposes = [(server, ExtendedKeyUsagePurpose::ServerAuth), (client, ExtendedKeyUsagePurpose::ClientAuth)];
    params.extended_key_usages = purposes.into_iter().filter(|(wanted, _)| *wanted).map(|(_, usage)| usage).collect();
    params.use_authority_key_identifier_extension = true;
    let certificate: Certificate =
        params.signed_by(&key, &intermediate.issuer).map_err(|error| broken(error.to_string()))?;
    let mut chain = vec![certificate.into(), intermediate.certificate.clone()];
    chain.extend(signing.retired.crosses(now));
    // When an overlap ends, the chain is another.
    let renewal = signing.retired.next_end(now).into_iter().chain([two_thirds(now, validity.not_after)]).min();
    Ok(Issued {
        chain,
        key: PrivateKeyDer::from(key),
        not_before: validity.not_before,
        not_after: validity.not_after,
        renewal: renewal.unwrap_or(validity.not_after),
        serial: hex(&serial),
    })
}

fn ca_params(constraint: BasicConstraints, now: Timestamp, not_after: Timestamp) -> Result<CertificateParams, String> {
    let mut params = params(Validity { not_before: backdated(now), not_after }, random_serial()?)?;
    params.is_ca = IsCa::Ca(constraint);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(validity: Validity, serial: [u8; 16]) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date(validity.not_before)?;
    params.not_after = date(validity.not_after)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn subject_alt_name(name: &San) -> Result<SanType, CaError> {
    let text = |raw: &String| {
        Ia5String::try_from(raw.as_str()).map_err(|error| CaError::Name { name: raw.clone(), why: error.to_string() })
    };
    Ok(match name {
        San::Host(LeafName::Ip(address)) => SanType::IpAddress(*address),
        San::Host(LeafName::Dns(dns)) => SanType::DnsName(text(dns)?),
        San::Uri(uri) => SanType::URI(text(uri)?),
        San::Email(address) => SanType::Rfc822Name(text(address)?),
    })
}

fn new_key() -> Result<KeyPair, String> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())
}

/// Positive, and 16 bytes long in every encoding: the first bit clear, the second set. 126 bits are left to chance;
/// RFC 5280 §4.1.2.2 asks for at most 20 bytes, CA/B for 64 bits of randomness.
fn random_serial() -> Result<[u8; 16], String> {
    let mut serial = [0; 16];
    let random = aws_lc_rs::default_provider().secure_random;
    random.fill(&mut serial).map_err(|_| "the system gives no random numbers".to_string())?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn backdated(now: Timestamp) -> Timestamp {
    whole_seconds(now.checked_sub(BACKDATED).unwrap_or(now))
}

/// Certificates know no fraction of a second; what is reported is what stands in them.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn date(at: Timestamp) -> Result<OffsetDateTime, String> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| format!("the date {at} does not fit a certificate"))
}
