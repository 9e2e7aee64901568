//! The system's store of CAs, where a root is added for every program of this machine that uses it.
//!
//! ```text
//! / ─Layout::of─▶ a directory for files of one root each, and the tool that makes them known
//! ```
//! Debian's ca-certificates and Alpine's share their places; so do Fedora's and those of its relatives.

use std::io;
use std::path::{Path, PathBuf};

/// One way of keeping such a store.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// Whoever has one of them keeps its store so. Below the root directory.
    marks: &'static [&'static str],
    directory: &'static str,
    /// A program and its arguments, after a file came, and after one went.
    pub after_adding: &'static [&'static str],
    pub after_removing: &'static [&'static str],
    /// Where the program comes from.
    pub package: &'static str,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        marks: &["etc/pki/ca-trust/source", "etc/fedora-release", "etc/redhat-release"],
        directory: "etc/pki/ca-trust/source/anchors",
        after_adding: &["update-ca-trust", "extract"],
        after_removing: &["update-ca-trust", "extract"],
        package: "ca-certificates",
    },
    Layout {
        marks: &["usr/local/share/ca-certificates", "etc/debian_version", "etc/alpine-release"],
        directory: "usr/local/share/ca-certificates",
        after_adding: &["update-ca-certificates"],
        // Debian's leaves the links of what went otherwise, unless something else came or went; Alpine's takes no options.
        after_removing: &["update-ca-certificates", "--fresh"],
        package: "ca-certificates",
    },
];

impl Layout {
    /// Of the system below `root`, which is `/` but in tests.
    pub fn of(root: &Path) -> Option<&'static Layout> {
        LAYOUTS.iter().find(|layout| layout.marks.iter().any(|mark| root.join(mark).exists()))
    }

    pub fn directory(&self, root: &Path) -> PathBuf {
        root.join(self.directory)
    }
}

/// The name of a root's file: one root each, because Debian's tool links no file of several. `fingerprint` is the
/// SHA-256 of the certificate in lower-case hex.
pub fn file_name(issuer: &str, fingerprint: &str) -> String {
    format!("portolan-{issuer}-{}.crt", fingerprint.get(..SHORT).unwrap_or(fingerprint))
}

/// Digits of a fingerprint in a name.
const SHORT: usize = 8;

/// The files of this issuer's roots that are there, sorted. Without the directory there are none.
pub fn installed(directory: &Path, issuer: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| is_of(name, issuer)) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Another issuer's name may begin with this one's.
fn is_of(name: &str, issuer: &str) -> bool {
    let rest = name.strip_prefix("portolan-").and_then(|rest| rest.strip_prefix(issuer));
    let digits = rest.and_then(|rest| rest.strip_prefix('-')).and_then(|rest| rest.strip_suffix(".crt"));
    digits.is_some_and(|digits| digits.len() == SHORT && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root directory with these directories (a slash at the end) and files in it.
    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("tempdir");
        for path in paths {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
                std::fs::create_dir_all(&path).expect("made");
            } else {
                std::fs::write(&path, "").expect("written");
            }
        }
        root
    }

    #[test]
    fn each_system_is_known_by_its_marks() {
        for (paths, wanted) in [
            // Debian with ca-certificates, and without it; Ubuntu has the same.
            (&["usr/local/share/ca-certificates/", "etc/debian_version"][..], Some("usr/local/share/ca-certificates")),
            (&["etc/debian_version"], Some("usr/local/share/ca-certificates")),
            (&["etc/alpine-release", "usr/share/ca-certificates/"], Some("usr/local/share/ca-certificates")),
            (&["etc/fedora-release"], Some("etc/pki/ca-trust/source/anchors")),
            (&["etc/redhat-release", "etc/pki/ca-trust/source/anchors/"], Some("etc/pki/ca-trust/source/anchors")),
            // A Fedora whose owner made a directory of Debian's.
            (
                &["etc/pki/ca-trust/source/", "usr/local/share/ca-certificates/"],
                Some("etc/pki/ca-trust/source/anchors"),
            ),
            (&["etc/arch-release", "etc/ca-certificates/trust-source/anchors/"], None),
            (&["etc/pki/trust/anchors/"], None),
            (&[], None),
        ] {
            let root = tree(paths);
            let found = Layout::of(root.path()).map(|layout| layout.directory(root.path()));
            assert_eq!(found, wanted.map(|wanted| root.path().join(wanted)), "{paths:?}");
        }
    }

    #[test]
    fn files_belong_to_the_issuer_in_their_name() {
        let root = tree(&[
            "portolan-corp-0123abcd.crt",
            "portolan-corp-89abcdef.crt",
            "portolan-corp-0123abcd-01234567.crt",
            "portolan-corp.crt",
            "portolan-other-0123abcd.crt",
            "corp-0123abcd.crt",
            ".portolan-corp-0123abcd.crt.new",
        ]);
        let names = |issuer: &str| -> Vec<String> {
            let files = installed(root.path(), issuer).expect("listed");
            files.iter().map(|file| file.file_name().expect("a name").to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names("corp"), ["portolan-corp-0123abcd.crt", "portolan-corp-89abcdef.crt"]);
        assert_eq!(names("corp-0123abcd"), ["portolan-corp-0123abcd-01234567.crt"]);
        assert_eq!(names("other"), [file_name("other", "0123abcd4567")]);
        assert_eq!(installed(&root.path().join("none"), "corp").expect("no directory"), [""; 0].map(PathBuf::from));
    }
}
