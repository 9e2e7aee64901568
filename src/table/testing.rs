//! CAs, client certificates and revocation lists for tests, made once: keys cost more than all that is done with them.

use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::revocation::LoadedLists;
use super::trust::LoadedBundle;

/// A CA with its key.
pub struct Ca {
    pub issuer: Issuer<'static, KeyPair>,
    pub der: CertificateDer<'static>,
    /// Without its root: what a client sends after its own certificate.
    pub above: Vec<CertificateDer<'static>>,
}

/// What a certificate says, where it is not the usual.
#[derive(Clone, Default)]
pub struct Says {
    pub dns: Vec<&'static str>,
    pub uris: Vec<&'static str>,
    pub emails: Vec<&'static str>,
    pub ips: Vec<&'static str>,
    pub organisation: Option<&'static str>,
    pub serial: u64,
    /// Seconds since the epoch; the usual is from 0 to the year 2100.
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub for_servers: bool,
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).expect("a time")
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

const FOR_EVER: i64 = 4_102_444_800;

fn params(name: &str, says: &Says) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organisation) = says.organisation {
        params.distinguished_name.push(DnType::OrganizationName, organisation);
    }
    let text = |text: &&str| (*text).try_into().expect("ASCII");
    params.subject_alt_names = says
        .dns
        .iter()
        .map(|name| SanType::DnsName(text(name)))
        .chain(says.uris.iter().map(|uri| SanType::URI(text(uri))))
        .chain(says.emails.iter().map(|mailbox| SanType::Rfc822Name(text(mailbox))))
        .chain(says.ips.iter().map(|ip| SanType::IpAddress(ip.parse().expect("an address"))))
        .collect();
    params.not_before = moment(says.from.unwrap_or(0));
    params.not_after = moment(says.to.unwrap_or(FOR_EVER));
    if says.serial > 0 {
        params.serial_number = Some(SerialNumber::from(says.serial));
    }
    params
}

fn ca_params(name: &str, says: &Says) -> CertificateParams {
    let mut params = params(name, says);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    pub fn root(name: &str) -> Ca {
        Ca::root_saying(name, &Says::default())
    }

    pub fn root_saying(name: &str, says: &Says) -> Ca {
        let key = KeyPair::generate().expect("a key");
        let params = ca_params(name, says);
        let der = params.self_signed(&key).expect("signed").der().clone();
        Ca { issuer: Issuer::new(params, key), der, above: Vec::new() }
    }

    pub fn intermediate(&self, name: &str) -> Ca {
        let key = KeyPair::generate().expect("a key");
        let params = ca_params(name, &Says::default());
        let der = params.signed_by(&key, &self.issuer).expect("signed").der().clone();
        let above = [vec![der.clone()], self.above.clone()].concat();
        Ca { issuer: Issuer::new(params, key), der, above }
    }

    /// What a client shows: its certificate, and those between it and the root.
    pub fn client(&self, name: &str, says: &Says) -> Vec<CertificateDer<'static>> {
        let mut params = params(name, says);
        params.extended_key_usages = vec![match says.for_servers {
            true => ExtendedKeyUsagePurpose::ServerAuth,
            false => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        let key = KeyPair::generate().expect("a key");
        let der = params.signed_by(&key, &self.issuer).expect("signed").der().clone();
        [vec![der], self.above.clone()].concat()
    }

    pub fn bundle(&self) -> Arc<LoadedBundle> {
        Arc::new(LoadedBundle::read(&self.der).expect("a CA"))
    }

    /// A list of these serial numbers, from the beginning of time until `next`.
    pub fn list(&self, number: u64, serials: &[u64], next: i64) -> Arc<LoadedLists> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: moment(0),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: moment(0),
            next_update: moment(next),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Arc::new(LoadedLists::read(params.signed_by(&self.issuer).expect("signed").der()).expect("a list"))
    }
}
