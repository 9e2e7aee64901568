//! `add_prefix: /v1` puts `/v1` before the path that is forwarded.

use super::flow::{Flow, RequestHead};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddPrefix(Box<str>);

impl AddPrefix {
    /// `prefix` starts with `/` and does not end with one.
    pub fn new(prefix: &str) -> AddPrefix {
        AddPrefix(prefix.into())
    }

    pub fn on_request(&self, head: &mut RequestHead<'_>) -> Flow {
        let mut path = String::with_capacity(self.0.len() + head.path.len());
        path.push_str(&self.0);
        path.push_str(&head.path);
        head.path = path.into();
        Flow::Continue
    }
}
