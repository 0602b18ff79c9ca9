//! The store's metrics, with their handles taken once.

use metrics::{Counter, Gauge, Histogram};

use crate::{
    metrics as names,
    store::codec::{Damage, Log},
};

#[derive(Clone)]
pub(super) struct StoreMetrics {
    pub(super) commit: Histogram,
    pub(super) commit_events: Histogram,
    pub(super) bytes: Gauge,
    pub(super) backlog_bytes: Gauge,
    pub(super) disk_free: Gauge,
    pub(super) recovery: Gauge,
    pub(super) write_failed: Counter,
    pub(super) read_failed: Counter,
    pub(super) keys_forgotten: Counter,
    damaged: Counter,
}

impl StoreMetrics {
    pub(super) fn new() -> Self {
        let errors = |op: &'static str| metrics::counter!(names::STORE_ERRORS, "op" => op);
        Self {
            commit: metrics::histogram!(names::STORE_COMMIT),
            commit_events: metrics::histogram!(names::STORE_COMMIT_EVENTS),
            bytes: metrics::gauge!(names::STORE_BYTES),
            backlog_bytes: metrics::gauge!(names::BACKLOG_BYTES),
            disk_free: metrics::gauge!(names::STORE_DISK_FREE),
            recovery: metrics::gauge!(names::RECOVERY),
            write_failed: errors("write"),
            read_failed: errors("read"),
            keys_forgotten: errors("key_forgotten"),
            damaged: errors("damaged"),
        }
    }

    /// A block that is not what was written: counted and told, wherever it is met.
    pub(super) fn damaged(&self, log: Log, block: u64, damage: Damage) {
        self.damaged.increment(1);
        tracing::error!(log = log.name(), block, %damage, "a block is damaged");
    }
}

impl std::fmt::Debug for StoreMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreMetrics").finish_non_exhaustive()
    }
}
