//! Removes what is settled and old, in small steps between commits.
//!
//! Whole event blocks go, oldest first, and none at or after the low watermark; then the entry
//! blocks that no kept event block can have entries in; then the idempotency blocks whose keys are
//! all forgotten. Each step first writes into the meta row what is kept from now on and then
//! removes keys below it, so a crash in between leaves garbage, never half a block.

use std::{ops::Range, time::Duration};

use super::{
    disk::{Disk, Fault, META_KEY},
    meta::Meta,
    metrics::StoreMetrics,
};
use crate::{
    clock::{Clock, Millis},
    store::{
        Settings, StoreError,
        codec::{EventHead, Log, decode_entry_head, decode_event_head},
    },
};

/// Blocks looked at and keys removed in one step, beside twice the records written since the last.
const STEP: usize = 64;

#[derive(Debug)]
pub(super) struct Retention {
    age: Duration,
    bytes: u64,
    /// A wall clock that is set by a year removes no history.
    clock: Clock,
    started: Millis,
    /// What could still wait when the store was opened counts as accepted then: after a long stop, or
    /// by a clock that was set meanwhile, it ends as too old at once, and is to stay long enough for
    /// somebody to see that and to replay it.
    open_at_start: Range<u64>,
    written: usize,
    has_more: bool,
}

impl Retention {
    pub(super) fn new(settings: &Settings, meta: &Meta) -> Self {
        let clock = Clock::start();
        Self {
            age: settings.retention_age,
            bytes: settings.retention_bytes,
            clock,
            started: clock.now(),
            open_at_start: meta.low..meta.next.event,
            written: 0,
            has_more: true,
        }
    }

    /// So many records were written: retention must not fall behind. A block of a large event has
    /// a record for each of its parts, and each is removed by itself.
    pub(super) fn wrote(&mut self, records: usize) {
        self.written += records;
    }

    /// Whether the last step left something to do.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Takes a step. True where what is kept has changed.
    pub(super) fn step(
        &mut self,
        disk: &Disk,
        meta: &mut Meta,
        low: u64,
        oldest_keys: Option<u64>,
        metrics: &StoreMetrics,
    ) -> Result<bool, Fault> {
        let budget = STEP + 2 * std::mem::take(&mut self.written);
        let mut kept = meta.kept;
        let looked = self.advance(disk, meta, low, budget, metrics);
        let (event, entry, exhausted) = match looked {
            Ok(found) => found,
            Err(StepError::Write(fault)) => return Err(fault),
            Err(StepError::Read(error)) => {
                // What cannot be read is not removed; the reader of that page will say so too.
                metrics.read_failed.increment(1);
                tracing::error!(%error, "retention could not read the log");
                self.has_more = false;
                return Ok(false);
            }
        };
        kept.event = event;
        kept.entry = kept.entry.max(entry);
        kept.keys = oldest_keys.unwrap_or(meta.next.keys);
        let changed = kept != meta.kept;
        if changed {
            meta.kept = kept;
            meta.low = meta.low.max(kept.event);
            disk.put(META_KEY, &meta.encode())?;
        }
        let mut removed = 0;
        for log in [Log::Events, Log::Entries, Log::Idempotency] {
            removed += disk.remove_below(log, meta.kept_from(log), budget - removed)?;
        }
        self.has_more = removed == budget || exhausted;
        Ok(changed)
    }

    /// Bytes of both logs' blocks from an event block on.
    pub(super) fn bytes_from(&self, disk: &Disk, meta: &Meta, block: u64) -> u64 {
        let head = first_event(disk, block).ok().flatten();
        head.map_or(0, |head| meta.next.event_bytes.saturating_sub(head.bytes_before))
    }

    /// How far events and entries may be retired: the new first blocks, and whether there were
    /// more than the budget allowed to look at.
    fn advance(
        &self,
        disk: &Disk,
        meta: &Meta,
        low: u64,
        budget: usize,
        metrics: &StoreMetrics,
    ) -> Result<(u64, u64, bool), StepError> {
        let now = self.clock.now();
        let entry_bytes = match disk.view().first_part(Log::Entries, meta.kept.entry)? {
            Some((number, Ok(body))) => decode_entry_head(number, &body)
                .map_or(0, |head| meta.next.entry_bytes.saturating_sub(head.bytes_before)),
            _ => 0,
        };
        let mut kept = meta.kept.event;
        for _ in 0..budget {
            let Some(head) = first_intact(disk, kept, metrics)? else {
                // Nothing is left: no entry is about anything that is.
                return Ok((kept.max(low), meta.next.entry, false));
            };
            let event_bytes = meta.next.event_bytes.saturating_sub(head.bytes_before);
            let is_old = self.is_old(&head, now);
            let is_big = event_bytes + entry_bytes > self.bytes;
            if head.number >= low || !(is_old || is_big) {
                return Ok((kept.max(head.number.min(low)), head.entries_from, false));
            }
            kept = head.number + 1;
        }
        let entry =
            first_intact(disk, kept, metrics)?.map_or(meta.next.entry, |head| head.entries_from);
        Ok((kept, entry, true))
    }

    fn is_old(&self, head: &EventHead, now: Millis) -> bool {
        let since = if self.open_at_start.contains(&head.number) {
            head.accepted_at.max(self.started)
        } else {
            head.accepted_at
        };
        since.saturating_add(self.age.as_millis() as Millis) <= now
    }
}

/// The head of the first intact event block at or after `from`.
fn first_event(disk: &Disk, mut from: u64) -> Result<Option<EventHead>, StoreError> {
    while let Some((number, found)) = disk.view().first_part(Log::Events, from)? {
        if let Ok(head) = found.and_then(|body| decode_event_head(number, &body)) {
            return Ok(Some(head));
        }
        from = number + 1;
    }
    Ok(None)
}

/// The same; damaged blocks before it are moved aside, so that they are not removed unseen.
fn first_intact(
    disk: &Disk,
    from: u64,
    metrics: &StoreMetrics,
) -> Result<Option<EventHead>, StepError> {
    while let Some((number, found)) = disk.view().first_part(Log::Events, from)? {
        match found.and_then(|body| decode_event_head(number, &body)) {
            Ok(head) => return Ok(Some(head)),
            Err(damage) => {
                metrics.damaged(Log::Events, number, damage);
                disk.quarantine(Log::Events, number)?;
            }
        }
    }
    Ok(None)
}

#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Read(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] Fault),
}
