//! `--watch`: a listing again and again, whenever it is another.
//!
//! ```text
//! admin API ──news──▶ Watch ─┬─▶ Screen   a terminal: redrawn in place, as much as fits, restored at the end
//!                            ├─▶ Lines    no terminal: the time, then the table
//!                            └─▶ Json     one document a line
//! ```
//! The proxy answers when there is news; nothing is asked in vain. While none answers, it is tried again.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::args::Output;
use super::client::{self, News, Page};
use super::report::{self, Kind, Look};
use super::screen::Screen;
use super::table::harmless;

/// Between two attempts to reach a proxy that does not answer, and between two looks at one that cannot be watched.
const AGAIN: Duration = Duration::from_secs(1);
/// A reader follows no faster, and a busy proxy need not say it all.
const FASTEST: Duration = Duration::from_millis(100);

/// Until somebody ends it, which is no failure.
pub async fn watch(kind: Kind, admin: SocketAddr, output: Output) -> anyhow::Result<()> {
    let admin = admin.to_string();
    let mut ends = Ends::listen()?;
    let mut resized = signal(SignalKind::window_change()).context("SIGWINCH")?;
    let mut watch = Watch::new(kind, output, &admin);
    let mut after: Option<String> = None;
    loop {
        tokio::select! {
            () = ends.reached() => return Ok(()),
            Some(()) = resized.recv() => {
                if !written(watch.draw())? {
                    return Ok(());
                }
            }
            asked = client::news(&admin, kind.as_str(), after.as_deref()) => {
                let looked = Instant::now();
                let (drawn, pause) = match asked {
                    Ok(News::Page(page)) => {
                        after = page.tag.clone();
                        let pause = if after.is_some() { FASTEST } else { AGAIN };
                        (watch.page(page), pause)
                    }
                    Ok(News::Nothing) => (watch.nothing(), Duration::ZERO),
                    Err(why) => {
                        // The next answer is wanted at once, whatever it says.
                        after = None;
                        (watch.away(harmless(&format!("{why:#}"))), AGAIN)
                    }
                };
                if !written(drawn)? {
                    return Ok(());
                }
                tokio::select! {
                    () = ends.reached() => return Ok(()),
                    () = sleep_until(looked + pause) => {}
                }
            }
        }
    }
}

/// A reader that has seen enough (`| head`) is no failure: `false`.
fn written(result: io::Result<()>) -> anyhow::Result<bool> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("standard output"),
    }
}

struct Watch<'a> {
    kind: Kind,
    admin: &'a str,
    to: To,
    shown: Option<Shown>,
    /// Since when nobody answers, and why.
    away: Option<(Timestamp, String)>,
}

struct Shown {
    value: Value,
    changed: Timestamp,
}

enum To {
    Screen(Screen),
    Lines,
    Json,
}

impl<'a> Watch<'a> {
    fn new(kind: Kind, output: Output, admin: &'a str) -> Watch<'a> {
        let to = match output {
            Output::Json => To::Json,
            Output::Table if io::stdout().is_terminal() => To::Screen(Screen::open()),
            Output::Table => To::Lines,
        };
        Watch { kind, admin, to, shown: None, away: None }
    }

    fn page(&mut self, page: Page) -> io::Result<()> {
        let Page { value, changed, tag: _ } = page;
        let was_away = self.away.take().is_some();
        if self.shown.as_ref().is_some_and(|shown| shown.value == value) {
            return if was_away { self.back() } else { Ok(()) };
        }
        // The proxy's time is that of its last change of any kind; this listing's is known once it has been seen to change.
        let changed = match self.shown {
            None => changed.unwrap_or_else(Timestamp::now),
            Some(_) => Timestamp::now(),
        };
        if was_away {
            self.back()?;
        }
        self.shown = Some(Shown { value, changed });
        match self.to {
            To::Screen(_) => self.draw(),
            To::Lines | To::Json => self.print(),
        }
    }

    /// What is shown may be written otherwise as time goes by.
    fn nothing(&mut self) -> io::Result<()> {
        self.draw()
    }

    fn away(&mut self, why: String) -> io::Result<()> {
        let first = self.away.is_none();
        let since = self.away.take().map_or_else(Timestamp::now, |(since, _)| since);
        if first && !matches!(self.to, To::Screen(_)) {
            eprintln!("portolan: {}: not answering, trying again: {why}", self.admin);
        }
        self.away = Some((since, why));
        self.draw()
    }

    fn back(&mut self) -> io::Result<()> {
        if !matches!(self.to, To::Screen(_)) {
            eprintln!("portolan: {}: answering again", self.admin);
        }
        self.draw()
    }

    /// On a terminal alone.
    fn draw(&mut self) -> io::Result<()> {
        let To::Screen(screen) = &mut self.to else { return Ok(()) };
        let (width, height) = screen.size();
        let (name, admin) = (self.kind.as_str(), self.admin);
        let title = match (&self.away, &self.shown) {
            (Some((since, why)), _) => format!("portolan {name}: not answering since {since:.0}, trying again\n{why}"),
            (None, Some(Shown { value, changed })) => {
                let count = value.as_array().map_or(0, Vec::len);
                format!("portolan {name}: {count}, last changed {changed:.0}, at {admin}\n")
            }
            (None, None) => format!("portolan {name}: asking {admin}\n"),
        };
        let look = Look { width: Some(width), ..Look::of_stdout() };
        let table = self
            .shown
            .as_ref()
            .map(|shown| report::top(self.kind, &shown.value, look, height.saturating_sub(2)))
            .unwrap_or_default();
        screen.show(&format!("{title}\n{table}"))
    }

    fn print(&self) -> io::Result<()> {
        let Some(Shown { value, changed }) = &self.shown else { return Ok(()) };
        let text = match self.to {
            To::Json => report::json_line(value),
            _ => format!("{changed:.0}\n{}\n", report::table(self.kind, value, Look::of_stdout())),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// The signals that end a program at a terminal.
struct Ends([Signal; 3]);

impl Ends {
    fn listen() -> anyhow::Result<Ends> {
        let listen = |kind: SignalKind| signal(kind).context("signals");
        Ok(Ends([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]))
    }

    async fn reached(&mut self) {
        let Ends([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
