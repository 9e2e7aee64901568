//! Portolan's own log: to stderr, as text for people and as JSON for machines.

use std::io;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::settings::{LogFormat, LogLevel};

/// What is logged from now on.
#[derive(Clone)]
pub struct Verbosity(reload::Handle<Targets, Registry>);

impl Verbosity {
    pub fn set(&self, level: LogLevel) {
        if let Err(error) = self.0.reload(verbosity(level)) {
            tracing::error!(%error, "the log keeps its level");
        }
    }
}

/// Once a process; `is_terminal` is stderr's. Fails where a log was set up before.
pub fn init(level: LogLevel, format: LogFormat, is_terminal: bool) -> Result<Verbosity, String> {
    let (subscriber, verbosity) = subscriber(level, format, is_terminal, io::stderr);
    subscriber.try_init().map_err(|error| error.to_string())?;
    Ok(verbosity)
}

fn subscriber<W>(
    level: LogLevel,
    format: LogFormat,
    is_terminal: bool,
    writer: W,
) -> (impl Subscriber + Send + Sync, Verbosity)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let json = match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = if json {
        fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(writer)
            .boxed()
    } else {
        fmt::layer().with_ansi(is_terminal).with_writer(writer).boxed()
    };
    let (filter, handle) = reload::Layer::new(verbosity(level));
    (Registry::default().with(lines.with_filter(filter)), Verbosity(handle))
}

/// What the libraries below say at `debug` would bury what Portolan says: they are heard from `trace` on, and before
/// that only when something is wrong.
fn verbosity(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let libraries = if level == LogLevel::Trace { own } else { own.min(LevelFilter::WARN) };
    Targets::new().with_default(libraries).with_target("portolan", own)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, format: LogFormat, is_terminal: bool, say: impl FnOnce()) -> String {
        logged_with(level, format, is_terminal, |_| say())
    }

    fn logged_with(level: LogLevel, format: LogFormat, is_terminal: bool, say: impl FnOnce(&Verbosity)) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let (subscriber, verbosity) = subscriber(level, format, is_terminal, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || say(&verbosity));
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn auto_is_json_where_nobody_watches_and_text_on_a_terminal() {
        let say = || tracing::info!(target: "portolan::control", generation = 7, "a new table");
        let line = logged(LogLevel::Info, LogFormat::Auto, false, say);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["message"], "a new table");
        assert_eq!(json["generation"], 7);
        assert_eq!(json["level"], "INFO");

        let line = logged(LogLevel::Info, LogFormat::Auto, true, say);
        assert!(line.contains("a new table") && !line.starts_with('{'), "{line}");
        let line = logged(LogLevel::Info, LogFormat::Text, false, say);
        assert!(!line.contains('\u{1b}'), "colour in a file: {line:?}");
    }

    #[test]
    fn debug_is_about_portolan_and_libraries_are_heard_when_something_is_wrong() {
        let heard = logged(LogLevel::Debug, LogFormat::Json, false, || {
            tracing::debug!(target: "portolan::proxy", "ours");
            tracing::debug!(target: "hyper::proto", "theirs");
            tracing::warn!(target: "bollard", "their warning");
        });
        assert!(heard.contains("ours") && heard.contains("their warning"), "{heard}");
        assert!(!heard.contains("theirs"), "{heard}");
    }

    #[test]
    fn the_level_can_be_another_while_the_process_runs() {
        let heard = logged_with(LogLevel::Warn, LogFormat::Json, false, |verbosity| {
            let say = |text: &str| tracing::info!(target: "portolan::control", "{text}");
            say("too early");
            verbosity.set(LogLevel::Info);
            say("in time");
            verbosity.set(LogLevel::Error);
            say("too late");
        });
        assert!(heard.contains("in time") && !heard.contains("too"), "{heard}");
    }
}
