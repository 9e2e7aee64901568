//! The file provider: a directory of YAML and JSON files, or one file, as the operator's own objects.
//!
//! ```text
//! inotify ─┐            settle: whole?         content: readable?
//! poll 1 s ┴─▶ Shelf ───────────────▶ each ─────────────────────▶ one Snapshot over all files
//! ```
//! A file is read when its writer closes it or it is renamed into place; one that cannot be read keeps its last good
//! content in force. A file that goes takes its objects along.

mod content;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::settings::FileSettings;
use crate::model::diagnostic::{Diagnostic, Origin, Severity};
use crate::model::{self, Snapshot};

use super::{Provider, SnapshotSink};
use content::Content;
use settle::{Settling, Stamp};

const POLL: Duration = Duration::from_secs(1);
/// How long the first answer waits for files that are being written.
const PATIENCE: Duration = Duration::from_secs(3);
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

pub struct File {
    settings: FileSettings,
}

impl File {
    pub fn new(settings: FileSettings) -> File {
        File { settings }
    }
}

impl Provider for File {
    fn name(&self) -> model::Provider {
        model::Provider::File
    }

    async fn run(self, out: SnapshotSink, stop: CancellationToken) -> Result<(), String> {
        stop.run_until_cancelled(follow(self.settings.path, &out)).await.unwrap_or(Ok(()))
    }
}

async fn follow(root: PathBuf, out: &SnapshotSink) -> Result<(), String> {
    let (signs, mut heard) = mpsc::unbounded_channel();
    let mut shelf = Shelf::new(root, signs);
    let mut pending: Vec<Sign> = Vec::new();
    let mut spoken = false;
    let started = Instant::now();
    loop {
        while let Ok(sign) = heard.try_recv() {
            pending.push(sign);
        }
        let signs = std::mem::take(&mut pending);
        // A network file system may take its time; the runtime's threads are not for that.
        let look = move || {
            let found = shelf.look(signs, Instant::now());
            (shelf, found)
        };
        let (back, found) =
            tokio::task::spawn_blocking(look).await.map_err(|error| format!("reading files: {error}"))?;
        shelf = back;
        match found {
            Ok(changed) => {
                let complete = shelf.is_read() || started.elapsed() >= PATIENCE;
                if (changed && spoken) || (!spoken && complete) {
                    out.live(shelf.snapshot());
                    spoken = true;
                }
            }
            Err(why) => {
                out.stale(why);
                spoken = false;
            }
        }
        let now = Instant::now();
        let wake = shelf.due().map_or(now + POLL, |due| due.clamp(now, now + POLL));
        let deadline = tokio::time::Instant::from_std(wake);
        loop {
            tokio::select! {
                sign = heard.recv() => match sign {
                    // Being written is only to be known, not to be acted on.
                    Some(sign @ Sign::Written(_)) => pending.push(sign),
                    Some(sign) => {
                        pending.push(sign);
                        break;
                    }
                    None => return Err("the file watcher ended".into()),
                },
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
    }
}

/// What inotify tells, by file name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sign {
    Written(OsString),
    /// Closed by its writer, or renamed into place.
    Closed(OsString),
    /// Something came, went or has another owner: look.
    Changed,
    /// The queue overflowed.
    Lost,
}

/// The files, the watch on them, and what they said.
struct Shelf {
    root: PathBuf,
    signs: mpsc::UnboundedSender<Sign>,
    watch: Option<Watch>,
    missing: bool,
    files: BTreeMap<PathBuf, (Settling, Content)>,
}

/// Holds for the directory with this device and inode: another one of that name needs another watch.
struct Watch {
    of: (u64, u64),
    _watcher: Option<RecommendedWatcher>,
}

impl Shelf {
    fn new(root: PathBuf, signs: mpsc::UnboundedSender<Sign>) -> Shelf {
        Shelf { root, signs, watch: None, missing: false, files: BTreeMap::new() }
    }

    /// Looks at everything once. Says whether what is in force has changed; fails where that cannot be known.
    fn look(&mut self, signs: Vec<Sign>, now: Instant) -> Result<bool, String> {
        // The watch comes before the look, so that nothing falls between the two.
        if self.watch_anew() {
            self.files.values_mut().for_each(|(settling, _)| settling.deafened());
        }
        let found = match list(&self.root) {
            Ok(found) => found,
            Err(error) => return Err(format!("{}: {error}", self.root.display())),
        };
        let mut changed = std::mem::replace(&mut self.missing, found.is_none()) != found.is_none();
        let found = found.unwrap_or_default();
        let before = self.files.len();
        self.files.retain(|path, _| found.contains(path));
        changed |= self.files.len() != before;
        let stamps: Vec<(PathBuf, Option<Stamp>)> = found.into_iter().map(|path| self.meet(path, now)).collect();
        // Only now: the signs may be about files that have just been met.
        for sign in signs {
            self.hear(&sign);
        }
        for (path, stamp) in stamps {
            changed |= self.read(&path, stamp, now);
        }
        Ok(changed)
    }

    fn hear(&mut self, sign: &Sign) {
        for (path, (settling, _)) in &mut self.files {
            match sign {
                Sign::Written(name) if path.file_name() == Some(name) => settling.written(),
                Sign::Closed(name) if path.file_name() == Some(name) => settling.closed(),
                Sign::Lost => settling.deafened(),
                Sign::Written(_) | Sign::Closed(_) | Sign::Changed => {}
            }
        }
    }

    /// `None` for what is no file: a directory, a socket, a link to nothing.
    fn meet(&mut self, path: PathBuf, now: Instant) -> (PathBuf, Option<Stamp>) {
        let metadata = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file);
        let (Some(metadata), Ok(place)) = (metadata, std::fs::canonicalize(&path)) else { return (path, None) };
        let stamp = Stamp::of(&metadata, place);
        self.files.entry(path.clone()).or_insert_with(|| {
            (Settling::found(stamp.clone(), settle::age(&metadata), now), Content::unread(&path.display().to_string()))
        });
        (path, Some(stamp))
    }

    fn read(&mut self, path: &Path, stamp: Option<Stamp>, now: Instant) -> bool {
        let Some(stamp) = stamp else { return self.files.remove(path).is_some() };
        let Some((settling, content)) = self.files.get_mut(path) else { return false };
        settling.observe(stamp, now);
        if !settling.is_ready(now) {
            return false;
        }
        let bytes = std::fs::read(path);
        match bytes {
            Ok(_) => settling.was_read(),
            Err(_) => settling.was_not_read(now),
        }
        content.take(bytes.map_err(|error| error.to_string()))
    }

    /// Whether a new watch had to be set.
    fn watch_anew(&mut self) -> bool {
        let Ok(metadata) = std::fs::metadata(&self.root) else {
            self.watch = None;
            return false;
        };
        // A single file is watched through its directory as well: whoever replaces it renames another one there.
        let parent = self.root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory = if metadata.is_dir() { self.root.as_path() } else { parent };
        let of = (metadata.dev(), metadata.ino());
        if self.watch.as_ref().is_some_and(|watch| watch.of == of) {
            return false;
        }
        let signs = self.signs.clone();
        let only = (!metadata.is_dir()).then(|| self.root.file_name().map(OsString::from)).flatten();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            for sign in event.iter().flat_map(read_signs).filter(|sign| concerns(sign, only.as_ref())) {
                // Nobody listens any more: the provider is stopping.
                let _ = signs.send(sign);
            }
        });
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
            if !metadata.is_dir() {
                watcher.watch(&self.root, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        if let Err(error) = &watcher {
            let path = self.root.display().to_string();
            tracing::warn!(provider = "file", path, "cannot be watched, only looked at every second: {error}");
        }
        self.watch = Some(Watch { of, _watcher: watcher.ok() });
        true
    }

    /// Whether every file that is there has been read.
    fn is_read(&self) -> bool {
        self.files.values().all(|(settling, _)| settling.is_read())
    }

    fn due(&self) -> Option<Instant> {
        self.files.values().filter_map(|(settling, _)| settling.due()).min()
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::empty(model::Provider::File);
        for (_, content) in self.files.values() {
            content.in_force(&mut snapshot);
        }
        if self.missing {
            snapshot.findings.push(self.missing_root());
        }
        snapshot
    }

    fn missing_root(&self) -> Diagnostic {
        let path: Arc<str> = self.root.display().to_string().into();
        let origin = Origin::File { path: path.clone(), line: 0, column: 0 };
        let detail = "there is no such directory or file, so nothing comes from it; it is read as soon as it appears";
        Diagnostic { severity: Severity::Warning, ..content::unreadable(&path, origin, detail.to_string()) }
    }
}

/// Sorted. `None` where the root is not there.
fn list(root: &Path) -> std::io::Result<Option<Vec<PathBuf>>> {
    let absent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match std::fs::metadata(root) {
        Err(error) if absent(&error) => return Ok(None),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_dir() => return Ok(Some(vec![root.to_path_buf()])),
        Ok(_) => {}
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = path.extension().and_then(|e| e.to_str()).is_some_and(|e| EXTENSIONS.contains(&e));
        if known && !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(Some(paths))
}

fn read_signs(event: &notify::Event) -> Vec<Sign> {
    if event.need_rescan() {
        return vec![Sign::Lost];
    }
    let named = |sign: fn(OsString) -> Sign| {
        event.paths.iter().filter_map(|path| path.file_name()).map(|name| sign(name.to_os_string())).collect()
    };
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => named(Sign::Closed),
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => named(Sign::Written),
        // Our own reading opens files.
        EventKind::Access(_) => Vec::new(),
        _ => vec![Sign::Changed],
    }
}

/// In the directory of a single file, its neighbours are nobody's business.
fn concerns(sign: &Sign, only: Option<&OsString>) -> bool {
    match (sign, only) {
        (Sign::Written(name) | Sign::Closed(name), Some(only)) => name == only,
        _ => true,
    }
}
