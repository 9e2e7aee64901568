//! The one loop that turns the crank.
//!
//! ```text
//! Board, files, names, ledger, time ─▶ reconcile ─▶ unchanged? stop ─▶ compile ─▶ ledger to disk ─▶ LiveTable ─▶ View
//! probes, failed requests ─────────────▶ Verdicts ─▶ unchanged? stop ─▶ patch ──────────────────────────┘
//! ```
//! It acts on the leading edge and coalesces what arrives while it works: no fixed sleep stands between an event and
//! its effect.

pub mod ca;
mod changes;
pub mod durable;
pub mod health;
pub mod last_good;
pub mod leaves;
mod materials;
mod names;
pub mod state;
pub mod trust;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::material::dns::NameWatch;
use crate::material::file::{Content, FileWatch};
use crate::material::system_roots::system_roots;
use crate::material::url::UrlWatch;
use crate::model::diagnostic::{Diagnostic, Reason};
use crate::model::health::Verdicts;
use crate::model::id::{Kind, Name, ObjectId, Provider, Source};
use crate::model::ledger::Ledger;
use crate::model::listener::ListenAddress;
use crate::model::snapshot::{ProviderReport, ProviderState, Snapshot};
use crate::model::{Origin, diagnostic};
use crate::provider::Board;
use crate::proxy::{Bound, Trouble};
use crate::reconcile::{Desired, Inputs, Outcome, reconcile};
use crate::table::client_tls::Roots;
use crate::table::tls::Issuer;
use crate::table::{Compiled, LiveTable, Materials, StickyKey, compile, patch};
use crate::telemetry::metrics::Metrics;

use ca::TrustFiles;
use changes::Findings;
use health::{Dialer, Health};
use leaves::LeafStore;
use materials::Certificates;
use state::StateDir;
use trust::numbers::CrlNumbers;
use trust::{Found, Refreshed, Trust};
use view::{CertificateReport, View};

/// What control is given by whoever wires the house.
pub struct ControlSetup {
    pub board: watch::Receiver<Board>,
    pub live: LiveTable,
    pub state: Arc<StateDir>,
    /// What is wrong with the snapshots on disk.
    pub kept: watch::Receiver<BTreeMap<Provider, Diagnostic>>,
    /// Changed under the lock of the board, so that both are read as of one moment.
    pub tuning: watch::Receiver<Tuning>,
    pub metrics: Arc<Metrics>,
    pub workers: usize,
    pub bound: mpsc::UnboundedReceiver<Bound>,
    /// What workers say of endpoints that fail requests.
    pub troubles: mpsc::Receiver<Trouble>,
    pub dialer: Arc<dyn Dialer>,
    /// Cancelled when the proxy is about to stop: it still serves, and says that it is not ready.
    pub leaving: CancellationToken,
}

/// What the settings decide about certificates, and what is no plain data.
#[derive(Debug, Clone, Default)]
pub struct Tuning {
    pub issuers: BTreeMap<Name, Arc<LeafStore>>,
    /// Tried in order for names that no configured certificate covers.
    pub default_issuers: Vec<Name>,
    /// A name under `certificates`.
    pub default_certificate: Option<Name>,
}

impl PartialEq for Tuning {
    fn eq(&self, other: &Tuning) -> bool {
        let Tuning { issuers, default_issuers, default_certificate } = self;
        let same = |a: &Arc<LeafStore>, b: Option<&Arc<LeafStore>>| b.is_some_and(|b| Arc::ptr_eq(a, b));
        issuers.len() == other.issuers.len()
            && issuers.iter().all(|(name, store)| same(store, other.issuers.get(name)))
            && (default_issuers, default_certificate) == (&other.default_issuers, &other.default_certificate)
    }
}

pub struct Control {
    setup: ControlSetup,
    ledger: Ledger,
    sticky_key: StickyKey,
    files: FileWatch,
    urls: UrlWatch,
    /// The highest numbers of revocation lists, as they are on disk or should be.
    numbers: CrlNumbers,
    unwritten: Option<Diagnostic>,
    names: NameWatch,
    health: Health,
    verdicts: Arc<Verdicts>,
    certificates: Certificates,
    trust: Trust,
    /// Read when they are first asked for.
    system_roots: Option<Result<Roots, String>>,
    tuning: Tuning,
    /// Of each issuer, what is trusted on its account.
    roots: BTreeMap<Name, Vec<CertificateDer<'static>>>,
    desired: Arc<Desired>,
    from_reconcile: Vec<Diagnostic>,
    from_compile: Vec<Diagnostic>,
    from_material: Vec<Diagnostic>,
    lapse: Option<Timestamp>,
    sockets: BTreeMap<Name, Sockets>,
    logged: Findings,
    view: watch::Sender<Arc<View>>,
}

/// What follows from what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Turn,
    /// Nothing but what is known of endpoints may have changed.
    Verdicts,
    Nothing,
}

/// What the workers said of one listener's sockets.
#[derive(Debug, Default)]
struct Sockets {
    /// By worker.
    open: BTreeMap<usize, ListenAddress>,
    failed: BTreeMap<usize, String>,
}

/// Before the end of a root, which nobody but its owner replaces.
const ROOT_WARNING: Duration = Duration::from_secs(90 * 24 * 3600);

/// How often leaves are looked through for renewal.
const RENEWAL: Duration = Duration::from_secs(60);

impl Control {
    /// Fails on an unreadable ledger: who holds which host is not guessed.
    pub fn new(setup: ControlSetup) -> Result<(Control, watch::Receiver<Arc<View>>), state::StateError> {
        let ledger = setup.state.ledger()?;
        let numbers = CrlNumbers::load(&setup.state)?;
        let sticky_key = StickyKey(setup.state.sticky_key()?);
        let (view, seen) = watch::channel(Arc::new(View::default()));
        let control = Control {
            ledger,
            sticky_key,
            files: FileWatch::new(),
            urls: UrlWatch::default(),
            numbers,
            unwritten: None,
            names: NameWatch::new(),
            health: Health::new(setup.dialer.clone(), setup.metrics.clone()),
            verdicts: Arc::default(),
            certificates: Certificates::default(),
            trust: Trust::default(),
            system_roots: None,
            tuning: Tuning::default(),
            roots: BTreeMap::new(),
            desired: Arc::default(),
            from_reconcile: Vec::new(),
            from_compile: Vec::new(),
            from_material: Vec::new(),
            lapse: None,
            sockets: BTreeMap::new(),
            logged: Findings::default(),
            view,
            setup,
        };
        Ok((control, seen))
    }

    pub async fn run(mut self, stop: CancellationToken) {
        let mut renewal = tokio::time::interval(RENEWAL);
        renewal.tick().await;
        let mut due = Due::Turn;
        loop {
            match due {
                Due::Turn => self.turn(),
                Due::Verdicts => self.judge(),
                Due::Nothing => {}
            }
            let (lapse, release) = (self.lapse, self.health.next_release());
            due = tokio::select! {
                changed = self.setup.board.changed() => match changed {
                    Ok(()) => Due::Turn,
                    Err(_) => return,
                },
                () = self.files.changed() => Due::Turn,
                () = self.urls.changed() => Due::Turn,
                () = self.names.changed() => Due::Turn,
                Ok(()) = self.setup.kept.changed() => Due::Turn,
                Some(bound) = self.setup.bound.recv() => {
                    self.heard(bound);
                    Due::Turn
                }
                () = self.health.changed() => Due::Verdicts,
                Some(trouble) = self.setup.troubles.recv() => self.troubled(trouble),
                () = at(release) => Due::Verdicts,
                () = until(lapse) => Due::Turn,
                _ = renewal.tick() => {
                    self.renew();
                    Due::Turn
                }
                () = self.setup.leaving.cancelled(), if self.view.borrow().ready => Due::Turn,
                () = stop.cancelled() => {
                    self.record();
                    return;
                }
            };
            while let Ok(bound) = self.setup.bound.try_recv() {
                self.heard(bound);
                due = Due::Turn;
            }
        }
    }

    fn turn(&mut self) {
        let (board, tuning) = {
            let board = self.setup.board.borrow_and_update();
            (board.clone(), self.setup.tuning.borrow().clone())
        };
        let snapshots: BTreeMap<Provider, Arc<Snapshot>> =
            board.iter().filter_map(|(provider, state)| Some((*provider, state.snapshot()?.clone()))).collect();

        let unheard: BTreeSet<Provider> =
            board.iter().filter(|(_, state)| !state.is_heard()).map(|(provider, _)| *provider).collect();
        let started = Instant::now();
        let Outcome { mut desired, ledger, lapse, findings } = reconcile(Inputs {
            snapshots: &snapshots,
            ledger: &self.ledger,
            now: Timestamp::now(),
            unheard: &unheard,
            default_issuers: &tuning.default_issuers,
        });
        self.setup.metrics.observe_reconcile(started.elapsed());
        self.from_reconcile = findings;

        let paths = desired.certificates.values().flat_map(|c| [c.cert_file.clone(), c.key_file.clone()]);
        let issuers: BTreeMap<Name, TrustFiles> =
            tuning.issuers.iter().map(|(name, store)| (name.clone(), store.ca().trust_files())).collect();
        self.files.set(paths.chain(trust::files(&desired, &issuers)));
        let state = self.setup.state.clone();
        self.urls.set(&trust::urls(&desired), |url| state.read(kept(url)).ok().flatten().map(Arc::from));
        let (now, files) = (Timestamp::now(), self.files.current());
        let (roots, findings) = self.follow_issuers(&tuning, &files, now);
        let rotated = self.roots != roots;
        self.roots = roots;
        let of_issuers = findings;
        let (another, findings) = self.certificates.refresh(&desired.certificates, &files, now);
        self.from_material = findings;
        self.from_material.extend(of_issuers);
        let found = Found { files: &files, urls: self.urls.current(), issuers: &issuers };
        let Refreshed { changed, findings, next, numbers, fetched } =
            self.trust.refresh(&desired, found, &mut self.numbers, now);
        self.from_material.extend(findings);
        self.keep_lists(numbers, fetched);
        let another = another || changed || rotated;
        // A moment later: an end is the last moment at which something is valid.
        let next = next.map(|next| next.saturating_add(Duration::from_secs(1)).unwrap_or(next));
        let ends = tuning.issuers.values().filter_map(|store| store.ca().next_end(now));
        self.lapse = lapse.into_iter().chain(next).chain(ends).min();

        self.names.set(names::named(&desired));
        self.from_material.extend(names::fill(&mut desired, self.names.current()));
        self.health.follow(&desired, now);
        let verdicts = self.health.judge(&desired);

        let unchanged = *self.desired == desired
            && *self.verdicts == verdicts
            && self.tuning == tuning
            && !another
            && self.setup.live.load().generation > 0;
        if ledger != self.ledger {
            // Before the swap: a host must never be served for a holder that a restart would not know of.
            if let Err(error) = self.setup.state.store_ledger(&ledger) {
                tracing::error!(%error, "the ledger of host holders cannot be stored; what is in force stays");
                return self.publish(&board);
            }
            self.ledger = ledger;
        }
        if !unchanged {
            self.desired = Arc::new(desired);
            self.verdicts = Arc::new(verdicts);
            self.tuning = tuning;
            self.swap();
        }
        self.publish(&board);
    }

    /// Takes up what other processes have made of the internal CAs: roots, and what is wrong with those that cannot be read.
    fn follow_issuers(
        &self,
        tuning: &Tuning,
        files: &BTreeMap<PathBuf, Content>,
        now: Timestamp,
    ) -> (BTreeMap<Name, Vec<CertificateDer<'static>>>, Vec<Diagnostic>) {
        let (mut roots, mut findings) = (BTreeMap::new(), Vec::new());
        for (name, store) in &tuning.issuers {
            let TrustFiles { root, retired, .. } = store.ca().trust_files();
            let subject = || ObjectId::new(&Source::new(Provider::Settings, None), Kind::Issuer, name.as_str());
            if let (Some(root), Some(retired)) = (files.get(&root), files.get(&retired))
                && let Err(error) = store.follow(root, retired, now)
            {
                let detail = format!("{error}; it goes on with the root that it had");
                findings.push(Diagnostic::error(subject(), Reason::Unreadable, Origin::Default, detail));
            }
            let end = store.ca().root_not_after();
            if ca::later(now, ROOT_WARNING) >= end {
                let detail = format!(
                    "the root of the internal CA \"{name}\" ends at {end}; portolan ca rotate gives it a new one"
                );
                findings.push(Diagnostic::warning(subject(), Reason::CertificateInvalid, Origin::Default, detail));
            }
            roots.insert(name.clone(), store.ca().trusted(now));
        }
        (roots, findings)
    }

    /// A disk that takes nothing does not keep what is revoked in force: only a restart would not know that it was seen.
    fn keep_lists(&mut self, numbers: bool, fetched: Vec<(Arc<str>, Arc<[u8]>)>) {
        let state = &self.setup.state;
        if numbers || self.unwritten.is_some() {
            self.unwritten = self.numbers.store(state).err().map(|error| {
                let subject = ObjectId::new(&Source::new(Provider::Settings, None), Kind::Document, "state_dir");
                let detail = format!("{error}; after a restart an older revocation list would be taken for new");
                Diagnostic::warning(subject, Reason::Unreadable, Origin::Default, detail)
            });
        }
        for (url, bytes) in fetched {
            if let Err(error) = state.write_atomic(kept(&url), &bytes, durable::PRIVATE) {
                tracing::warn!(%error, %url, "what was fetched is not kept for a start while its URL is away");
            }
        }
        self.from_material.extend(self.unwritten.clone());
    }

    /// Takes up what is known of the endpoints now, in the table in force.
    fn judge(&mut self) {
        let verdicts = self.health.judge(&self.desired);
        let ids = verdicts.keys().chain(self.verdicts.keys());
        let services: BTreeSet<&ObjectId> =
            ids.filter(|service| verdicts.get(service) != self.verdicts.get(service)).collect();
        if services.is_empty() {
            return;
        }
        let table = self.with_materials(&verdicts, |desired, materials| {
            patch(desired, materials, &self.setup.live.load(), &services)
        });
        self.setup.metrics.set_table_generation(table.generation);
        self.setup.live.store(table);
        self.verdicts = Arc::new(verdicts);
        let board = self.setup.board.borrow().clone();
        self.publish(&board);
    }

    /// What workers ran into, and what more of it has been said by now.
    fn troubled(&mut self, first: Trouble) -> Due {
        let mut ejected = false;
        let mut next = Some(first);
        // No more than that at once: where everything fails, there is always one more.
        let mut left = self.setup.troubles.max_capacity();
        while let Some(trouble) = next {
            if trouble.connect {
                let services = trouble.upstream.services.iter().filter_map(|id| self.desired.services.get(id));
                let names = services.flat_map(|facts| &facts.names);
                names
                    .filter(|named| named.url == trouble.endpoint.name)
                    .for_each(|named| self.names.again(&named.host));
            }
            ejected |= self.health.trouble(&self.desired, &trouble);
            left -= 1;
            next = if left > 0 { self.setup.troubles.try_recv().ok() } else { None };
        }
        if ejected { Due::Verdicts } else { Due::Nothing }
    }

    fn with_materials<T>(&self, verdicts: &Verdicts, then: impl FnOnce(&Desired, Materials<'_>) -> T) -> T {
        let certificates = self.certificates.loaded();
        let default = self.tuning.default_certificate.as_ref().and_then(|name| {
            [Provider::Settings, Provider::File]
                .map(|provider| ObjectId::new(&Source::new(provider, None), Kind::Certificate, name.shared()))
                .into_iter()
                .find(|id| certificates.contains_key(id))
        });
        let tuned = self.tuning.issuers.iter();
        let issuers = tuned.map(|(name, store)| (name.clone(), store.clone() as Arc<dyn Issuer>)).collect();
        let unread = Err("the system's CAs have not been read".to_string());
        let materials = Materials {
            system_roots: self.system_roots.as_ref().unwrap_or(&unread),
            certificates: &certificates,
            bundles: &self.trust.bundles,
            revocations: &self.trust.lists,
            issuers: &issuers,
            default_certificate: default.as_ref(),
            default_issuers: &self.tuning.default_issuers,
            sticky_key: &self.sticky_key,
            verdicts,
        };
        then(&self.desired, materials)
    }

    fn swap(&mut self) {
        let started = Instant::now();
        if self.system_roots.is_none() && trusts_the_system(&self.desired) {
            self.system_roots = Some(system_roots().map(Roots::new));
        }
        let live = self.setup.live.load();
        let compiled = self.with_materials(&self.verdicts, |desired, materials| compile(desired, materials, &live));
        match compiled {
            Ok(Compiled { table, findings }) => {
                self.setup.metrics.observe_compile(started.elapsed());
                self.setup.metrics.set_table_generation(table.generation);
                self.from_compile = findings;
                let live: BTreeSet<&str> = table.routes().iter().map(|route| &*route.label).collect();
                self.setup.metrics.retain_routes(|route| live.contains(route));
                self.setup.live.store(table);
            }
            Err(error) => tracing::error!(%error, "the table cannot be compiled; what is in force stays"),
        }
    }

    fn heard(&mut self, bound: Bound) {
        let sockets = self.sockets.entry(bound.listener).or_default();
        match bound.result {
            Ok(address) => {
                tracing::debug!(worker = bound.worker, %address, "listening");
                sockets.open.insert(bound.worker, address);
                sockets.failed.remove(&bound.worker);
            }
            Err(why) => drop(sockets.failed.insert(bound.worker, why)),
        }
    }

    fn renew(&mut self) {
        for store in self.tuning.issuers.values() {
            if let Err(error) = store.renew(Timestamp::now()) {
                tracing::error!(%error, "a certificate cannot be renewed; trying again in a minute");
            }
        }
    }

    /// The last words to the logs of the internal CAs.
    fn record(&self) {
        for store in self.tuning.issuers.values() {
            if let Err(error) = store.record() {
                tracing::warn!(%error, "what was issued for handshakes is not on record");
            }
        }
    }

    fn publish(&mut self, board: &Board) {
        let mut findings: Vec<Diagnostic> =
            [&self.from_reconcile, &self.from_compile, &self.from_material].into_iter().flatten().cloned().collect();
        findings.extend(self.sockets.iter().filter_map(|(name, sockets)| {
            let listener = self.desired.listeners.get(name)?;
            let why = sockets.failed.values().next()?;
            let origin = listener.origin.clone();
            Some(Diagnostic::error(listener.id.clone(), Reason::ListenerUnavailable, origin, why.as_str()))
        }));
        findings.extend(board.iter().filter_map(|(provider, state)| silent(*provider, state)));
        findings.extend(self.setup.kept.borrow_and_update().values().cloned());
        findings.sort();
        findings.dedup();
        self.logged.log(&findings);

        let providers: Vec<ProviderReport> =
            board.iter().map(|(provider, state)| ProviderReport::of(*provider, state)).collect();
        let not_ready_because = self.not_ready(board);
        let loaded = self.certificates.loaded();
        let configured = loaded.iter().map(|(id, c)| CertificateReport::configured(id, c, &self.desired)).collect();
        let mut view = View {
            generation: self.setup.live.load().generation,
            changed: Timestamp::now(),
            desired: self.desired.clone(),
            verdicts: self.verdicts.clone(),
            findings: Arc::new(findings),
            providers,
            configured,
            issuers: self.tuning.issuers.values().cloned().collect(),
            policies: self.setup.live.load().policies().values().cloned().collect(),
            ready: not_ready_because.is_none(),
            not_ready_because,
        };
        view.keep_time_of(&self.view.borrow());
        let view = Arc::new(view);
        self.setup.metrics.set_providers(&view.providers);
        self.setup.metrics.set_problems(&view.findings);
        self.setup.metrics.set_endpoints_out(&view.verdicts);
        self.view.send_replace(view);
    }

    /// Ready when every provider that is on has answered once, or is known by its last good snapshot, and every listener
    /// is open on every worker, and every endpoint's name was looked up once, with success or without. From then on until the end: what an edit of the settings adds and cannot be had is a
    /// problem, but no reason to send clients away from all the rest.
    fn not_ready(&self, board: &Board) -> Option<String> {
        if self.setup.leaving.is_cancelled() {
            return Some("shutting down".into());
        }
        if self.view.borrow().ready {
            return None;
        }
        if let Some((provider, _)) = board.iter().find(|(_, state)| state.snapshot().is_none()) {
            return Some(format!("provider {provider} has not answered yet"));
        }
        self.desired
            .listeners
            .iter()
            .find_map(|(name, listener)| {
                let sockets = self.sockets.get(name);
                if let Some(why) = sockets.and_then(|sockets| sockets.failed.values().next()) {
                    return Some(format!("listener {name}: {why}"));
                }
                let open = |sockets: &Sockets| sockets.open.values().filter(|at| **at == listener.address).count();
                let all = sockets.is_some_and(|sockets| open(sockets) >= self.setup.workers);
                (!all).then(|| format!("listener {name} is being opened"))
            })
            .or_else(|| {
                let name = names::pending(&self.desired, self.names.current())?;
                Some(format!("the name {name} is being looked up"))
            })
    }
}

fn silent(provider: Provider, state: &ProviderState) -> Option<Diagnostic> {
    let ProviderState::Stale { last, since, why, restored } = state else { return None };
    let subject = ObjectId::new(&Source::new(provider, None), Kind::Provider, provider.as_str());
    let kept = match (last, restored) {
        (Some(_), Some(at)) => format!("what is served is its last good snapshot, of {at}"),
        (Some(_), None) => "its last good state stays in force".to_string(),
        (None, _) => "it has never answered".to_string(),
    };
    let detail = format!("{why}; out of reach since {since:.0}; {kept}");
    Some(Diagnostic::error(subject, diagnostic::Reason::ProviderUnavailable, Origin::Default, detail))
}

/// Sleeps until then, or for ever.
async fn at(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then.into()).await,
        None => std::future::pending().await,
    }
}

/// Whether the certificate of any endpoint is checked against the system's CAs.
fn trusts_the_system(desired: &Desired) -> bool {
    let mut endpoints = desired.services.values().flat_map(|service| &service.endpoints);
    endpoints.any(|endpoint| {
        let named = endpoint.tls.as_ref().is_some_and(|tls| tls.unverified || tls.has_trust());
        endpoint.scheme.is_secure() && !named
    })
}

/// Where what a URL said is kept in the state directory.
fn kept(url: &str) -> PathBuf {
    Path::new("fetched").join(crate::table::content::sha256_hex(url.as_bytes()))
}

/// Sleeps until a moment, or for ever.
async fn until(moment: Option<Timestamp>) {
    match moment {
        Some(moment) => {
            let left = moment.duration_since(Timestamp::now());
            tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}
