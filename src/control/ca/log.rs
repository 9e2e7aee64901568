//! What the CA did: one line of JSON for each certificate issued or revoked and for each root and intermediate, in `log`
//! beside its keys.
//!
//! ```text
//! issue ─▶ line on disk ─▶ the certificate is handed out        so that none is out there that the CA does not know
//! a handshake ─▶ the certificate is shown ─▶ line on disk         within a minute: no handshake waits for a disk
//! rotate, a new intermediate ─▶ line on disk ─▶ its files       likewise
//! revoke ─▶ revoked.json on disk ─▶ line on disk                a copy: what is denied stands in revoked.json
//! ```
//!
//! Lines are only ever added; whoever keeps it for long may move it away, at the price that certificates issued before
//! are revoked by their file alone. A line that a crash cut short is passed over by readers and ended by the next writer.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::known::Known;
use crate::control::durable;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub at: Timestamp,
    pub event: Event,
    #[serde(flatten)]
    pub certificate: Known,
    /// Of a new root: the serial of the one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Of a new root: the end of the overlap in which that one is trusted still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Line {
    pub fn new(at: Timestamp, event: Event, certificate: Known) -> Line {
        Line { at, event, certificate, replaces: None, until: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    Issued,
    /// For a handshake, which waits for no disk: the line follows within a minute.
    IssuedOnDemand,
    Revoked,
    /// The first.
    RootCreated,
    RootRotated,
    IntermediateCreated,
    /// Of a later Portolan.
    #[serde(other)]
    Other,
}

/// After a return of `Ok` the lines survive a power cut. The caller holds the CA's lock.
pub(super) fn append(path: &Path, lines: &[Line]) -> io::Result<()> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(durable::PRIVATE).open(path)?;
    let length = file.metadata()?.len();
    if length > 0 && last_byte(&mut file)? != b'\n' {
        text.insert(0, b'\n');
    }
    file.write_all(&text)?;
    file.sync_all()?;
    match path.parent() {
        Some(directory) if length == 0 => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last[0])
}

/// Oldest first; what is no line, or is of an event that this Portolan does not know, is passed over.
pub(super) fn lines(bytes: &[u8]) -> impl DoubleEndedIterator<Item = Line> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(serial: &str) -> Line {
        Line::new(
            Timestamp::UNIX_EPOCH,
            Event::Issued,
            Known {
                serial: serial.into(),
                fingerprint: "ff".into(),
                issuer: "CN=i".into(),
                subject: "CN=s".into(),
                names: vec!["DNS:a".into()],
                not_after: Timestamp::UNIX_EPOCH,
            },
        )
    }

    #[test]
    fn a_line_that_was_cut_short_takes_none_with_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("log");
        append(&path, &[line("01")]).expect("written");
        let whole = std::fs::read(&path).expect("read");
        std::fs::write(&path, [&whole[..], &whole[..20]].concat()).expect("written");
        append(&path, &[line("02")]).expect("written");
        let later = String::from_utf8(whole).expect("text").replace("issued", "blessed");
        append(&path, &[line("03")]).expect("written");
        std::fs::write(&path, [std::fs::read(&path).expect("read"), later.into_bytes()].concat()).expect("written");
        let bytes = std::fs::read(&path).expect("read");
        let read: Vec<(Event, String)> = lines(&bytes).map(|line| (line.event, line.certificate.serial)).collect();
        let known = |event, serial: &str| (event, serial.to_string());
        let expected = [
            known(Event::Issued, "01"),
            known(Event::Issued, "02"),
            known(Event::Issued, "03"),
            known(Event::Other, "01"),
        ];
        assert_eq!(read, expected);
    }
}
