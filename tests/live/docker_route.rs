//! The main job: a container with a label is on HTTPS as long as it is there.

use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::portolan::Portolan;
use crate::support::wait::eventually;

#[test]
fn a_labelled_container_is_on_https_with_the_internal_ca() {
    let Some(engine) = Engine::shared() else { return };
    let portolan = Portolan::beside(engine);
    let _web = Container::compose(engine, "https", "web", 1).label("portolan.host", "web.https.test").start();

    let answer = portolan.get_from("https://web.https.test/a/b?c=d", "https-web-1");
    assert_eq!(answer.whoami("Host"), Some("web.https.test"), "{}", answer.body);
    assert_eq!(answer.whoami("X-Forwarded-Proto"), Some("https"), "{}", answer.body);
    assert!(answer.body.contains("\nGET /a/b?c=d HTTP/1.1"), "{}", answer.body);

    // Without that root nobody else vouches for it.
    let stranger = crate::support::http::curl("https://web.https.test/", portolan.https, None, &[]).unwrap_err();
    assert_eq!(stranger.code, 60, "{stranger:?}");

    let redirect = portolan.get("http://web.https.test/a").unwrap();
    assert_eq!(redirect.status, 308);
    let location = redirect.header("location").unwrap();
    assert!(location.starts_with("https://web.https.test") && location.ends_with("/a"), "{location}");
    portolan.stop();
}

#[test]
fn both_replicas_of_a_compose_service_get_requests() {
    let Some(engine) = Engine::shared() else { return };
    let replicas: Vec<_> = (1..=2)
        .map(|n| Container::compose(engine, "replicas", "web", n).label("portolan.host", "web.replicas.test").start())
        .collect();
    let portolan = Portolan::beside(engine);
    for replica in &replicas {
        portolan.get_from("https://web.replicas.test/", &replica.name);
    }

    let mut counts = [0; 2];
    for _ in 0..10 {
        let answer = portolan.get("https://web.replicas.test/").unwrap();
        let name = answer.whoami("Name").unwrap();
        counts[replicas.iter().position(|replica| replica.name == name).unwrap()] += 1;
    }
    assert!(counts.iter().all(|&count| count >= 3), "{counts:?} of ten");
    assert_eq!(portolan.routes_of("web.replicas.test").len(), 1, "two replicas are one route");
}

#[test]
fn without_a_host_the_default_host_takes_the_path() {
    let Some(engine) = Engine::shared() else { return };
    let _web = Container::compose(engine, "pathonly", "web", 1).label("portolan.path", "/api").start();
    let portolan = Portolan::beside(engine);

    portolan.get_from("https://web.pathonly.localhost/api/x", "pathonly-web-1");
    let other = portolan.get("https://web.pathonly.localhost/apix").unwrap();
    assert_eq!(other.status, 404, "a path is a prefix by whole elements: {other:?}");
}

#[test]
fn a_stopped_container_keeps_its_route_and_a_removed_one_takes_it_along() {
    let Some(engine) = Engine::shared() else { return };
    let portolan = Portolan::beside(engine);
    let web = Container::compose(engine, "gone", "web", 1).label("portolan.host", "web.gone.test").start();
    portolan.get_from("https://web.gone.test/", "gone-web-1");

    web.stop();
    let stopped = portolan.get_until("https://web.gone.test/", |answer| answer.status == 503);
    assert!(stopped.header("retry-after").is_some(), "{stopped:?}");
    assert!(stopped.reason().is_some(), "{stopped:?}");

    web.start();
    portolan.get_from("https://web.gone.test/", "gone-web-1");

    web.remove();
    let refused = eventually("the name is unknown again", || match portolan.get("https://web.gone.test/") {
        Err(failure) => Ok(failure),
        Ok(answer) => Err(answer),
    });
    assert_eq!(refused.code, 35, "{refused:?}");
    assert!(refused.message.to_lowercase().contains("unrecognized name"), "{refused:?}");
    assert!(portolan.routes_of("web.gone.test").is_empty());
    portolan.stop();
}

#[test]
fn two_named_routes_of_one_container_lead_to_its_two_ports() {
    let Some(engine) = Engine::shared() else { return };
    let both = Container::compose(engine, "named", "both", 1)
        .image("whoami:two")
        .label("portolan.routes.shop.host", "shop.named.test")
        .label("portolan.routes.shop.service", "shop")
        .label("portolan.services.shop.port", "8080")
        .label("portolan.routes.admin.hosts", "admin.named.test,manage.named.test")
        .label("portolan.routes.admin.service", "admin")
        .label("portolan.services.admin.port", "9090")
        .start();
    // A second process in the same network: what answers on the container's other port.
    let _second =
        Container::named(engine, "named-second").network(&format!("container:{}", both.name)).listen(":9090").start();
    let portolan = Portolan::beside(engine);

    portolan.get_from("https://shop.named.test/", "named-both-1");
    portolan.get_from("https://admin.named.test/", "named-second");
    portolan.get_from("https://manage.named.test/", "named-second");
}

#[test]
fn a_container_that_says_enable_false_is_hidden() {
    let Some(engine) = Engine::shared() else { return };
    let hidden = Container::compose(engine, "hidden", "web", 1)
        .label("portolan.host", "web.hidden.test")
        .label("portolan.enable", "false")
        .start();
    // Started later, so that its answer proves that the hidden one has been seen.
    let _seen = Container::compose(engine, "hidden", "seen", 1).label("portolan.host", "seen.hidden.test").start();
    let portolan = Portolan::beside(engine);

    portolan.get_from("https://seen.hidden.test/", "hidden-seen-1");
    assert!(portolan.routes_of("web.hidden.test").is_empty());
    let about: Vec<_> = portolan.problems().into_iter().filter(|p| p.to_string().contains(&hidden.name)).collect();
    assert!(about.is_empty(), "hiding is no problem: {about:?}");
}
