//! Endpoints by name where the name is an engine's: its embedded DNS, asked from a container of its own.

use serde_json::json;

use crate::support::contained::Contained;
use crate::support::container::{Container, Running};
use crate::support::engine::Engine;
use crate::support::http::get_plain;
use crate::support::wait::eventually;

/// Who answers, of the next few.
fn who(portolan: &Contained) -> Vec<String> {
    let mut names: Vec<String> = (0..6)
        .map(|_| match get_plain(portolan.plain(), "pots.test", "/") {
            Ok(answer) if answer.status == 200 => answer.whoami("Name").unwrap_or("?").to_string(),
            Ok(answer) => format!("{} {:?}", answer.status, answer.reason()),
            Err(error) => error.to_string(),
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn until_who(portolan: &Contained, expected: &[&str]) {
    eventually(&format!("answers from {expected:?}"), || match who(portolan) {
        names if names == expected => Ok(()),
        names => Err((names, portolan.problems())),
    });
}

#[test]
fn an_alias_on_a_network_leads_to_all_containers_that_have_it() {
    let Some(engine) = Engine::shared() else { return };
    let network = engine.network("names-net", &[]);
    let pot = |name: &str| -> Running {
        Container::named(engine, name).network(&network.name).option("--network-alias", "pots").start()
    };
    let one = pot("names-one");
    let portolan = Contained::with(
        engine,
        "names-portolan",
        &[&network.name],
        json!({
            "routes": { "pots": { "host": "pots.test", "listeners": ["plain"], "service": "pots" } },
            "services": { "pots": { "endpoints": ["http://pots:8080"] } },
        }),
    );
    until_who(&portolan, &["names-one"]);
    let two = pot("names-two");
    until_who(&portolan, &["names-one", "names-two"]);
    one.remove();
    until_who(&portolan, &["names-two"]);
    // Recreated elsewhere: the name has been unknown for a moment.
    two.remove();
    let _filler = Container::named(engine, "names-filler").network(&network.name).start();
    let _three = pot("names-three");
    until_who(&portolan, &["names-three"]);
    portolan.stop();
}
