//! Departures as the engine tells them, laid over what it listed: they bite at once, however long a list takes.
//!
//! ```text
//! event ─hear─▶ Departures ─lay_over─▶ the containers as they are now ─▶ translate
//! list ─settle─┘
//!
//! told to stop ─▶ until it died or started, a list says that it does not run, or 30 s after its stop timeout
//! died, paused, unhealthy, off a network ─▶ until a list agrees, or one that began after the contrary event answers
//! ```
//! Only departures: what comes (back) comes by the list, which alone knows the address. Engines list a state that is
//! behind their own events (20.10 says `die` before it takes the container's networks away, and lists it as running
//! until that is done), so a list that disagrees is believed only when it began [`HOLD`] after the event. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::event::Change;
use super::objects::{Container, Health, State};
use super::signal::Signal;

/// Longer than any engine is behind, and short enough for an event that was lost (an engine drops those that nobody
/// reads in time).
const HOLD: Duration = Duration::from_secs(10);
/// What a container has beyond its stop timeout before it counts as one that was not told to stop after all.
const BEYOND_STOP: Duration = Duration::from_secs(30);
/// The engine's own default for `Config.StopTimeout`.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// By container id.
#[derive(Debug, Default)]
pub struct Departures {
    marks: BTreeMap<String, Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    /// What it was sent, and when last. Which of them end it is known once it has been listed.
    signals: BTreeMap<Signal, Instant>,
    died: Option<Mark>,
    paused: Option<Mark>,
    unhealthy: Option<Mark>,
    /// By network.
    disconnected: BTreeMap<String, Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    told: Instant,
    /// The contrary was told: the next list decides. Nothing that was listed before does: a container that was started
    /// again may have another address, and its old one another container.
    taken_back: Option<Instant>,
}

impl Mark {
    fn at(now: Instant) -> Mark {
        Mark { told: now, taken_back: None }
    }

    /// Whether it stands after a list that began at `began` and says the same, or not.
    fn outlives(&self, began: Instant, agrees: bool) -> bool {
        let answered = match self.taken_back {
            Some(taken_back) => began >= taken_back,
            None => began >= self.told && agrees,
        };
        !answered && began < self.told + HOLD
    }
}

impl Departures {
    pub fn hear(&mut self, id: &str, change: &Change, now: Instant) {
        let marks = self.marks.entry(id.to_string()).or_default();
        let take_back = |mark: &mut Mark| mark.taken_back = Some(now);
        match change {
            Change::Signalled(signal) => {
                marks.signals.insert(*signal, now);
            }
            Change::Died => {
                let disconnected = std::mem::take(&mut marks.disconnected);
                *marks = Marks { died: Some(Mark::at(now)), disconnected, ..Marks::default() };
            }
            Change::Started => {
                marks.signals.clear();
                let single = [&mut marks.died, &mut marks.paused, &mut marks.unhealthy];
                single.into_iter().flatten().chain(marks.disconnected.values_mut()).for_each(take_back);
            }
            Change::Paused => marks.paused = Some(Mark::at(now)),
            Change::Unpaused => marks.paused.iter_mut().for_each(take_back),
            Change::Unhealthy => marks.unhealthy = Some(Mark::at(now)),
            Change::Healthy => marks.unhealthy.iter_mut().for_each(take_back),
            Change::Disconnected(network) => {
                marks.disconnected.insert(network.clone(), Mark::at(now));
            }
            Change::Connected(network) => marks.disconnected.get_mut(network).into_iter().for_each(take_back),
        }
        self.forget_the_empty();
    }

    /// A list that began at `began` has answered.
    pub fn settle(&mut self, listed: &[Container], began: Instant) {
        let listed: BTreeMap<&str, &Container> = listed.iter().map(|one| (one.id.as_str(), one)).collect();
        for (id, marks) in &mut self.marks {
            let container = listed.get(id.as_str()).copied();
            let lives = container.is_some_and(|container| container.state.has_process());
            let runs = container.is_some_and(|container| container.state == State::Running);
            let unhealthy = container.is_some_and(|container| container.health == Health::Unhealthy);
            // A container that is not listed is gone, or so new that the list does not know it.
            let known = container.is_some();
            marks.signals.retain(|signal, told| match container {
                Some(container) if lives => is_stopping(container, *signal, *told, began),
                Some(_) => began < *told,
                None => began < *told + HOLD,
            });
            let keep = |mark: Option<Mark>, agrees: bool| mark.filter(|mark| mark.outlives(began, known && agrees));
            marks.died = keep(marks.died, !lives);
            marks.paused = keep(marks.paused, !runs);
            marks.unhealthy = keep(marks.unhealthy, unhealthy || !runs);
            marks.disconnected.retain(|network, mark| {
                let address = container.and_then(|one| one.networks.get(network)).and_then(|on| on.address());
                mark.outlives(began, known && address.is_none())
            });
        }
        self.forget_the_empty();
    }

    /// Changes what was listed into what is known by now.
    pub fn lay_over(&self, listed: &mut [Container], now: Instant) {
        for container in listed {
            let Some(marks) = self.marks.get(&container.id) else { continue };
            if marks.died.is_some() && container.state.has_process() {
                container.state = State::Exited;
            }
            if marks.paused.is_some() && container.state == State::Running {
                container.state = State::Paused;
            }
            if marks.unhealthy.is_some() {
                container.health = Health::Unhealthy;
            }
            container.networks.retain(|network, _| !marks.disconnected.contains_key(network));
            let mut signals = marks.signals.iter();
            container.stopping |= signals.any(|(signal, told)| is_stopping(container, *signal, *told, now));
        }
    }

    /// When something lapses by itself, and a list is due.
    pub fn wake(&self, listed: &[Container]) -> Option<Instant> {
        let listed: BTreeMap<&str, &Container> = listed.iter().map(|one| (one.id.as_str(), one)).collect();
        let each = self.marks.iter().flat_map(|(id, marks)| {
            let container = listed.get(id.as_str()).copied();
            let signals = marks.signals.iter().filter_map(move |(signal, told)| match container {
                Some(container) => stops_until(container, *signal, *told),
                None => Some(*told + HOLD),
            });
            let single = [marks.died, marks.paused, marks.unhealthy].into_iter().flatten();
            signals.chain(single.chain(marks.disconnected.values().copied()).map(|mark| mark.told + HOLD))
        });
        each.min()
    }

    fn forget_the_empty(&mut self) {
        self.marks.retain(|_, marks| {
            let Marks { signals, died, paused, unhealthy, disconnected } = marks;
            let single = [died, paused, unhealthy];
            !signals.is_empty() || !disconnected.is_empty() || single.iter().any(|mark| mark.is_some())
        });
    }
}

fn is_stopping(container: &Container, signal: Signal, told: Instant, now: Instant) -> bool {
    let without_end = container.stop_timeout.is_some_and(|seconds| seconds < 0);
    ends(container, signal) && (without_end || stops_until(container, signal, told).is_some_and(|until| now < until))
}

/// Until when a signal counts as the beginning of its end. `None`: never, or without end.
fn stops_until(container: &Container, signal: Signal, told: Instant) -> Option<Instant> {
    let timeout = match container.stop_timeout {
        None => STOP_TIMEOUT,
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).ok()?),
    };
    // A timeout beyond what a clock can hold is as good as none.
    ends(container, signal).then(|| told.checked_add(timeout)?.checked_add(BEYOND_STOP)).flatten()
}

/// Whether a signal ends a container, as opposed to a reload (HUP, mostly).
fn ends(container: &Container, signal: Signal) -> bool {
    [Signal::TERM, Signal::INT, Signal::QUIT, Signal::KILL].contains(&signal) || container.stop_signal == Some(signal)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::objects::Attachment;
    use super::*;

    /// What each list of the engine says of one container, and what is made of it.
    struct Engine {
        departures: Departures,
        listed: Container,
        start: Instant,
    }

    impl Engine {
        /// Runs on the network `net`.
        fn new() -> Engine {
            let attachment = Attachment { ipv4: Some([172, 18, 0, 2].into()), ..Attachment::default() };
            let listed = Container {
                id: "c".into(),
                state: State::Running,
                networks: BTreeMap::from([("net".into(), attachment)]),
                ..Container::default()
            };
            Engine { departures: Departures::default(), listed, start: Instant::now() }
        }

        fn at(&self, milliseconds: u64) -> Instant {
            self.start + Duration::from_millis(milliseconds)
        }

        fn hear(&mut self, milliseconds: u64, change: Change) {
            let now = self.at(milliseconds);
            self.departures.hear("c", &change, now);
        }

        fn signal(&mut self, milliseconds: u64, signal: &str) {
            self.hear(milliseconds, Change::Signalled(signal.parse().unwrap()));
        }

        /// The answer of a list that began then.
        fn list(&mut self, began: u64) {
            let began = self.at(began);
            self.departures.settle(std::slice::from_ref(&self.listed), began);
        }

        fn seen(&self, milliseconds: u64) -> Container {
            let mut seen = [self.listed.clone()];
            self.departures.lay_over(&mut seen, self.at(milliseconds));
            let [seen] = seen;
            seen
        }

        fn state(&self, milliseconds: u64) -> State {
            self.seen(milliseconds).state
        }

        fn stops(&self, milliseconds: u64) -> bool {
            self.seen(milliseconds).stopping
        }

        fn wake(&self) -> Option<Duration> {
            self.departures.wake(std::slice::from_ref(&self.listed)).map(|wake| wake - self.start)
        }

        fn remembers_nothing(&self) -> bool {
            self.departures.marks.is_empty()
        }
    }

    #[test]
    fn a_container_told_to_stop_drains_until_it_died() {
        let mut engine = Engine::new();
        engine.signal(0, "15");
        assert!(engine.stops(0), "before any list");
        engine.list(50);
        assert!(engine.stops(60), "the list says that it runs, which is true");
        engine.hear(100, Change::Died);
        let seen = engine.seen(100);
        assert!(!seen.stopping && seen.state == State::Exited);
    }

    #[test]
    fn only_a_signal_that_ends_it_counts() {
        for (signal, own, expected) in [
            ("TERM", None, true),
            ("INT", None, true),
            ("QUIT", None, true),
            ("KILL", None, true),
            ("HUP", None, false),
            ("USR1", None, false),
            ("WINCH", Some("SIGWINCH"), true),
            ("HUP", Some("1"), true),
            ("TERM", Some("QUIT"), true),
            ("RTMIN+3", Some("37"), true),
            ("RTMIN+4", Some("37"), false),
        ] {
            let mut engine = Engine::new();
            engine.listed.stop_signal = own.map(|own| own.parse().unwrap());
            engine.signal(0, signal);
            assert_eq!(engine.stops(1), expected, "{signal} where its own is {own:?}");
            engine.list(2);
            assert_eq!(engine.remembers_nothing(), !expected, "{signal}");
        }
    }

    #[test]
    fn one_that_still_runs_30_s_after_its_stop_timeout_is_back() {
        for (timeout, end) in [(None, 40_000), (Some(0), 30_000), (Some(120), 150_000)] {
            let mut engine = Engine::new();
            engine.listed.stop_timeout = timeout;
            engine.signal(0, "TERM");
            assert_eq!(engine.wake(), Some(Duration::from_millis(end)), "something wakes the loop then");
            engine.list(end - 1);
            assert!(engine.stops(end - 1), "{timeout:?}");
            assert!(!engine.stops(end), "{timeout:?}");
            engine.list(end);
            assert!(engine.remembers_nothing() && engine.wake().is_none());
        }
        let mut engine = Engine::new();
        engine.listed.stop_timeout = Some(-1);
        engine.signal(0, "TERM");
        engine.list(3_600_000);
        assert!(engine.stops(3_600_000) && engine.wake().is_none(), "without end");
    }

    #[test]
    fn a_second_signal_begins_the_time_anew_and_a_reload_does_not() {
        let mut engine = Engine::new();
        engine.signal(0, "TERM");
        engine.signal(9_000, "HUP");
        assert!(!engine.stops(40_000));
        engine.signal(10_000, "KILL");
        assert!(engine.stops(49_999) && !engine.stops(50_000));
    }

    #[test]
    fn a_signal_that_comes_before_the_first_list_counts_by_what_that_list_says() {
        let mut engine = Engine::new();
        let id = std::mem::replace(&mut engine.listed.id, "another".into());
        engine.signal(0, "WINCH");
        engine.list(100);
        engine.listed.id = id;
        engine.listed.stop_signal = Some("WINCH".parse().unwrap());
        engine.list(200);
        assert!(engine.stops(200));
    }

    #[test]
    fn a_list_that_says_that_it_does_not_run_ends_the_stopping() {
        let mut engine = Engine::new();
        engine.signal(100, "TERM");
        engine.listed.state = State::Exited;
        engine.list(50);
        engine.listed.state = State::Running;
        assert!(engine.stops(101), "that list began before the signal");
        engine.listed.state = State::Exited;
        engine.list(150);
        engine.listed.state = State::Running;
        assert!(!engine.stops(160), "somebody started it again, which no event told of");
    }

    #[test]
    fn a_stale_list_does_not_bring_back_the_dead() {
        let mut engine = Engine::new();
        engine.hear(100, Change::Died);
        for began in [0, 101, 140, 350, 5_000] {
            engine.list(began);
            assert_eq!(engine.state(began), State::Exited, "the list that began at {began} is behind");
        }
        engine.listed.state = State::Exited;
        engine.list(5_100);
        assert!(engine.remembers_nothing());
    }

    #[test]
    fn an_agreeing_list_that_began_before_the_event_proves_nothing() {
        let mut engine = Engine::new();
        // It had exited, was started and died again while the list was under way.
        engine.hear(100, Change::Died);
        engine.listed.state = State::Exited;
        engine.list(90);
        engine.listed.state = State::Running;
        engine.list(110);
        assert_eq!(engine.state(120), State::Exited);
    }

    #[test]
    fn nothing_sticks_for_ever_when_the_contrary_event_was_lost() {
        let changes = [Change::Died, Change::Paused, Change::Unhealthy, Change::Disconnected("net".into())];
        for change in changes {
            let mut engine = Engine::new();
            engine.hear(0, change.clone());
            assert_eq!(engine.wake(), Some(HOLD), "{change:?}");
            engine.list(9_999);
            assert_ne!(engine.seen(9_999), engine.listed, "{change:?}");
            engine.list(10_000);
            assert_eq!(engine.seen(10_000), engine.listed, "{change:?}");
            assert!(engine.remembers_nothing() && engine.wake().is_none(), "{change:?}");
        }
    }

    #[test]
    fn what_is_taken_back_comes_by_the_next_list_and_not_by_the_last() {
        for (change, contrary) in [
            (Change::Died, Change::Started),
            (Change::Paused, Change::Unpaused),
            (Change::Paused, Change::Started),
            (Change::Unhealthy, Change::Healthy),
            (Change::Disconnected("net".into()), Change::Connected("net".into())),
        ] {
            let mut engine = Engine::new();
            engine.hear(0, change.clone());
            engine.hear(100, contrary.clone());
            assert_ne!(engine.seen(100), engine.listed, "{contrary:?}: the address may be another's by now");
            engine.list(99);
            assert_ne!(engine.seen(101), engine.listed, "{contrary:?}: nor by one that was under way");
            engine.list(100);
            assert_eq!(engine.seen(101), engine.listed, "{contrary:?}");
            assert!(engine.remembers_nothing(), "{contrary:?}");
        }
    }

    #[test]
    fn dying_again_after_a_start_is_a_departure_of_its_own() {
        let mut engine = Engine::new();
        engine.hear(0, Change::Died);
        engine.hear(50, Change::Started);
        engine.hear(60, Change::Died);
        engine.list(55);
        assert_eq!(engine.state(70), State::Exited);
        engine.list(65);
        assert_eq!(engine.state(70), State::Exited, "behind its own events");
    }

    #[test]
    fn a_restart_as_the_engine_tells_it() {
        let mut engine = Engine::new();
        engine.signal(0, "TERM");
        assert!(engine.stops(0));
        engine.hear(20, Change::Died);
        engine.hear(25, Change::Disconnected("net".into()));
        engine.hear(60, Change::Connected("net".into()));
        assert_eq!(engine.state(65), State::Exited, "connected, and not started yet");
        engine.hear(80, Change::Started);
        engine
            .listed
            .networks
            .insert("net".into(), Attachment { ipv4: Some([172, 18, 0, 9].into()), ..Attachment::default() });
        engine.list(81);
        assert_eq!(engine.seen(90), engine.listed);
        assert!(engine.remembers_nothing());
    }

    #[test]
    fn a_contrary_event_that_comes_first_is_no_departure() {
        let mut engine = Engine::new();
        for change in [Change::Started, Change::Unpaused, Change::Healthy, Change::Connected("net".into())] {
            engine.hear(0, change);
        }
        assert!(engine.remembers_nothing());
        engine.hear(1, Change::Paused);
        assert_eq!(engine.state(1), State::Paused);
    }

    #[test]
    fn what_was_started_is_not_stopping() {
        let mut engine = Engine::new();
        engine.signal(0, "TERM");
        engine.hear(10, Change::Started);
        assert!(!engine.stops(10), "its death was not told");
    }

    #[test]
    fn several_at_once_each_end_by_themselves() {
        let mut engine = Engine::new();
        engine.signal(0, "TERM");
        engine.hear(10, Change::Unhealthy);
        engine.hear(20, Change::Paused);
        engine.hear(30, Change::Disconnected("net".into()));
        let seen = engine.seen(30);
        assert!(seen.stopping && seen.networks.is_empty());
        assert_eq!((seen.state, seen.health), (State::Paused, Health::Unhealthy));
        engine.hear(40, Change::Unpaused);
        engine.hear(41, Change::Connected("net".into()));
        engine.listed.health = Health::Unhealthy;
        engine.list(50);
        let seen = engine.seen(50);
        assert!(seen.stopping && seen.health == Health::Unhealthy, "these two stand");
        assert_eq!((seen.state, seen.networks.len()), (State::Running, 1), "and these are over");
    }

    #[test]
    fn other_networks_and_containers_are_not_concerned() {
        let mut engine = Engine::new();
        engine.hear(0, Change::Disconnected("other".into()));
        engine.departures.hear("other", &Change::Died, engine.start);
        assert_eq!(engine.seen(1), engine.listed);
        engine.list(10_000);
        assert!(engine.remembers_nothing(), "what is never listed is forgotten too");
    }
}
