//! What one commit writes, in order.

use sled::{Batch, Db, IVec};

use crate::store::codec::{Log, parse_key};

/// The first bytes of keys that are written once.
const LOGS: [u8; 2] = [Log::Entries as u8, Log::Events as u8];

/// Records on their way into sled.
///
/// sled's log is recovered up to its first gap, so records that are written one after the other
/// come back as a prefix of what was written. For the records of attempts that is enough: what is
/// missing from the end of a commit was not durable yet. What must come back whole or not at all
/// (the events of a batch) asks for sled's own batch, which costs one more write, and each write
/// wakes seven threads.
#[derive(Debug, Default)]
pub(super) struct Writes {
    list: Vec<(IVec, Option<IVec>)>,
    whole: bool,
    in_place: bool,
}

impl Writes {
    pub(super) fn insert(&mut self, key: &[u8], record: &[u8]) {
        self.list.push((IVec::from(key), Some(IVec::from(record))));
    }

    /// How many records there are to be written or removed.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.list.push((IVec::from(key), None));
    }

    /// From now on: all of it or nothing.
    pub(super) fn must_be_whole(&mut self) {
        self.whole = true;
    }

    /// All of it overwrites what is there.
    pub(super) fn in_place(&mut self) {
        self.in_place = true;
    }

    pub(super) fn apply(self, db: &Db) -> sled::Result<()> {
        // Those of a block's further parts are not made ahead (see `runway`).
        for (key, _) in &self.list {
            let is_log = key.first().is_some_and(|tag| LOGS.contains(tag));
            if is_log && !self.in_place && parse_key(key).is_some_and(|(_, part)| part > 0) {
                db.insert(key, IVec::default())?;
            }
        }
        if self.whole {
            let mut batch = Batch::default();
            for (key, record) in self.list {
                match record {
                    Some(record) => batch.insert(key, record),
                    None => batch.remove(key),
                }
            }
            return db.apply_batch(batch);
        }
        for (key, record) in self.list {
            match record {
                Some(record) => db.insert(key, record)?,
                None => db.remove(key)?,
            };
        }
        Ok(())
    }
}
