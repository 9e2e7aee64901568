//! Real clients: curl and h2load, over h1 and h2, with TLS and without; those who are slow, and those who only hold on.
//!
//! `PORTOLAN_TEST_FULL=1` takes the sizes that were measured once (1 GiB a body, 10,000 idle connections with TLS)
//! instead of those that every run can afford.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::support::backend::{Backend, Exchange, Then};
use crate::support::http::{Answer, curl};
use crate::support::portolan::Portolan;
use crate::support::tls::{Client, Session};
use crate::support::{announce, output_of};

const HOST: &str = "clients.test";
const MIB: usize = 1 << 20;

/// A way to the proxy: curl's option, what it reports, and whether with TLS.
const WAYS: [(&str, &str, bool); 4] = [
    ("--http1.1", "HTTP/1.1", false),
    ("--http2-prior-knowledge", "HTTP/2", false),
    ("--http1.1", "HTTP/1.1", true),
    ("--http2", "HTTP/2", true),
];

fn start(backend: &Backend) -> Portolan {
    let patient = json!({ "timeouts": { "header": "5m", "idle": "10m" } });
    Portolan::serving(json!({
        "listeners": { "plain": patient, "https": patient },
        "routes": { "s": { "host": HOST, "listeners": ["plain", "https"] } },
        "services": { "s": { "endpoints": [backend.url()], "timeouts": { "request": "10m" } } },
    }))
}

fn is_full() -> bool {
    std::env::var_os("PORTOLAN_TEST_FULL").is_some()
}

/// curl on one of the ways.
fn ask(portolan: &Portolan, (option, protocol, tls): (&str, &str, bool), path: &str, options: &[&str]) -> Answer {
    let root = tls.then(|| portolan.root());
    let (scheme, to) = if tls { ("https", portolan.https) } else { ("http", portolan.plain) };
    let options = [&[option], options].concat();
    let answer = curl(&format!("{scheme}://{HOST}{path}"), to, root.as_deref(), &options);
    let answer = answer.unwrap_or_else(|failure| panic!("{option} {scheme} {path}: {failure:?}"));
    assert_eq!(answer.protocol, protocol, "{option} {scheme}");
    answer
}

#[test]
fn curl_asks_in_every_way() {
    let backend = Backend::named("b");
    let portolan = start(&backend);
    let body = "x".repeat(3 * MIB);
    let file = portolan.dir().join("body");
    std::fs::write(&file, &body).unwrap();
    let upload = format!("@{}", file.display());
    for way in WAYS {
        let told = ask(&portolan, way, "/a?b=c", &[]).told();
        assert_eq!((told.name(), told.target()), ("b", "/a?b=c"), "{way:?}");
        assert_eq!(told.all("x-forwarded-proto"), [if way.2 { "https" } else { "http" }]);
        assert_eq!(ask(&portolan, way, "/", &["--data-binary", &upload]).told().body_length(), body.len() as u64);
        let chunked = ["--header", "Transfer-Encoding: chunked", "--data-binary", &upload];
        let options = if way.1 == "HTTP/1.1" { &chunked[..] } else { &chunked[2..] };
        assert_eq!(ask(&portolan, way, "/", options).told().body_length(), body.len() as u64);
        let head = ask(&portolan, way, "/", &["--head"]);
        assert_eq!((head.status, &*head.body), (200, ""), "{way:?}");
    }
}

#[test]
fn h2load_loses_nothing() {
    let backend = Backend::answering(|exchange| {
        exchange.respond("200 OK", &[], &[b'x'; 1024])?;
        Ok(Then::Keep)
    });
    let portolan = start(&backend);
    for (option, protocol, tls) in WAYS {
        let (scheme, to) = if tls { ("https", portolan.https) } else { ("http", portolan.plain) };
        let mut command = Command::new("h2load");
        command.args(["-n", "1600", "-c", "8", "-m", "16", &format!("--connect-to={to}")]);
        command.args((protocol == "HTTP/1.1").then_some("--h1"));
        let said = output_of(command.arg(format!("{scheme}://{HOST}/")));
        let counted = said.lines().find(|line| line.starts_with("status codes:")).unwrap_or(&said);
        assert!(counted.starts_with("status codes: 1600 2xx, 0 3xx, 0 4xx, 0 5xx"), "{option} {scheme}: {said}");
        let requests = said.lines().find(|line| line.starts_with("requests:")).unwrap_or(&said);
        assert!(requests.contains("1600 succeeded, 0 failed, 0 errored, 0 timeout"), "{option} {scheme}: {said}");
    }
}

/// How many bytes of memory the proxy holds now, and held at most.
fn resident(portolan: &Portolan) -> (usize, usize) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", portolan.pid())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Clients slower than the endpoint in one direction, and an endpoint slower than the clients in the other; all four ways
/// at once. Nobody waits for a whole body, so that what is under way is bounded by buffers.
#[test]
fn slow_readers_and_writers_of_large_bodies_need_little_memory() {
    let size = if is_full() { 1024 * MIB } else { 96 * MIB };
    let rate = (size / 4).to_string();
    let backend = Backend::answering(move |exchange| {
        if exchange.request.method == "GET" {
            send(exchange, size)?
        } else {
            receive(exchange, size)?
        }
        Ok(Then::Keep)
    });
    let portolan = start(&backend);
    let file = portolan.dir().join("large");
    File::create(&file).unwrap().set_len(size as u64).unwrap();
    for way in WAYS {
        ask(&portolan, way, "/", &["--head"]);
    }
    let (before, _) = resident(&portolan);
    let file = file.to_str().unwrap();
    std::thread::scope(|scope| {
        let (portolan, rate) = (&portolan, &rate);
        for way in WAYS {
            // The file at curl's own disposal: only the head comes back to the test.
            let slowly = ["--max-time", "600", "--limit-rate", rate];
            scope.spawn(move || {
                let measure = [
                    "--output",
                    "/dev/null",
                    "--write-out",
                    "HTTP/%{http_version} %{http_code}\r\n\r\n%{size_download}",
                ];
                let count = fetched(portolan, way, &[&slowly[..], &measure].concat());
                assert_eq!(count, size, "{way:?}");
            });
            scope.spawn(move || {
                let upload = ["--max-time", "600", "--upload-file", file, "--expect100-timeout", "0.1"];
                assert_eq!(ask(portolan, way, "/", &upload).body, size.to_string(), "{way:?}");
            });
        }
    });
    let (after, most) = resident(&portolan);
    let mib = |bytes: usize| bytes as f64 / MIB as f64;
    announce(&format!(
        "8 bodies of {} MiB at once, 4 of them read slowly and 4 taken slowly: {:.1} MiB resident before, {:.1} at most, \
         {:.1} after",
        size / MIB,
        mib(before),
        mib(most),
        mib(after)
    ));
    assert!(most < before + 48 * MIB, "{:.1} MiB more than before", mib(most - before));
}

/// How many bytes curl read and threw away.
fn fetched(portolan: &Portolan, (option, protocol, tls): (&str, &str, bool), options: &[&str]) -> usize {
    let (scheme, to) = if tls { ("https", portolan.https) } else { ("http", portolan.plain) };
    let mut command = Command::new("curl");
    command.args([
        "--disable",
        "--noproxy",
        "*",
        "--silent",
        "--show-error",
        option,
        "--connect-to",
        &format!("::{to}"),
    ]);
    command.args(options).arg(format!("{scheme}://{HOST}/"));
    if tls {
        command.arg("--cacert").arg(portolan.root());
    }
    let said = output_of(&mut command);
    let (head, count) = said.split_once("\r\n\r\n").unwrap();
    let version = if protocol == "HTTP/2" { "HTTP/2 200" } else { "HTTP/1.1 200" };
    assert_eq!(head, version, "{option} {scheme}");
    count.parse().unwrap()
}

/// As fast as it is taken.
fn send(exchange: &mut Exchange, size: usize) -> std::io::Result<()> {
    exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"))?;
    let part = vec![b'x'; MIB];
    (0..size / MIB).try_for_each(|_| exchange.write(&part))
}

/// With 64 pauses on the way, of about four seconds in all.
fn receive(exchange: &mut Exchange, size: usize) -> std::io::Result<()> {
    if exchange.request.method == "HEAD" {
        return exchange.respond("200 OK", &[], b"");
    }
    let chunked = !exchange.request.headers.iter().any(|(name, _)| name == "content-length");
    let mut received = 0;
    let mut paused = 0;
    while received < size {
        received +=
            if chunked { exchange.read_chunk()?.len() } else { exchange.read_part(MIB.min(size - received))?.len() };
        if received / (size / 64) > paused {
            paused = received / (size / 64);
            std::thread::sleep(Duration::from_millis(62));
        }
    }
    if chunked {
        assert!(exchange.read_chunk()?.is_empty(), "nothing follows");
    }
    exchange.respond("200 OK", &[], received.to_string().as_bytes())
}

/// Connections that are kept after one request each.
enum Idle {
    Plain(Vec<TcpStream>),
    Tls(Vec<Session>),
}

impl Idle {
    fn hold(portolan: &Portolan, tls: bool, count: usize) -> Idle {
        let request = format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        if !tls {
            return Idle::Plain((0..count).map(|_| asked_once(portolan.plain, &request)).collect());
        }
        let client = Client::trusting(&portolan.root());
        let each = count.div_ceil(4);
        let sessions = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|nth| {
                    let (client, request, count) = (&client, &request, each.min(count - (nth * each).min(count)));
                    scope.spawn(move || {
                        let session = |_| {
                            let mut session = client.connect(portolan.https, HOST).unwrap();
                            session.write_all(request.as_bytes()).unwrap();
                            ends_with_an_empty_line(&mut session);
                            session
                        };
                        (0..count).map(session).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        Idle::Tls(sessions)
    }

    fn len(&self) -> usize {
        match self {
            Idle::Plain(streams) => streams.len(),
            Idle::Tls(sessions) => sessions.len(),
        }
    }
}

fn asked_once(to: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    ends_with_an_empty_line(&mut stream);
    stream
}

/// An answer to HEAD, read whole.
fn ends_with_an_empty_line(stream: &mut impl std::io::Read) {
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n") {
        let mut more = [0; 1024];
        let count = stream.read(&mut more).unwrap();
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&more[..count]);
    }
    assert!(received.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&received));
}

/// Both ends of the connections are files, each of its own process.
fn open_files(needed: usize) {
    let before = getrlimit(Resource::Nofile);
    if before.current.is_some_and(|current| current < needed as u64) {
        let wanted = Rlimit { current: before.maximum, maximum: before.maximum };
        setrlimit(Resource::Nofile, wanted).unwrap();
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    assert!(limit >= needed as u64, "{needed} open files are needed, and {limit} allowed: raise `ulimit -n`");
}

#[test]
fn ten_thousand_idle_connections_are_held_and_all_others_served() {
    let (plain, tls) = if is_full() { (2_000, 10_000) } else { (8_000, 2_000) };
    open_files(plain + tls + 1_000);
    let backend = Backend::answering(|exchange| {
        exchange.respond("200 OK", &[], b"here")?;
        Ok(Then::Keep)
    });
    let portolan = start(&backend);
    for way in WAYS {
        ask(&portolan, way, "/", &[]);
    }
    let mut held = Vec::new();
    let (first, _) = resident(&portolan);
    let mut before = first;
    for (tls, count) in [(false, plain), (true, tls)] {
        held.push(Idle::hold(&portolan, tls, count));
        let (after, _) = resident(&portolan);
        let each = after.saturating_sub(before) / count;
        let kind = if tls { "TLS" } else { "plain" };
        announce(&format!("{count} idle {kind} connections: {:.1} KiB each", each as f64 / 1024.0));
        assert!(each < if tls { 96 } else { 48 } * 1024, "{each} bytes an idle {kind} connection");
        before = after;
    }
    let (now, _) = resident(&portolan);
    announce(&format!(
        "resident: {:.1} MiB before, {:.1} with all of them",
        first as f64 / MIB as f64,
        now as f64 / MIB as f64
    ));
    for way in WAYS {
        assert_eq!(ask(&portolan, way, "/", &[]).body, "here", "beside idle ones, {way:?}");
    }
    // They are still there: the first and the last of each kind are asked again.
    let request = format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for idle in &mut held {
        let last = idle.len() - 1;
        for nth in [0, last] {
            match idle {
                Idle::Plain(streams) => {
                    streams[nth].write_all(request.as_bytes()).unwrap();
                    ends_with_an_empty_line(&mut streams[nth]);
                }
                Idle::Tls(sessions) => {
                    sessions[nth].write_all(request.as_bytes()).unwrap();
                    ends_with_an_empty_line(&mut sessions[nth]);
                }
            }
        }
    }
}
