//! What the writer does between commits.

use super::Writer;
use crate::{
    clock::wall_ms,
    store::{
        BackupOrder, StoreError,
        sled::{
            backup::{BackupReply, Cut},
            disk::{ROW_TAG, read_failed},
        },
    },
};

impl Writer {
    pub(super) fn tick(&mut self) {
        self.look_at_disk(0);
        if let Err(fault) = self.disk.check() {
            self.poison(&fault);
        }
        if !self.poisoned {
            self.mark.advance(&self.meta);
        }
        self.ledger.expire(wall_ms());
        self.metrics.keys_forgotten.increment(self.ledger.take_forgotten());
        self.metrics.bytes.set(self.disk.size() as f64);
        let backlog = self.retention.bytes_from(&self.disk, &self.meta, self.low());
        self.metrics.backlog_bytes.set(backlog as f64);
    }

    pub(super) fn retire(&mut self) {
        if self.poisoned || self.backup.holds(self.room.is_full()) {
            return;
        }
        let low = self.low();
        let keys = self.ledger.oldest_block();
        let step = self.retention.step(&self.disk, &mut self.meta, low, keys, &self.metrics);
        match step {
            Ok(true) => {
                let mut extent = self.shared.write().expect("no holder of this lock panics");
                extent.retire(self.meta.kept.event, self.meta.kept.entry);
            }
            Ok(false) => {}
            Err(fault) => self.poison(&fault),
        }
    }

    pub(super) fn go_on_scrubbing(&mut self) {
        if self.poisoned {
            return;
        }
        if let Err(fault) = self.scrub.step(&mut self.disk) {
            self.poison(&fault);
        }
    }

    /// Between two commits: what is durable now is what is copied.
    pub(super) fn back_up(&mut self, order: BackupOrder, reply: BackupReply) {
        match self.cut() {
            Ok(cut) => self.backup.begin(cut, order, reply),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
    }

    fn cut(&self) -> Result<Cut, StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        let view = self.disk.view().clone();
        let rows = view.written(ROW_TAG).collect::<Result<Vec<_>, _>>().map_err(read_failed)?;
        let mut meta = self.meta;
        if self.is_recovered {
            meta.low = self.low();
        }
        let (settings, data_dir) = (self.settings.clone(), self.mark.data_dir().to_owned());
        Ok(Cut { view, meta, rows, data_dir, settings })
    }

    /// The first block with an open delivery, or the next one to be written.
    pub(super) fn low(&self) -> u64 {
        self.tallies.low().unwrap_or(self.meta.next.event)
    }

    pub(super) fn look_at_disk(&mut self, extra: u64) {
        self.room.look(&mut self.disk, extra, &self.metrics, &self.health);
    }
}
