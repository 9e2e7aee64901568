//! What an engine listed last, and what it has told since: together what is.
//!
//! ```text
//! list ──take──▶ Picture ──publish──▶ translate ─▶ board
//! event ──hear─▶    │
//!                   └─▶ is_due, wake: when to list again
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::EventMessage;
use tokio::time::Instant;

use crate::config::settings::DockerSettings;
use crate::provider::SnapshotSink;

use super::departures::Departures;
use super::event::{Change, Event};
use super::list::Listing;
use super::objects::{Container, Surroundings};
use super::rhythm::{Occasion, Rhythm};
use super::translate::translate;

/// How much later than a list the event of what it shows may come.
const EVENT: Duration = Duration::from_secs(2);

pub struct Picture {
    /// Portolan's own container on it.
    pub own: Option<String>,
    remote: Option<IpAddr>,
    listed: Option<Listing>,
    departures: Departures,
    rhythm: Rhythm,
    /// The list under way is one that no event asked for.
    unasked: bool,
    /// So was the one before, and no event came in between: that list was not behind an event.
    settled: bool,
    /// Such a list has shown something new: until when an event may still tell of it.
    untold: Option<Instant>,
}

impl Picture {
    pub fn empty(own: Option<String>, remote: Option<IpAddr>) -> Picture {
        let rhythm = Rhythm::start(Instant::now());
        let departures = Departures::default();
        Picture { own, remote, listed: None, departures, rhythm, unasked: false, settled: false, untold: None }
    }

    pub fn hear(&mut self, event: &EventMessage, now: Instant) {
        match Event::read(event) {
            Event::Irrelevant => return,
            Event::Hint => {}
            Event::Container { id, change } => self.departures.hear(&id, &change, now),
            Event::NetworkGone(name) => {
                let listed = self.listed.iter().flat_map(|listed| &listed.containers);
                for container in listed.filter(|container| container.networks.contains_key(&name)) {
                    self.departures.hear(&container.id, &Change::Disconnected(name.clone()), now);
                }
            }
        }
        self.rhythm.hear(now);
        (self.untold, self.unasked, self.settled) = (None, false, false);
    }

    /// A list begins.
    pub fn begin(&mut self, now: Instant) {
        self.unasked = self.rhythm.begin(now) == Occasion::Safety;
    }

    /// What the list that began at `began` answered.
    pub fn take(&mut self, listing: Listing, began: Instant) {
        self.departures.settle(&listing.containers, began);
        let changed = self.listed.as_ref().is_some_and(|before| lives(before) != lives(&listing));
        if changed && self.unasked && self.settled {
            // Its event may be on its way.
            self.untold = Some(Instant::now() + EVENT);
        }
        self.settled = self.unasked;
        if listing.incomplete {
            self.rhythm.again(began);
        }
        self.listed = Some(listing);
    }

    /// Whether a list has shown what an event should have told of, and none has come.
    pub fn is_deaf(&self, now: Instant) -> bool {
        self.untold.is_some_and(|until| until <= now)
    }

    fn containers(&self) -> &[Container] {
        self.listed.as_ref().map_or(&[], |listed| &listed.containers)
    }

    /// Puts on the board what is known by now; nothing before the first list.
    pub fn publish(&self, settings: &DockerSettings, out: &SnapshotSink) {
        let Some(Listing { containers, networks, .. }) = &self.listed else { return };
        let mut containers = containers.clone();
        self.departures.lay_over(&mut containers, Instant::now());
        let around = Surroundings::seen(self.own.as_deref(), &containers, networks.clone(), self.remote);
        out.live(translate(&containers, &around, settings));
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.rhythm.is_due(now) || self.wake() <= now
    }

    pub fn wake(&self) -> Instant {
        let lapse = self.departures.wake(self.containers());
        lapse.into_iter().chain(self.untold).fold(self.rhythm.wake(), Instant::min)
    }
}

/// What no engine changes without an event: which containers there are, and which of them run.
fn lives(listing: &Listing) -> BTreeMap<&str, bool> {
    listing.containers.iter().map(|container| (container.id.as_str(), container.state.has_process())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use bollard::models::{EventActor, EventMessageTypeEnum};
    use tokio::sync::watch;

    use super::super::objects::{Attachment, Network, State};
    use super::*;
    use crate::model::{self, Phase};
    use crate::provider::Board;

    /// Two containers of one service on the network `net`.
    fn listing() -> Listing {
        let container = |n: u8| Container {
            id: format!("id-{n}"),
            name: format!("web-{n}"),
            state: State::Running,
            labels: BTreeMap::from([("portolan.host".to_string(), format!("web-{n}.test"))]),
            networks: BTreeMap::from([(
                "net".to_string(),
                Attachment { ipv4: Some([172, 18, 0, n].into()), ..Attachment::default() },
            )]),
            exposed: [8080].into(),
            ..Container::default()
        };
        let network =
            Network { name: "net".into(), driver: "bridge".into(), scope: "local".into(), ..Network::default() };
        Listing { containers: vec![container(1), container(2)], networks: vec![network], incomplete: false }
    }

    fn event(typ: EventMessageTypeEnum, action: &str, id: &str, attributes: &[(&str, &str)]) -> EventMessage {
        let attributes: HashMap<String, String> =
            attributes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let actor = EventActor { id: Some(id.into()), attributes: Some(attributes) };
        EventMessage { typ: Some(typ), action: Some(action.into()), actor: Some(actor), ..EventMessage::default() }
    }

    struct Following {
        picture: Picture,
        board: watch::Receiver<Board>,
        out: SnapshotSink,
    }

    impl Following {
        fn start() -> Following {
            let (board, seen) = watch::channel(Board::default());
            let out = SnapshotSink::open(model::Provider::Docker, Arc::new(board));
            let mut picture = Picture::empty(None, None);
            picture.rhythm.begin(Instant::now());
            Following { picture, board: seen, out }
        }

        fn hear(&mut self, event: EventMessage) {
            self.picture.hear(&event, Instant::now());
            self.picture.publish(&DockerSettings::default(), &self.out);
        }

        fn list(&mut self, began: Instant) {
            self.picture.take(listing(), began);
            self.picture.publish(&DockerSettings::default(), &self.out);
        }

        /// The phase of each container's endpoint, as the board has it.
        fn phases(&self) -> Vec<Option<Phase>> {
            let board = self.board.borrow();
            let snapshot = board[&model::Provider::Docker].snapshot().expect("something was said").clone();
            snapshot.services.iter().map(|service| service.endpoints.first().map(|endpoint| endpoint.phase)).collect()
        }
    }

    #[test]
    fn what_leaves_by_an_event_leaves_without_a_list() {
        use EventMessageTypeEnum::{CONTAINER, NETWORK};
        let before = Instant::now();
        let mut following = Following::start();
        following.hear(event(CONTAINER, "kill", "id-1", &[("signal", "15")]));
        assert!(following.board.borrow()[&model::Provider::Docker].snapshot().is_none(), "nothing was listed yet");
        following.list(before);
        assert_eq!(following.phases(), [Some(Phase::Draining), Some(Phase::Ready)], "the list was under way");
        following.hear(event(CONTAINER, "die", "id-1", &[]));
        assert_eq!(following.phases(), [None, Some(Phase::Ready)]);
        assert!(following.picture.is_due(Instant::now()), "and a list is asked for");
        following.hear(event(CONTAINER, "health_status: unhealthy", "id-2", &[]));
        assert_eq!(following.phases(), [None, Some(Phase::Unhealthy)]);
        following.hear(event(NETWORK, "destroy", "n", &[("name", "net")]));
        assert_eq!(following.phases(), [None, None]);
        following.list(before);
        assert_eq!(following.phases(), [None, None], "a list from before all that changes nothing");
    }

    #[test]
    fn a_list_that_shows_what_no_event_told_of_means_that_none_comes() {
        let start = Instant::now();
        let later = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let few = || Listing { containers: listing().containers.split_off(1), ..listing() };
        let mut following = Following::start();
        let list = |following: &mut Following, minutes: u64, listing: Listing| {
            following.picture.begin(later(minutes));
            following.picture.take(listing, later(minutes));
        };
        list(&mut following, 1, listing());
        list(&mut following, 2, listing());
        following.hear(event(EventMessageTypeEnum::CONTAINER, "destroy", "id-1", &[]));
        list(&mut following, 3, few());
        list(&mut following, 4, listing());
        assert!(!following.picture.is_deaf(later(9)), "the list before may have been behind that event");
        list(&mut following, 5, listing());
        assert!(!following.picture.is_deaf(later(9)), "nothing new");
        list(&mut following, 6, few());
        assert!(!following.picture.is_deaf(Instant::now()), "the event may be on its way");
        assert!(following.picture.is_deaf(Instant::now() + EVENT));
        assert!(following.picture.wake() <= Instant::now() + EVENT);
        following.hear(event(EventMessageTypeEnum::CONTAINER, "destroy", "id-1", &[]));
        assert!(!following.picture.is_deaf(later(9)), "it came");
    }

    #[test]
    fn the_loop_wakes_when_a_departure_lapses() {
        let mut following = Following::start();
        following.list(Instant::now());
        let began = Instant::now() + Duration::from_secs(1);
        following.picture.rhythm.begin(began);
        let quiet = following.picture.wake();
        following.hear(event(EventMessageTypeEnum::CONTAINER, "pause", "id-1", &[]));
        following.picture.rhythm.begin(began);
        let wake = following.picture.wake();
        assert!(wake < quiet && following.picture.is_due(wake), "{:?}", quiet - wake);
    }
}
