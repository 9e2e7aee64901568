//! `headers:` removes, sets and adds headers of the request that is forwarded and of the response that is returned.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::middleware::HeaderChanges;

use super::flow::{Flow, RequestHead, ResponseHead};

#[derive(Debug, Clone, PartialEq)]
pub struct Headers {
    request: Changes,
    response: Changes,
}

#[derive(Debug, Clone, PartialEq)]
struct Changes {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

impl Headers {
    /// `None` where a name or value is not one; lowering has said so already.
    pub fn compile(request: &HeaderChanges, response: &HeaderChanges) -> Option<Headers> {
        Some(Headers { request: Changes::compile(request)?, response: Changes::compile(response)? })
    }

    pub fn on_request(&self, head: &mut RequestHead<'_>) -> Flow {
        self.request.apply(head.headers);
        Flow::Continue
    }

    pub fn on_response(&self, head: &mut ResponseHead<'_>) {
        self.response.apply(head.headers);
    }
}

impl Changes {
    fn compile(changes: &HeaderChanges) -> Option<Changes> {
        let HeaderChanges { remove, set, add } = changes;
        let pairs = |pairs: &[(String, String)]| -> Option<Vec<(HeaderName, HeaderValue)>> {
            pairs.iter().map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?))).collect()
        };
        let remove = remove.iter().map(|name| name.parse().ok()).collect::<Option<_>>()?;
        Some(Changes { remove, set: pairs(set)?, add: pairs(add)? })
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_apply_as_remove_set_add() {
        let changes = HeaderChanges {
            remove: vec!["x-gone".into()],
            set: vec![("x-set".into(), "new".into())],
            add: vec![("x-add".into(), "second".into())],
        };
        let changes = Changes::compile(&changes).expect("valid");
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-gone", "a"), ("x-set", "old"), ("x-add", "first")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        changes.apply(&mut headers);
        assert!(!headers.contains_key("x-gone"));
        assert_eq!(headers["x-set"], "new");
        assert_eq!(headers.get_all("x-add").iter().collect::<Vec<_>>(), ["first", "second"]);
    }
}
