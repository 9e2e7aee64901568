//! To an engine: over a Unix socket, TCP or TLS, with calls that carry an API version both sides speak.
//!
//! ```text
//! settings ─▶ Endpoint ─connect─▶ Engine (GET /version, then /v1.xx/… on every call)
//! ```
//! bollard makes the calls and reads the answers; the bytes go through [`Line`], because bollard 0.21 sends no version
//! prefix (which the engine deprecates), and its TLS believes every public CA beside the one that was configured.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bollard::{BollardRequest, ClientVersion};
use http::{HeaderValue, Response, Uri, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;

use crate::config::settings::{DockerSettings, EngineTlsSettings};

use super::patience::{Patient, Silence};

/// Until the head of an answer, and between any two pieces of it: an engine may take its time, but not fall silent.
pub(super) const ANSWER: Duration = Duration::from_secs(20);
const DIAL: Duration = Duration::from_secs(5);
/// The newest API that bollard's types describe, and the oldest whose fields we rely on (engine 17.05).
const NEWEST: (usize, usize) = (1, 53);
const OLDEST: (usize, usize) = (1, 29);
/// Which versions to ask for the version by, where nothing is answered without one: what the newest engines still speak,
/// and what the oldest in use do.
const ASKED: [&str; 2] = ["1.44", "1.41"];

/// Where the engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    Tcp { host: String, port: u16, tls: bool },
}

/// Why an engine cannot be spoken to, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{0}")]
    Settings(String),
    #[error(
        "there is no engine socket at {0}; start Docker, or where Portolan runs in a container, mount the socket into it"
    )]
    NoSocket(PathBuf),
    #[error("permission denied on {0}; run Portolan as root or in the group that owns the socket (usually docker)")]
    Forbidden(PathBuf),
    #[error("nobody answers at {at}: {why}; is the engine running?")]
    Unreachable { at: String, why: String },
    #[error(
        "nobody answers at {0}, which is mounted as a file: that stays the socket of an engine that has ended; restart this \
         container, and mount the directory of the socket instead"
    )]
    MountedSocket(PathBuf),
    #[error(
        "the TLS connection to {at} failed: {why}; check the provider's tls: against the engine's --tlsverify files"
    )]
    Tls { at: String, why: String },
    #[error("the engine speaks API versions {from} to {to}, Portolan {}.{} to {}.{}; one of them is too old", OLDEST.0, OLDEST.1, NEWEST.0, NEWEST.1)]
    Version { from: String, to: String },
    #[error("the engine ended its event stream; it has stopped, or is being restarted")]
    EventsEnded,
    #[error("the engine tells of no events any more: what it lists has changed without one")]
    EventsMissing,
    #[error("the socket at {0} is another one now; the engine was replaced, or is being restarted")]
    Replaced(PathBuf),
    #[error("the engine did not answer {0} in time")]
    Slow(&'static str),
    #[error(
        "the engine does not allow {what}: {why}; whatever stands between it and Portolan (a socket proxy, an \
         authorization plugin) has to let this call through"
    )]
    NotAllowed { what: &'static str, why: String },
    #[error("the engine answered {what} with an error: {why}")]
    Call { what: &'static str, why: String },
}

impl Endpoint {
    pub fn of(settings: &DockerSettings) -> Result<Endpoint, EngineError> {
        let raw = settings.endpoint.trim();
        let wrong = |why: &str| {
            EngineError::Settings(format!(
                "endpoint \"{raw}\": {why}; write unix:///var/run/docker.sock or tcp://engine:2376"
            ))
        };
        let (scheme, rest) = raw.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let with_tls = settings.tls.is_some();
        match scheme {
            "unix" if rest.starts_with('/') => return Ok(Endpoint::Unix(rest.into())),
            "unix" => return Err(wrong("the path of the socket starts with /")),
            "tcp" | "http" | "https" => {}
            _ => return Err(wrong("the scheme is neither unix nor tcp")),
        }
        if (scheme == "https" && !with_tls) || (scheme == "http" && with_tls) {
            return Err(wrong("whether TLS is used is said by the provider's tls:"));
        }
        let uri: Uri = format!("http://{rest}").parse().map_err(|_| wrong("it is not an address"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
        let port = uri.port_u16().unwrap_or(if with_tls { 2376 } else { 2375 });
        Ok(Endpoint::Tcp { host: host.trim_matches(['[', ']']).to_string(), port, tls: with_tls })
    }

    /// The socket file, where its absence means that there is no engine here.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Endpoint::Unix(path) => Some(path),
            Endpoint::Tcp { .. } => None,
        }
    }

    /// Which file the socket is (device, inode): another one is another engine's, though its path is the same. `None`
    /// where there is no file.
    pub fn identity(&self) -> Option<(u64, u64)> {
        let metadata = std::fs::metadata(self.socket()?).ok()?;
        Some((metadata.dev(), metadata.ino()))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Tcp { host, port, .. } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Endpoint::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

/// An engine that has answered.
#[derive(Clone)]
pub struct Engine {
    pub api: bollard::Docker,
    pub version: String,
    /// The host at the other end of a TCP endpoint.
    pub remote: Option<IpAddr>,
    pub(super) line: Arc<Line>,
}

impl Engine {
    pub async fn connect(endpoint: &Endpoint, settings: &DockerSettings) -> Result<Engine, EngineError> {
        // Read again for every connection: certificates are renewed while Portolan runs.
        let tls = match endpoint {
            Endpoint::Tcp { tls: true, .. } => Some(client_tls(settings.tls.clone().unwrap_or_default())?),
            _ => None,
        };
        let line = Arc::new(Line {
            endpoint: endpoint.clone(),
            tls,
            version: Mutex::new(None),
            remote: OnceLock::new(),
            listening: Notify::new(),
        });
        let transport = {
            let line = line.clone();
            move |request: BollardRequest| {
                let line = line.clone();
                async move { line.exchange(request).await }
            }
        };
        let version = ClientVersion { major_version: NEWEST.0, minor_version: NEWEST.1 };
        let api = bollard::Docker::connect_with_custom_transport(
            transport,
            Some("http://engine"),
            ANSWER.as_secs(),
            &version,
        )
        .map_err(|error| line.explain("its client", error))?;
        let mut said = api.version().await;
        for version in ASKED {
            // No fault of the way there: somebody answered, but not to this.
            let Err(bollard::errors::Error::DockerResponseServerError { .. }) = said else { break };
            line.speak(version);
            if let Ok(answered) = api.version().await {
                said = Ok(answered);
            }
        }
        let said = said.map_err(|error| line.explain("GET /version", error))?;
        let (to, from) = (said.api_version.unwrap_or_default(), said.min_api_version.unwrap_or_default());
        let version = common(&from, &to).ok_or(EngineError::Version { from, to })?;
        line.speak(&version);
        Ok(Engine { api, version, remote: line.remote.get().copied(), line })
    }

    /// Returns once the engine has accepted an event stream that somebody polls.
    pub async fn listening(&self) {
        self.line.listening.notified().await;
    }

    pub fn explain(&self, what: &'static str, error: bollard::errors::Error) -> EngineError {
        self.line.explain(what, error)
    }
}

/// The newest version that both sides speak. An engine that names no oldest one takes all.
fn common(from: &str, to: &str) -> Option<String> {
    let parse = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse::<usize>().ok()?, minor.parse::<usize>().ok()?))
    };
    let chosen = parse(to)?.min(NEWEST);
    let fits = chosen >= OLDEST && parse(from).is_none_or(|from| from <= chosen);
    fits.then(|| format!("{}.{}", chosen.0, chosen.1))
}

/// How bytes get to the engine: one connection per call, as the calls are few and the socket is near.
pub(super) struct Line {
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
    /// What every call carries, once it is known.
    version: Mutex<Option<String>>,
    remote: OnceLock<IpAddr>,
    listening: Notify,
}

impl Line {
    fn speak(&self, version: &str) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.to_string());
    }

    fn prefixed(&self, path: &str) -> String {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        version.as_ref().map_or_else(|| path.to_string(), |version| format!("/v{version}{path}"))
    }

    pub(super) async fn exchange(&self, request: BollardRequest) -> Result<Response<Incoming>, bollard::errors::Error> {
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let stream = within(DIAL, UnixStream::connect(path)).await?;
                self.send(stream, request).await
            }
            Endpoint::Tcp { host, port, .. } => {
                let stream = within(DIAL, TcpStream::connect((host.as_str(), *port))).await?;
                keep_alive(&stream)?;
                let _ = self.remote.set(stream.peer_addr()?.ip().to_canonical());
                match &self.tls {
                    None => self.send(stream, request).await,
                    Some(connector) => {
                        let name = ServerName::try_from(host.clone()).map_err(std::io::Error::other)?;
                        let stream = within(DIAL, connector.connect(name, stream)).await?;
                        self.send(stream, request).await
                    }
                }
            }
        }
    }

    async fn send<S>(
        &self,
        stream: S,
        mut request: BollardRequest,
    ) -> Result<Response<Incoming>, bollard::errors::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_string();
        *request.uri_mut() = self.prefixed(&path).parse()?;
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("docker"));
        let limit = (!path.starts_with("/events")).then_some(ANSWER);
        let stream = Patient::new(stream, limit);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the answer's body, or when nobody reads that any more.
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        if path.starts_with("/events") && response.status().is_success() {
            self.listening.notify_one();
        }
        Ok(response)
    }

    fn explain(&self, what: &'static str, error: bollard::errors::Error) -> EngineError {
        use bollard::errors::Error;
        let at = self.endpoint.to_string();
        match error {
            Error::IOError { err } => match (&self.endpoint, err.kind()) {
                (Endpoint::Unix(path), std::io::ErrorKind::NotFound) => EngineError::NoSocket(path.clone()),
                (Endpoint::Unix(path), std::io::ErrorKind::PermissionDenied) => EngineError::Forbidden(path.clone()),
                (Endpoint::Unix(path), std::io::ErrorKind::ConnectionRefused) if is_mount_point(path) => {
                    EngineError::MountedSocket(path.clone())
                }
                _ if fell_silent(&err) => EngineError::Slow(what),
                _ if err.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                    EngineError::Tls { at, why: err.to_string() }
                }
                _ => EngineError::Unreachable { at, why: err.to_string() },
            },
            // TLS 1.3 tells a client that its certificate is refused only after the handshake.
            Error::HyperResponseError { err } if self.tls.is_some() && mentions_tls(&err) => {
                EngineError::Tls { at, why: chain(&err) }
            }
            Error::RequestTimeoutError => EngineError::Slow(what),
            Error::HyperResponseError { err } if fell_silent(&err) => EngineError::Slow(what),
            Error::DockerResponseServerError { status_code: 403, message } => {
                EngineError::NotAllowed { what, why: message.trim().to_string() }
            }
            other => EngineError::Call { what, why: chain(&other) },
        }
    }
}

fn mentions_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    mentions::<rustls::Error>(error)
}

/// Whether an error of this kind is in the story; what an I/O error holds is not among its sources.
fn mentions<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        if error.is::<E>() || inner.is_some_and(|inner| inner.is::<E>()) {
            return true;
        }
        next = error.source();
    }
    false
}

fn fell_silent(error: &(dyn std::error::Error + 'static)) -> bool {
    mentions::<Silence>(error)
}

/// Whether a path is itself a mount point, as a file is that is mounted into a container.
fn is_mount_point(path: &Path) -> bool {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // /var/run is a link to /run in most images.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    // proc(5): the fifth field is the mount point.
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| Path::new(point) == real)
}

/// The whole story: hyper's own words stop at "connection error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut story = error.to_string().trim_end().to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !story.contains(&cause_text) {
            story = format!("{story}: {cause_text}");
        }
        next = cause.source();
    }
    story
}

async fn within<T>(limit: Duration, what: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    match tokio::time::timeout(limit, what).await {
        Ok(result) => result,
        Err(_) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time")),
    }
}

/// An event stream is silent for hours; only this tells that its peer is gone.
fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    let probes = socket2::TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
    socket2::SockRef::from(stream).set_tcp_keepalive(&probes)
}

fn client_tls(files: EngineTlsSettings) -> Result<TlsConnector, EngineError> {
    let EngineTlsSettings { ca_file, cert_file, key_file } = files;
    let read = |field: &str, path: &Path| {
        if path.as_os_str().is_empty() {
            return Err(EngineError::Settings(format!("tls.{field} is missing; it names a PEM file")));
        }
        std::fs::read(path).map_err(|why| EngineError::Settings(format!("tls.{field}: {}: {why}", path.display())))
    };
    let bad = |field: &str, path: &Path, why: String| {
        EngineError::Settings(format!("tls.{field}: {}: {why}", path.display()))
    };
    let certificates = |field: &str, path: &Path| {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(field, path)?)
            .collect::<Result<_, _>>()
            .map_err(|why| bad(field, path, why.to_string()))?;
        if chain.is_empty() { Err(bad(field, path, "it holds no certificate".into())) } else { Ok(chain) }
    };
    let mut roots = rustls::RootCertStore::empty();
    for root in certificates("ca_file", &ca_file)? {
        roots.add(root).map_err(|why| bad("ca_file", &ca_file, why.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| EngineError::Settings(why.to_string()))?
        .with_root_certificates(roots);
    let config = if cert_file.as_os_str().is_empty() && key_file.as_os_str().is_empty() {
        builder.with_no_client_auth()
    } else {
        let key = PrivateKeyDer::from_pem_slice(&read("key_file", &key_file)?)
            .map_err(|why| bad("key_file", &key_file, why.to_string()))?;
        builder
            .with_client_auth_cert(certificates("cert_file", &cert_file)?, key)
            .map_err(|why| bad("key_file", &key_file, why.to_string()))?
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(raw: &str, tls: bool) -> Result<Endpoint, String> {
        let tls = tls.then(EngineTlsSettings::default);
        Endpoint::of(&DockerSettings { endpoint: raw.into(), tls, ..DockerSettings::default() })
            .map_err(|e| e.to_string())
    }

    #[test]
    fn endpoints_are_sockets_or_tcp_with_the_port_that_engines_use() {
        assert_eq!(endpoint("unix:///run/x.sock", false), Ok(Endpoint::Unix("/run/x.sock".into())));
        let tcp = |host: &str, port, tls| Ok(Endpoint::Tcp { host: host.into(), port, tls });
        assert_eq!(endpoint("tcp://engine", true), tcp("engine", 2376, true));
        assert_eq!(endpoint("tcp://engine", false), tcp("engine", 2375, false));
        assert_eq!(endpoint("tcp://[::1]:99", false), tcp("::1", 99, false));
        for raw in ["/var/run/docker.sock", "unix://run", "ssh://x", "tcp://", "https://x", "tcp://a b"] {
            assert!(endpoint(raw, false).is_err(), "{raw}");
        }
    }

    #[test]
    fn the_version_is_the_newest_that_both_speak() {
        assert_eq!(common("1.12", "1.41").as_deref(), Some("1.41"));
        assert_eq!(common("1.44", "1.60").as_deref(), Some("1.53"));
        assert_eq!(common("", "1.41").as_deref(), Some("1.41"));
        assert_eq!(common("1.54", "1.60"), None);
        assert_eq!(common("1.12", "1.24"), None);
        assert_eq!(common("", ""), None);
    }

    #[test]
    fn tls_files_that_are_missing_are_named() {
        let error = client_tls(EngineTlsSettings::default()).err().expect("no CA").to_string();
        assert!(error.contains("tls.ca_file is missing"), "{error}");
        let absent = EngineTlsSettings { ca_file: "/nonexistent/ca.pem".into(), ..EngineTlsSettings::default() };
        let error = client_tls(absent).err().expect("no file").to_string();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    }
}
