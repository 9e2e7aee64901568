//! Asks a running proxy, over plain HTTP/1.1 on its admin or status address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::HeaderName;
use hyper::http::response::Parts;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::model::listener::ListenAddress;

/// From the connection to the last byte. Everything asked is on this machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for an answer that waits for news: the proxy says something every 25 s.
const LONG_PATIENCE: Duration = Duration::from_secs(40);

/// What a proxy answers whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    Page(Page),
    /// The asker has seen what there is.
    Nothing,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// `None` from a proxy that cannot be watched, because it is older.
    pub tag: Option<String>,
    pub changed: Option<Timestamp>,
    pub value: Value,
}

/// `/api/<kind>` of the proxy whose `admin.address` this is.
pub async fn fetch(admin_address: &str, kind: &str) -> anyhow::Result<Value> {
    match news(admin_address, kind, None).await? {
        News::Page(page) => Ok(page.value),
        News::Nothing => bail!("the admin address {admin_address} says that nothing has changed, unasked"),
    }
}

/// The same; with the tag of what has been seen, as soon as it is another.
pub async fn news(admin_address: &str, kind: &str, after: Option<&str>) -> anyhow::Result<News> {
    let (path, patience) = match after {
        None => (format!("/api/{kind}"), PATIENCE),
        Some(tag) => (format!("/api/{kind}?after={tag}"), LONG_PATIENCE),
    };
    let (head, body) = ask(admin_address, &path, patience).await.with_context(|| {
        format!("is `portolan run` running? Nothing useful answers at the admin address {admin_address}")
    })?;
    let status = head.status;
    if status == StatusCode::NOT_MODIFIED {
        return Ok(News::Nothing);
    }
    if status != StatusCode::OK {
        let said = String::from_utf8_lossy(&body);
        bail!("the admin address {admin_address} answered {status}: {}", said.trim());
    }
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let tag = text(header::ETAG).map(|tag| tag.trim_matches('"').to_string());
    // What stands there is put into a path.
    let tag = tag.filter(|tag| !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric()));
    let changed = text(header::LAST_MODIFIED).and_then(http_date);
    let value = serde_json::from_slice(&body)
        .with_context(|| format!("what answers at the admin address {admin_address} is not Portolan"))?;
    Ok(News::Page(Page { tag, changed, value }))
}

/// RFC 9110 §5.6.7.
fn http_date(text: &str) -> Option<Timestamp> {
    let date = text.strip_suffix(" GMT")?;
    let date = jiff::civil::DateTime::strptime("%a, %d %b %Y %H:%M:%S", date).ok()?;
    date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// `address` as it stands in the settings: one without an IP means this machine.
pub(super) async fn get(address: &str, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let (head, body) = ask(address, path, PATIENCE).await?;
    Ok((head.status, body))
}

async fn ask(address: &str, path: &str, patience: Duration) -> anyhow::Result<(Parts, Bytes)> {
    let address: ListenAddress = address.parse().map_err(anyhow::Error::msg)?;
    let exchange = async {
        let targets = targets(address);
        // Tried in turn: a host has IPv4, IPv6 or both.
        let stream =
            TcpStream::connect(&*targets).await.with_context(|| format!("cannot connect to {}", targets[0]))?;
        let host = stream.peer_addr()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(path).header(header::HOST, host.to_string()).body(Empty::<Bytes>::new())?;
        // Takes the sender along: the connection ends with it.
        let answer = async move {
            let (head, body) = sender.send_request(request).await?.into_parts();
            anyhow::Ok((head, body.collect().await?.to_bytes()))
        };
        // Has to be driven for the answer to come; its error is the answer's as well.
        let (answer, _) = tokio::join!(answer, connection);
        answer
    };
    tokio::time::timeout(patience, exchange).await.context("no answer in time")?
}

fn targets(address: ListenAddress) -> Vec<SocketAddr> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let ips = match address.ip {
        None => vec![v4, v6],
        Some(IpAddr::V6(ip)) if ip.is_unspecified() => vec![v6, v4],
        Some(ip) if ip.is_unspecified() => vec![v4],
        Some(ip) => vec![ip],
    };
    ips.into_iter().map(|ip| SocketAddr::new(ip, address.port)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes; gives the port, and later the request's head.
    pub async fn answering(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&head[..read]).into_owned()
        });
        (port, task)
    }

    #[tokio::test]
    async fn what_the_api_says_comes_as_it_is() {
        let (port, head) = answering("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n[{}, 1]").await;
        let value = fetch(&format!("127.0.0.1:{port}"), "routes").await.unwrap();
        assert_eq!(value, serde_json::json!([{}, 1]));
        let head = head.await.unwrap();
        assert!(head.starts_with("GET /api/routes HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{head}");
    }

    #[tokio::test]
    async fn whoever_watches_says_what_it_has_seen() {
        let modified = "ETag: \"0a\"\r\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n";
        let answer = format!("HTTP/1.1 200 OK\r\n{modified}Content-Length: 2\r\n\r\n[]");
        let (port, head) = answering(answer.leak()).await;
        let News::Page(page) = news(&format!(":{port}"), "routes", Some("ff")).await.unwrap() else {
            panic!("no page")
        };
        assert_eq!(
            (page.tag.as_deref(), page.changed),
            (Some("0a"), Some(Timestamp::from_second(1_000_000_000).unwrap()))
        );
        assert!(head.await.unwrap().starts_with("GET /api/routes?after=ff HTTP/1.1\r\n"));
        let (port, _) = answering("HTTP/1.1 304 Not Modified\r\n\r\n").await;
        assert_eq!(news(&format!(":{port}"), "routes", Some("ff")).await.unwrap(), News::Nothing);
        // An older proxy, or none that is ours: what it says is not asked for again.
        let (port, _) = answering("HTTP/1.1 200 OK\r\nETag: a b\r\nContent-Length: 2\r\n\r\n[]").await;
        let News::Page(page) = news(&format!(":{port}"), "routes", None).await.unwrap() else { panic!("no page") };
        assert_eq!((page.tag, page.changed), (None, None));
    }

    #[tokio::test]
    async fn where_nothing_answers_it_says_what_to_look_at() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let why = format!("{:#}", fetch(&address, "routes").await.unwrap_err());
        assert!(why.contains("is `portolan run` running?") && why.contains(&address), "{why}");
        assert!(why.contains("refused"), "the cause as well: {why}");
    }

    #[tokio::test]
    async fn an_answer_that_is_none_is_an_error() {
        let (port, _) = answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 8\r\n\r\nnot you\n").await;
        let why = fetch(&format!("127.0.0.1:{port}"), "routes").await.unwrap_err().to_string();
        assert!(why.contains("403") && why.ends_with("not you"), "{why}");
        let (port, _) = answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>").await;
        let why = fetch(&format!(":{port}"), "routes").await.unwrap_err().to_string();
        assert!(why.contains("is not Portolan"), "{why}");
    }

    #[test]
    fn an_address_that_is_every_address_is_asked_on_loopback() {
        let asked = |raw: &str| targets(raw.parse().unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(asked(":1"), ["127.0.0.1:1", "[::1]:1"]);
        assert_eq!(asked("0.0.0.0:1"), ["127.0.0.1:1"]);
        assert_eq!(asked("[::]:1"), ["[::1]:1", "127.0.0.1:1"]);
        assert_eq!(asked("192.0.2.1:1"), ["192.0.2.1:1"]);
    }
}
