//! Certificates: two files, from the operator alone.

use crate::config::tree::Tree;
use crate::model::certificate::Certificate;
use crate::model::diagnostic::Diagnostic;
use crate::model::id::Kind;
use crate::model::schema::CertificateSpec;

use super::Author;
use super::reading::{Reading, operator_only};

pub(super) fn certificate(
    name: &str,
    tree: &Tree,
    author: &Author,
    findings: &mut Vec<Diagnostic>,
) -> Option<Certificate> {
    let mut reading = Reading::<CertificateSpec>::of(author.id(Kind::Certificate, name), tree, findings);
    let CertificateSpec { cert_file, key_file } = std::mem::take(&mut reading.spec);
    if !author.is_operator() {
        for field in ["cert_file", "key_file"] {
            if tree.field(field).is_some() {
                let diagnostic =
                    operator_only(&reading.id, tree, field, "name a certificate of the operator's instead");
                reading.deny(diagnostic);
            }
        }
    } else {
        for (field, given) in [("cert_file", cert_file.is_some()), ("key_file", key_file.is_some())] {
            if !given && !reading.is_broken(field) {
                reading.invalid(field, format!("a certificate needs \"{field}\", a PEM file"));
            }
        }
    }
    Some(Certificate {
        origin: tree.origin.clone(),
        cert_file: cert_file.unwrap_or_default().into(),
        key_file: key_file.unwrap_or_default().into(),
        denied: reading.denied,
        id: reading.id,
    })
}
