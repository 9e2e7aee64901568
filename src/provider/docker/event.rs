//! What an engine's event tells, in our own words.
//!
//! `EventMessage ─read─▶ Event`

use bollard::models::{EventMessage, EventMessageTypeEnum};

use super::signal::Signal;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It changes nothing that we say. Health checks run through `exec_*` events all day long.
    Irrelevant,
    /// Something may have changed: a list tells.
    Hint,
    Container {
        id: String,
        change: Change,
    },
    /// A network, by name, is no more.
    NetworkGone(String),
}

/// What an event tells by itself, before any list does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Started,
    Signalled(Signal),
    Died,
    Paused,
    Unpaused,
    Healthy,
    Unhealthy,
    /// Networks by name.
    Connected(String),
    Disconnected(String),
}

impl Event {
    pub fn read(message: &EventMessage) -> Event {
        let actor = message.actor.as_ref();
        let attribute = |key: &str| actor?.attributes.as_ref()?.get(key).filter(|value| !value.is_empty()).cloned();
        let id = actor.and_then(|actor| actor.id.clone()).filter(|id| !id.is_empty());
        // An event that leaves out what it is about still tells that something happened.
        let told = |id: Option<String>, change: Option<Change>| match (id, change) {
            (Some(id), Some(change)) => Event::Container { id, change },
            _ => Event::Hint,
        };
        let action = message.action.as_deref().unwrap_or_default();
        match (message.typ, action) {
            (Some(EventMessageTypeEnum::CONTAINER), action) => match action {
                "start" => told(id, Some(Change::Started)),
                "kill" => told(id, attribute("signal").and_then(|signal| signal.parse().ok()).map(Change::Signalled)),
                "die" | "destroy" => told(id, Some(Change::Died)),
                "pause" => told(id, Some(Change::Paused)),
                "unpause" => told(id, Some(Change::Unpaused)),
                "health_status: healthy" => told(id, Some(Change::Healthy)),
                "health_status: unhealthy" => told(id, Some(Change::Unhealthy)),
                // `stop` comes some time after `die`, and perhaps after the next `start`; `oom` may have hit a child
                // process alone.
                "create" | "restart" | "stop" | "oom" | "rename" | "update" => Event::Hint,
                action if action.starts_with("health_status") => Event::Hint,
                _ => Event::Irrelevant,
            },
            (Some(EventMessageTypeEnum::NETWORK), action) => match action {
                "connect" => told(attribute("container"), attribute("name").map(Change::Connected)),
                "disconnect" => told(attribute("container"), attribute("name").map(Change::Disconnected)),
                "destroy" | "remove" => attribute("name").map_or(Event::Hint, Event::NetworkGone),
                "create" => Event::Hint,
                _ => Event::Irrelevant,
            },
            _ => Event::Irrelevant,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::EventActor;

    use super::*;

    fn message(typ: EventMessageTypeEnum, action: &str, id: &str, attributes: &[(&str, &str)]) -> EventMessage {
        let attributes: HashMap<String, String> =
            attributes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let actor = EventActor { id: Some(id.into()), attributes: Some(attributes) };
        EventMessage { typ: Some(typ), action: Some(action.into()), actor: Some(actor), ..EventMessage::default() }
    }

    fn container(action: &str, attributes: &[(&str, &str)]) -> Event {
        Event::read(&message(EventMessageTypeEnum::CONTAINER, action, "c", attributes))
    }

    fn network(action: &str, attributes: &[(&str, &str)]) -> Event {
        Event::read(&message(EventMessageTypeEnum::NETWORK, action, "n", attributes))
    }

    fn told(change: Change) -> Event {
        Event::Container { id: "c".into(), change }
    }

    #[test]
    fn what_a_container_event_tells() {
        assert_eq!(container("start", &[]), told(Change::Started));
        assert_eq!(container("kill", &[("signal", "3")]), told(Change::Signalled(Signal::QUIT)));
        assert_eq!(container("kill", &[("signal", "SIGTERM")]), told(Change::Signalled(Signal::TERM)));
        assert_eq!(container("die", &[("exitCode", "137")]), told(Change::Died));
        assert_eq!(container("destroy", &[]), told(Change::Died));
        assert_eq!(container("pause", &[]), told(Change::Paused));
        assert_eq!(container("unpause", &[]), told(Change::Unpaused));
        assert_eq!(container("health_status: healthy", &[]), told(Change::Healthy));
        assert_eq!(container("health_status: unhealthy", &[]), told(Change::Unhealthy));
        for action in ["create", "restart", "stop", "oom", "rename", "update", "health_status: running"] {
            assert_eq!(container(action, &[]), Event::Hint, "{action}");
        }
        for action in ["exec_create: /bin/sh -c true", "exec_die", "top", "attach", "resize"] {
            assert_eq!(container(action, &[]), Event::Irrelevant, "{action}");
        }
    }

    #[test]
    fn what_a_network_event_tells() {
        let about = [("container", "c"), ("name", "shop_default"), ("type", "bridge")];
        assert_eq!(network("connect", &about), told(Change::Connected("shop_default".into())));
        assert_eq!(network("disconnect", &about), told(Change::Disconnected("shop_default".into())));
        assert_eq!(network("destroy", &about[1..]), Event::NetworkGone("shop_default".into()));
        assert_eq!(network("create", &about[1..]), Event::Hint);
        assert_eq!(network("reload", &about[1..]), Event::Irrelevant);
        assert_eq!(Event::read(&message(EventMessageTypeEnum::IMAGE, "pull", "i", &[])), Event::Irrelevant);
    }

    #[test]
    fn an_event_that_leaves_out_what_it_is_about_asks_for_a_list() {
        assert_eq!(container("kill", &[]), Event::Hint);
        assert_eq!(container("kill", &[("signal", "?")]), Event::Hint);
        assert_eq!(network("disconnect", &[("name", "shop_default")]), Event::Hint);
        assert_eq!(network("destroy", &[]), Event::Hint);
        let bare = EventMessage {
            typ: Some(EventMessageTypeEnum::CONTAINER),
            action: Some("die".into()),
            ..EventMessage::default()
        };
        assert_eq!(Event::read(&bare), Event::Hint);
    }
}
