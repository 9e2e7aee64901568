//! What happens to a request on its way in and to its response on the way out. Sans-I/O: heads in, [`Flow`] out.
//!
//! ```text
//! RequestHead ─▶ on_request (in order) ─▶ Flow ─▶ … endpoint … ─▶ on_response (reverse order) ─▶ ResponseHead
//! ```

mod add_prefix;
mod flow;
mod headers;
mod redirect;
mod strip_prefix;

pub use flow::{Asked, Flow, RequestHead, ResponseHead};

use crate::model::middleware::MiddlewareKind;

use add_prefix::AddPrefix;
use headers::Headers;
use redirect::Redirect;
use strip_prefix::StripPrefix;

/// A middleware ready to run.
#[derive(Debug, Clone, PartialEq)]
pub enum Middleware {
    AddPrefix(AddPrefix),
    StripPrefix(StripPrefix),
    Redirect(Redirect),
    Headers(Headers),
}

impl Middleware {
    /// `None` where the kind cannot run: whoever needs it is denied.
    pub fn compile(kind: &MiddlewareKind) -> Option<Middleware> {
        match kind {
            MiddlewareKind::AddPrefix(prefix) => Some(Middleware::AddPrefix(AddPrefix::new(prefix))),
            MiddlewareKind::StripPrefix(prefixes) => StripPrefix::compile(prefixes).map(Middleware::StripPrefix),
            MiddlewareKind::Redirect(to) => Redirect::compile(to).map(Middleware::Redirect),
            MiddlewareKind::Headers { request, response } => {
                Headers::compile(request, response).map(Middleware::Headers)
            }
            MiddlewareKind::Unusable => None,
        }
    }

    pub fn on_request(&self, head: &mut RequestHead<'_>) -> Flow {
        match self {
            Middleware::AddPrefix(prefix) => prefix.on_request(head),
            Middleware::StripPrefix(prefixes) => prefixes.on_request(head),
            Middleware::Redirect(redirect) => redirect.on_request(head),
            Middleware::Headers(headers) => headers.on_request(head),
        }
    }

    pub fn on_response(&self, head: &mut ResponseHead<'_>) {
        match self {
            Middleware::AddPrefix(_) | Middleware::StripPrefix(_) | Middleware::Redirect(_) => {}
            Middleware::Headers(headers) => headers.on_response(head),
        }
    }
}
