//! Where the table in force stands: stored by control, read by every worker.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use tokio::sync::watch;

use super::Table;

/// One swap for all workers, and a bell for those that sleep.
#[derive(Debug, Clone)]
pub struct LiveTable {
    table: Arc<ArcSwap<Table>>,
    bell: Arc<watch::Sender<u64>>,
}

/// A reader of one worker: asking costs one load while nothing has changed, and no shared count is touched.
pub type TableReader = Cache<Arc<ArcSwap<Table>>, Arc<Table>>;

impl Default for LiveTable {
    fn default() -> Self {
        LiveTable { table: Arc::new(ArcSwap::from_pointee(Table::empty())), bell: Arc::new(watch::Sender::new(0)) }
    }
}

impl LiveTable {
    pub fn store(&self, table: Arc<Table>) {
        let generation = table.generation;
        self.table.store(table);
        self.bell.send_replace(generation);
    }

    pub fn load(&self) -> Arc<Table> {
        self.table.load_full()
    }

    pub fn reader(&self) -> TableReader {
        Cache::new(self.table.clone())
    }

    /// Rings after every swap.
    pub fn swaps(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }
}
