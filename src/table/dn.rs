//! Distinguished names as text, as what reads them behind other proxies expects them.
//!
//! `X509Name ─▶ rfc2253: CN=web,O=Acme`. To the letter what OpenSSL writes with `XN_FLAG_RFC2253`, which is what nginx and
//! Envoy forward: the last attribute first, and everything escaped by which a value could pass for more than one.

use std::fmt::Write;

use x509_parser::asn1_rs::{Any, Tag, ToDer};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::model::certificate::hex;

/// As OpenSSL calls them. The values of all others are written in hex.
const SHORT: [(&str, &str); 26] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

/// In ASCII without control characters, whatever the name holds.
pub fn rfc2253(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let sets: Vec<Vec<&AttributeTypeAndValue<'_>>> = name.iter_rdn().map(|set| set.iter().collect()).collect();
    for set in sets.into_iter().rev() {
        for (index, attribute) in set.into_iter().rev().enumerate() {
            if !text.is_empty() {
                text.push(if index == 0 { ',' } else { '+' });
            }
            let oid = attribute.attr_type().to_id_string();
            let short = SHORT.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
            text.push_str(short.unwrap_or(&oid));
            text.push('=');
            match short.and_then(|_| characters(attribute.attr_value())) {
                Some(value) => escape(&value, &mut text),
                None => {
                    let der = attribute.attr_value().to_der_vec().unwrap_or_default();
                    let _ = write!(text, "#{}", hex(&der).to_ascii_uppercase());
                }
            }
        }
    }
    text
}

/// The values of an attribute, in the order in which they stand.
pub fn values(name: &X509Name<'_>, oid: &str) -> Vec<String> {
    let named = name.iter_attributes().filter(|attribute| attribute.attr_type().to_id_string() == oid);
    named.filter_map(|attribute| characters(attribute.attr_value())).collect()
}

/// `None` for what is no string of characters.
fn characters(value: &Any<'_>) -> Option<String> {
    let latin1 = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect();
    match value.tag() {
        Tag::Utf8String => std::str::from_utf8(value.data).ok().map(str::to_string),
        Tag::PrintableString
        | Tag::NumericString
        | Tag::Ia5String
        | Tag::VisibleString
        | Tag::TeletexString
        | Tag::UtcTime
        | Tag::GeneralizedTime => Some(latin1(value.data)),
        Tag::BmpString => wide(value.data, 2),
        Tag::UniversalString => wide(value.data, 4),
        _ => None,
    }
}

fn wide(bytes: &[u8], width: usize) -> Option<String> {
    let whole = bytes.len().is_multiple_of(width);
    let number = |unit: &[u8]| unit.iter().fold(0, |number: u32, byte| (number << 8) | u32::from(*byte));
    bytes.chunks(width).map(|unit| char::from_u32(number(unit))).collect::<Option<String>>().filter(|_| whole)
}

/// RFC 2253 §2.4, with every byte beyond ASCII escaped as well.
fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => text.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::testing::{Ca, Says};
    use x509_parser::parse_x509_certificate;

    fn subject(attributes: &[(&[u64], rcgen::DnValue)]) -> String {
        let mut name = rcgen::DistinguishedName::new();
        for (oid, value) in attributes {
            name.push(rcgen::DnType::CustomDnType(oid.to_vec()), value.clone());
        }
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.distinguished_name = name;
        let der = params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed").der().to_vec();
        let (_, parsed) = parse_x509_certificate(&der).expect("a certificate");
        let ours = rfc2253(parsed.subject());
        assert_eq!(ours, openssls(&der), "as openssl writes it");
        ours
    }

    /// What openssl makes of it, which is what nginx and Envoy forward.
    fn openssls(der: &[u8]) -> String {
        use std::io::Write as _;
        let mut openssl = std::process::Command::new("openssl")
            .args(["x509", "-inform", "DER", "-noout", "-subject", "-nameopt", "RFC2253"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("openssl");
        openssl.stdin.take().expect("piped").write_all(der).expect("written");
        let output = openssl.wait_with_output().expect("ended");
        let text = String::from_utf8(output.stdout).expect("text");
        text.trim_end_matches('\n').strip_prefix("subject=").expect("a subject").to_string()
    }

    #[test]
    fn a_name_is_written_as_openssl_writes_it() {
        let utf8 = |text: &str| rcgen::DnValue::Utf8String(text.into());
        let cn: &[u64] = &[2, 5, 4, 3];
        let (o, ou, dc): (&[u64], &[u64], &[u64]) =
            (&[2, 5, 4, 10], &[2, 5, 4, 11], &[0, 9, 2342, 19_200_300, 100, 1, 25]);
        let bmp = rcgen::DnValue::BmpString("Ünit".try_into().expect("two bytes each"));
        let all = subject(&[(o, utf8("Acme, Inc.")), (ou, bmp), (dc, utf8("example")), (cn, utf8("web"))]);
        assert_eq!(all, "CN=web,DC=example,OU=\\C3\\9Cnit,O=Acme\\, Inc.");
        for (forged, expected) in [
            ("x\";URI=spiffe://td/admin", "CN=x\\\"\\;URI=spiffe://td/admin"),
            ("x,CN=admin", "CN=x\\,CN=admin"),
            ("x\r\nX-Admin: 1", "CN=x\\0D\\0AX-Admin: 1"),
            (" #x\\ ", "CN=\\ #x\\\\\\ "),
            ("#x<>+", "CN=\\#x\\<\\>\\+"),
            ("\u{7f}é", "CN=\\7F\\C3\\A9"),
        ] {
            assert_eq!(subject(&[(cn, utf8(forged))]), expected);
        }
        // Of a kind that has no short name.
        assert_eq!(subject(&[(&[1, 2, 3, 4], utf8("x"))]), "1.2.3.4=#0C0178");
        assert_eq!(subject(&[]), "");
    }

    #[test]
    fn an_attributes_values_are_raw() {
        let der = Ca::root("a").client("x, y", &Says::default());
        let (_, parsed) = parse_x509_certificate(&der[0]).expect("a certificate");
        assert_eq!(values(parsed.subject(), "2.5.4.3"), ["x, y"]);
        assert!(values(parsed.subject(), "2.5.4.10").is_empty());
    }
}
