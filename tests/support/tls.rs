//! A TLS client that shows its handshake: which certificate, version and group, and in how many pieces the hello went.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, NamedGroup, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::http::{self, Answer};

/// What is offered, and how.
pub struct Client {
    config: ClientConfig,
    hello: Hello,
    ahead: Vec<u8>,
}

/// How the client hello is cut.
#[derive(Debug, Clone, Copy)]
enum Hello {
    Whole,
    /// TLS records of so many bytes, each in so many writes.
    Pieces {
        record: usize,
        write: usize,
    },
}

/// A connection after its handshake.
pub struct Session {
    connection: ClientConnection,
    socket: TcpStream,
}

impl Client {
    /// Takes what these roots signed, and nothing else. Offers HTTP/1.1.
    pub fn trusting(root: &Path) -> Client {
        Client::speaking(rustls::DEFAULT_VERSIONS, root)
    }

    pub fn speaking(versions: &[&'static SupportedProtocolVersion], root: &Path) -> Client {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(root).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Client { config, hello: Hello::Whole, ahead: Vec::new() }
    }

    pub fn alpn(mut self, protocols: &[&[u8]]) -> Client {
        self.config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }

    /// Shows this certificate to who asks for one. PEM files.
    pub fn showing(mut self, certificate: &Path, key: &Path) -> Client {
        self.config.client_auth_cert_resolver = shown(certificate, key);
        self
    }

    /// Keeps sessions of all names as if they were one's: a client that offers a ticket wherever it can.
    pub fn share_sessions(&mut self) {
        let store = Arc::new(OneStore(rustls::client::ClientSessionMemoryCache::new(8)));
        self.config.resumption = rustls::client::Resumption::store(store);
    }

    /// Sends these bytes with the last of its handshake, before it can know what the server makes of that.
    pub fn saying_at_once(mut self, bytes: &[u8]) -> Client {
        self.ahead = bytes.to_vec();
        self
    }

    pub fn in_pieces(mut self, record: usize, write: usize) -> Client {
        self.hello = Hello::Pieces { record, write };
        self
    }

    /// The handshake. An address as `name` sends no SNI.
    pub fn connect(&self, to: SocketAddr, name: &str) -> io::Result<Session> {
        let name = ServerName::try_from(name.to_string()).unwrap();
        let mut connection = ClientConnection::new(Arc::new(self.config.clone()), name).map_err(io::Error::other)?;
        let limit = Duration::from_secs(10);
        let mut socket = TcpStream::connect_timeout(&to, limit)?;
        socket.set_read_timeout(Some(limit))?;
        socket.set_nodelay(true)?;
        if let Hello::Pieces { record, write } = self.hello {
            let mut hello = Vec::new();
            while connection.wants_write() {
                connection.write_tls(&mut hello)?;
            }
            for piece in recut(&hello, record).chunks(write) {
                socket.write_all(piece)?;
                // Long enough for the other side to be woken up by this piece alone.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        connection.writer().write_all(&self.ahead)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Session { connection, socket })
    }
}

/// The same handshake message in other records (RFC 8446 §5.1 lets it be cut anywhere).
fn recut(records: &[u8], size: usize) -> Vec<u8> {
    let mut message = Vec::new();
    let mut rest = records;
    while let [22, _, _, high, low, tail @ ..] = rest {
        let (content, after) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        message.extend_from_slice(content);
        rest = after;
    }
    assert!(rest.is_empty() && message.len() > size, "a hello of {} bytes is not cut", message.len());
    message
        .chunks(size)
        .flat_map(|content| {
            let length = u16::try_from(content.len()).unwrap().to_be_bytes();
            [&[22, 3, 1][..], &length, content].concat()
        })
        .collect()
}

/// Two PEM files as what a client shows to whoever asks.
pub fn shown(certificate: &Path, key: &Path) -> Arc<rustls::sign::SingleCertAndKey> {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
    Arc::new(rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain, key)))
}

/// Every name is the same one.
#[derive(Debug)]
struct OneStore(rustls::client::ClientSessionMemoryCache);

fn one() -> ServerName<'static> {
    ServerName::try_from("one.test").unwrap()
}

impl rustls::client::ClientSessionStore for OneStore {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(one(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&one())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: rustls::client::Tls12ClientSessionValue) {
        self.0.set_tls12_session(one(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        self.0.tls12_session(&one())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&one());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: rustls::client::Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(one(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&one())
    }
}

impl Session {
    pub fn resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    pub fn version(&self) -> ProtocolVersion {
        self.connection.protocol_version().unwrap()
    }

    pub fn group(&self) -> NamedGroup {
        self.connection.negotiated_key_exchange_group().unwrap().name()
    }

    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// The server's own certificate, DER.
    pub fn certificate(&self) -> Vec<u8> {
        self.connection.peer_certificates().unwrap()[0].to_vec()
    }

    /// The whole of what it showed.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.connection.peer_certificates().unwrap().iter().map(|der| der.to_vec()).collect()
    }

    /// Its subject alternative names, as openssl writes them.
    pub fn names(&self) -> Vec<String> {
        let der = self.certificate();
        let (_, certificate) = parse_x509_certificate(&der).unwrap();
        let extension = certificate.subject_alternative_name().unwrap().unwrap();
        let shown = extension.value.general_names.iter().map(|name| match name {
            GeneralName::DNSName(name) => format!("DNS:{name}"),
            GeneralName::IPAddress([a, b, c, d]) => format!("IP:{a}.{b}.{c}.{d}"),
            other => format!("{other:?}"),
        });
        shown.collect()
    }

    /// Sends these bytes and reads one answer, its body by its length.
    pub fn ask(&mut self, request: &str) -> io::Result<Answer> {
        http::ask(self, request)
    }

    /// Whether the server ends the connection, and says so in TLS, without being asked anything more.
    pub fn is_closed_by_server(&mut self) -> bool {
        matches!(self.read(&mut [0]), Ok(0))
    }
}

impl Read for Session {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, &mut self.socket).read(buffer)
    }
}

impl Write for Session {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, &mut self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        rustls::Stream::new(&mut self.connection, &mut self.socket).flush()
    }
}
