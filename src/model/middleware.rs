//! What a middleware is, as data; what it does stands in `crate::middleware`.

use serde::{Deserialize, Serialize};

use super::diagnostic::{Denial, Origin};
use super::id::ObjectId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Middleware {
    pub id: ObjectId,
    pub origin: Origin,
    pub kind: MiddlewareKind,
    pub denied: Option<Denial>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MiddlewareKind {
    /// Starts with `/`, has no trailing one.
    AddPrefix(String),
    /// Prefixes by whole segments, in the spelling of [`match_key`]: they start with `/`, have no trailing one, and
    /// the longest comes first.
    ///
    /// [`match_key`]: super::path::match_key
    StripPrefix(Vec<String>),
    Redirect(Redirect),
    Headers {
        request: HeaderChanges,
        response: HeaderChanges,
    },
    /// Could not be read; `denied` says why.
    Unusable,
}

/// Where clients are sent. What is `None` stays as the client asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    pub scheme: Option<UrlScheme>,
    /// As it stands in a URL: lower-case, IPv6 in brackets.
    pub host: Option<String>,
    /// `None` together with another scheme is that scheme's default port.
    pub port: Option<u16>,
    /// The whole path, in the spelling of [`match_key`].
    ///
    /// [`match_key`]: super::path::match_key
    pub path: Option<String>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UrlScheme {
    Http,
    Https,
}

impl UrlScheme {
    pub fn as_str(self) -> &'static str {
        match self {
            UrlScheme::Http => "http",
            UrlScheme::Https => "https",
        }
    }

    pub fn default_port(self) -> u16 {
        match self {
            UrlScheme::Http => 80,
            UrlScheme::Https => 443,
        }
    }
}

/// Applied in this order: remove, set, add. Names are valid and lower-case, values valid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderChanges {
    pub remove: Vec<String>,
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
}
