//! When a file is whole: a half-written one must never be read, since what is missing may be its policy.
//!
//! ```text
//! inotify signs ─┐
//! stat stamps   ─┴─▶ Settling ─▶ whole?
//! ```
//! A writer that closes the file, or a rename into place, makes it whole at once. One that is seen to write makes it
//! wait for that, however long it pauses. Where no signs come (network file systems, some bind mounts), a second
//! without change has to do. Pure.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

pub const QUIET: Duration = Duration::from_secs(1);

/// One version of a file: every change of content, and every replacement, has another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Where a symbolic link leads: a new place is a rename into place, as in the `..data` swap of ConfigMaps.
    pub place: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(metadata: &Metadata, place: PathBuf) -> Stamp {
        Stamp {
            place,
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// How long ago the content changed last, as the file says. Zero where its clock is ahead of ours.
pub fn age(metadata: &Metadata) -> Duration {
    metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
}

/// A file on its way to being whole.
#[derive(Debug, Clone)]
pub struct Settling {
    seen: Stamp,
    since: Instant,
    /// A writer has been seen at work and has not closed it yet.
    writing: bool,
    whole: bool,
    read: bool,
}

impl Settling {
    /// A file that nobody has touched for long enough is whole as it is found.
    pub fn found(stamp: Stamp, age: Duration, now: Instant) -> Settling {
        Settling { seen: stamp, since: now, writing: false, whole: age >= QUIET, read: false }
    }

    pub fn written(&mut self) {
        self.writing = true;
        self.whole = false;
    }

    /// Closed by its writer, or renamed into place.
    pub fn closed(&mut self) {
        self.writing = false;
        self.whole = true;
        self.read = false;
    }

    /// Signs have been lost: the close may have been among them.
    pub fn deafened(&mut self) {
        self.writing = false;
    }

    pub fn observe(&mut self, stamp: Stamp, now: Instant) {
        if stamp == self.seen {
            return;
        }
        // `whole` and unread: the close came first, and this is the version that it closed.
        let closed = self.whole && !self.read;
        self.whole = closed || (stamp.place != self.seen.place && !self.writing);
        self.seen = stamp;
        self.since = now;
        self.read = false;
    }

    /// Whether there is a version to be read now.
    pub fn is_ready(&self, now: Instant) -> bool {
        !self.read && (self.whole || (!self.writing && now >= self.since + QUIET))
    }

    pub fn was_read(&mut self) {
        self.read = true;
        self.whole = true;
    }

    /// It could not be read: another try is due whatever becomes of the stamp.
    pub fn was_not_read(&mut self, now: Instant) {
        self.read = false;
        self.whole = false;
        self.since = now;
    }

    pub fn is_read(&self) -> bool {
        self.read
    }

    /// When it will be whole if nothing more is heard of it.
    pub fn due(&self) -> Option<Instant> {
        (!self.read && !self.writing).then_some(self.since + QUIET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64) -> Stamp {
        Stamp { place: "/f".into(), device: 1, inode: 1, size, modified: (0, 0), changed: (0, 0) }
    }

    const OLD: Duration = Duration::from_secs(60);
    const YOUNG: Duration = Duration::from_millis(10);

    fn read(now: Instant) -> Settling {
        let mut file = Settling::found(stamp(1), OLD, now);
        file.was_read();
        file
    }

    #[test]
    fn at_the_start_an_old_file_is_whole_and_a_young_one_after_a_second() {
        let now = Instant::now();
        assert!(Settling::found(stamp(1), OLD, now).is_ready(now));
        let young = Settling::found(stamp(1), YOUNG, now);
        assert!(!young.is_ready(now));
        assert_eq!(young.due(), Some(now + QUIET));
        assert!(young.is_ready(now + QUIET));
    }

    #[test]
    fn a_writer_that_pauses_is_waited_for() {
        let now = Instant::now();
        for mut file in [Settling::found(stamp(1), YOUNG, now), Settling::found(stamp(1), OLD, now), read(now)] {
            file.written();
            file.observe(stamp(2), now);
            assert!(!file.is_ready(now + OLD), "{file:?}");
            assert_eq!(file.due(), None);
            file.closed();
            file.observe(stamp(3), now + OLD);
            assert!(file.is_ready(now + OLD), "{file:?}");
        }
    }

    #[test]
    fn without_signs_a_second_without_change_has_to_do() {
        let now = Instant::now();
        let mut file = read(now);
        assert!(!file.is_ready(now + OLD));
        file.observe(stamp(2), now);
        assert!(!file.is_ready(now));
        let later = now + QUIET / 2;
        file.observe(stamp(3), later);
        assert!(!file.is_ready(now + QUIET));
        assert!(file.is_ready(later + QUIET));
    }

    #[test]
    fn a_close_holds_for_one_version_only() {
        let now = Instant::now();
        let mut file = read(now);
        file.written();
        file.closed();
        file.observe(stamp(2), now);
        assert!(file.is_ready(now));
        file.was_read();
        file.observe(stamp(3), now);
        assert!(!file.is_ready(now), "nobody has closed this one");
        assert!(file.is_ready(now + QUIET), "nor is anybody known to write");
    }

    #[test]
    fn lost_signs_leave_the_second_without_change() {
        let now = Instant::now();
        let mut file = read(now);
        file.written();
        file.observe(stamp(2), now);
        file.deafened();
        assert!(!file.is_ready(now));
        assert!(file.is_ready(now + QUIET));
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_rename_into_place() {
        let now = Instant::now();
        let mut file = read(now);
        file.observe(Stamp { place: "/..2/f".into(), inode: 2, ..stamp(1) }, now);
        assert!(file.is_ready(now));
    }
}
