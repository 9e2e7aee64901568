use super::*;
use crate::model::constraints::NameConstraints;

fn options(json: &str) -> CaOptions {
    CaOptions { constraints: serde_json::from_str(json).expect(json), ..CaOptions::default() }
}

fn with(dir: &TempDir, options: &CaOptions) -> InternalCa {
    InternalCa::open_with(dir.path(), "corp", options, now()).expect("opened")
}

fn request(names: &[San], common_name: Option<&str>) -> LeafRequest {
    LeafRequest {
        names: names.to_vec(),
        common_name: common_name.map(String::from),
        purposes: Purposes { client: true, server: false },
    }
}

/// What the TLS library, which knows the root alone, says of a chain.
fn verified_by_library(ca: &InternalCa, issued: &Issued) -> Result<(), webpki::Error> {
    let root = ca.root_der();
    let anchor = webpki::anchor_from_trusted_cert(&root).expect("an anchor");
    let leaf = webpki::EndEntityCert::try_from(&issued.chain[0]).expect("a certificate");
    let at = Duration::from_secs(u64::try_from(now().as_second()).expect("after 1970"));
    let at = rustls_pki_types::UnixTime::since_unix_epoch(at);
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let usage = webpki::KeyUsage::client_auth();
    leaf.verify_for_usage(algorithms, &[anchor], &issued.chain[1..], at, usage, None, None).map(drop)
}

#[test]
fn what_is_outside_is_refused_with_words_and_what_is_inside_verifies_everywhere() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = with(
        &dir,
        &options(
            r#"{ "dns": ["corp.example", "localhost"], "ip": ["10.0.0.0/8"], "uri": ["corp.example"], "email": ["corp.example"] }"#,
        ),
    );
    let san = |san: Result<San, CaError>| san.expect("a name");
    let inside = [
        request(&[san(San::dns("corp.example")), san(San::dns("*.a.corp.example"))], None),
        request(&[san(San::dns("my_app.corp.example"))], Some("anything.else.example")),
        request(&[san(San::ip("10.1.2.3"))], None),
        request(&[san(San::uri("spiffe://corp.example/web"))], None),
        request(&[san(San::email("anna@corp.example"))], None),
        request(&[], Some("alice")),
        request(&[], Some("a.corp.example")),
    ];
    for request in &inside {
        let issued = ca.issue(request, DAY, now()).unwrap_or_else(|error| panic!("{request:?}: {error}"));
        verified(&ca, &issued, now(), &["-purpose", "sslclient"]);
        assert_eq!(verified_by_library(&ca, &issued), Ok(()), "{request:?}");
    }
    for (request, name) in [
        (request(&[san(San::dns("corp.example")), san(San::dns("evil.example"))], None), "DNS:evil.example"),
        (request(&[san(San::dns("notcorp.example"))], None), "DNS:notcorp.example"),
        (request(&[san(San::ip("192.0.2.1"))], None), "IP:192.0.2.1"),
        (request(&[san(San::ip("::1"))], None), "IP:::1"),
        (request(&[san(San::uri("spiffe://evil.example/web"))], None), "URI:spiffe://evil.example/web"),
        (request(&[san(San::email("anna@evil.example"))], None), "email:anna@evil.example"),
        (request(&[], Some("evil.example")), "CN=evil.example"),
    ] {
        let error = ca.issue(&request, DAY, now()).expect_err(name).to_string();
        assert!(error.contains(name) && error.contains("dns: corp.example, localhost"), "{error}");
        assert!(error.contains("issuers.corp.internal.name_constraints"), "{error}");
    }
    assert_eq!(logged(&dir).len(), inside.len(), "what is refused is on no record");
    assert!(ca.permits(&dns("hello.localhost")).is_ok() && ca.permits(&dns("evil.example")).is_err());
    assert!(ca.issue_server_at(&[dns("evil.example")], DAY, now()).is_err());
}

/// A CA whose keys were stolen: the words in its certificates bind whoever has them.
#[test]
fn a_chain_outside_is_refused_by_openssl_and_by_the_library() {
    let dir = tempfile::tempdir().expect("tempdir");
    let ca = with(&dir, &options(r#"{ "dns": ["corp.example"], "ip": ["10.0.0.0/8"] }"#));
    let signing = ca.current();
    for (name, purpose) in [(San::dns("evil.example"), "dns"), (San::ip("192.0.2.1"), "ip"), (San::ip("::1"), "ip")] {
        let request = request(&[name.expect("a name")], None);
        let issued = issue::leaf("corp", &signing, &request, DAY, now()).expect("made all the same");
        assert_eq!(verified_by_library(&ca, &issued), Err(webpki::Error::NameConstraintViolation), "{purpose}");
        let output = openssl(&ca, &issued.chain, now(), &["-purpose", "sslclient"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("permitted subtree violation"), "{said}");
    }
}

#[test]
fn other_settings_are_in_the_next_intermediate_and_the_root_needs_a_rotation() {
    let dir = tempfile::tempdir().expect("tempdir");
    let narrow = options(r#"{ "dns": ["corp.example"] }"#);
    let wide = options(r#"{ "dns": ["corp.example", "other.example"] }"#);
    // Of a root without constraints, the intermediate alone has them.
    with(&dir, &CaOptions::default());
    let ca = with(&dir, &narrow);
    assert!(ca.permits(&dns("other.example")).is_err());
    assert_eq!(ca.current().root.constraints, NameConstraints::default());
    let kept = ca.intermediate_not_after();
    assert_eq!(with(&dir, &narrow).intermediate_not_after(), kept);
    let error = ca.issue(&request(&[San::dns("other.example").expect("a name")], None), DAY, now()).expect_err("no");
    assert!(!error.to_string().contains("rotate"), "{error}");
    with(&dir, &wide).permits(&dns("other.example")).expect("permitted now");

    rotate(dir.path(), "corp", &narrow, Duration::ZERO, now()).expect("rotated");
    let ca = with(&dir, &wide);
    let error = ca.permits(&dns("other.example")).expect_err("not by the root").to_string();
    assert!(error.contains("in its root") && error.contains("portolan ca rotate"), "{error}");
    rotate(dir.path(), "corp", &wide, Duration::ZERO, now()).expect("rotated");
    let ca = with(&dir, &wide);
    let issued = ca.issue(&request(&[San::dns("other.example").expect("a name")], None), DAY, now()).expect("issued");
    verified(&ca, &issued, now(), &["-purpose", "sslclient"]);
}
