//! What people put between a proxy and an engine's socket: it lets some calls through and answers the others 403.
//!
//! ```text
//! Portolan ─▶ SocketProxy (a thread here, or a process in a container) ─▶ the engine's socket
//! ```
//! One call a connection, so that nothing rides behind one that was allowed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// In a thread of this process, on a socket of its own.
pub struct SocketProxy {
    pub socket: PathBuf,
    calls: Arc<Mutex<Calls>>,
    _dir: TempDir,
}

/// `GET /v1.41/containers/json?all=true`, as they came.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    pub allowed: Vec<String>,
    pub refused: Vec<String>,
}

impl SocketProxy {
    /// `allows` is asked with the method, and the path without version and query.
    pub fn before(engine: &Path, allows: impl Fn(&str, &str) -> bool + Send + 'static) -> SocketProxy {
        let dir = tempfile::Builder::new().prefix("socket-proxy-").tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let calls: Arc<Mutex<Calls>> = Arc::default();
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (engine, of) = (engine.to_path_buf(), calls.clone());
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
                let listener = UnixListener::from_std(listener).unwrap();
                let allows = Arc::new(std::sync::Mutex::new(allows));
                while let Ok((stream, _)) = listener.accept().await {
                    let (engine, of, allows) = (engine.clone(), of.clone(), allows.clone());
                    tokio::spawn(async move {
                        let judge = |call: &Call| {
                            let allowed = allows.lock().unwrap()(&call.method, &call.path);
                            let mut calls = of.lock().unwrap();
                            let list = if allowed { &mut calls.allowed } else { &mut calls.refused };
                            list.push(call.line.clone());
                            allowed
                        };
                        let _ = pass(stream, &engine, judge).await;
                    });
                }
            });
        });
        SocketProxy { socket, calls, _dir: dir }
    }

    pub fn calls(&self) -> Calls {
        self.calls.lock().unwrap().clone()
    }
}

struct Call {
    line: String,
    method: String,
    path: String,
}

async fn pass<S>(mut client: S, engine: &Path, allows: impl Fn(&Call) -> bool) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head);
    let mut words = text.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let bare = path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/'));
    let call = Call {
        line: format!("{method} {target}"),
        method: method.to_string(),
        path: bare.map_or_else(|| path.to_string(), |(_, rest)| format!("/{rest}")),
    };
    if !allows(&call) {
        return client
            .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 22\r\n\r\n<h1>403 Forbidden</h1>")
            .await;
    }
    let mut engine = UnixStream::connect(engine).await?;
    let head = text.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    engine.write_all(head.as_bytes()).await?;
    copy_bidirectional(&mut client, &mut engine).await.map(drop)
}

/// As `tecnativa/docker-socket-proxy` goes by its variables: of the API's first words those that are 1, and nothing but GET.
fn by_variables(method: &str, path: &str) -> bool {
    let word = path.split('/').nth(1).unwrap_or_default().to_uppercase();
    let on_by_itself = ["EVENTS", "PING", "_PING", "VERSION"].contains(&word.as_str());
    let is_on = std::env::var(&word).map_or(on_by_itself, |value| value == "1");
    ["GET", "HEAD"].contains(&method) && is_on
}

#[test]
#[ignore = "no test: the process of a socket proxy in a container"]
fn in_a_container() {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let listener = TcpListener::bind("0.0.0.0:2375").await.unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let engine = Path::new("/var/run/docker.sock");
                let _ = pass(stream, engine, |call| by_variables(&call.method, &call.path)).await;
            });
        }
    });
}
