//! What a middleware sees and says.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::model::middleware::UrlScheme;

/// The part of a request that a middleware may read and change.
#[derive(Debug)]
pub struct RequestHead<'r> {
    /// As it will be forwarded, without the query.
    pub path: Cow<'r, str>,
    pub query: Option<&'r str>,
    pub headers: &'r mut HeaderMap,
    pub asked: Asked<'r>,
}

/// The URL as the client asked for it, whatever has become of it on the way; behind a trusted proxy, by its word.
#[derive(Debug, Clone)]
pub struct Asked<'r> {
    pub scheme: UrlScheme,
    /// With the port where the client wrote one.
    pub authority: Cow<'r, HeaderValue>,
    /// Dot segments resolved.
    pub path: &'r str,
}

#[derive(Debug)]
pub struct ResponseHead<'r> {
    pub status: StatusCode,
    pub headers: &'r mut HeaderMap,
}

/// What happens next. Asking an outside authority will be a third way on.
#[derive(Debug, Clone, PartialEq)]
pub enum Flow {
    Continue,
    /// Answered here: nothing is forwarded.
    Respond {
        status: StatusCode,
        headers: HeaderMap,
        /// For the header, the access log and the metric.
        reason: &'static str,
    },
}
