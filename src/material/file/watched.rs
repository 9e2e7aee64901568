//! One watched file: what was read from it last, and whether it is whole enough to be read again.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// No certificate, bundle or revocation list comes near it; a device or a log file does.
pub(super) const LARGEST: u64 = 32 << 20;

/// The content of one file, or why there is none, in words for a person.
pub type Content = Result<Arc<[u8]>, String>;

#[derive(Debug)]
pub(super) struct Watched {
    pub content: Content,
    /// Of the file that `content` was read from; `None` where there was none.
    stamp: Option<Stamp>,
    /// A different one, seen by the last look.
    changing: Option<Option<Stamp>>,
    /// What a writer is at work on and has not closed.
    written: Option<Identity>,
}

/// Two equal stamps: the same content, as far as the file system tells. The change time is what a mended permission and
/// a copy that keeps the old modification time show up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Device and inode: the same for as long as it is one file or directory, whatever leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Watched {
    pub fn unread() -> Watched {
        Watched { content: Err("it was not read yet".into()), stamp: None, changing: None, written: None }
    }

    /// Until it is closed, or another file takes its place, no look reads it: half a file can rest for long.
    pub fn being_written(&mut self, path: &Path) {
        self.written = Identity::of(path);
    }

    pub fn closed(&mut self) {
        self.written = None;
    }

    /// Whether the content is another than before. A file that changed while it was read is left to the next look.
    pub fn read(&mut self, path: &Path) -> bool {
        let before = Stamp::of(path);
        let content = read_whole(path);
        if Stamp::of(path) != before {
            self.changing = Some(before);
            return false;
        }
        self.stamp = before;
        self.changing = None;
        let changed = self.content != content;
        self.content = content;
        changed
    }

    /// Reads a file that differs from what was read, and did not change since the look before.
    pub fn look(&mut self, path: &Path) -> bool {
        let seen = Stamp::of(path);
        if seen == self.stamp {
            self.changing = None;
            return false;
        }
        let written = self.written.is_some() && self.written == seen.map(|stamp| stamp.identity);
        if written || self.changing != Some(seen) {
            self.changing = Some(seen);
            return false;
        }
        self.read(path)
    }
}

impl Stamp {
    /// Of the file that the path leads to, through all links.
    fn of(path: &Path) -> Option<Stamp> {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            identity: Identity::from(&metadata),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Identity {
    pub fn of(path: &Path) -> Option<Identity> {
        fs::metadata(path).ok().as_ref().map(Identity::from)
    }
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Identity {
        Identity(metadata.dev(), metadata.ino())
    }
}

fn read_whole(path: &Path) -> Content {
    let told = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    // Asked before it is opened: opening a pipe waits for its other end.
    let metadata = fs::metadata(path).map_err(told)?;
    if !metadata.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(told)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("{} is larger than {} MiB", path.display(), LARGEST >> 20));
    }
    Ok(bytes.into())
}
