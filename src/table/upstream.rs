//! The endpoints that answer for a route, and whose turn it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::diagnostic::Denial;
use crate::model::id::ObjectId;
use crate::model::service::Endpoint;

/// The union of one or more services. The turn is carried across tables by the services' ids.
#[derive(Debug)]
pub struct Upstream {
    pub services: Vec<ObjectId>,
    /// The services as reports and logs show them.
    pub label: Arc<str>,
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Why there is no endpoint, where there is none.
    pub absent: Option<Denial>,
    /// One counter per upstream, shared by all workers: replicas get equal shares whichever worker a client lands on.
    turn: Arc<AtomicUsize>,
}

impl Upstream {
    pub(super) fn new(
        services: Vec<ObjectId>,
        endpoints: Vec<Endpoint>,
        absent: Option<Denial>,
        previous: Option<&Arc<Upstream>>,
    ) -> Arc<Upstream> {
        if let Some(previous) = previous
            && previous.absent == absent
            && previous.endpoints.iter().map(|e| &**e).eq(endpoints.iter())
        {
            return previous.clone();
        }
        // An endpoint that stays keeps its allocation, and with it whatever is bound to it.
        let carried = |endpoint: Endpoint| {
            let before = previous.and_then(|p| p.endpoints.iter().find(|before| ***before == endpoint));
            before.cloned().unwrap_or_else(|| Arc::new(endpoint))
        };
        let label = services.iter().map(ObjectId::to_string).collect::<Vec<_>>().join("+").into();
        Arc::new(Upstream {
            label,
            endpoints: endpoints.into_iter().map(carried).collect(),
            absent,
            turn: previous.map(|previous| previous.turn.clone()).unwrap_or_default(),
            services,
        })
    }

    /// Round robin. `skip` leaves out an endpoint that has just failed this request; `None` where nobody is left.
    /// Returns the index into `endpoints` too.
    pub fn pick(&self, skip: &[std::net::SocketAddr]) -> Option<(usize, &Arc<Endpoint>)> {
        let count = self.endpoints.len();
        if count == 0 {
            return None;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..count)
            .map(|step| turn.wrapping_add(step) % count)
            .map(|index| (index, &self.endpoints[index]))
            .find(|(_, endpoint)| !skip.contains(&endpoint.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{Kind, Provider, Source};

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::new(([127, 0, 0, 1], port).into(), port.to_string())
    }

    fn services() -> Vec<ObjectId> {
        vec![ObjectId::new(&Source::new(Provider::File, None), Kind::Service, "s")]
    }

    #[test]
    fn turns_go_round_and_survive_a_change_of_endpoints() {
        let first = Upstream::new(services(), vec![endpoint(1), endpoint(2)], None, None);
        let ports = |u: &Upstream, n: usize| -> Vec<u16> {
            (0..n).filter_map(|_| u.pick(&[]).map(|(_, e)| e.address.port())).collect()
        };
        assert_eq!(ports(&first, 3), [1, 2, 1]);
        let second = Upstream::new(services(), vec![endpoint(1), endpoint(2), endpoint(3)], None, Some(&first));
        assert_eq!(ports(&second, 3), [1, 2, 3]);
        assert!(Arc::ptr_eq(&first.endpoints[0], &second.endpoints[0]));
    }

    #[test]
    fn an_unchanged_upstream_is_the_same_one() {
        let first = Upstream::new(services(), vec![endpoint(1)], None, None);
        let second = Upstream::new(services(), vec![endpoint(1)], None, Some(&first));
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn an_endpoint_that_failed_is_skipped() {
        let upstream = Upstream::new(services(), vec![endpoint(1), endpoint(2)], None, None);
        for _ in 0..4 {
            assert_eq!(upstream.pick(&[endpoint(1).address]).map(|(_, e)| e.address.port()), Some(2));
        }
        assert!(upstream.pick(&[endpoint(1).address, endpoint(2).address]).is_none());
    }
}
