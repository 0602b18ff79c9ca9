//! Whether the disk has room: new events are refused before it has none.

use tokio::sync::watch;

use super::{disk::Disk, metrics::StoreMetrics};
use crate::store::Health;

/// After so much payload the disk's free space is looked at before the next commit: in the second
/// between two ticks a fast producer could otherwise eat up the whole headroom.
const LOOK_AFTER: usize = 1 << 20;

/// What sled writes for each byte of payload while it splits its pages, at most.
const WRITE_AMPLIFICATION: u64 = 4;

#[derive(Debug)]
pub(super) struct Room {
    headroom: u64,
    /// Bytes of payload that came since the disk's free space was looked at.
    unlooked: usize,
    is_full: bool,
}

impl Room {
    pub(super) fn new(headroom: u64) -> Self {
        Self { headroom, unlooked: 0, is_full: false }
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// So much payload is to be written now: how much that takes on the disk, where it is time to
    /// look.
    pub(super) fn look_for(&mut self, payload: usize) -> Option<u64> {
        self.unlooked += payload;
        (self.unlooked > LOOK_AFTER).then_some(payload as u64 * WRITE_AMPLIFICATION)
    }

    /// New events are refused where writing `extra` bytes would reach into the headroom.
    pub(super) fn look(
        &mut self,
        disk: &mut Disk,
        extra: u64,
        metrics: &StoreMetrics,
        health: &watch::Sender<Health>,
    ) {
        self.unlooked = 0;
        let free = match disk.free() {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(%error, "the file system does not tell its free space");
                return;
            }
        };
        metrics.disk_free.set(free as f64);
        let is_full = free < self.headroom.saturating_add(extra);
        if is_full != self.is_full {
            tracing::warn!(free, headroom = self.headroom, is_full, "disk space");
            self.is_full = is_full;
            health.send_modify(|health| health.full = is_full);
        }
    }
}
