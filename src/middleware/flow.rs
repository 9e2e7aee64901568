//! What a middleware sees and says.

use std::borrow::Cow;

use http::{HeaderMap, StatusCode};

/// The part of a request that a middleware may read and change.
#[derive(Debug)]
pub struct RequestHead<'r> {
    /// As it will be forwarded, without the query.
    pub path: Cow<'r, str>,
    pub headers: &'r mut HeaderMap,
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
    },
}
