//! What is wrong with labels closes the route they make, and `portolan problems` says what to do: never an open route,
//! never a silent one.

use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::portolan::Portolan;

#[test]
fn a_misspelt_label_denies_its_route_and_names_the_nearest_key() {
    let Some(engine) = Engine::shared() else { return };
    let _shop = Container::compose(engine, "misspelt", "shop", 1)
        .label("portolan.host", "shop.misspelt.test")
        .label("portolan.mlts", "partners")
        .start();
    let _sound =
        Container::compose(engine, "misspelt", "sound", 1).label("portolan.host", "sound.misspelt.test").start();
    let portolan = Portolan::beside(engine);

    let denied = portolan.get_until("https://shop.misspelt.test/", |answer| answer.status == 503);
    assert_eq!(denied.reason(), Some("Invalid"), "{denied:?}");
    let problem = portolan.problem("UnknownField", &["misspelt-shop-1", "portolan.mlts", "mtls"]);
    assert_eq!(problem["subject"], "docker/route/misspelt/shop", "{problem:#}");
    assert_eq!(problem["severity"], "error", "{problem:#}");

    portolan.get_from("https://sound.misspelt.test/", "misspelt-sound-1");
}

#[test]
fn a_misspelt_label_of_one_named_route_leaves_the_containers_other_route_alone() {
    let Some(engine) = Engine::shared() else { return };
    let _both = Container::compose(engine, "oneoftwo", "web", 1)
        .label("portolan.routes.good.host", "good.oneoftwo.test")
        .label("portolan.routes.good.service", "web")
        .label("portolan.routes.bad.host", "bad.oneoftwo.test")
        .label("portolan.routes.bad.service", "web")
        .label("portolan.routes.bad.prioritty", "3")
        .label("portolan.port", "8080")
        .start();
    let portolan = Portolan::beside(engine);

    portolan.get_from("https://good.oneoftwo.test/", "oneoftwo-web-1");
    let denied = portolan.get_until("https://bad.oneoftwo.test/", |answer| answer.status == 503);
    assert_eq!(denied.reason(), Some("Invalid"), "{denied:?}");
    portolan.problem("UnknownField", &["oneoftwo-web-1", "portolan.routes.bad.prioritty", "priority"]);
}

#[test]
fn of_two_projects_with_one_host_and_path_the_older_serves() {
    let Some(engine) = Engine::shared() else { return };
    // The newer one's name sorts first: nothing but age speaks for the other.
    let _older = Container::compose(engine, "zz-older", "web", 1).label("portolan.host", "web.conflict.test").start();
    let _newer = Container::compose(engine, "aa-newer", "web", 1).label("portolan.host", "web.conflict.test").start();
    let portolan = Portolan::beside(engine);

    portolan.get_from("https://web.conflict.test/", "zz-older-web-1");
    for _ in 0..5 {
        let answer = portolan.get("https://web.conflict.test/").unwrap();
        assert_eq!(answer.whoami("Name"), Some("zz-older-web-1"));
    }
    let problem = portolan.problem("Conflict", &["zz-older", "aa-newer", "web.conflict.test"]);
    assert_eq!(problem["subject"], "docker/route/aa-newer/web", "{problem:#}");
    assert_eq!(portolan.routes_of("web.conflict.test").len(), 1, "left out means absent from the table");
}

#[test]
fn two_exposed_ports_without_a_label_are_no_guess() {
    let Some(engine) = Engine::shared() else { return };
    let undecided = Container::compose(engine, "ports", "undecided", 1)
        .image("whoami:two")
        .label("portolan.host", "undecided.ports.test")
        .start();
    let _decided = Container::compose(engine, "ports", "decided", 1)
        .image("whoami:two")
        .label("portolan.host", "decided.ports.test")
        .label("portolan.port", "8080")
        .start();
    let portolan = Portolan::beside(engine);

    portolan.get_from("https://decided.ports.test/", "ports-decided-1");
    let denied = portolan.get_until("https://undecided.ports.test/", |answer| answer.status == 503);
    assert!(denied.reason().is_some(), "{denied:?}");
    portolan.problem("AmbiguousPort", &[&undecided.name, "8080", "9090", "portolan.port"]);
}

#[test]
fn a_container_on_no_network_is_answered_503_with_a_diagnostic() {
    let Some(engine) = Engine::shared() else { return };
    let lonely = Container::compose(engine, "lonely", "web", 1)
        .network("none")
        .label("portolan.host", "web.lonely.test")
        .start();
    let portolan = Portolan::beside(engine);

    let answer = portolan.get_until("https://web.lonely.test/", |answer| answer.status == 503);
    assert!(answer.reason().is_some(), "{answer:?}");
    portolan.problem("", &[&lonely.name, "network"]);
}

#[test]
fn a_policy_that_nobody_has_defined_denies_and_keeps_its_host_to_itself() {
    let Some(engine) = Engine::shared() else { return };
    let _holder = Container::compose(engine, "zz-holder", "web", 1)
        .label("portolan.host", "web.policy.test")
        .label("portolan.path", "/secure")
        .label("portolan.mtls", "partners")
        .start();
    let _other = Container::compose(engine, "aa-other", "web", 1)
        .label("portolan.host", "web.policy.test")
        .label("portolan.path", "/public")
        .start();
    let portolan = Portolan::beside(engine);

    let denied = portolan.get_until("https://web.policy.test/secure", |answer| answer.status == 503);
    assert_eq!(denied.reason(), Some("Unresolved"), "{denied:?}");
    portolan.problem("Unresolved", &["zz-holder-web-1", "mtls_policy", "partners"]);

    let problem = portolan.problem("HostProtected", &["aa-other", "zz-holder", "web.policy.test"]);
    assert_eq!(problem["subject"], "docker/route/aa-other/web", "{problem:#}");
    let left_out = portolan.get("https://web.policy.test/public").unwrap();
    assert_eq!(left_out.status, 404, "left out is absent, not denied and never open: {left_out:?}");
}
