//! Files that somebody else writes, read whenever they are whole.
//!
//! ```text
//! set(paths) ─▶ FileWatch ◀─ inotify: closed by its writer, or renamed into place ─▶ read after a short quiet
//!                  │      ◀─ a look every second: changed, then the same twice ────▶ read
//!                  ▼
//!              changed() ─▶ current(): path to content, or why there is none
//! ```
//!
//! Events are hints; the look every second finds what they miss: network file systems, mounts of a single file, a
//! symlink further up that was swapped. A file that is still being written is read by neither: its writer has not closed
//! it, and where no event tells that, its size or time differs from one second to the next. Two files that belong
//! together and are replaced together are reported together; where they are not, the caller sees a pair that does not
//! match, and keeps the last one that did: that judgement, and the last good content, are the caller's.

mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, Event, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep_until};

pub use self::watched::Content;
use self::watched::{Identity, Watched};

/// Between looks, and how long a file must stay the same where no event says that it is whole.
const LOOK: Duration = Duration::from_secs(1);
/// Quiet after an event before files are read, so that a certificate and its key arrive as one change.
const QUIET: Duration = Duration::from_millis(100);
/// Read by then even if events keep coming.
const PATIENCE: Duration = Duration::from_secs(1);

/// A set of files and what is in them. Reads block the calling thread for as long as the disk does: keep it off the
/// threads that serve requests.
#[derive(Debug)]
pub struct FileWatch {
    files: BTreeMap<PathBuf, Watched>,
    /// `None` where the system gives no watcher: the look every second goes on alone.
    watcher: Option<RecommendedWatcher>,
    /// Watched now, each under its one name without links. One that was removed and made again needs a new watch.
    directories: BTreeMap<PathBuf, Identity>,
    hints: UnboundedReceiver<Hint>,
    next_look: Instant,
    /// Whole since the last read, as far as events tell.
    whole: BTreeSet<PathBuf>,
    due: Option<Due>,
}

/// When to read what is whole.
#[derive(Debug, Clone, Copy)]
struct Due {
    quiet: Instant,
    latest: Instant,
}

/// What an event says about a path without links.
#[derive(Debug)]
enum Hint {
    /// Closed by its writer, renamed into place, or renamed away.
    Whole(PathBuf),
    Written(PathBuf),
    /// A link or a directory was put into place: any path through it may be another file now.
    Swapped(PathBuf),
    /// A file or a directory, and what watched the latter with it, whatever takes its place under the same name.
    Gone(PathBuf),
    /// There were more events than the system keeps.
    Lost,
}

impl FileWatch {
    /// Watches nothing yet.
    pub fn new() -> FileWatch {
        let (sender, hints) = unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            for hint in event.iter().flat_map(Hint::from_event) {
                // Nobody listens any more: the watch is being dropped.
                let _ = sender.send(hint);
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "no file events here; files are looked at once a second"))
            .ok();
        FileWatch {
            files: BTreeMap::new(),
            watcher,
            directories: BTreeMap::new(),
            hints,
            next_look: Instant::now() + LOOK,
            whole: BTreeSet::new(),
            due: None,
        }
    }

    /// From now on these files and no others. New ones are read before this returns, so that [`FileWatch::current`]
    /// speaks of all of them; what is known of the others is kept.
    pub fn set(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let paths: BTreeSet<PathBuf> = paths.into_iter().collect();
        self.files.retain(|path, _| paths.contains(path));
        let new: Vec<PathBuf> = paths.into_iter().filter(|path| !self.files.contains_key(path)).collect();
        self.files.extend(new.iter().map(|path| (path.clone(), Watched::unread())));
        // Before the read: what changes in between has its event.
        self.watch_directories();
        for path in &new {
            self.read(path);
        }
    }

    /// What every path holds, or why it holds nothing: as of the last read.
    pub fn current(&self) -> BTreeMap<PathBuf, Content> {
        self.files.iter().map(|(path, file)| (path.clone(), file.content.clone())).collect()
    }

    /// Waits until at least one content, or the reason for its absence, differs from what [`FileWatch::current`] said.
    /// May be dropped and called again without losing anything.
    pub async fn changed(&mut self) {
        loop {
            let wake = self.due.map_or(self.next_look, |due| due.at().min(self.next_look));
            tokio::select! {
                Some(hint) = self.hints.recv() => self.heed(hint),
                () = sleep_until(wake) => if self.wake(Instant::now()) { return },
            }
        }
    }

    fn wake(&mut self, now: Instant) -> bool {
        let mut changed = false;
        if self.due.is_some_and(|due| due.at() <= now) {
            self.due = None;
            for path in std::mem::take(&mut self.whole) {
                changed |= self.read(&path);
            }
            self.watch_directories();
        }
        if self.next_look <= now {
            self.next_look = now + LOOK;
            for (path, file) in &mut self.files {
                changed |= file.look(path);
            }
            self.watch_directories();
        }
        changed
    }

    fn heed(&mut self, hint: Hint) {
        if let Hint::Gone(event) = &hint {
            self.directories.remove(event);
            return;
        }
        let mut whole = false;
        for (path, file) in &mut self.files {
            match &hint {
                Hint::Whole(event) if is_same(path, event) => {}
                Hint::Swapped(event) if is_below(path, event) => {}
                Hint::Written(event) if is_same(path, event) => {
                    file.being_written(path);
                    self.whole.remove(path);
                    continue;
                }
                Hint::Lost => {}
                _ => continue,
            }
            file.closed();
            // What was lost may be the end of a file or its beginning: the look finds out.
            if !matches!(hint, Hint::Lost) {
                self.whole.insert(path.clone());
                whole = true;
            }
        }
        if whole {
            let now = Instant::now();
            let latest = self.due.map_or(now + PATIENCE, |due| due.latest);
            self.due = Some(Due { quiet: now + QUIET, latest });
        }
    }

    fn read(&mut self, path: &Path) -> bool {
        self.files.get_mut(path).is_some_and(|file| file.read(path))
    }

    /// The directories in which something may be put into a path's place: its own and that of the file which it leads
    /// to. Directories rather than files: a file that was replaced would take its watch with it.
    fn watch_directories(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let places = self.files.keys().flat_map(|path| [place(path), fs::canonicalize(path).ok()]);
        let directories = places.flatten().filter_map(|place| place.parent().map(Path::to_path_buf));
        let wanted: BTreeMap<PathBuf, Identity> =
            directories.filter_map(|directory| Some((directory.clone(), Identity::of(&directory)?))).collect();
        self.directories.retain(|directory, identity| {
            let kept = wanted.get(directory) == Some(identity);
            if !kept {
                // It may be gone from the disk, and its watch with it.
                let _ = watcher.unwatch(directory);
            }
            kept
        });
        for (directory, identity) in wanted {
            if self.directories.contains_key(&directory) {
                continue;
            }
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.directories.insert(directory, identity)),
                // Tried again after the next look, which also does without.
                Err(error) => tracing::debug!(directory = %directory.display(), %error, "not watched"),
            }
        }
    }
}

impl Default for FileWatch {
    fn default() -> FileWatch {
        FileWatch::new()
    }
}

impl Due {
    fn at(self) -> Instant {
        self.quiet.min(self.latest)
    }
}

impl Hint {
    /// Openings say nothing about a file being whole; our own reads are among them.
    fn from_event(event: &Event) -> Vec<Hint> {
        if event.need_rescan() {
            return vec![Hint::Lost];
        }
        let hint: fn(PathBuf) -> Hint = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Hint::Whole,
            EventKind::Modify(ModifyKind::Data(_)) => Hint::Written,
            EventKind::Modify(ModifyKind::Name(_)) => Hint::from_rename,
            EventKind::Remove(_) => Hint::Gone,
            _ => return Vec::new(),
        };
        event.paths.iter().cloned().map(hint).collect()
    }

    fn from_rename(path: PathBuf) -> Hint {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() || metadata.is_dir() => Hint::Swapped(path),
            _ => Hint::Whole(path),
        }
    }
}

/// Where a path stands: its directory without links, and its own name, which may be one.
fn place(path: &Path) -> Option<PathBuf> {
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return None,
    };
    Some(fs::canonicalize(directory).ok()?.join(path.file_name()?))
}

/// By name, or by what it leads to.
fn is_same(path: &Path, event: &Path) -> bool {
    place(path).is_some_and(|place| place == event) || fs::canonicalize(path).is_ok_and(|target| target == event)
}

/// Which links a path goes through is not worth finding out: a read that changes nothing is no change.
fn is_below(path: &Path, event: &Path) -> bool {
    event.parent().is_some_and(|directory| place(path).is_some_and(|place| place.starts_with(directory)))
}

#[cfg(test)]
mod tests;
