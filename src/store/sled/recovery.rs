//! From what is on disk back to a running store.
//!
//! In two phases. [`inspect`], while the store opens, reads what is small: the meta row, the
//! directory, the idempotency keys, the ends of the logs. [`recover`], once the store knows whom to
//! feed, finds every delivery that is not settled:
//!
//! 1. It reads the attempt log from where entries about the low watermark's block can begin, and
//!    keeps for each event block only how many deliveries the entries settle, and which
//!    ([`Tally`]).
//! 2. It reads the event log from the low watermark. A block without a single entry is told as it
//!    is; a block whose tally is empty is passed over; the others gather in a window of bounded
//!    size, for which the attempt log is read once more, now in detail. The summaries made in the
//!    first step keep that to the blocks that matter.
//!
//! So memory is bounded by the window and by twenty bytes a block, and a million waiting deliveries
//! cost one pass over their payloads.
//!
//! Both compare what they find with what was there before ([`mark`](super::mark)): a log that ends
//! too early or has a hole is a loss, and the store refuses to go on.
//!
//! A damaged block is moved aside, counted and told, and its neighbours go on. An unreadable page
//! of sled is not survivable here: it could hide anything, so the store refuses.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use super::{
    Shared,
    disk::{Disk, Fault, META_KEY, View},
    mark::{Loss, LossError, MarkFile},
    meta::Meta,
    metrics::StoreMetrics,
    rows::Directory,
};
use crate::{
    clock::{Millis, wall_ms},
    id::{DeliveryKey, Place, WebhookNo},
    store::{
        EventBlock, Feed, Recovered, RecoveredState, Settings, StoreError,
        codec::{
            Damage, Log, decode_entry_facts, decode_entry_head, decode_event_block,
            decode_event_head, decode_keys,
        },
        fold::Progress,
        history::Summary,
        ledger::Ledger,
        tally::{Tallies, Tally},
    },
};

/// Deliveries in one message of the feed.
const STRETCH: usize = 4096;

/// Deliveries in blocks with some entries, held until the attempt log was read about them.
const WINDOW: usize = if cfg!(test) { 50 } else { 200_000 };

#[derive(Debug, thiserror::Error)]
pub(super) enum RecoveryError {
    #[error("the store has logs but no record about them")]
    NoMeta,
    #[error("the store's own record is damaged: {0}")]
    Meta(Damage),
    #[error(transparent)]
    Lost(#[from] Loss),
    #[error(transparent)]
    Read(#[from] StoreError),
    #[error(transparent)]
    Write(#[from] Fault),
}

impl From<LossError> for RecoveryError {
    fn from(error: LossError) -> Self {
        match error {
            LossError::Lost(loss) => Self::Lost(loss),
            LossError::Read(error) => Self::Read(error),
        }
    }
}

/// What opening found out.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) meta: Meta,
    pub(super) directory: Directory,
    pub(super) ledger: Ledger,
    pub(super) events: Range<u64>,
    pub(super) entries: Range<u64>,
}

/// Reads all but the two logs.
pub(super) fn inspect(
    disk: &Disk,
    settings: &Settings,
    mark: &MarkFile,
) -> Result<Start, RecoveryError> {
    let view = disk.view();
    let row = view.get(META_KEY)?;
    let mut meta = match &row {
        Some(record) => Meta::decode(record).map_err(RecoveryError::Meta)?,
        None if view.is_empty() => Meta::new(),
        None => return Err(RecoveryError::NoMeta),
    };
    mark.check_reach(view, &meta)?;
    if row.is_none() {
        // Durable with the first commit: until then there is nothing it could be about.
        disk.put(META_KEY, &meta.encode())?;
    }
    find_ends(view, &mut meta)?;
    let directory = Directory::read(view)?;
    mark.check_rows(directory.len(), &meta)?;
    let ledger = read_keys(disk, settings, &meta, mark)?;
    let (events, entries) = meta.extents();
    Ok(Start { meta, directory, ledger, events, entries })
}

/// The meta row is written lazily: what the logs' last blocks say goes beyond it.
fn find_ends(view: &View, meta: &mut Meta) -> Result<(), StoreError> {
    if let Some(last) = view.last_number(Log::Events)? {
        meta.next.event = meta.next.event.max(last + 1);
        if let Some(Ok(body)) = view.block(Log::Events, last)?
            && let Ok(head) = decode_event_head(last, &body)
        {
            let bytes = head.bytes_before + body.len() as u64;
            meta.next.event_bytes = meta.next.event_bytes.max(bytes);
            meta.accepted_at = meta.accepted_at.max(head.accepted_at);
            // No entry about this block may ever stand before it says that they begin: the attempt
            // log may have lost its end.
            meta.next.entry = meta.next.entry.max(head.entries_from);
        }
    }
    if let Some(last) = view.last_number(Log::Entries)? {
        meta.next.entry = meta.next.entry.max(last + 1);
        if let Some(Ok(body)) = view.block(Log::Entries, last)?
            && let Ok(head) = decode_entry_head(last, &body)
        {
            let bytes = head.bytes_before + body.len() as u64;
            meta.next.entry_bytes = meta.next.entry_bytes.max(bytes);
        }
    }
    if let Some(last) = view.last_number(Log::Idempotency)? {
        meta.next.keys = meta.next.keys.max(last + 1);
    }
    meta.low = meta.low.max(meta.kept.event);
    Ok(())
}

fn read_keys(
    disk: &Disk,
    settings: &Settings,
    meta: &Meta,
    mark: &MarkFile,
) -> Result<Ledger, RecoveryError> {
    let window = settings.idempotency_window;
    let mut ledger = Ledger::new(meta.node, window, settings.idempotency_max_keys);
    let metrics = StoreMetrics::new();
    let from = meta.kept.keys;
    let mut chain = mark.chain(disk.view(), Log::Idempotency, from);
    for block in disk.view().scan(Log::Idempotency, from) {
        let (number, found) = block?;
        chain.found(number)?;
        match found.and_then(|body| decode_keys(&body)) {
            Ok((accepted_at, rows)) => {
                for row in &rows {
                    ledger.insert(*row, accepted_at);
                }
                ledger.stored(number, rows.len());
                ledger.expire(wall_ms());
            }
            Err(damage) => {
                metrics.damaged(Log::Idempotency, number, damage);
                disk.quarantine(Log::Idempotency, number)?;
            }
        }
    }
    chain.reach(meta.next.keys)?;
    ledger.take_forgotten();
    Ok(ledger)
}

/// Tells every delivery that is not settled, in place order, and what is open in each block.
pub(super) fn recover(
    disk: &Disk,
    shared: &Shared,
    metrics: &StoreMetrics,
    mark: &MarkFile,
    low: u64,
    tell: impl FnMut(Feed),
) -> Result<Tallies, RecoveryError> {
    let touched = read_tallies(disk, shared, metrics, mark, low)?;
    let end = shared.read().expect("no holder of this lock panics").events.end;
    let mut chain = mark.chain(disk.view(), Log::Events, low);
    let mut recovery = Recovery {
        disk,
        shared,
        metrics,
        tallies: Tallies::default(),
        window: Vec::new(),
        held: 0,
        out: Vec::new(),
        tell,
    };
    for block in disk.view().scan(Log::Events, low) {
        let (number, found) = block?;
        chain.found(number)?;
        match found.and_then(|body| decode_event_block(number, body)) {
            Ok(block) => recovery.take(&block, touched.get(&number))?,
            Err(damage) => {
                metrics.damaged(Log::Events, number, damage);
                disk.quarantine(Log::Events, number)?;
            }
        }
    }
    chain.reach(end)?;
    recovery.settle_window()?;
    recovery.send();
    (recovery.tell)(Feed::RecoveryDone);
    Ok(recovery.tallies)
}

/// The first reading of the attempt log: what its entries change in each event block from `low` on.
fn read_tallies(
    disk: &Disk,
    shared: &Shared,
    metrics: &StoreMetrics,
    mark: &MarkFile,
    low: u64,
) -> Result<HashMap<u64, Tally>, RecoveryError> {
    let mut touched: HashMap<u64, Tally> = HashMap::new();
    let Some(from) = entries_from(disk.view(), low)? else { return Ok(touched) };
    let kept = shared.read().expect("no holder of this lock panics").entries.clone();
    let mut chain = mark.chain(disk.view(), Log::Entries, from.max(kept.start));
    for block in disk.view().scan(Log::Entries, from) {
        let (number, found) = block?;
        chain.found(number)?;
        let summary = match found.and_then(|body| decode_entry_facts(number, &body)) {
            Ok(entries) => {
                for entry in entries.iter().filter(|entry| entry.key.place.block() >= low) {
                    let tally = touched.entry(entry.key.place.block()).or_default();
                    tally.apply(entry.key, entry.verdict);
                }
                Summary::of(entries.iter().map(|entry| entry.key))
            }
            Err(damage) => {
                metrics.damaged(Log::Entries, number, damage);
                disk.quarantine(Log::Entries, number)?;
                Summary::NOTHING
            }
        };
        shared.write().expect("no holder of this lock panics").learn(number, summary);
    }
    chain.reach(kept.end)?;
    Ok(touched)
}

/// Where entries about event blocks from `low` on can begin; none where there is no such block.
/// A damaged block has no deliveries, so the next one decides.
fn entries_from(view: &View, low: u64) -> Result<Option<u64>, StoreError> {
    let mut from = low;
    while let Some((number, found)) = view.first_part(Log::Events, from)? {
        if let Ok(head) = found.and_then(|body| decode_event_head(number, &body)) {
            return Ok(Some(head.entries_from));
        }
        from = number + 1;
    }
    Ok(None)
}

/// The second phase under way.
struct Recovery<'a, T> {
    disk: &'a Disk,
    shared: &'a Shared,
    metrics: &'a StoreMetrics,
    tallies: Tallies,
    window: Vec<Waiting>,
    /// Deliveries in `window`.
    held: usize,
    out: Vec<Recovered>,
    tell: T,
}

/// A block of which some deliveries have entries.
struct Waiting {
    number: u64,
    accepted_at: Millis,
    entries_from: u64,
    has_entries: bool,
    deliveries: Vec<(u16, WebhookNo, bool)>,
}

impl<T: FnMut(Feed)> Recovery<'_, T> {
    fn take(&mut self, block: &EventBlock, touched: Option<&Tally>) -> Result<(), RecoveryError> {
        let mut tally = Tally::of(block);
        if let Some(change) = touched {
            tally.merge(*change);
        }
        if tally.is_done() {
            return Ok(());
        }
        let deliveries: Vec<_> = (0..block.events.len() as u32)
            .map(|index| index as u16)
            .flat_map(|index| block.routes_of(index).iter().map(move |route| (index, route)))
            .map(|(index, route)| (index, route.webhook, route.enabled))
            .collect();
        self.held += deliveries.len();
        self.window.push(Waiting {
            number: block.number,
            accepted_at: block.accepted_at,
            entries_from: block.entries_from,
            has_entries: touched.is_some(),
            deliveries,
        });
        // Without entries before it in the window, a fresh block need not wait for anything.
        let all_fresh = self.window.iter().all(|waiting| !waiting.has_entries);
        if self.held >= WINDOW || all_fresh { self.settle_window() } else { Ok(()) }
    }

    /// Reads the attempt log about the window's blocks and tells their deliveries.
    fn settle_window(&mut self) -> Result<(), RecoveryError> {
        let window = std::mem::take(&mut self.window);
        self.held = 0;
        let progress = self.read_progress(&window)?;
        for waiting in window {
            self.tell_block(&waiting, &progress);
        }
        Ok(())
    }

    fn read_progress(
        &self,
        window: &[Waiting],
    ) -> Result<HashMap<DeliveryKey, Progress>, RecoveryError> {
        let mut progress: HashMap<DeliveryKey, Progress> = HashMap::new();
        let asked: Vec<&Waiting> = window.iter().filter(|waiting| waiting.has_entries).collect();
        let (Some(first), Some(last)) = (asked.first(), asked.last()) else { return Ok(progress) };
        let blocks: HashSet<u64> = asked.iter().map(|waiting| waiting.number).collect();
        let about = first.number..last.number + 1;
        let extent = self.shared.read().expect("no holder of this lock panics");
        let candidates = extent.candidates(first.entries_from, &about, None);
        drop(extent);
        for number in candidates {
            let Some(found) = self.disk.view().block(Log::Entries, number)? else { continue };
            match found.and_then(|body| decode_entry_facts(number, &body)) {
                Ok(entries) => {
                    let wanted = |key: DeliveryKey| blocks.contains(&key.place.block());
                    for entry in entries.iter().filter(|entry| wanted(entry.key)) {
                        progress.entry(entry.key).or_default().apply(entry);
                    }
                }
                // The first reading moved damaged blocks away; this one broke since.
                Err(damage) => self.metrics.damaged(Log::Entries, number, damage),
            }
        }
        Ok(progress)
    }

    fn tell_block(&mut self, waiting: &Waiting, progress: &HashMap<DeliveryKey, Progress>) {
        let first = self.out.len();
        let mut tally = Tally::default();
        let mut open = 0;
        for &(index, webhook, enabled) in &waiting.deliveries {
            let key = DeliveryKey { place: Place::new(waiting.number, index), webhook };
            let progress = progress.get(&key).copied().unwrap_or_default();
            // A disabled route is no delivery, unless a replay made it one.
            if !enabled && progress.reopened_at.is_none() {
                continue;
            }
            let (state, accepted_at) = progress.recovered(waiting.accepted_at);
            if state != RecoveredState::Settled {
                tally.open(index, webhook);
                open += 1;
            }
            self.out.push(Recovered { key, accepted_at, state });
        }
        if open == 0 {
            self.out.truncate(first);
            return;
        }
        self.tallies.add(waiting.number, tally);
        if self.out.len() >= STRETCH {
            self.send();
        }
    }

    fn send(&mut self) {
        let out = std::mem::take(&mut self.out);
        for stretch in out.chunks(STRETCH) {
            (self.tell)(Feed::Recovered(Arc::from(stretch)));
        }
    }
}
