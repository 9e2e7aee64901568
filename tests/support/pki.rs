//! Certificates for test purposes, made by openssl: never by the code under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::output_of;

/// A root and what it signs. Everything is a PEM file in one directory.
pub struct Authority {
    dir: PathBuf,
    pub ca_file: PathBuf,
    ca_key: PathBuf,
}

pub struct Pair {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

impl Authority {
    pub fn create(dir: &Path, name: &str) -> Authority {
        std::fs::create_dir_all(dir).unwrap();
        let (ca_file, ca_key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        output_of(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
                .args(["-days", "2", "-subj", &format!("/CN={name}"), "-keyout"])
                .arg(&ca_key)
                .arg("-out")
                .arg(&ca_file)
                .args([
                    "-addext",
                    "basicConstraints=critical,CA:TRUE",
                    "-addext",
                    "keyUsage=critical,keyCertSign,cRLSign",
                ]),
        );
        Authority { dir: dir.to_path_buf(), ca_file, ca_key }
    }

    /// A leaf with these subject alternative names (`IP:127.0.0.1,DNS:localhost`), for servers and clients alike.
    pub fn issue(&self, name: &str, san: &str) -> Pair {
        self.issue_as(name, san, &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "serverAuth,clientAuth")
    }

    /// With a key of this kind, as openssl's `-newkey` has it, and for these uses.
    pub fn issue_as(&self, name: &str, san: &str, key: &[&str], usages: &str) -> Pair {
        let file = |suffix: &str| self.dir.join(format!("{name}.{suffix}"));
        let (request, extensions) = (file("csr"), file("ext"));
        let pair = Pair { cert_file: file("pem"), key_file: file("key") };
        output_of(
            Command::new("openssl")
                .args(["req", "-new", "-newkey"])
                .args(key)
                .args(["-nodes", "-subj", &format!("/CN={name}"), "-keyout"])
                .arg(&pair.key_file)
                .arg("-out")
                .arg(&request),
        );
        std::fs::write(
            &extensions,
            format!("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage={usages}\nsubjectAltName={san}\n"),
        )
        .unwrap();
        output_of(
            Command::new("openssl")
                .args(["x509", "-req", "-days", "2", "-CAcreateserial", "-in"])
                .arg(&request)
                .arg("-CA")
                .arg(&self.ca_file)
                .arg("-CAkey")
                .arg(&self.ca_key)
                .arg("-extfile")
                .arg(&extensions)
                .arg("-out")
                .arg(&pair.cert_file),
        );
        pair
    }

    /// A client's certificate that ends so soon. In whole seconds, as certificates count.
    pub fn issue_for(&self, name: &str, san: &str, life: std::time::Duration) -> Pair {
        let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(&self.ca_key).unwrap()).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&std::fs::read_to_string(&self.ca_file).unwrap(), key).unwrap();
        let now = time::OffsetDateTime::now_utc();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.subject_alt_names = vec![rcgen::SanType::DnsName(san.strip_prefix("DNS:").unwrap().try_into().unwrap())];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = now - time::Duration::hours(1);
        params.not_after = now + life;
        let key = rcgen::KeyPair::generate().unwrap();
        let file = |suffix: &str| self.dir.join(format!("{name}.{suffix}"));
        let pair = Pair { cert_file: file("pem"), key_file: file("key") };
        std::fs::write(&pair.cert_file, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(&pair.key_file, key.serialize_pem()).unwrap();
        pair
    }

    /// A server's certificate that ended yesterday.
    pub fn issue_until_yesterday(&self, name: &str, dns: &str) -> Pair {
        let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(&self.ca_key).unwrap()).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&std::fs::read_to_string(&self.ca_file).unwrap(), key).unwrap();
        let now = time::OffsetDateTime::now_utc();
        let mut params = rcgen::CertificateParams::new([dns.to_string()]).unwrap();
        params.not_before = now - time::Duration::days(3);
        params.not_after = now - time::Duration::days(1);
        let key = rcgen::KeyPair::generate().unwrap();
        let file = |suffix: &str| self.dir.join(format!("{name}.{suffix}"));
        let pair = Pair { cert_file: file("pem"), key_file: file("key") };
        std::fs::write(&pair.cert_file, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(&pair.key_file, key.serialize_pem()).unwrap();
        pair
    }

    /// A revocation list with this number, PEM: whose next update comes in so many seconds, and who stands on it.
    pub fn list(&self, number: u64, seconds: i64, revoked: &[&Pair]) -> String {
        let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(&self.ca_key).unwrap()).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&std::fs::read_to_string(&self.ca_file).unwrap(), key).unwrap();
        let now = time::OffsetDateTime::now_utc();
        let entry = |pair: &&Pair| rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from(serial(&pair.cert_file)),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: now - time::Duration::hours(1),
            next_update: now + time::Duration::seconds(seconds),
            crl_number: rcgen::SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&issuer).unwrap().pem().unwrap()
    }
}

impl Pair {
    pub fn not_after(&self) -> std::time::SystemTime {
        let (_, pem) = x509_parser::pem::parse_x509_pem(&std::fs::read(&self.cert_file).unwrap()).unwrap();
        let end = pem.parse_x509().unwrap().validity().not_after.timestamp();
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(end.try_into().unwrap())
    }
}

fn serial(certificate: &Path) -> Vec<u8> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(&std::fs::read(certificate).unwrap()).unwrap();
    pem.parse_x509().unwrap().raw_serial().to_vec()
}
