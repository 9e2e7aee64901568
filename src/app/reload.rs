//! The settings while the proxy runs: read again, and what can change does.
//!
//! ```text
//! portolan.yaml, SIGHUP ─▶ Loaded::again ─▶ Settings ─▶ log · access log · manners · shutdown
//!                               │                  └──▶ board and tuning at once (listeners, objects, issuers) ─▶ providers
//!                               └ Fault ─▶ nothing changes; a problem until it is mended
//! ```
//! What only a start can change is named, with its place, until the file says what is in force or the start comes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::format;
use super::providers::Providers;
use crate::config::read::{Fault, What};
use crate::config::settings::{LogSettings, Settings, ShutdownSettings};
use crate::config::{LoadError, Loaded, layer};
use crate::control::Tuning;
use crate::control::ca::InternalCa;
use crate::control::leaves::LeafStore;
use crate::control::state::StateDir;
use crate::material::file::FileWatch;
use crate::model::{Diagnostic, Kind, Name, Reason};
use crate::provider::{self, SnapshotSink};
use crate::proxy::Manners;
use crate::telemetry::AccessLog;
use crate::telemetry::logs::Verbosity;

/// Whatever in the running proxy follows the settings.
pub struct Reload {
    /// In force, but for what `started` has otherwise.
    pub loaded: Loaded,
    /// As they were at the start.
    pub started: Settings,
    pub state: Arc<StateDir>,
    pub sink: SnapshotSink,
    pub tuning: watch::Sender<Tuning>,
    pub providers: Providers,
    pub manners: Arc<Manners>,
    pub access_log: AccessLog,
    pub shutdown: watch::Sender<ShutdownSettings>,
    /// What is wrong with the file that was read last, where that changed nothing.
    pub faults: Vec<Diagnostic>,
}

impl Reload {
    /// Follows the file and SIGHUP until `stop`.
    pub async fn follow(mut self, mut hangup: Signal, log: Verbosity, stop: CancellationToken) {
        let mut files = FileWatch::new();
        files.set(self.loaded.places());
        // Somebody may have written it since it was read.
        self.read_watched(&files, &log).await;
        loop {
            tokio::select! {
                () = files.changed() => self.read_watched(&files, &log).await,
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: the settings are read again");
                    let loaded = self.loaded.again(&|path: &Path| std::fs::read(path));
                    match (self.take(loaded, &log).await, self.faults.is_empty()) {
                        (true, _) => {}
                        (false, true) => tracing::info!("the settings are as they were"),
                        (false, false) => tracing::error!("what is wrong with the settings still is"),
                    }
                }
                () = stop.cancelled() => return,
            }
        }
    }

    async fn read_watched(&mut self, files: &FileWatch, log: &Verbosity) {
        let contents = files.current();
        let loaded = self.loaded.again(&|path: &Path| match contents.get(path) {
            Some(Ok(bytes)) => Ok(bytes.to_vec()),
            Some(Err(_)) if !path.exists() => Err(io::ErrorKind::NotFound.into()),
            Some(Err(why)) => Err(io::Error::other(why.clone())),
            None => Err(io::ErrorKind::NotFound.into()),
        });
        self.take(loaded, log).await;
    }

    /// Whether anything is another than before.
    async fn take(&mut self, loaded: Result<Loaded, LoadError>, log: &Verbosity) -> bool {
        let complaints =
            |error: LoadError| -> Vec<Diagnostic> { error.faults.iter().map(|fault| self.complaint(fault)).collect() };
        let prepared = loaded.map_err(complaints);
        let prepared = prepared.and_then(|loaded| {
            let tuning = self.tuning(&loaded)?;
            Ok((loaded, tuning))
        });
        match prepared {
            Ok((loaded, _)) if loaded == self.loaded && self.faults.is_empty() => false,
            Ok((loaded, tuning)) => {
                self.apply(loaded, tuning, log).await;
                true
            }
            Err(faults) => {
                if self.faults == faults {
                    return false;
                }
                tracing::error!(faults = faults.len(), "the settings cannot be used; those in force stay");
                self.faults = faults;
                self.speak(None);
                true
            }
        }
    }

    async fn apply(&mut self, loaded: Loaded, tuning: Tuning, log: &Verbosity) {
        let changed = changed(&self.loaded, &loaded);
        self.loaded = loaded;
        self.faults.clear();
        let Settings {
            // In the snapshot, as are the objects that stand beside the settings.
            listeners: _,
            providers,
            // In the tuning.
            issuers: _,
            default_issuers: _,
            default_certificate: _,
            // Named by `waits`.
            status: _,
            admin: _,
            state_dir: _,
            workers: _,
            user: _,
            log: LogSettings { level, format: _ },
            access_log,
            shutdown,
            reason_header,
            // Not built: they do not load.
            claims: _,
        } = self.loaded.settings.clone();
        log.set(level);
        self.access_log.set(format(&access_log));
        self.manners.set(reason_header, shutdown.deadline.0);
        self.shutdown.send_replace(shutdown);
        self.speak(Some(tuning));
        self.providers.apply(&providers).await;
        let file = self.loaded.file.as_deref().map(Path::display);
        tracing::info!(
            file = file.map(tracing::field::display),
            changed = changed.join(", "),
            "the settings are in force"
        );
    }

    /// The settings as a provider's word, with all that is to be said of them.
    fn speak(&self, tuning: Option<Tuning>) {
        let mut snapshot = provider::settings::snapshot(&self.loaded);
        snapshot.findings.extend(waits(&self.started, &self.loaded));
        snapshot.findings.extend(self.faults.iter().cloned());
        match tuning {
            None => self.sink.live(snapshot),
            // Under one lock: a route that names an issuer never meets a control that does not know it.
            Some(tuning) => self.sink.live_and(snapshot, || drop(self.tuning.send_replace(tuning))),
        }
    }

    fn tuning(&self, loaded: &Loaded) -> Result<Tuning, Vec<Diagnostic>> {
        tuning(&loaded.settings, &self.state, &self.tuning.borrow().issuers).map_err(|(name, error)| {
            let origin = loaded.origin(&["issuers", &name]);
            let detail = format!("{error}; the settings in force stay");
            vec![Diagnostic::error(layer::subject(Kind::Issuer, &name), Reason::Unreadable, origin, detail)]
        })
    }

    fn complaint(&self, fault: &Fault) -> Diagnostic {
        let reason = match &fault.what {
            What::UnknownField { .. } => Reason::UnknownField,
            What::Invalid(_) if fault.path.is_empty() => Reason::Unreadable,
            What::Invalid(_) => Reason::Invalid,
        };
        let detail = format!("{}; the settings in force stay", fault.message());
        let finding = Diagnostic::error(document(&self.loaded), reason, fault.origin.clone(), detail);
        if fault.path.is_empty() { finding } else { finding.on(fault.field()) }
    }
}

/// Issuers that are known are taken over unless their settings are others; the rest are opened. The error names the one that cannot be.
pub fn tuning(
    settings: &Settings,
    state: &StateDir,
    known: &BTreeMap<Name, Arc<LeafStore>>,
) -> Result<Tuning, (String, crate::control::ca::CaError)> {
    let internal = settings.issuers.iter().filter(|(_, issuer)| issuer.internal.is_some());
    let issuers = internal.map(|(raw, issuer)| {
        let name = Name::normalised(raw);
        let options = super::ca::options(issuer.internal.as_ref());
        if let Some(known) = known.get(&name).filter(|known| *known.ca().options() == options) {
            return Ok((name, known.clone()));
        }
        let ca = InternalCa::open_with(&state.issuer_dir(raw), raw, &options, Timestamp::now());
        let ca = ca.map_err(|error| (raw.clone(), error))?;
        Ok((name, Arc::new(LeafStore::new(Arc::new(ca)))))
    });
    Ok(Tuning {
        issuers: issuers.collect::<Result<_, _>>()?,
        default_issuers: settings.default_issuers.iter().map(|name| Name::normalised(name)).collect(),
        default_certificate: settings.default_certificate.as_deref().map(Name::normalised),
    })
}

fn document(loaded: &Loaded) -> crate::model::ObjectId {
    let file = loaded.places().into_iter().next().map(|path| path.display().to_string());
    let file = loaded.file.as_ref().map(|path| path.display().to_string()).or(file);
    layer::subject(Kind::Document, file.as_deref().unwrap_or("settings"))
}

/// What the settings say and only a start can do.
fn waits(started: &Settings, loaded: &Loaded) -> Vec<Diagnostic> {
    let now = &loaded.settings;
    let fixed = [
        (&["state_dir"][..], started.state_dir.display().to_string(), now.state_dir.display().to_string()),
        (&["workers"], started.workers.to_string(), now.workers.to_string()),
        (&["user"], number(started.user), number(now.user)),
        (&["status", "address"], started.status.address.to_string(), now.status.address.to_string()),
        (&["admin", "address"], started.admin.address.to_string(), now.admin.address.to_string()),
        (&["log", "format"], word(&started.log.format), word(&now.log.format)),
    ];
    let differs = fixed.into_iter().filter(|(_, before, wanted)| before != wanted);
    let finding = differs.map(|(path, before, wanted)| {
        let field = path.join(".");
        let detail = format!("{field} is {before} since the start; {wanted} waits for a restart");
        Diagnostic::warning(document(loaded), Reason::NeedsRestart, loaded.origin(path), detail).on(field)
    });
    finding.collect()
}

fn number(value: Option<u32>) -> String {
    value.map_or_else(|| "null".to_string(), |value| value.to_string())
}

fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_string)).unwrap_or_default()
}

/// The sections that differ, for the log.
fn changed(before: &Loaded, after: &Loaded) -> Vec<String> {
    let sections = |loaded: &Loaded| -> BTreeMap<String, String> {
        let settings = serde_json::to_value(&loaded.settings).unwrap_or_default();
        let settings = settings.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.to_string()));
        let off = ("providers.off".to_string(), format!("{:?}", loaded.settings.providers.off));
        let objects = loaded.objects.entries().iter().map(|entry| (entry.key.clone(), format!("{:?}", entry.value)));
        settings.chain([off]).chain(objects).collect()
    };
    let (before, after) = (sections(before), sections(after));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned().collect()
}
