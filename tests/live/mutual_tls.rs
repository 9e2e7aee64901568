//! A policy, its CA and who it lets in, all of it in labels.

use serde_json::Value;

use crate::proxy::mtls::record::{Clients, GARBAGE, ROUTES, policies};
use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::pki::{Authority, Pair};
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

/// The same object as labels say it: lists of words by commas, lists of maps by numbers.
fn labels(prefix: &str, value: &Value, put: &mut impl FnMut(String, String)) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| labels(&format!("{prefix}.{name}"), value, put));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(at, item)| labels(&format!("{prefix}.{at}"), item, put));
        }
        Value::Array(items) => {
            put(prefix.into(), items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","));
        }
        word => put(prefix.into(), word.as_str().unwrap().into()),
    }
}

#[test]
fn nothing_that_others_let_through_gets_past_policies_in_labels() {
    let Some(engine) = Engine::shared() else { return };
    let clients = Clients::new();
    let mut all = Vec::new();
    labels("portolan.mtls_policies", &policies(), &mut |label, value| all.push((label, value)));
    let pem = |authority: &Authority| std::fs::read_to_string(&authority.ca_file).unwrap();
    let bundles =
        [("a", pem(&clients.pki.a)), ("b", pem(&clients.pki.b)), ("empty", String::new()), ("garbage", GARBAGE.into())];
    all.extend(bundles.map(|(name, pem)| (format!("portolan.trust_bundles.{name}.pem"), pem)));
    for (at, (place, policy)) in ROUTES.iter().enumerate() {
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        let route = format!("portolan.routes.r{at}");
        all.extend([(format!("{route}.host"), (*host).into()), (format!("{route}.path"), format!("/{path}"))]);
        all.extend(policy.map(|policy| (format!("{route}.mtls"), policy.into())));
    }
    let container = Container::compose(engine, "record", "web", 1);
    let _web = all.iter().fold(container, |container, (label, value)| container.label(label, value)).start();
    let portolan = Portolan::beside(engine);
    let ask = |pair: Option<&Pair>, url: &str, options: &[&str]| {
        let shown = pair.map(|pair| [&pair.cert_file, &pair.key_file].map(|file| file.display().to_string()));
        let shown = shown.iter().flat_map(|[cert, key]| ["--cert", cert, "--key", key]);
        portolan.curl(url, &options.iter().copied().chain(shown).collect::<Vec<_>>())
    };

    crate::support::wait::eventually("the labels are served", || match ask(None, "https://open.test/", &[]) {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    clients.come_in(ask);
    assert!(clients.are_refused(ask) > 50);
}
