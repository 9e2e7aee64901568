//! The provider on a real directory, with real signs from the kernel.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use super::*;
use crate::model::ProviderState;
use crate::provider::{Board, supervise};

struct Running {
    board: watch::Receiver<Board>,
    _stop: DropGuard,
}

impl Running {
    fn on(path: &Path) -> Running {
        let (sender, board) = watch::channel(Board::new());
        let stop = CancellationToken::new();
        supervise(File::new(FileSettings { path: path.into() }), "".into(), None, &Arc::new(sender), stop.clone());
        Running { board, _stop: stop.drop_guard() }
    }

    /// Hosts in force and the details of findings, once the provider has said something.
    fn says(&self) -> Option<(Vec<String>, Vec<String>)> {
        let board = self.board.borrow();
        let Some(ProviderState::Live(snapshot)) = board.get(&model::Provider::File) else { return None };
        let hosts = snapshot.routes.iter().map(|route| route.matches[0].to_string()).collect();
        Some((hosts, snapshot.findings.iter().map(|finding| finding.to_string()).collect()))
    }

    /// Waits for these hosts, and for a finding or for none. Hands back the findings.
    async fn until(&self, limit: Duration, hosts: &[&str], finding: bool) -> Vec<String> {
        let end = Instant::now() + limit;
        loop {
            let said = self.says();
            match &said {
                Some((said, findings)) if said == hosts && findings.is_empty() != finding => return findings.clone(),
                _ if Instant::now() > end => panic!("{said:?} instead of {hosts:?} after {limit:?}"),
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

const SOON: Duration = Duration::from_secs(5);

fn route(host: &str) -> String {
    format!("routes: {{ r: {{ host: {host}, service: s }} }}\n")
}

/// Written elsewhere and renamed into place.
fn place(path: &Path, text: &str) {
    let draft = path.with_file_name(".draft");
    std::fs::write(&draft, text).expect("writable");
    std::fs::rename(draft, path).expect("renamed");
}

async fn write_with_a_pause(running: &Running, path: &Path) {
    let before = running.says().expect("live");
    let mut writer = std::fs::File::create(path).expect("writable");
    writer.write_all(b"routes:\n  r:\n    host: b.example\n").expect("written");
    writer.flush().expect("flushed");
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(running.says().expect("live"), before, "half of {}", path.display());
    writer.write_all(b"    mtls: partners\n    path: /whole\n").expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_pauses_before_the_policy_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = dir.path().join("1-shop.yaml");
    place(&shop, "routes: { r: { host: a.example, mtls: partners } }\n");
    let running = Running::on(dir.path());
    running.until(SOON, &["a.example/"], false).await;

    for (path, hosts) in
        [(shop, &["b.example/whole"][..]), (dir.path().join("2-new.yaml"), &["b.example/whole", "b.example/whole"])]
    {
        write_with_a_pause(&running, &path).await;
        running.until(SOON, hosts, false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_change_break_and_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = Running::on(dir.path());
    running.until(SOON, &[], false).await;
    let (one, two) = (dir.path().join("1.yaml"), dir.path().join("2.json"));
    std::fs::write(&one, route("a.example")).expect("written");
    running.until(SOON, &["a.example/"], false).await;
    place(&two, r#"{"routes": {"r": {"host": "b.example"}}}"#);
    place(&dir.path().join("3.txt"), &route("no.example"));
    running.until(SOON, &["a.example/", "b.example/"], false).await;

    std::fs::write(&one, "routes: [\n").expect("written");
    let findings = running.until(SOON, &["a.example/", "b.example/"], true).await;
    assert!(
        findings.iter().any(|finding| finding.contains("1.yaml:") && finding.contains("Unreadable")),
        "{findings:?}"
    );

    std::fs::remove_file(&one).expect("removed");
    running.until(SOON, &["b.example/"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_swap_of_a_config_map_is_a_rename_into_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    for (version, host) in [("..1", "a.example"), ("..2", "b.example")] {
        std::fs::create_dir(at(version)).expect("made");
        std::fs::write(at(version).join("r.yaml"), route(host)).expect("written");
    }
    symlink("..1", at("..data")).expect("linked");
    symlink("..data/r.yaml", at("r.yaml")).expect("linked");
    let running = Running::on(dir.path());
    running.until(SOON, &["a.example/"], false).await;
    symlink("..2", at("..data_tmp")).expect("linked");
    std::fs::rename(at("..data_tmp"), at("..data")).expect("renamed");
    running.until(SOON, &["b.example/"], false).await;
    std::fs::remove_dir_all(at("..1")).expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_directory_says_so_and_is_read_when_it_appears() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("routes.d");
    let running = Running::on(&root);
    for _ in 0..2 {
        let findings = running.until(SOON, &[], true).await;
        assert!(findings[0].contains("no such directory"), "{findings:?}");
        std::fs::create_dir(&root).expect("made");
        std::fs::write(root.join("r.yml"), route("a.example")).expect("written");
        running.until(SOON, &["a.example/"], false).await;
        // The watch is on the directory that is there now.
        place(&root.join("r.yml"), &route("b.example"));
        running.until(SOON, &["b.example/"], false).await;
        std::fs::remove_dir_all(&root).expect("removed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_is_followed_through_writing_and_replacing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("routes.conf");
    std::fs::write(&path, route("a.example")).expect("written");
    let running = Running::on(&path);
    running.until(SOON, &["a.example/"], false).await;
    std::fs::write(&path, route("b.example")).expect("written");
    running.until(SOON, &["b.example/"], false).await;
    place(&path, &route("c.example"));
    running.until(SOON, &["c.example/"], false).await;
    std::fs::write(&path, route("d.example")).expect("written");
    running.until(SOON, &["d.example/"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_in_two_files_is_two_objects() {
    let dir = tempfile::tempdir().expect("a directory");
    place(&dir.path().join("1.yaml"), &route("a.example"));
    place(&dir.path().join("2.yaml"), &route("b.example"));
    let running = Running::on(dir.path());
    running.until(SOON, &["a.example/", "b.example/"], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_directory_of_the_same_name_is_watched_in_its_stead() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    for (version, host) in [("now", "a.example"), ("next", "b.example")] {
        std::fs::create_dir(at(version)).expect("made");
        std::fs::write(at(version).join("r.yaml"), route(host)).expect("written");
    }
    symlink("now", at("root")).expect("linked");
    let running = Running::on(&at("root"));
    running.until(SOON, &["a.example/"], false).await;
    symlink("next", at("swap")).expect("linked");
    std::fs::rename(at("swap"), at("root")).expect("renamed");
    running.until(SOON, &["b.example/"], false).await;
    write_with_a_pause(&running, &at("root").join("r.yaml")).await;
    running.until(SOON, &["b.example/whole"], false).await;
}
