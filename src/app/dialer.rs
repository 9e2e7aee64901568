//! How control reaches endpoints: over the data plane's own way to them.

use std::pin::Pin;

use crate::control::health::Dialer;
use crate::model::health::Target;
use crate::proxy;

pub(super) struct ProxyDialer;

impl Dialer for ProxyDialer {
    fn dial(&self, target: Target) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        Box::pin(async move { proxy::probe(&target).await })
    }
}
