//! Endpoints that speak HTTP/2, and TLS, as a library does: by prior knowledge, or by ALPN.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use x509_parser::extensions::GeneralName;

use super::pki::Pair;

/// Answers 200 with what it was asked. Ends when dropped, connections and all.
pub struct Peer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Ending,
}

/// Gone without waiting for what it does.
struct Ending(Option<Runtime>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
    /// Now, and at most at a time, by connection.
    open: Mutex<Vec<(usize, usize)>>,
}

/// How it speaks.
#[derive(Clone, Default)]
pub struct Speaks {
    /// With this certificate and these protocols by ALPN.
    pub tls: Option<Arc<ServerConfig>>,
    pub most_streams: Option<u32>,
    /// Before each answer.
    pub pause: Duration,
    /// Over h1: a connection for each request.
    pub single: bool,
}

impl Speaks {
    pub fn tls(pair: &Pair, alpn: &[&str]) -> Speaks {
        let chain = CertificateDer::pem_file_iter(&pair.cert_file).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&pair.key_file).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Speaks { tls: Some(Arc::new(config)), ..Speaks::default() }
    }

    /// The same, to clients alone that show a certificate of these CAs, and in this version of TLS.
    pub fn mutual(pair: &Pair, alpn: &[&str], clients: &Path, version: &'static SupportedProtocolVersion) -> Speaks {
        let chain = CertificateDer::pem_file_iter(&pair.cert_file).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&pair.key_file).unwrap();
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(clients).unwrap() {
            roots.add(root.unwrap()).unwrap();
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Speaks { tls: Some(Arc::new(config)), ..Speaks::default() }
    }
}

impl Peer {
    /// By prior knowledge.
    pub fn h2c() -> Peer {
        Peer::start(Speaks::default())
    }

    pub fn start(speaks: Speaks) -> Peer {
        Peer::at("127.0.0.1:0".parse().unwrap(), speaks)
    }

    pub fn at(address: SocketAddr, speaks: Speaks) -> Peer {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let of = shared.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, speaks.clone(), of.clone()));
            }
        });
        Peer { address, shared, _runtime: Ending(Some(runtime)) }
    }

    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// Connections over which HTTP was to be spoken.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// `METHOD path` of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The most requests that any of its connections had at a time.
    pub fn most_at_a_time(&self) -> usize {
        self.shared.open.lock().unwrap().iter().map(|(_, most)| *most).max().unwrap_or(0)
    }
}

async fn serve(stream: tokio::net::TcpStream, speaks: Speaks, shared: Arc<Shared>) {
    match &speaks.tls {
        None => speak(stream, true, String::new(), &speaks, shared).await,
        Some(config) => {
            let Ok(stream) = TlsAcceptor::from(config.clone()).accept(stream).await else { return };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let client = stream.get_ref().1.peer_certificates().map_or(String::new(), |chain| names(&chain[0]));
            speak(stream, h2, client, &speaks, shared).await;
        }
    }
}

/// The names in a certificate, as openssl writes them, and its serial number.
fn names(certificate: &CertificateDer<'_>) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap();
    let serial = format!("serial:{}", parsed.raw_serial_as_string());
    let names = names.iter().flat_map(|names| &names.value.general_names).map(|name| match name {
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        other => format!("{other:?}"),
    });
    names.chain([serial]).collect::<Vec<String>>().join(" ")
}

async fn speak<S>(stream: S, h2: bool, client: String, speaks: &Speaks, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
    shared.open.lock().unwrap().resize(connection, (0, 0));
    let pause = speaks.pause;
    let client: Arc<str> = client.into();
    let service = service_fn(move |request| answer(request, connection, client.clone(), pause, shared.clone()));
    let stream = TokioIo::new(stream);
    if h2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        if let Some(most) = speaks.most_streams {
            builder.max_concurrent_streams(most);
        }
        let _ = builder.serve_connection(stream, service).await;
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        let _ = builder.keep_alive(!speaks.single).serve_connection(stream, service).await;
    }
}

async fn answer(
    request: Request<Incoming>,
    connection: usize,
    client: Arc<str>,
    pause: Duration,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    shared.requests.lock().unwrap().push(format!("{} {}", head.method, head.uri.path()));
    let count = |by: isize| {
        let (now, most) = &mut shared.open.lock().unwrap()[connection - 1];
        *now = now.wrapping_add_signed(by);
        *most = (*most).max(*now);
    };
    count(1);
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    tokio::time::sleep(pause).await;
    count(-1);
    let headers: Vec<(&str, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let told = json!({
        "name": format!("{:?}", head.version), "connection": connection, "method": head.method.as_str(),
        "target": head.uri.to_string(), "headers": headers, "body_length": body.len(), "client": &*client,
    });
    Ok(Response::new(Full::new(Bytes::from(told.to_string()))))
}
