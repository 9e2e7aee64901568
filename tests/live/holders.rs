//! Who holds a host keeps it: against whoever wants it too, and for a minute after its last container went.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::container::{Container, Running};
use crate::support::engine::Engine;
use crate::support::http;
use crate::support::portolan::Portolan;
use crate::support::wait::{eventually, throughout};

const HOST: &str = "www.held.test";
const GRACE: Duration = Duration::from_secs(60);

#[test]
fn a_recreated_container_keeps_its_host_and_a_squatter_gets_it_after_a_minute() {
    let Some(engine) = Engine::shared() else { return };
    let portolan = Portolan::beside(engine);
    let start = |project: &str, labels: &[(&str, &str)]| -> Running {
        let container = Container::compose(engine, project, "web", 1).label("portolan.listeners", "plain");
        labels.iter().fold(container, |container, (key, value)| container.label(key, value)).start()
    };
    let ask = || http::get_plain(portolan.plain, HOST, "/");
    let answered_by = |name: &str| match ask() {
        Ok(answer) if answer.whoami("Name") == Some(name) => Ok(()),
        other => Err(other),
    };

    let holder = start("holder", &[("portolan.host", HOST)]);
    eventually("the holder answers", || answered_by(&holder.name));
    let squatter = start("squatter", &[("portolan.host", HOST), ("portolan.priority", "1000")]);
    let wild = start("wild", &[("portolan.host", "*.held.test"), ("portolan.priority", "1000")]);
    // That it answers for what nobody holds proves that it has been seen.
    eventually("the wildcard stands", || match http::get_plain(portolan.plain, "other.held.test", "/") {
        Ok(answer) if answer.whoami("Name") == Some(&wild.name) => Ok(()),
        other => Err(other),
    });
    portolan.problem("Conflict", &["squatter", "holder"]);
    throughout("others take nothing", Duration::from_secs(1), || answered_by(&holder.name));
    wild.remove();

    holder.remove();
    eventually("the holder is gone", || match ask() {
        Ok(answer) if answer.whoami("Name").is_none() => Ok(()),
        other => Err(other),
    });
    let not_the_squatter = || match ask() {
        Ok(answer) if answer.whoami("Name") != Some(&squatter.name) => Ok(()),
        other => Err(other),
    };
    throughout("the host waits for it", Duration::from_secs(2), not_the_squatter);
    let again = start("holder", &[("portolan.host", HOST)]);
    eventually("the recreated one answers", || answered_by(&again.name));
    throughout("younger than the squatter as it is", Duration::from_secs(1), || answered_by(&again.name));

    again.stop();
    let gone = Instant::now();
    // The stop above returned a while after the last endpoint went.
    throughout("for most of a minute nobody else gets it", GRACE - Duration::from_secs(5), not_the_squatter);
    eventually("and then the squatter does", || answered_by(&squatter.name));
    assert!(gone.elapsed() < GRACE + Duration::from_secs(5), "{:?}", gone.elapsed());
    again.start();
    portolan.problem("Conflict", &["squatter", "holder"]);
    sleep(Duration::from_millis(500));
    throughout("and keeps it", Duration::from_secs(1), || answered_by(&squatter.name));
    portolan.stop();
}
