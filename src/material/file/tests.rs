use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

use tempfile::TempDir;
use tokio::time::timeout;

use super::watched::LARGEST;
use super::*;

/// Shorter than the look, so that what arrives within came by an event.
const AT_ONCE: Duration = Duration::from_millis(700);
/// Two looks and some more.
const IN_TIME: Duration = Duration::from_millis(3500);

fn dir() -> TempDir {
    tempfile::tempdir().expect("tempdir")
}

fn watch(paths: &[&Path]) -> FileWatch {
    let mut watch = FileWatch::new();
    watch.set(paths.iter().map(|path| path.to_path_buf()));
    watch
}

/// No events, as on a network file system.
fn looking(paths: &[&Path]) -> FileWatch {
    let mut watch = FileWatch { watcher: None, ..FileWatch::new() };
    watch.set(paths.iter().map(|path| path.to_path_buf()));
    watch
}

fn text(watch: &FileWatch, path: &Path) -> Result<String, String> {
    watch.current()[path].clone().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

async fn changes(watch: &mut FileWatch, within: Duration) -> bool {
    timeout(within, watch.changed()).await.is_ok()
}

#[tokio::test]
async fn what_is_set_is_read_at_once() {
    let dir = dir();
    let (here, missing) = (dir.path().join("here"), dir.path().join("missing"));
    put(&here, "one");
    let mut watch = watch(&[&here, &missing, dir.path()]);
    assert_eq!(text(&watch, &here).as_deref(), Ok("one"));
    let why = text(&watch, &missing).expect_err("missing");
    assert!(why.contains(&missing.display().to_string()), "{why}");
    assert!(text(&watch, dir.path()).expect_err("a directory").contains("not a file"));
    watch.set([missing.clone()]);
    assert_eq!(watch.current().into_keys().collect::<Vec<_>>(), [missing]);
}

#[tokio::test]
async fn a_rewritten_file_and_a_renamed_one_are_seen_at_once() {
    let dir = dir();
    let path = dir.path().join("tls.pem");
    put(&path, "one");
    let mut watch = watch(&[&path]);
    put(&path, "two");
    assert!(changes(&mut watch, AT_ONCE).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("two"));

    let beside = dir.path().join("tls.pem.new");
    put(&beside, "three");
    fs::rename(&beside, &path).expect("renamed");
    assert!(changes(&mut watch, AT_ONCE).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("three"));
}

#[tokio::test]
async fn a_file_that_its_writer_holds_open_is_not_read_in_halves() {
    let dir = dir();
    let path = dir.path().join("tls.pem");
    put(&path, "whole");
    let mut watch = watch(&[&path]);
    let mut writer = File::create(&path).expect("truncated");
    for part in ["first ", "second "] {
        writer.write_all(part.as_bytes()).expect("written");
        assert!(!changes(&mut watch, IN_TIME).await, "{:?}", text(&watch, &path));
    }
    writer.write_all(b"third").expect("written");
    drop(writer);
    assert!(changes(&mut watch, AT_ONCE).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("first second third"));
}

#[tokio::test]
async fn a_pair_that_is_replaced_together_is_one_change() {
    let dir = dir();
    let (cert, key) = (dir.path().join("cert"), dir.path().join("key"));
    put(&cert, "cert 1");
    put(&key, "key 1");
    let mut watch = watch(&[&cert, &key]);
    let writer = std::thread::spawn({
        let (cert, key) = (cert.clone(), key.clone());
        move || {
            put(&cert, "cert 2");
            std::thread::sleep(QUIET / 2);
            put(&key, "key 2");
        }
    });
    assert!(changes(&mut watch, AT_ONCE).await);
    assert_eq!((text(&watch, &cert), text(&watch, &key)), (Ok("cert 2".into()), Ok("key 2".into())));
    writer.join().expect("wrote");
    assert!(!changes(&mut watch, AT_ONCE).await);
}

#[tokio::test]
async fn what_is_read_the_same_is_no_change() {
    let dir = dir();
    let path = dir.path().join("tls.pem");
    put(&path, "one");
    let mut watch = watch(&[&path]);
    put(&path, "one");
    assert!(!changes(&mut watch, IN_TIME).await);
}

/// How kubelet replaces a Secret: a link in the middle of the path is renamed into place.
#[tokio::test]
async fn a_swapped_link_in_the_middle_is_seen_at_once() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    for (version, content) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(at(version)).expect("created");
        put(&at(version).join("tls.pem"), content);
    }
    symlink("..1", at("..data")).expect("linked");
    symlink("..data/tls.pem", at("tls.pem")).expect("linked");
    let path = at("tls.pem");
    let mut watch = watch(&[&path]);
    assert_eq!(text(&watch, &path).as_deref(), Ok("one"));
    symlink("..2", at("..data_tmp")).expect("linked");
    fs::rename(at("..data_tmp"), at("..data")).expect("renamed");
    fs::remove_dir_all(at("..1")).expect("removed");
    assert!(changes(&mut watch, AT_ONCE).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("two"));

    // The directory that the link leads to now is watched as well.
    put(&at("..2").join("tls.pem"), "three");
    assert!(changes(&mut watch, AT_ONCE).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("three"));
}

#[tokio::test]
async fn a_link_to_another_directory_is_followed() {
    let (links, live) = (dir(), dir());
    let (link, target) = (links.path().join("tls.pem"), live.path().join("fullchain1.pem"));
    put(&target, "one");
    symlink(&target, &link).expect("linked");
    let mut watch = watch(&[&link]);
    put(&target, "two");
    assert!(changes(&mut watch, AT_ONCE).await);
    assert_eq!(text(&watch, &link).as_deref(), Ok("two"));
}

/// The directory of the path is a link itself, and the swap happens where nobody watches.
#[tokio::test]
async fn a_swapped_link_further_up_is_seen_by_the_look() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    for (version, content) in [("v1", "one"), ("v2", "two")] {
        fs::create_dir(at(version)).expect("created");
        put(&at(version).join("tls.pem"), content);
    }
    symlink("v1", at("current")).expect("linked");
    let path = at("current").join("tls.pem");
    let mut watch = watch(&[&path]);
    symlink("v2", at("next")).expect("linked");
    fs::rename(at("next"), at("current")).expect("renamed");
    assert!(changes(&mut watch, IN_TIME).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("two"));
    // And its new directory is watched from then on.
    put(&at("v2").join("tls.pem"), "three");
    assert!(changes(&mut watch, AT_ONCE).await);
}

#[tokio::test]
async fn a_removed_file_says_so_and_comes_back() {
    let dir = dir();
    let path = dir.path().join("tls.pem");
    put(&path, "one");
    let mut watch = watch(&[&path]);
    fs::remove_file(&path).expect("removed");
    assert!(changes(&mut watch, IN_TIME).await);
    assert!(text(&watch, &path).is_err());
    put(&path, "two");
    assert!(changes(&mut watch, AT_ONCE).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("two"));
}

#[tokio::test]
async fn a_directory_that_is_made_again_is_watched_again() {
    let dir = dir();
    let path = dir.path().join("tls/tls.pem");
    fs::create_dir(dir.path().join("tls")).expect("created");
    put(&path, "one");
    let mut watch = watch(&[&path]);
    fs::remove_dir_all(dir.path().join("tls")).expect("removed");
    fs::create_dir(dir.path().join("tls")).expect("created");
    put(&path, "two");
    assert!(changes(&mut watch, IN_TIME).await);
    put(&path, "three");
    assert!(changes(&mut watch, AT_ONCE).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("three"));
}

#[tokio::test]
async fn a_path_through_a_linked_directory_has_its_events() {
    let dir = dir();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("real")).expect("created");
    symlink("real", at("link")).expect("linked");
    put(&at("real/one.pem"), "one");
    put(&at("real/two.pem"), "two");
    symlink("one.pem", at("real/tls.pem")).expect("linked");
    let path = at("link/tls.pem");
    let mut watch = watch(&[&path]);
    symlink("two.pem", at("real/next")).expect("linked");
    fs::rename(at("real/next"), at("real/tls.pem")).expect("renamed");
    assert!(changes(&mut watch, AT_ONCE).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("two"));
}

#[tokio::test]
async fn a_lost_event_leaves_no_file_waiting_for_ever() {
    let dir = dir();
    let path = dir.path().join("tls.pem");
    put(&path, "one");
    let mut watch = looking(&[&path]);
    put(&path, "two");
    watch.heed(Hint::Written(place(&path).expect("a place")));
    assert!(!changes(&mut watch, IN_TIME).await);
    watch.heed(Hint::Lost);
    assert!(changes(&mut watch, IN_TIME).await);
}

#[tokio::test]
async fn a_directory_that_comes_later_is_found() {
    let dir = dir();
    let path = dir.path().join("later/tls.pem");
    let mut watch = watch(&[&path]);
    assert!(text(&watch, &path).is_err());
    fs::create_dir(dir.path().join("later")).expect("created");
    put(&path, "one");
    assert!(changes(&mut watch, IN_TIME).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("one"));
}

#[tokio::test]
async fn without_events_a_change_is_read_when_it_has_settled() {
    let dir = dir();
    let path = dir.path().join("tls.pem");
    put(&path, "one");
    let mut watch = looking(&[&path]);
    let mut writer = File::create(&path).expect("truncated");
    // A part every 0.6 s: no two looks see the same file.
    for part in ["a", "b", "c", "d", "e"] {
        writer.write_all(part.as_bytes()).expect("written");
        assert!(!changes(&mut watch, Duration::from_millis(600)).await, "{:?}", text(&watch, &path));
    }
    drop(writer);
    assert!(changes(&mut watch, IN_TIME).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("abcde"));
}

#[tokio::test]
async fn an_old_modification_time_hides_nothing() {
    let dir = dir();
    let path = dir.path().join("tls.pem");
    put(&path, "one");
    let mut watch = looking(&[&path]);
    let time = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
    put(&path, "two");
    File::options().append(true).open(&path).and_then(|file| file.set_modified(time)).expect("set");
    assert!(changes(&mut watch, IN_TIME).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("two"));
}

#[tokio::test]
async fn a_pipe_and_a_huge_file_hold_nobody_up() {
    let dir = dir();
    let (pipe, huge) = (dir.path().join("pipe"), dir.path().join("huge"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    File::create(&huge).and_then(|file| file.set_len(LARGEST + 1)).expect("made");
    let watch = watch(&[&pipe, &huge]);
    assert!(text(&watch, &pipe).expect_err("a pipe").contains("not a file"));
    assert!(text(&watch, &huge).expect_err("huge").contains("larger"));
}

#[tokio::test]
async fn a_mended_permission_is_noticed() {
    let dir = dir();
    let path = dir.path().join("tls.pem");
    put(&path, "one");
    fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("taken");
    let mut watch = looking(&[&path]);
    if text(&watch, &path).is_ok() {
        // Root reads everything; there is nothing to see here.
        return;
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("given");
    assert!(changes(&mut watch, IN_TIME).await);
    assert_eq!(text(&watch, &path).as_deref(), Ok("one"));
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let dir = dir();
    let path = dir.path().join("tls.pem");
    put(&path, "one");
    let mut watch = watch(&[&path]);
    put(&path, "two");
    for _ in 0..20 {
        if changes(&mut watch, Duration::from_millis(15)).await {
            assert_eq!(text(&watch, &path).as_deref(), Ok("two"));
            return;
        }
    }
    panic!("the change was lost");
}
