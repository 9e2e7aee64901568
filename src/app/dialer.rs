//! How control reaches endpoints: over the data plane's own way to them.

use std::pin::Pin;

use crate::control::health::Dialer;
use crate::model::health::Target;
use crate::proxy;
use crate::table::LiveTable;

pub(super) struct ProxyDialer {
    pub live: LiveTable,
}

impl Dialer for ProxyDialer {
    fn dial(&self, target: Target) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let live = self.live.clone();
        Box::pin(async move { proxy::probe(&target, &live).await })
    }
}
