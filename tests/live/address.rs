//! At which address a container is asked. On the engine's host the peer that a container sees is the host's own address
//! on the network that was used: it tells the choice.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::announce;
use crate::support::contained::Contained;
use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::http::Answer;
use crate::support::port::free_port;
use crate::support::portolan::Portolan;

/// As a dual-stack socket shows it to the container: an IPv4 peer may be written as IPv6.
fn peer(answer: &Answer) -> String {
    let address: SocketAddr = answer.whoami("RemoteAddr").unwrap().parse().unwrap();
    address.ip().to_canonical().to_string()
}

#[test]
fn the_label_names_a_network_exactly_or_without_the_projects_prefix() {
    let Some(engine) = Engine::shared() else { return };
    // Sorted before the others, so that it would be the choice without a label.
    let first = engine.network("aa-label", &[]);
    let exact = engine.network("label-exact", &[]);
    let prefixed = engine.network("label_web", &[]);
    let started: Vec<_> = [("exact", Some("label-exact")), ("short", Some("web")), ("none", None)]
        .into_iter()
        .map(|(service, label)| {
            let container = Container::compose(engine, "label", service, 1)
                .network(&first.name)
                .label("portolan.host", &format!("{service}.label.test"));
            let running = match label {
                Some(network) => container.label("portolan.network", network),
                None => container,
            }
            .start();
            running.connect(&exact.name);
            running.connect(&prefixed.name);
            running
        })
        .collect();
    let portolan = Portolan::beside(engine);

    for (running, network) in started.iter().zip([&exact, &prefixed, &first]) {
        let service = running.name.split('-').nth(1).unwrap();
        let answer = portolan.get_from(&format!("https://{service}.label.test/"), &running.name);
        assert_eq!(peer(&answer), network.gateway(), "{service} by {}: {}", network.name, answer.body);
    }
}

#[test]
fn a_label_that_names_a_network_the_container_is_not_on_is_no_guess() {
    let Some(engine) = Engine::shared() else { return };
    let astray = Container::compose(engine, "astray", "web", 1)
        .label("portolan.host", "web.astray.test")
        .label("portolan.network", "nowhere")
        .start();
    let portolan = Portolan::beside(engine);

    let answer = portolan.get_until("https://web.astray.test/", |answer| answer.status == 503);
    assert!(answer.reason().is_some(), "{answer:?}");
    portolan.problem("", &[&astray.name, "nowhere"]);
}

#[test]
fn without_a_label_a_network_that_leads_out_comes_before_an_internal_one() {
    let Some(engine) = Engine::shared() else { return };
    let internal = engine.network("aa-internal", &["--internal"]);
    let open = engine.network("zz-open", &[]);
    let web = Container::compose(engine, "open", "web", 1)
        .network(&internal.name)
        .label("portolan.host", "web.open.test")
        .start();
    web.connect(&open.name);
    let portolan = Portolan::beside(engine);

    let answer = portolan.get_from("https://web.open.test/", &web.name);
    assert_eq!(peer(&answer), open.gateway(), "{}", answer.body);
}

#[test]
fn the_settings_network_goes_for_containers_without_a_label() {
    let Some(engine) = Engine::shared() else { return };
    let first = engine.network("aa-settings", &[]);
    let chosen = engine.network("zz-settings", &[]);
    let web = Container::compose(engine, "settings", "web", 1)
        .network(&first.name)
        .label("portolan.host", "web.settings.test")
        .start();
    web.connect(&chosen.name);
    let endpoint = format!("unix://{}", engine.socket.display());
    let portolan =
        Portolan::start(json!({ "providers": { "docker": { "endpoint": endpoint, "network": "zz-settings" } } }));

    let answer = portolan.get_from("https://web.settings.test/", &web.name);
    assert_eq!(peer(&answer), chosen.gateway(), "{}", answer.body);
}

#[test]
fn in_a_container_only_its_own_networks_are_shared() {
    let Some(engine) = Engine::shared() else { return };
    let shared = engine.network("zz-shared", &[]);
    let foreign = engine.network("aa-foreign", &[]);
    let both = Container::compose(engine, "sharing", "both", 1)
        .network(&foreign.name)
        .label("portolan.host", "both.sharing.test")
        .start();
    both.connect(&shared.name);
    let apart = Container::compose(engine, "sharing", "apart", 1)
        .network(&foreign.name)
        .label("portolan.host", "apart.sharing.test")
        .start();
    let portolan = Contained::start(engine, "sharing-portolan", &[&shared.name]);

    let answer = portolan.get_from("https://both.sharing.test/", &both.name);
    assert_eq!(peer(&answer), portolan.container.address(&shared.name).to_string(), "{}", answer.body);

    let unreachable = portolan.get_until("https://apart.sharing.test/", |answer| answer.status == 503);
    assert!(unreachable.reason().is_some(), "{unreachable:?}");
    let named = |problem: &serde_json::Value| {
        let text = problem.to_string();
        text.contains(&apart.name) && text.contains("network")
    };
    let problems = portolan.problems();
    assert!(problems.iter().any(named), "{problems:#?}");
    portolan.stop();
}

#[test]
fn a_container_in_host_mode_is_asked_on_the_host() {
    let Some(engine) = Engine::shared() else { return };
    let port = free_port();
    let web = Container::compose(engine, "hostmode", "web", 1)
        .network("host")
        .listen(&format!(":{port}"))
        .label("portolan.host", "web.hostmode.test")
        .label("portolan.port", &port.to_string())
        .start();

    let portolan = Portolan::beside(engine);
    let answer = portolan.get_from("https://web.hostmode.test/", &web.name);
    assert_eq!(peer(&answer), "127.0.0.1", "{}", answer.body);

    let contained = Contained::start(engine, "hostmode-portolan", &["bridge"]);
    let answer = contained.get_from("https://web.hostmode.test/", &web.name);
    assert_eq!(peer(&answer), contained.container.address("bridge").to_string(), "{}", answer.body);
}

#[test]
fn a_container_in_another_ones_network_is_asked_at_that_ones_address() {
    let Some(engine) = Engine::shared() else { return };
    let network = engine.network("within", &[]);
    let owner = Container::named(engine, "within-owner").network(&network.name).start();
    let guest = Container::compose(engine, "within", "guest", 1)
        .network(&format!("container:{}", owner.id))
        .listen(":8081")
        .label("portolan.host", "guest.within.test")
        .label("portolan.port", "8081")
        .start();
    let portolan = Portolan::beside(engine);

    let answer = portolan.get_from("https://guest.within.test/", &guest.name);
    assert_eq!(peer(&answer), network.gateway(), "{}", answer.body);
}

#[test]
fn of_a_remote_engine_only_published_ports_are_asked() {
    let Some(engine) = Engine::shared() else { return };
    let port = free_port();
    let published = Container::compose(engine, "remote", "published", 1)
        .option("--publish", &format!("{port}:8080"))
        .label("portolan.host", "published.remote.test")
        .start();
    let inside = Container::compose(engine, "remote", "inside", 1).label("portolan.host", "inside.remote.test").start();
    let portolan = Portolan::over_tcp(engine);

    portolan.get_from("https://published.remote.test/", &published.name);
    // Its bridge address would answer here; a proxy that is truly remote could not reach it.
    let answer = portolan.get_until("https://inside.remote.test/", |answer| answer.status == 503);
    assert!(answer.reason().is_some(), "{answer:?}");
    portolan.problem("", &[&inside.name, "publish"]);
}

#[test]
fn a_network_with_both_families_serves() {
    let Some(engine) = Engine::shared() else { return };
    let dual = engine.network("dual", &["--ipv6", "--subnet", "fd00:706f:7274::/64", "--gateway", "fd00:706f:7274::1"]);
    let web = Container::compose(engine, "dual", "web", 1)
        .network(&dual.name)
        .label("portolan.host", "web.dual.test")
        .start();
    let portolan = Portolan::beside(engine);

    let answer = portolan.get_from("https://web.dual.test/", &web.name);
    assert!([dual.gateway().as_str(), "fd00:706f:7274::1"].contains(&peer(&answer).as_str()), "{}", answer.body);
}

#[test]
fn a_network_without_ipv4_serves_by_ipv6() {
    let Some(engine) = Engine::shared() else { return };
    let left_out = |why: &str| announce(&format!("LEFT OUT: this engine makes no network without IPv4: {why}"));
    let six = match engine.try_network("six", &["--ipv4=false", "--ipv6", "--subnet", "fd00:706f:7275::/64"]) {
        Ok(six) => six,
        Err(why) => return left_out(&why),
    };
    let web =
        Container::compose(engine, "six", "web", 1).network(&six.name).label("portolan.host", "web.six.test").start();
    // Engines before 28 pass over what they do not know, and give the network both families.
    let four = web.inspect("{{.NetworkSettings.Networks.six.IPAddress}}");
    if !four.is_empty() && !four.contains("invalid") {
        return left_out(&format!("it gave {four}"));
    }
    let portolan = Portolan::beside(engine);

    let answer = portolan.get_from("https://web.six.test/", &web.name);
    assert!(peer(&answer).starts_with("fd00:706f:7275:"), "{}", answer.body);
}

#[test]
fn a_label_cannot_send_requests_to_an_address_of_its_choice() {
    let Some(engine) = Engine::shared() else { return };
    let target = Container::named(engine, "operatoronly-target").start();
    let bait = Container::compose(engine, "operatoronly", "bait", 1)
        .label("portolan.routes.bait.host", "bait.operatoronly.test")
        .label("portolan.routes.bait.service", "elsewhere")
        .label("portolan.services.elsewhere.endpoints", &format!("http://{}:8080", target.address("bridge")))
        .start();
    let portolan = Portolan::beside(engine);

    portolan.get_until("https://bait.operatoronly.test/", |answer| answer.status == 503);
    let problem = portolan.problem("OperatorOnly", &[&bait.name, "portolan.services.elsewhere.endpoints"]);
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem:#}");
}
