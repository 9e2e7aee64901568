//! The handshake of WebSocket over h1 (RFC 6455 §4), where Portolan gives it itself: between h1 and h2, which has none.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::ext::Protocol;

use super::error::{ErrorKind, ProxyError};

pub const KEY: HeaderName = SEC_WEBSOCKET_KEY;
pub const ACCEPT: HeaderName = SEC_WEBSOCKET_ACCEPT;
pub const VERSION: HeaderName = SEC_WEBSOCKET_VERSION;

pub const WEBSOCKET: &str = "websocket";

/// RFC 6455 §1.3.
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The wish of a request for h2, which has a way of its own to say it (RFC 8441 §5).
pub struct Connect {
    accept: HeaderValue,
}

impl Connect {
    /// Makes an extended CONNECT of a request that asks for a WebSocket. Of other upgrades h2 knows nothing: the request is
    /// an ordinary one.
    pub fn of<B>(request: &mut Request<B>, switches: bool) -> Option<Connect> {
        if !switches {
            return None;
        }
        let headers = request.headers_mut();
        headers.remove(CONNECTION);
        let wish = headers.remove(UPGRADE)?;
        let mut protocols = wish.to_str().unwrap_or("").split(',').map(str::trim);
        if !protocols.any(|protocol| protocol.eq_ignore_ascii_case(WEBSOCKET)) {
            return None;
        }
        let accept = accept(headers.remove(KEY)?.as_bytes());
        *request.method_mut() = Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
        Some(Connect { accept })
    }

    /// Makes of an endpoint's yes what it would be over h1.
    pub fn agree<B>(self, response: &mut Response<B>) {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
        response.headers_mut().insert(ACCEPT, self.accept);
    }
}

/// A fresh key, and what an endpoint that speaks WebSocket makes of it.
pub fn challenge() -> Result<(HeaderValue, HeaderValue), ProxyError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| ProxyError::new(ErrorKind::UpgradeRefused, "no random bytes for a key"))?;
    let key = text(STANDARD.encode(bytes));
    let accept = accept(key.as_bytes());
    Ok((key, accept))
}

/// The proof that a key was read.
pub fn accept(key: &[u8]) -> HeaderValue {
    text(STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC].concat())))
}

fn text(base64: String) -> HeaderValue {
    // The alphabet of base64 is legal in a header.
    HeaderValue::try_from(base64).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_the_one_of_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let (key, proof) = challenge().expect("random bytes");
        assert_eq!((key.len(), accept(key.as_bytes())), (24, proof));
        assert_ne!(challenge().expect("random bytes").0, key);
    }
}
