//! One line per request, on stdout.
//!
//! ```text
//! Record ─▶ Lane (a worker's buffer) ──16 KiB or flush()──▶ bounded channel ─▶ writer thread ─▶ stdout
//!                                                            │ full: dropped and counted, a worker never waits
//! ```
//! A reader that stops reading (a full pipe, a stuck log driver) costs lines, never requests.

mod line;

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

pub use crate::config::settings::AccessLogFormat as Format;

/// A buffer this full is handed over.
const HAND_OVER: usize = 16 * 1024;
/// How many buffers may wait for the writer, 4 MiB or so: a second of a very busy proxy.
const WAITING: usize = 256;

/// What happened to one request. Strings come as the client sent them; the line escapes them.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When the head was read.
    pub time: Timestamp,
    pub client: SocketAddr,
    pub listener: &'a str,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'a str,
    pub method: &'a str,
    pub host: &'a str,
    /// With the query.
    pub path: &'a str,
    pub status: u16,
    /// Of the bodies.
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// From the head read to the last byte of the answer.
    pub duration: Duration,
    /// From the request handed to the endpoint to the head of its answer.
    pub upstream_duration: Option<Duration>,
    pub route: Option<&'a str>,
    pub service: Option<&'a str>,
    pub endpoint: Option<&'a str>,
    pub tls: Option<TlsRecord<'a>>,
    /// Where the route's policy has verified one.
    pub client_certificate: Option<ClientRecord<'a>>,
    /// Why Portolan answered itself, or cut the answer short.
    pub reason: Option<&'a str>,
    pub user_agent: Option<&'a [u8]>,
    pub referer: Option<&'a [u8]>,
}

/// A client's verified certificate.
#[derive(Debug, Clone, Copy)]
pub struct ClientRecord<'a> {
    /// As text, `CN=web, O=Acme`.
    pub subject: &'a str,
    pub issuer: &'a str,
    /// Lower-case hex.
    pub serial: &'a str,
    /// Lower-case hex SHA-256.
    pub fingerprint: &'a str,
    /// With their kind, `DNS:web.example`.
    pub names: &'a [String],
}

#[derive(Debug, Clone, Copy)]
pub struct TlsRecord<'a> {
    /// `TLSv1.3`
    pub version: &'a str,
    pub cipher: &'a str,
    pub sni: Option<&'a str>,
    pub resumed: Option<bool>,
}

/// The writer's end for everybody. Cheap to clone.
#[derive(Clone)]
pub struct AccessLog {
    mode: Arc<AtomicU8>,
    writer: SyncSender<Parcel>,
    dropped: Arc<AtomicU64>,
}

enum Parcel {
    Lines {
        text: Vec<u8>,
        count: u64,
    },
    /// Answered when everything handed over before is written.
    Mark(SyncSender<()>),
}

/// The format as workers read it, one load a request.
const OFF: u8 = 0;
const JSON: u8 = 1;
const COMMON: u8 = 2;

fn mode(format: Option<Format>) -> u8 {
    match format {
        None => OFF,
        Some(Format::Json) => JSON,
        Some(Format::Common) => COMMON,
    }
}

/// One worker's buffer. Flushed when dropped.
pub struct Lane {
    log: AccessLog,
    pending: RefCell<Pending>,
}

#[derive(Default)]
struct Pending {
    text: Vec<u8>,
    count: u64,
    clock: line::Clock,
}

impl AccessLog {
    /// Starts the writer thread; it ends with the last clone and lane.
    pub fn open(format: Option<Format>) -> io::Result<AccessLog> {
        AccessLog::onto(format, WAITING, io::stdout())
    }

    /// For the requests that begin from here on. `None` is off.
    pub fn set(&self, format: Option<Format>) {
        self.mode.store(mode(format), Ordering::Relaxed);
    }

    fn onto(format: Option<Format>, waiting: usize, out: impl Write + Send + 'static) -> io::Result<AccessLog> {
        let (writer, parcels) = mpsc::sync_channel(waiting);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = dropped.clone();
        thread::Builder::new().name("access-log".into()).spawn(move || write_out(&parcels, out, &lost))?;
        Ok(AccessLog { mode: Arc::new(AtomicU8::new(mode(format))), writer, dropped })
    }

    pub fn lane(&self) -> Lane {
        Lane { log: self.clone(), pending: RefCell::default() }
    }

    /// Lines that were lost, because the reader of stdout is too slow or gone.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what the lanes have handed over is written. For the end of the process: blocks the calling thread.
    /// False if that takes longer than `patience`.
    pub fn settle(&self, patience: Duration) -> bool {
        let (done, written) = mpsc::sync_channel(1);
        let mut mark = Parcel::Mark(done);
        let start = std::time::Instant::now();
        loop {
            match self.writer.try_send(mark) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(_)) if start.elapsed() >= patience => return false,
                Err(TrySendError::Full(back)) => mark = back,
            }
            thread::sleep(Duration::from_millis(5));
        }
        written.recv_timeout(patience.saturating_sub(start.elapsed())).is_ok()
    }

    fn hand_over(&self, text: Vec<u8>, count: u64) {
        if self.writer.try_send(Parcel::Lines { text, count }).is_err() {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }
}

fn write_out(parcels: &Receiver<Parcel>, mut out: impl Write, dropped: &AtomicU64) {
    while let Ok(parcel) = parcels.recv() {
        match parcel {
            Parcel::Lines { text, count } => {
                if out.write_all(&text).and_then(|()| out.flush()).is_err() {
                    dropped.fetch_add(count, Ordering::Relaxed);
                }
            }
            // Whoever waited may have given up.
            Parcel::Mark(done) => drop(done.try_send(())),
        }
    }
}

impl Lane {
    /// Whether what begins now is to be written when it ends.
    pub fn is_on(&self) -> bool {
        self.log.mode.load(Ordering::Relaxed) != OFF
    }

    pub fn write(&self, record: &Record<'_>) {
        let mut pending = self.pending.borrow_mut();
        let Pending { text, count, clock } = &mut *pending;
        match self.log.mode.load(Ordering::Relaxed) {
            JSON => line::json(text, clock, record),
            COMMON => line::common(text, clock, record),
            // Since the request began.
            _ => return,
        }
        *count += 1;
        if text.len() >= HAND_OVER {
            self.hand_over(&mut pending);
        }
    }

    /// Hands over what is there, so that a quiet proxy's lines are seen as well.
    pub fn flush(&self) {
        let mut pending = self.pending.borrow_mut();
        if pending.count > 0 {
            self.hand_over(&mut pending);
        }
    }

    fn hand_over(&self, pending: &mut Pending) {
        // As large as the last one was: a busy lane's next buffer never grows, a quiet one's stays small.
        let next = Vec::with_capacity(pending.text.capacity());
        let text = std::mem::replace(&mut pending.text, next);
        self.log.hand_over(text, std::mem::take(&mut pending.count));
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Paper {
        fn lines(&self) -> usize {
            self.0.lock().unwrap().iter().filter(|byte| **byte == b'\n').count()
        }
    }

    /// A reader that has stopped reading.
    struct Stuck(Arc<Mutex<()>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            drop(self.0.lock());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn lines_are_handed_over_when_there_are_many_or_on_flush_or_at_the_end() {
        let paper = Paper::default();
        let log = AccessLog::onto(Some(Format::Json), 8, paper.clone()).unwrap();
        let lane = log.lane();
        lane.write(&line::tests::record());
        assert!(log.settle(PATIENCE));
        assert_eq!(paper.lines(), 0, "one line is not worth a system call");
        lane.flush();
        assert!(log.settle(PATIENCE));
        assert_eq!(paper.lines(), 1);

        let many = HAND_OVER / 200;
        (0..many).for_each(|_| lane.write(&line::tests::record()));
        assert!(log.settle(PATIENCE));
        let seen = paper.lines();
        assert!(seen > 1 && seen < many + 1, "{seen} of {}", many + 1);
        drop(lane);
        assert!(log.settle(PATIENCE));
        assert_eq!((paper.lines(), log.dropped()), (many + 1, 0));
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_never_holds_a_worker() {
        let gate = Arc::new(Mutex::new(()));
        let shut = gate.lock().unwrap();
        let log = AccessLog::onto(Some(Format::Json), 1, Stuck(gate.clone())).unwrap();
        let lane = log.lane();
        for _ in 0..10 {
            lane.write(&line::tests::record());
            lane.write(&line::tests::record());
            lane.flush();
        }
        // One buffer with the writer and one waiting, at most; which of the ten is a matter of scheduling.
        let dropped = log.dropped();
        assert!((16..=18).contains(&dropped), "{dropped}");
        assert!(!log.settle(Duration::from_millis(20)));
        drop(shut);
        assert!(log.settle(PATIENCE));
        assert_eq!(log.dropped(), dropped);
    }

    #[test]
    fn lines_that_stdout_refuses_are_counted() {
        let log = AccessLog::onto(Some(Format::Common), 8, Gone).unwrap();
        let lane = log.lane();
        lane.write(&line::tests::record());
        lane.flush();
        assert!(log.settle(PATIENCE));
        assert_eq!(log.dropped(), 1);
    }
}
