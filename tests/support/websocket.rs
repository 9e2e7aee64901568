//! WebSockets over h1 and h2, with TLS and without, and an endpoint that says back what it hears.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// Whatever carries a WebSocket.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub type Socket = WebSocketStream<Box<dyn Duplex>>;

/// How a client speaks to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    H1,
    H1Tls,
    H2,
    H2Tls,
}

pub const ALL: [Over; 4] = [Over::H1, Over::H1Tls, Over::H2, Over::H2Tls];

/// Where the proxy listens, and whom its clients trust.
#[derive(Clone)]
pub struct Proxy {
    pub plain: SocketAddr,
    pub https: SocketAddr,
    tls: TlsConnector,
    tls_h2: TlsConnector,
}

impl Proxy {
    pub fn of(portolan: &super::portolan::Portolan) -> Proxy {
        let tls = |alpn: &[u8]| connector(&portolan.root(), alpn, None);
        Proxy { plain: portolan.plain, https: portolan.https, tls: tls(b"http/1.1"), tls_h2: tls(b"h2") }
    }

    /// Its clients show this certificate.
    pub fn showing(portolan: &super::portolan::Portolan, pair: &super::pki::Pair) -> Proxy {
        let tls = |alpn: &[u8]| connector(&portolan.root(), alpn, Some(pair));
        Proxy { plain: portolan.plain, https: portolan.https, tls: tls(b"http/1.1"), tls_h2: tls(b"h2") }
    }

    async fn dial(&self, over: Over, host: &str) -> Box<dyn Duplex> {
        let tls = match over {
            Over::H1 | Over::H2 => return Box::new(dial(self.plain).await),
            Over::H1Tls => &self.tls,
            Over::H2Tls => &self.tls_h2,
        };
        let name = ServerName::try_from(host.to_string()).unwrap();
        Box::new(tls.connect(name, dial(self.https).await).await.unwrap())
    }

    /// A WebSocket, or the answer that came instead.
    pub async fn try_open(&self, over: Over, host: &str, path: &str) -> Result<Socket, StatusCode> {
        let stream = self.dial(over, host).await;
        let uri = format!("{host}{path}");
        match over {
            Over::H1 | Over::H1Tls => {
                let opened = tokio_tungstenite::client_async_with_config(format!("ws://{uri}"), stream, unlimited());
                match opened.await {
                    Ok((socket, _)) => Ok(socket),
                    Err(Error::Http(answer)) => Err(answer.status()),
                    Err(error) => panic!("no WebSocket over {over:?}: {error}"),
                }
            }
            Over::H2 | Over::H2Tls => {
                let scheme = if over == Over::H2 { "http" } else { "https" };
                let answer = connect(stream, &format!("{scheme}://{uri}")).await;
                if answer.status() != StatusCode::OK {
                    return Err(answer.status());
                }
                assert!(!answer.headers().contains_key("sec-websocket-accept"), "{answer:?}");
                let stream: Box<dyn Duplex> = Box::new(TokioIo::new(hyper::upgrade::on(answer).await.unwrap()));
                Ok(WebSocketStream::from_raw_socket(stream, Role::Client, unlimited()).await)
            }
        }
    }

    pub async fn open(&self, over: Over, host: &str) -> Socket {
        self.try_open(over, host, "/socket").await.unwrap_or_else(|status| panic!("{over:?}: {status}"))
    }
}

/// An extended CONNECT for a WebSocket (RFC 8441).
async fn connect(stream: Box<dyn Duplex>, uri: &str) -> Response<hyper::body::Incoming> {
    let (mut sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 16)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    // Nobody may ask for it before the server has said that it knows it.
    while !connection.is_extended_connect_protocol_enabled() {
        // Frames are read by a task of the library's, which wakes nobody for what they say.
        tokio::select! {
            ended = &mut connection => panic!("no h2 connection: {ended:?}"),
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
    }
    tokio::spawn(connection);
    let request = Request::connect(uri)
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    sender.send_request(request).await.unwrap()
}

pub async fn dial(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn unlimited() -> Option<WebSocketConfig> {
    Some(WebSocketConfig::default().max_message_size(None).max_frame_size(None))
}

fn connector(root: &Path, alpn: &[u8], showing: Option<&super::pki::Pair>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(root).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    if let Some(pair) = showing {
        config.client_auth_cert_resolver = super::tls::shown(&pair.cert_file, &pair.key_file);
    }
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config).into()
}

/// Sends a text and waits for its echo.
pub async fn says(socket: &mut Socket, text: &str) -> Result<(), Error> {
    socket.send(Message::text(text)).await?;
    loop {
        match socket.next().await.unwrap_or(Err(Error::ConnectionClosed))? {
            Message::Text(back) if back.as_str() == text => return Ok(()),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{text:?} came back as {other:?}"),
        }
    }
}

/// Until the other side ends it; what it said last.
pub async fn ended(socket: &mut Socket) -> Option<Message> {
    let mut last = None;
    while let Some(Ok(message)) = socket.next().await {
        last = Some(message);
    }
    last
}

/// An endpoint that answers text with the same text and bytes with the same bytes.
pub struct Echo {
    pub address: SocketAddr,
    ended: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    /// On the current runtime.
    pub async fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::<Mutex<Vec<String>>>::default();
        let ends = ended.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ends = ends.clone();
                tokio::spawn(async move {
                    let end = echo(stream).await;
                    ends.lock().unwrap().push(end);
                });
            }
        });
        Echo { address, ended }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How its connections ended, in that order.
    pub fn ended(&self) -> Vec<String> {
        self.ended.lock().unwrap().clone()
    }
}

async fn echo(stream: TcpStream) -> String {
    let mut socket = match tokio_tungstenite::accept_async_with_config(stream, unlimited()).await {
        Ok(socket) => socket,
        Err(error) => return format!("no handshake: {error}"),
    };
    loop {
        match socket.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if let Err(error) = socket.send(message).await {
                    return format!("error: {error}");
                }
            }
            Some(Ok(Message::Close(frame))) => {
                // Its echo is on the way.
                while let Some(Ok(_)) = socket.next().await {}
                return format!("closed: {}", frame.map_or(0, |frame| frame.code.into()));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return format!("error: {error}"),
            None => return "ended".into(),
        }
    }
}
