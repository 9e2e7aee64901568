//! Files that are whole or absent, whatever happens while they are written.
//!
//! ```text
//! bytes ─▶ .name.new (0600, fsync) ─rename─▶ name (fsync of the directory)
//! ```
//!
//! The temporary name is always the same, so that what a crash leaves behind is overwritten by the next write and keys
//! do not pile up. Callers therefore hold a lock while they write: [`super::state`] and [`super::ca`] do.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// For keys and for everything that names them.
pub const PRIVATE: u32 = 0o600;
/// For what anybody may read, where the directory lets them.
pub const PUBLIC: u32 = 0o644;

/// After a return of `Ok` the file survives a power cut; after an error the old content, or its absence, stands.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not name a file"));
    };
    let temporary = temporary_beside(directory, name.to_os_string());
    let written = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one worth telling.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

/// Creates `path` and what is missing above it, each for the owner alone. A directory that exists keeps its mode: in
/// containers it is a volume that somebody else made.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    create_private_dir(parent)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        // A file that is synced in a directory that is not would go with it.
        Ok(()) => File::open(parent)?.sync_all(),
    }
}

/// The lock is the caller's from `lock` or `try_lock` on; the content means nothing.
pub fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(PRIVATE).open(path)
}

/// `None` where there is no such file: an absent file and an unreadable one are never the same.
pub fn read_if_present(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn temporary_beside(directory: &Path, name: OsString) -> PathBuf {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    directory.join(temporary)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)?;
    file.write_all(bytes)?;
    // Set rather than asked for at creation: the umask would have its say there.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.json");
        write_atomic(&path, b"a long first content", PUBLIC).expect("written");
        write_atomic(&path, b"short", PRIVATE).expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"short");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn what_a_crash_left_behind_is_neither_used_nor_in_the_way() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a.json");
        fs::write(dir.path().join(".a.json.new"), "half a fi").expect("written");
        assert_eq!(read_if_present(&path).expect("readable"), None);
        write_atomic(&path, b"whole", PRIVATE).expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"whole");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_content_and_no_temporary_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        // A directory cannot be replaced by a file, so the rename fails.
        let path = dir.path().join("taken");
        fs::create_dir(&path).expect("created");
        fs::write(path.join("inside"), "old").expect("written");
        assert!(write_atomic(&path, b"new", PRIVATE).is_err());
        assert_eq!(fs::read(path.join("inside")).expect("read"), b"old");
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
