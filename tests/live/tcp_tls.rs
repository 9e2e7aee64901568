//! The engine over TCP: believed only if its certificate is, and asked with the client certificate of the settings.

use std::time::Duration;

use serde_json::json;

use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::pki::Authority;
use crate::support::port::free_port;
use crate::support::portolan::Portolan;
use crate::support::wait::throughout;

#[test]
fn an_engine_over_tcp_is_followed_with_client_certificates() {
    let Some(engine) = Engine::shared() else { return };
    let portolan = Portolan::over_tcp(engine);
    // Started after the proxy: what makes it known is the event stream over TLS.
    let web = Container::compose(engine, "tcptls", "web", 1)
        .option("--publish", &format!("127.0.0.1:{}:8080", free_port()))
        .label("portolan.host", "web.tcptls.test")
        .start();

    portolan.get_from("https://web.tcptls.test/", &web.name);
    portolan.stop();
}

#[test]
fn an_engine_whose_certificate_another_ca_signed_is_not_believed() {
    let Some(engine) = Engine::shared() else { return };
    let stranger = tempfile::tempdir().unwrap();
    let other = Authority::create(stranger.path(), "other-ca");
    let portolan = Portolan::spawn(json!({ "providers": { "docker": {
        "endpoint": format!("tcp://{}", engine.tcp),
        "tls": { "ca_file": other.ca_file, "cert_file": engine.client.cert_file, "key_file": engine.client.key_file },
    } } }));
    never_ready(&portolan);
}

#[test]
fn a_client_certificate_that_the_engine_refuses_is_no_empty_engine() {
    let Some(engine) = Engine::shared() else { return };
    let stranger = tempfile::tempdir().unwrap();
    let forged = Authority::create(stranger.path(), "other-ca").issue("forged", "DNS:client");
    let portolan = Portolan::spawn(json!({ "providers": { "docker": {
        "endpoint": format!("tcp://{}", engine.tcp),
        "tls": { "ca_file": engine.authority.ca_file, "cert_file": forged.cert_file, "key_file": forged.key_file },
    } } }));
    never_ready(&portolan);
}

/// A provider that is on and has not answered once holds readiness back; the log names it.
fn never_ready(portolan: &Portolan) {
    crate::support::wait::eventually("the status listener answers", || match portolan.ready() {
        Err(said) if said.starts_with("503") => Ok(()),
        other => Err(other),
    });
    throughout("not ready", Duration::from_secs(3), || match portolan.ready() {
        Err(_) => Ok(()),
        Ok(()) => Err("ready"),
    });
    let log = portolan.log();
    assert!(log.contains("docker"), "{log}");
}
