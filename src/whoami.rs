//! The backend of the demo and the tests: says who it is, and what it received.
//!
//! ```text
//! connection ─▶ HTTP/1.1, or HTTP/2 in cleartext by its preface ─▶ Name, Hostname, IP, RemoteAddr
//!                                                                  request line, headers, blank line
//!                                                                  the request's body, as it comes
//! ```
//! The lines are those of `traefik/whoami`, which people know; `whoami-received` in the answer's head is the Unix time at
//! which the request was here. Needs nothing but the binary: no file of the image.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// For answers on their way when `stop` comes.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// For the first bytes to say which HTTP it is.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// How every HTTP/2 connection starts (RFC 9113 §3.4), and no HTTP/1.1 request.
const PREFACE: &[u8] = b"PRI ";
/// When the request's head was here.
const RECEIVED: HeaderName = HeaderName::from_static("whoami-received");

/// Answers until `stop`.
pub async fn serve(listener: TcpListener, name: Option<String>, stop: CancellationToken) {
    let host = Arc::new(Host { name, hostname: hostname() });
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, host.clone(), stop.clone()));
            }
            Err(error) => {
                // Out of file descriptors, mostly: some are freed as connections end.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    // Whoever is not done by then is not waited for.
    let _ = tokio::time::timeout(LAST_ANSWERS, connections.wait()).await;
}

struct Host {
    name: Option<String>,
    hostname: String,
}

/// The two ends of a connection.
#[derive(Clone, Copy)]
struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
}

async fn connection(stream: TcpStream, host: Arc<Host>, stop: CancellationToken) {
    let Ok(ends) = Ends::of(&stream) else { return };
    let h2 = tokio::select! {
        h2 = tokio::time::timeout(FIRST_BYTES, is_h2(&stream)) => h2,
        () = stop.cancelled() => return,
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&host, ends, request);
        async move { Ok::<_, hyper::Error>(answer) }
    });
    // An error is the client's going away: nothing to do, and nobody to tell.
    match h2 {
        Ok(Ok(true)) => {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = connection.as_mut() => return,
                () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }
        Ok(Ok(false)) => {
            let mut builder = hyper::server::conn::http1::Builder::new();
            let builder = builder.timer(TokioTimer::new());
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = connection.as_mut() => return,
                () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn is_h2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 || first[..seen] != PREFACE[..seen] {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        // Bytes that were looked at stay, and the socket stays readable: there is nothing to wait on.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Ends {
    fn of(stream: &TcpStream) -> io::Result<Ends> {
        // A dual-stack socket shows IPv4 as `::ffff:192.0.2.1`.
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Ok(Ends { local: plain(stream.local_addr()?), remote: plain(stream.peer_addr()?) })
    }
}

fn hostname() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let known = kernel.map(|name| name.trim().to_string()).filter(|name| !name.is_empty());
    known.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_else(|| "unknown".into())
}

fn answer(host: &Host, ends: Ends, request: Request<Incoming>) -> Response<Echo> {
    let text = describe(host, ends, &request);
    let mut response = Response::new(Echo { text: Some(text.into()), body: request.into_body() });
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    if let Some(now) = unix_time() {
        response.headers_mut().insert(RECEIVED, now);
    }
    response
}

/// In seconds, to the microsecond.
fn unix_time() -> Option<header::HeaderValue> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    header::HeaderValue::try_from(format!("{}.{:06}", now.as_secs(), now.subsec_micros())).ok()
}

fn describe<B>(host: &Host, ends: Ends, request: &Request<B>) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    if let Some(name) = &host.name {
        let _ = writeln!(text, "Name: {name}");
    }
    let _ = writeln!(text, "Hostname: {}\nIP: {}\nRemoteAddr: {}", host.hostname, ends.local.ip(), ends.remote);
    let uri = request.uri();
    let target = uri.path_and_query().map_or(uri.path(), |target| target.as_str());
    let _ = writeln!(text, "{} {target} {:?}", request.method(), request.version());
    let lossy = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    // HTTP/2 says it in `:authority`.
    let authority = request.headers().get(header::HOST).map(lossy).or(uri.authority().map(ToString::to_string));
    if let Some(authority) = authority {
        let _ = writeln!(text, "Host: {authority}");
    }
    for (name, value) in request.headers().iter().filter(|(name, _)| **name != header::HOST) {
        let _ = writeln!(text, "{}: {}", titled(name), lossy(value));
    }
    text.push('\n');
    text
}

/// `X-Forwarded-For`: the library folds names to lower case, people look for them like this.
fn titled(name: &HeaderName) -> String {
    let mut start = true;
    let letter = |c: char| {
        let titled = if start { c.to_ascii_uppercase() } else { c };
        start = c == '-';
        titled
    };
    name.as_str().chars().map(letter).collect()
}

/// The text, then the request's body as it comes: never more than a frame of it in memory.
struct Echo {
    text: Option<Bytes>,
    body: Incoming,
}

impl Body for Echo {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(text) = self.text.take() {
            return Poll::Ready(Some(Ok(Frame::data(text))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        // Trailers are not part of what is echoed.
        Poll::Ready(frame.filter(|frame| frame.as_ref().map_or(true, Frame::is_data)))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let text = self.text.as_ref().map_or(0, |text| text.len() as u64);
        let body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + text);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + text);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty, Full};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Running {
        address: SocketAddr,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(name: Option<&str>) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, name.map(String::from), stop.clone()));
        Running { address, stop, task }
    }

    async fn exchange(whoami: &Running, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(whoami.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.into())
    }

    #[tokio::test]
    async fn it_says_who_it_is_and_what_it_received() {
        let whoami = start(Some("shop-web-1")).await;
        let request = "POST /a%20b?c=d HTTP/1.1\r\nX-Forwarded-For: 192.0.2.1\r\nHost: shop.test\r\nConnection: close\r\n\
                       x-forwarded-for: 192.0.2.2\r\nContent-Length: 5\r\n\r\nhello";
        let (head, body) = exchange(&whoami, request).await;
        assert!(head.starts_with("http/1.1 200 ok") && head.contains("content-type: text/plain"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let received = head.lines().find_map(|line| line.strip_prefix("whoami-received: ")).unwrap();
        let ago =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - received.parse::<f64>().unwrap();
        assert!((0.0..10.0).contains(&ago), "{head}");
        let lines: Vec<&str> = body.lines().collect();
        assert_eq!(lines[0], "Name: shop-web-1");
        assert!(lines[1].strip_prefix("Hostname: ").is_some_and(|name| !name.is_empty()), "{body}");
        assert_eq!(lines[2], "IP: 127.0.0.1");
        assert!(lines[3].starts_with("RemoteAddr: 127.0.0.1:"), "{body}");
        assert_eq!(lines[4..6], ["POST /a%20b?c=d HTTP/1.1", "Host: shop.test"]);
        assert!(
            lines.contains(&"X-Forwarded-For: 192.0.2.1") && lines.contains(&"X-Forwarded-For: 192.0.2.2"),
            "{body}"
        );
        assert!(body.ends_with("\n\nhello"), "{body:?}");
    }

    #[tokio::test]
    async fn without_a_name_it_gives_none_and_a_get_ends_with_the_blank_line() {
        let whoami = start(None).await;
        let (_, body) = exchange(&whoami, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(body.starts_with("Hostname: ") && body.ends_with("\n\n"), "{body:?}");
    }

    #[tokio::test]
    async fn a_body_is_echoed_while_it_is_still_coming() {
        let whoami = start(None).await;
        let mut stream = TcpStream::connect(whoami.address).await.unwrap();
        stream
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            .await
            .unwrap();
        let mut seen = String::new();
        while !seen.contains("first") {
            let mut some = [0; 1024];
            let read =
                tokio::time::timeout(Duration::from_secs(10), stream.read(&mut some)).await.expect("echoed").unwrap();
            assert!(read > 0);
            seen.push_str(std::str::from_utf8(&some[..read]).unwrap());
        }
        stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
        while !seen.contains("last") {
            let mut some = [0; 1024];
            let read = stream.read(&mut some).await.unwrap();
            assert!(read > 0);
            seen.push_str(std::str::from_utf8(&some[..read]).unwrap());
        }
    }

    #[tokio::test]
    async fn http_2_without_tls_by_prior_knowledge() {
        let whoami = start(Some("two")).await;
        let stream = TcpStream::connect(whoami.address).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("http://shop.test/x").body(Full::new(Bytes::from_static(b"hello"))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let body = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(body.contains("Name: two\n") && body.contains("\nPOST /x HTTP/2.0\nHost: shop.test\n"), "{body}");
        assert!(body.ends_with("hello"), "{body}");
    }

    #[tokio::test]
    async fn at_the_end_idle_connections_are_closed_and_it_returns() {
        let whoami = start(None).await;
        let stream = TcpStream::connect(whoami.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
        sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
        let silent = TcpStream::connect(whoami.address).await.unwrap();
        whoami.stop.cancel();
        tokio::time::timeout(LAST_ANSWERS / 2, whoami.task).await.expect("it returns").unwrap();
        assert!(connection.await.unwrap().is_ok());
        drop(silent);
    }
}
