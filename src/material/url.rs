//! Revocation lists that are fetched, again and again.
//!
//! ```text
//! set(urls) ─▶ one task each: GET ─▶ wait `refresh` ─▶ GET …      after a failure sooner: 5 s, 10 s, 20 s, …
//!                     └─▶ changed() ─▶ current(): the last content, and what is wrong with the URL now
//! ```
//! Only the operator names URLs. What comes is signed by its issuer, so that plain HTTP is as good as HTTPS, and as such
//! lists are published. Judging what came is the caller's.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::model::units::Span;

/// Where nobody says otherwise.
const REFRESH: Duration = Duration::from_secs(3600);
/// No list that is published comes near it.
const LARGEST: usize = 32 << 20;
/// For the whole of a fetch.
const TIMEOUT: Duration = Duration::from_secs(30);
/// After the first failure; doubled after each further one, up to the refresh.
const FIRST_RETRY: Duration = Duration::from_secs(5);

/// What a URL has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The last that came.
    pub content: Option<Arc<[u8]>>,
    /// Why the last try brought nothing.
    pub trouble: Option<String>,
}

/// A set of URLs and what they said last.
#[derive(Debug)]
pub struct UrlWatch {
    fetches: BTreeMap<Arc<str>, Fetch>,
    current: BTreeMap<Arc<str>, Fetched>,
    sender: UnboundedSender<News>,
    news: UnboundedReceiver<News>,
}

#[derive(Debug)]
struct Fetch {
    refresh: Option<Span>,
    task: AbortHandle,
}

#[derive(Debug)]
struct News {
    url: Arc<str>,
    came: Result<Arc<[u8]>, String>,
}

impl Default for UrlWatch {
    fn default() -> UrlWatch {
        let (sender, news) = unbounded_channel();
        UrlWatch { fetches: BTreeMap::new(), current: BTreeMap::new(), sender, news }
    }
}

impl UrlWatch {
    /// From now on these URLs and no others; `kept` is what a new one said in the life of another process. Needs a
    /// runtime around it.
    pub fn set(&mut self, wanted: &BTreeMap<Arc<str>, Option<Span>>, kept: impl Fn(&str) -> Option<Arc<[u8]>>) {
        self.fetches.retain(|url, fetch| {
            let same = wanted.get(url) == Some(&fetch.refresh);
            if !same {
                fetch.task.abort();
            }
            same
        });
        self.current.retain(|url, _| wanted.contains_key(url));
        for (url, refresh) in wanted.iter().filter(|(url, _)| !self.fetches.contains_key(*url)).collect::<Vec<_>>() {
            let fresh = || Fetched { content: kept(url), trouble: None };
            self.current.entry(url.clone()).or_insert_with(fresh);
            let every = refresh.map_or(REFRESH, |refresh| refresh.0);
            let task = tokio::spawn(follow(url.clone(), every, self.sender.clone())).abort_handle();
            self.fetches.insert(url.clone(), Fetch { refresh: *refresh, task });
        }
    }

    pub fn current(&self) -> &BTreeMap<Arc<str>, Fetched> {
        &self.current
    }

    /// Waits until [`UrlWatch::current`] says something else. May be dropped and called again without losing anything.
    pub async fn changed(&mut self) {
        while let Some(News { url, came }) = self.news.recv().await {
            // One that is not wanted any more may have been under way.
            let Some(current) = self.current.get_mut(&url) else { continue };
            let before = current.clone();
            match came {
                Ok(bytes) => *current = Fetched { content: Some(bytes), trouble: None },
                Err(why) => current.trouble = Some(why),
            }
            if *current != before {
                return;
            }
        }
    }
}

impl Drop for UrlWatch {
    fn drop(&mut self) {
        for fetch in self.fetches.values() {
            fetch.task.abort();
        }
    }
}

async fn follow(url: Arc<str>, every: Duration, news: UnboundedSender<News>) {
    let mut failures: u32 = 0;
    loop {
        let came = tokio::time::timeout(TIMEOUT, fetch(&url)).await;
        let came = came.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
        let pause = match &came {
            Ok(_) => {
                failures = 0;
                every
            }
            Err(_) => {
                failures = failures.saturating_add(1);
                FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(every)
            }
        };
        if news.send(News { url: url.clone(), came }).is_err() {
            return;
        }
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Up to a tenth less, so that many proxies that were started at once do not ask at once.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0];
    // Without random numbers all ask at once.
    let _ = ::aws_lc_rs::rand::fill(&mut random);
    pause.mul_f64(1.0 - f64::from(random[0]) / 2560.0)
}

async fn fetch(url: &str) -> Result<Arc<[u8]>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("it is no URL: {error}"))?;
    let host = uri.host().ok_or("it names no host")?.trim_start_matches('[').trim_end_matches(']').to_string();
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let told = |error: std::io::Error| format!("{host} cannot be reached: {error}");
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(told)?;
    if !tls {
        return get(&uri, stream).await;
    }
    let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(TLS.clone()?);
    get(&uri, connector.connect(name, stream).await.map_err(told)?).await
}

/// By the CAs of this machine, or of what SSL_CERT_FILE names.
static TLS: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
});

async fn get(uri: &Uri, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Arc<[u8]>, String> {
    let broken = |error: hyper::Error| format!("the answer is broken: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = http::Request::get(path)
        .header(http::header::HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(http::header::USER_AGENT, concat!("portolan/", env!("CARGO_PKG_VERSION")))
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    if status != http::StatusCode::OK {
        let hint = if status.is_redirection() { "; name the place that it leads to" } else { "" };
        return Err(format!("the answer is {status}{hint}"));
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| format!("the answer is broken, or larger than {} MiB: {error}", LARGEST >> 20))?;
    connection.abort();
    Ok(body.to_bytes().as_ref().into())
}
