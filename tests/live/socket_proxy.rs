//! The calls that docs/docker.md and docs/swarm.md list are all that Portolan makes, and they are enough.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::announce;
use crate::support::container::Container;
use crate::support::engine::Engine;
use crate::support::port::free_port;
use crate::support::portolan::Portolan;
use crate::support::socket_proxy::SocketProxy;
use crate::support::swarm::Swarm;
use crate::support::wait::eventually;

/// From the table's rows: `| GET /containers/{id}/json | … |`, with the call in back quotes.
fn listed(page: &str) -> BTreeSet<String> {
    let calls = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(call, _)| call));
    calls.filter(|call| call.starts_with("GET /")).map(str::to_string).collect()
}

fn fits(call: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (call.trim_start_matches("GET ").split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == given || (wanted.starts_with('{') && !given.is_empty()) => {}
            _ => return false,
        }
    }
}

#[test]
fn behind_a_socket_proxy_that_allows_the_listed_calls_nothing_is_missing() {
    let Some(engine) = Engine::shared() else { return };
    let calls = listed(include_str!("../../docs/docker.md"));
    assert!(calls.len() > 4, "{calls:?}");
    let allowed = calls.clone();
    let proxy = SocketProxy::before(&engine.socket, move |method, path| {
        method == "GET" && allowed.iter().any(|call| fits(call, path))
    });
    let endpoint = format!("unix://{}", proxy.socket.display());
    let portolan = Portolan::start(json!({ "providers": { "docker": { "endpoint": endpoint } } }));
    // Come and gone by events, off its network and back, and gone for good.
    let network = engine.network("behind-net", &[]);
    let web = Container::compose(engine, "behind", "web", 1)
        .network(&network.name)
        .label("portolan.host", "web.behind.test")
        .start();
    portolan.get_from("https://web.behind.test/", &web.name);
    web.disconnect(&network.name);
    portolan.get_until("https://web.behind.test/", |answer| answer.status == 503);
    web.connect(&network.name);
    portolan.get_from("https://web.behind.test/", &web.name);
    web.remove();
    eventually("the route is gone", || match portolan.routes_of("web.behind.test") {
        routes if routes.is_empty() => Ok(()),
        routes => Err(routes),
    });
    let seen = proxy.calls();
    assert_eq!(seen.refused, Vec::<String>::new());
    // The engine's own version, on every call but the one that asks for it.
    let unversioned: BTreeSet<&String> = seen.allowed.iter().filter(|call| !call.starts_with("GET /v1.")).collect();
    assert_eq!(unversioned.into_iter().collect::<Vec<_>>(), ["GET /version"]);
    let versions: BTreeSet<&str> = seen.allowed.iter().filter_map(|call| call.split('/').nth(1)).collect();
    let version = engine.docker(&["version", "--format", "{{.Server.APIVersion}}"]);
    if version.as_str() < "1.53" {
        assert_eq!(versions, BTreeSet::from(["version", &format!("v{version}")]));
    }
    announce(&format!("{} calls, none refused, in the versions {versions:?}", seen.allowed.len()));
    portolan.stop();
}

#[test]
fn a_manager_behind_a_socket_proxy_needs_the_calls_of_its_own_page() {
    let Some(swarm) = Swarm::alone() else { return };
    let calls = listed(include_str!("../../docs/swarm.md"));
    assert!(calls.len() > 6, "{calls:?}");
    let proxy = SocketProxy::before(&swarm.engine.socket, move |method, path| {
        method == "GET" && calls.iter().any(|call| fits(call, path))
    });
    let endpoint = format!("unix://{}", proxy.socket.display());
    let portolan = Portolan::start(json!({ "providers": { "docker": "off", "swarm": { "endpoints": [endpoint] } } }));
    let publish = format!("mode=host,published={},target=8080", free_port());
    let bundle = ["--label", "portolan.trust_bundles.partners.config=nobodys"];
    let host = ["--label", "portolan.host=guarded.test"];
    let service = swarm.service("guarded", &[&["--publish", &publish], &bundle[..], &host].concat());
    portolan.get_until("https://guarded.test/", |answer| answer.status == 200);
    portolan.problem("Invalid", &["no config", "nobodys"]);
    drop(service);
    eventually("the route is gone", || match portolan.routes_of("guarded.test") {
        routes if routes.is_empty() => Ok(()),
        routes => Err(routes),
    });
    let seen = proxy.calls();
    assert_eq!(seen.refused, Vec::<String>::new());
    announce(&format!("{} calls, none refused", seen.allowed.len()));
    portolan.stop();
}

#[test]
fn a_call_that_is_not_allowed_is_named() {
    let Some(engine) = Engine::shared() else { return };
    let proxy = SocketProxy::before(&engine.socket, |_, path| path != "/networks");
    let endpoint = format!("unix://{}", proxy.socket.display());
    let portolan = Portolan::spawn(json!({ "providers": { "docker": { "endpoint": endpoint } } }));
    eventually("the proxy answers", || match portolan.ready() {
        Err(said) if said.starts_with("503") => Ok(()),
        other => Err(other),
    });
    portolan.problem("ProviderUnavailable", &["does not allow GET /networks", "socket proxy"]);
    assert!(portolan.ready().is_err(), "it has never answered");
}
