//! Rewrites what is in the logs without what is to be forgotten.
//!
//! A block is written again under its own key, with the same events, entries, numbers and times, so
//! that no place changes its meaning. Each block is rewritten whole or not at all; a crash between
//! two of them leaves an erasure that is half done and is asked for again.
//!
//! Attempts that are under way when their event is erased still come to an end, and their records
//! arrive here later. What was erased is therefore remembered for longer than an attempt may take,
//! and its responses are left out of what is written meanwhile.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Writer;
use crate::{
    clock::instant,
    delivery::Entry,
    id::Place,
    store::{
        Erasure, EventBlock, Feed, StoreError,
        codec::{Log, PART_MAX, erase_events, redact_entries},
        erasure::redact,
        sled::{disk::Fault, writes::Writes},
    },
};

/// An attempt ends within minutes, however long it waits for memory first.
const REMEMBERED_FOR: Duration = Duration::from_secs(15 * 60);

/// Events remembered at once, of 16 bytes or so; more of them have to wait.
const REMEMBERED_MAX: usize = 1 << 20;

/// What was erased within the last minutes.
#[derive(Debug, Default)]
pub(super) struct Lately {
    places: HashSet<Place>,
    order: VecDeque<(Instant, Vec<Place>)>,
}

impl Lately {
    /// False where there are too many.
    fn remember(&mut self, places: &[Place]) -> bool {
        self.forget(instant());
        let new: Vec<Place> =
            places.iter().copied().filter(|place| !self.places.contains(place)).collect();
        if self.places.len() + new.len() > REMEMBERED_MAX {
            return false;
        }
        self.places.extend(&new);
        self.order.push_back((instant(), new));
        true
    }

    fn forget(&mut self, now: Instant) {
        while let Some((at, places)) = self.order.front()
            && now.saturating_duration_since(*at) > REMEMBERED_FOR
        {
            for place in places {
                self.places.remove(place);
            }
            self.order.pop_front();
        }
    }

    /// Takes the responses to what was erased out of entries that are about to be written.
    pub(super) fn redact(&self, entries: &mut [Entry]) {
        if self.places.is_empty() {
            return;
        }
        for entry in entries.iter_mut().filter(|entry| self.places.contains(&entry.key.place)) {
            redact(entry);
        }
    }
}

impl Writer {
    /// A read that failed or a block that is damaged leaves that block as it is: whoever reads the
    /// log meets it too, and says so.
    pub(super) fn erase(&mut self, erasure: &Erasure) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::Poisoned);
        }
        if !self.lately.remember(&erasure.places) {
            return Err(StoreError::Io("too much is being erased; try again later".to_owned()));
        }
        let mut writes = Writes::default();
        let blocks = self.draft_erasure(erasure, &mut writes)?;
        if let Err(fault) = self.rewrite(writes) {
            self.poison(&fault);
            return Err(StoreError::Poisoned);
        }
        for block in blocks {
            super::send_all(&self.feeds, &Feed::Erased(Arc::new(block)));
        }
        Ok(())
    }

    fn rewrite(&mut self, mut writes: Writes) -> Result<(), Fault> {
        if writes.len() == 0 {
            return Ok(());
        }
        writes.in_place();
        writes.must_be_whole();
        self.retention.wrote(writes.len());
        self.disk.rewrite(writes)
    }

    /// What is left of the erased blocks of the event log.
    fn draft_erasure(
        &self,
        erasure: &Erasure,
        writes: &mut Writes,
    ) -> Result<Vec<EventBlock>, StoreError> {
        let mut wanted: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
        for place in &erasure.places {
            wanted.entry(place.block()).or_default().push(place.index());
        }
        let kept = self.meta.kept.event..self.meta.next.event;
        let mut erased = Vec::new();
        for (number, indices) in wanted.into_iter().filter(|(number, _)| kept.contains(number)) {
            let Some(Ok(body)) = self.disk.view().block(Log::Events, number)? else { continue };
            let parts = parts(body.len());
            let put = |key: &[u8], record: &[u8]| writes.insert(key, record);
            match erase_events(number, &body, &indices, erasure.at, put) {
                Ok(Some(block)) => {
                    blank(writes, Log::Events, number, self::parts(block.bytes.len())..parts);
                    erased.push(block);
                }
                Ok(None) => {}
                Err(damage) => self.metrics.damaged(Log::Events, number, damage),
            }
        }
        if let Some(text) = &erasure.text {
            for key in self.disk.view().quarantined_with(text)? {
                writes.insert(&key, &[]);
            }
        }
        let places: HashSet<Place> = erasure.places.iter().copied().collect();
        let kept = self.meta.kept.entry..self.meta.next.entry;
        for number in erasure.entries.iter().copied().filter(|number| kept.contains(number)) {
            let Some(Ok(body)) = self.disk.view().block(Log::Entries, number)? else { continue };
            let mut written = 0;
            let put = |key: &[u8], record: &[u8]| {
                written += 1;
                writes.insert(key, record);
            };
            let before = parts(body.len());
            match redact_entries(number, body, &places, put) {
                Ok(Some(_)) => blank(writes, Log::Entries, number, written..before),
                Ok(None) => {}
                Err(damage) => self.metrics.damaged(Log::Entries, number, damage),
            }
        }
        Ok(erased)
    }
}

fn parts(body: usize) -> u16 {
    u16::try_from(body.div_ceil(PART_MAX).max(1)).expect("it was cut into as many parts")
}

/// Empties the parts that a block has no longer. Their keys go with the block: removals may not
/// stand in a batch.
fn blank(writes: &mut Writes, log: Log, number: u64, parts: std::ops::Range<u16>) {
    for part in parts {
        writes.insert(&log.key(number, part), &[]);
    }
}
