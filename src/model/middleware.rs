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
    Headers {
        request: HeaderChanges,
        response: HeaderChanges,
    },
    /// Could not be read; `denied` says why.
    Unusable,
}

/// Applied in this order: remove, set, add. Names are valid and lower-case, values valid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderChanges {
    pub remove: Vec<String>,
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
}
