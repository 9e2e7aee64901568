//! `listeners:` of the settings as the listeners that the proxy opens.

use super::bounds;
use super::check::{Review, not_built};
use super::layer::subject;
use super::settings::{ListenerSettings, ProxyProtocol, RedirectSetting};
use crate::model::listener::{ListenAddress, Redirect};
use crate::model::{Kind, Listener, Name};

/// Fills in the verdict's listeners, in the order of their names.
pub(super) fn check(review: &mut Review<'_>) {
    let settings = review.settings;
    let any_tls = settings.listeners.values().any(|listener| listener.tls.is_some());
    let mut taken: Vec<(ListenAddress, String)> =
        vec![(settings.status.address, "status".into()), (settings.admin.address, "admin".into())];
    if settings.status.address.overlaps(&settings.admin.address) {
        review.refuse(&["status", "address"], format!("{} is taken by admin as well", settings.status.address));
    }
    for (name, given) in &settings.listeners {
        let Some(listener) = listener(review, name, given, any_tls) else { continue };
        match taken.iter().find(|(address, _)| address.overlaps(&listener.address)) {
            Some((address, holder)) => {
                let why = format!(
                    "{} is taken by {holder} ({address}); every listener has a port of its own",
                    listener.address
                );
                review.refuse(&["listeners", name, "address"], why);
            }
            None => taken.push((listener.address, format!("listeners.{name}"))),
        }
        review.verdict.listeners.push(listener);
    }
}

fn listener(review: &mut Review<'_>, name: &str, given: &ListenerSettings, any_tls: bool) -> Option<Listener> {
    let ListenerSettings {
        address,
        tls,
        redirect,
        public_port,
        trusted_proxies,
        proxy_protocol,
        underscore_headers,
        limits,
        timeouts,
    } = given;
    let path = |field| ["listeners", name, field];
    let limits = limits.as_ref().map(|given| bounds::limits(review, name, given)).unwrap_or_default();
    let timeouts = timeouts.as_ref().map(|given| bounds::timeouts(review, name, given)).unwrap_or_default();
    if proxy_protocol.is_some_and(|protocol| protocol != ProxyProtocol::Off) {
        let consequence = "every connection would be refused or show the balancer's address";
        review.refuse(&path("proxy_protocol"), not_built(consequence));
    }
    if *public_port == Some(0) {
        review.refuse(&path("public_port"), "0 is no port that a client could use");
    }
    let redirect = redirect.filter(|redirect| *redirect == RedirectSetting::Https).map(|_| Redirect::Https);
    if redirect.is_some() && tls.is_some() {
        let why = "a listener with tls has https already and cannot redirect to it; write redirect: off";
        review.refuse(&path("redirect"), why);
    } else if redirect.is_some() && !any_tls {
        review
            .refuse(&path("redirect"), "no listener has tls, so that there is no https to go to; write redirect: off");
    }
    let Some(address) = *address else {
        review.refuse(&path("address"), "the listener has no address; write one like \":443\" or \"127.0.0.1:8443\"");
        return None;
    };
    Some(Listener {
        id: subject(Kind::Listener, name),
        name: Name::normalised(name),
        origin: review.origin(&path("address")),
        address,
        tls: tls.is_some(),
        redirect,
        public_port: *public_port,
        trusted_proxies: trusted_proxies.clone().unwrap_or_default(),
        underscore_headers: underscore_headers.unwrap_or_default(),
        limits,
        timeouts,
    })
}
