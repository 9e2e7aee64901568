//! Portolan's own log: to stderr, as text for people and as JSON for machines.

use std::io;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::settings::{LogFormat, LogLevel};

/// Once a process; `is_terminal` is stderr's. Fails where a log was set up before.
pub fn init(level: LogLevel, format: LogFormat, is_terminal: bool) -> Result<(), String> {
    subscriber(level, format, is_terminal, io::stderr).try_init().map_err(|error| error.to_string())
}

fn subscriber<W>(level: LogLevel, format: LogFormat, is_terminal: bool, writer: W) -> impl Subscriber + Send + Sync
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
    Registry::default().with(lines.with_filter(verbosity(level)))
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
        let captured = Captured::default();
        let writer = captured.clone();
        tracing::subscriber::with_default(subscriber(level, format, is_terminal, move || writer.clone()), say);
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
}
