//! An engine that never was: over a Unix socket, with answers in the form that engines of API 1.44 to 1.51 give, and with
//! the faults that a real one cannot be made to show.
//!
//! ```text
//! FakeEngine ─▶ one thread a connection: version · containers · inspect · networks · events (kept open, told into)
//! ```
//! It answers a call that lacks a version between these two with 400, as engines do that have dropped what is older.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::wait::eventually;

const OLDEST: u32 = 44;
const NEWEST: u32 = 51;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Version,
    Containers,
    Inspect,
    Networks,
    Events,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 500.
    Error,
    /// A head, half of the body, and then nothing, with the connection open.
    Hang,
    /// Nothing at all, with the connection open.
    Silence,
    /// Half of what was announced, and the connection closed.
    Half,
    /// A whole answer that is no JSON.
    Garbage,
    /// `[]`
    Empty,
    /// What the first calls after this get; the ones after those are answered as ever.
    EmptyOnce,
}

pub struct FakeEngine {
    pub socket: PathBuf,
    shared: Arc<Shared>,
    _dir: Option<TempDir>,
}

#[derive(Default)]
struct Shared {
    containers: Mutex<Vec<Value>>,
    faults: Mutex<BTreeMap<Call, Fault>>,
    /// Every request line's path, in order.
    asked: Mutex<Vec<String>>,
    /// By call, how often it was answered with a fault.
    faulted: Mutex<BTreeMap<Call, usize>>,
    listeners: Mutex<Vec<UnixStream>>,
    /// Whether even the version is told only to those who name one.
    strict: bool,
    ending: AtomicBool,
}

impl FakeEngine {
    /// In a directory of its own.
    pub fn start() -> FakeEngine {
        FakeEngine::in_a_directory(false)
    }

    /// One that does not answer `GET /version` either.
    pub fn strict() -> FakeEngine {
        FakeEngine::in_a_directory(true)
    }

    fn in_a_directory(strict: bool) -> FakeEngine {
        let dir = tempfile::Builder::new().prefix("engine-").tempdir().unwrap();
        FakeEngine::open(&dir.path().join("docker.sock"), strict, Some(dir))
    }

    /// In the place of whatever socket is there, as an engine does that starts.
    pub fn at(socket: &Path) -> FakeEngine {
        FakeEngine::open(socket, false, None)
    }

    fn open(socket: &Path, strict: bool, dir: Option<TempDir>) -> FakeEngine {
        let staged = socket.with_extension("new");
        let listener = UnixListener::bind(&staged).unwrap();
        std::fs::rename(&staged, socket).unwrap();
        let shared = Arc::new(Shared { strict, ..Shared::default() });
        let of = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if of.ending.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), of) = (stream, of.clone()) else { return };
                // How a connection ends is the proxy's to see.
                std::thread::spawn(move || drop(of.serve(stream)));
            }
        });
        FakeEngine { socket: socket.to_path_buf(), shared, _dir: dir }
    }

    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// A running container of this name, with `labels`, that answers where `port` is on this machine.
    pub fn run(&self, name: &str, port: u16, labels: &[(&str, &str)]) {
        let mut labels: BTreeMap<String, String> =
            labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        labels.insert("portolan.port".into(), port.to_string());
        let container = json!({
            "Id": id(name),
            "Names": [format!("/{name}")],
            "Image": "whoami",
            "ImageID": format!("sha256:{}", id("image")),
            "ImageManifestDescriptor": null,
            "Command": "/portolan whoami",
            "Created": 1767261600,
            "Ports": [{ "PrivatePort": port, "Type": "tcp" }],
            "Labels": labels,
            "State": "running",
            "Status": "Up 2 seconds",
            "HostConfig": { "NetworkMode": "web" },
            "NetworkSettings": { "Networks": { "web": {
                "IPAMConfig": null,
                "Links": null,
                "Aliases": null,
                "MacAddress": "02:42:ac:12:00:02",
                "DriverOpts": null,
                "GwPriority": 0,
                "NetworkID": id("web"),
                "EndpointID": id("endpoint"),
                "Gateway": "127.0.0.1",
                "IPAddress": "127.0.0.1",
                "IPPrefixLen": 16,
                "IPv6Gateway": "",
                "GlobalIPv6Address": "",
                "GlobalIPv6PrefixLen": 0,
                "DNSNames": null,
            } } },
            "Mounts": [],
        });
        self.shared.containers.lock().unwrap().push(container);
        self.tell("create", name);
    }

    /// From here on.
    pub fn fault(&self, call: Call, fault: Fault) {
        self.shared.faults.lock().unwrap().insert(call, fault);
    }

    pub fn mend(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// Until a call has been answered with a fault so many times in all.
    pub fn has_faulted(&self, call: Call, times: usize) {
        eventually(&format!("{call:?} answered with a fault {times} times"), || {
            let faulted = self.shared.faulted.lock().unwrap().get(&call).copied().unwrap_or_default();
            if faulted >= times { Ok(()) } else { Err(faulted) }
        });
    }

    /// How often a call was made.
    pub fn count(&self, call: Call) -> usize {
        self.asked().iter().filter(|path| parse(path).is_some_and(|(_, of)| of == call)).count()
    }

    /// Every path so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// An event about a container, to everybody who listens.
    pub fn tell(&self, action: &str, name: &str) {
        let event = json!({
            "Type": "container", "Action": action, "scope": "local", "time": 1767261600, "timeNano": 1767261600000000000u64,
            "Actor": { "ID": id(name), "Attributes": { "name": name } },
        });
        let line = format!("{event}\n");
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        self.shared.listeners.lock().unwrap().retain_mut(|stream| stream.write_all(chunk.as_bytes()).is_ok());
    }

    /// Until somebody listens to its events.
    pub fn is_heard(&self) {
        eventually("somebody listens to the engine's events", || {
            if self.shared.listeners.lock().unwrap().is_empty() { Err("nobody") } else { Ok(()) }
        });
    }

    /// Closes the event streams in the middle of an event.
    pub fn cut_events(&self) {
        for mut stream in self.shared.listeners.lock().unwrap().drain(..) {
            let _ = stream.write_all(b"40\r\n{\"Type\":\"conta");
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Keeps the event streams open and never tells anything on them again.
    pub fn forget_listeners(&self) -> Vec<UnixStream> {
        self.shared.listeners.lock().unwrap().drain(..).collect()
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        self.cut_events();
        let _ = UnixStream::connect(&self.socket);
    }
}

impl Shared {
    fn serve(&self, stream: UnixStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        loop {
            let mut header = String::new();
            if stream.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
        }
        let mut stream = stream.into_inner();
        let path = line.split(' ').nth(1).unwrap_or_default().to_string();
        self.asked.lock().unwrap().push(path.clone());
        let Some((version, call)) = parse(&path).filter(|_| line.starts_with("GET ")) else {
            return whole(&mut stream, "404 Not Found", r#"{"message":"page not found"}"#);
        };
        match version {
            None if call == Call::Version && !self.strict => {}
            None => return whole(&mut stream, "400 Bad Request", r#"{"message":"a version is needed"}"#),
            Some(version) if version < OLDEST => {
                let text = json!({ "message": format!(
                    "client version 1.{version} is too old. Minimum supported API version is 1.{OLDEST}, please upgrade \
                     your client to a newer version"
                ) });
                return whole(&mut stream, "400 Bad Request", &text.to_string());
            }
            Some(version) if version > NEWEST => {
                let text = json!({ "message": format!(
                    "client version 1.{version} is too new. Maximum supported API version is 1.{NEWEST}"
                ) });
                return whole(&mut stream, "400 Bad Request", &text.to_string());
            }
            Some(_) => {}
        }
        let fault = self.take_fault(call);
        if call == Call::Events && fault.is_none() {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            self.listeners.lock().unwrap().push(stream);
            return Ok(());
        }
        let body = self.body(call, &path);
        let Some(fault) = fault else {
            return match body {
                Some(body) => whole(&mut stream, "200 OK", &body.to_string()),
                None => whole(&mut stream, "404 Not Found", r#"{"message":"No such container"}"#),
            };
        };
        let body = body.unwrap_or_default().to_string();
        let half = |stream: &mut UnixStream| {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )?;
            stream.write_all(&body.as_bytes()[..body.len() / 2])
        };
        let done = match fault {
            Fault::Error => whole(&mut stream, "500 Internal Server Error", r#"{"message":"broken for now"}"#),
            Fault::Half => half(&mut stream),
            Fault::Garbage => whole(&mut stream, "200 OK", "<html>"),
            Fault::Empty | Fault::EmptyOnce => whole(&mut stream, "200 OK", "[]"),
            Fault::Hang | Fault::Silence => {
                if fault == Fault::Hang {
                    half(&mut stream)?;
                }
                *self.faulted.lock().unwrap().entry(call).or_default() += 1;
                // Until the other side has had enough.
                let _ = io::copy(&mut stream, &mut io::sink());
                return Ok(());
            }
        };
        *self.faulted.lock().unwrap().entry(call).or_default() += 1;
        done
    }

    fn take_fault(&self, call: Call) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let fault = faults.get(&call).copied();
        if fault == Some(Fault::EmptyOnce) {
            faults.remove(&call);
        }
        fault
    }

    /// `None`: no such container.
    fn body(&self, call: Call, path: &str) -> Option<Value> {
        let containers = self.containers.lock().unwrap();
        Some(match call {
            Call::Version => json!({
                "Platform": { "Name": "Docker Engine - Community" },
                "Version": "28.5.1", "ApiVersion": format!("1.{NEWEST}"), "MinAPIVersion": format!("1.{OLDEST}"),
                "Os": "linux", "Arch": "amd64", "GoVersion": "go1.24.8", "KernelVersion": "6.1.0",
            }),
            Call::Containers => Value::Array(containers.clone()),
            Call::Networks => json!([
                { "Name": "bridge", "Id": id("bridge"), "Scope": "local", "Driver": "bridge", "Internal": false },
                { "Name": "web", "Id": id("web"), "Scope": "local", "Driver": "bridge", "Internal": false },
            ]),
            Call::Inspect => {
                let wanted = path.split('/').rev().nth(1).unwrap_or_default();
                let container = containers.iter().find(|container| container["Id"] == wanted)?;
                json!({
                    "Id": wanted, "Name": container["Names"][0], "Created": "2026-01-01T10:00:00.5Z",
                    "State": { "Status": "running", "Running": true },
                    "Config": { "Labels": container["Labels"], "ExposedPorts": { "8080/tcp": {} } },
                    "NetworkSettings": container["NetworkSettings"],
                })
            }
            Call::Events => Value::Null,
        })
    }
}

/// The minor version of the prefix, and what is asked.
fn parse(path: &str) -> Option<(Option<u32>, Call)> {
    let path = path.split('?').next()?;
    let (version, rest) = match path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')) {
        Some((version, rest)) => (Some(version.parse().ok()?), rest),
        None => (None, path.trim_start_matches('/')),
    };
    let call = match rest.split('/').collect::<Vec<_>>()[..] {
        ["version"] => Call::Version,
        ["containers", "json"] => Call::Containers,
        ["containers", _, "json"] => Call::Inspect,
        ["networks"] => Call::Networks,
        ["events"] => Call::Events,
        _ => return None,
    };
    Some((version, call))
}

/// 64 hexadecimal digits.
fn id(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits:0<64}")
}

fn whole(stream: &mut UnixStream, status: &str, body: &str) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
