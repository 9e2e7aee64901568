//! Checks from labels.

use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::portolan::Portolan;

#[test]
fn a_replica_whose_check_fails_gets_no_request() {
    let Some(engine) = Engine::shared() else { return };
    let labelled = |n| {
        Container::compose(engine, "checked", "web", n)
            .label("portolan.host", "web.checked.test")
            .label("portolan.port", "8080")
            .label("portolan.health.path", "/healthz")
            .label("portolan.health.interval", "200ms")
    };
    let good = labelled(1).start();
    // It runs, as far as the engine knows, and listens elsewhere.
    let bad = labelled(2).listen(":9999").start();
    let portolan = Portolan::beside(engine);

    let endpoint = portolan.endpoint(&bad.name, |endpoint| endpoint["state"] == "unhealthy");
    assert!(endpoint["why"].as_str().unwrap().contains("refused"), "{endpoint}");
    portolan.endpoint(&good.name, |endpoint| endpoint["state"] == "ready");
    for _ in 0..10 {
        let answer = portolan.get("https://web.checked.test/").unwrap();
        assert_eq!((answer.status, answer.whoami("Name")), (200, Some(&*good.name)), "{answer:?}");
    }
    drop(good);
    let answer = portolan.get_until("https://web.checked.test/", |answer| answer.status == 503);
    assert_eq!(answer.reason(), Some("NotReady"), "{answer:?}");
}

#[test]
fn a_status_that_is_not_the_one_asked_for_is_a_failed_check() {
    let Some(engine) = Engine::shared() else { return };
    let _web = Container::compose(engine, "choosy", "web", 1)
        .label("portolan.host", "web.choosy.test")
        .label("portolan.health.path", "/")
        .label("portolan.health.status", "204")
        .label("portolan.health.interval", "200ms")
        .start();
    let portolan = Portolan::beside(engine);
    let endpoint = portolan.endpoint("choosy-web-1", |endpoint| endpoint["state"] == "unhealthy");
    assert!(endpoint["why"].as_str().unwrap().contains("status 200"), "{endpoint}");
}
