//! A policy, its CA and who it lets in, all of it in labels.

use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::pki::Authority;
use crate::support::portolan::Portolan;

#[test]
fn labels_alone_demand_a_client_certificate_and_say_whose() {
    let Some(engine) = Engine::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| Authority::create(&dir.path().join(name), name));
    let pem = std::fs::read_to_string(&ours.ca_file).unwrap();
    let _web = Container::compose(engine, "mtls", "web", 1)
        .label("portolan.host", "web.mtls.test")
        .label("portolan.mtls", "partners")
        .label("portolan.mtls_policies.partners.mode", "require")
        .label("portolan.mtls_policies.partners.trust", "partners-ca")
        .label("portolan.mtls_policies.partners.allow.0.dns", "*.partner.example")
        .label("portolan.trust_bundles.partners-ca.pem", &pem)
        .start();
    let portolan = Portolan::beside(engine);
    let ask = |by: &Authority, name: &str, san: &str| {
        let pair = by.issue(name, san);
        let files = [pair.cert_file, pair.key_file].map(|file| file.display().to_string());
        portolan.curl("https://web.mtls.test/", &["--cert", &files[0], "--key", &files[1]])
    };

    crate::support::wait::eventually("a partner is let in", || match ask(&ours, "a", "DNS:a.partner.example") {
        Ok(answer) if answer.status == 200 && answer.whoami("Name") == Some("mtls-web-1") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let stranger = ask(&ours, "b", "DNS:b.stranger.example").unwrap();
    assert_eq!((stranger.status, stranger.reason()), (403, Some("CertificateNotAllowed")), "{stranger:?}");
    for (what, refused) in [
        ("nobody", portolan.curl("https://web.mtls.test/", &[])),
        ("somebody else's", ask(&theirs, "a", "DNS:a.partner.example")),
    ] {
        let failure = refused.expect_err(what);
        assert!(matches!(failure.code, 35 | 56), "{what} is refused in the handshake: {failure:?}");
    }
}
