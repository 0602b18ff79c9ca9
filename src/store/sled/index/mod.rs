//! The index of history: which deliveries a page of the API shows, without a scan of the logs.
//!
//! For each delivery a [`Row`](row::Row) of 32 bytes says what every filter asks for, and where its
//! last entry stands in the attempt log. Rows of the newest events are in memory (the
//! [`Tail`](tail::Tail), in the order of the log). Where there are enough of them they become a
//! [`Segment`](segment::Segment): a file about a stretch of the event log, with the rows of each
//! webhook side by side and a small table in memory that says which of its chunks can hold what is
//! looked for. Entries about a segment's deliveries gather in memory ([`Late`](late::Late)) until
//! the segment is written anew.
//!
//! So a page looks at one segment after the other and reads of each the few chunks of its webhook
//! or tenant that may match. Where it begins does not matter, nor how much history there is behind
//! it; what it does not find costs a look at each table and a chunk of each segment.
//!
//! **Nothing depends on it.** It is derived from the two logs, by a thread of its own that reads
//! them behind the writer: no write and no byte of it is in the way of a delivery. Whoever asks for
//! a page brings it up to the present first; where that is far (after a crash, for a moment), the
//! page is read from the logs as if there were no index. Files are not synced, and a closing store
//! writes down how far they go ([`kept`]). A start takes that note away: where it is missing the
//! process was killed, and the index is made anew, in the background.
//!
//! The two logs are taken in the order in which they were written: a block of events tells which
//! block of entries came next. So an entry finds its row in the tail, mostly.
//!
//! Files are written while the index goes on ([`work`]).
//!
//! Bounds: the tail has twice [`ROWS`] rows and a block, twice [`LATE`] amendments and a block of them
//! wait in all, and there are `store.max_indexed` rows; what is older is found by reading the log.

mod kept;
mod late;
mod pages;
mod row;
mod search;
mod segment;
mod tail;
#[cfg(test)]
mod tests;
mod thread;
mod times;
mod work;

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

pub(super) use self::thread::keep;
use self::{
    late::Late,
    search::{Hit, Hits, Search},
    segment::Segment,
    tail::Tail,
    work::UnderWay,
};
use crate::{
    clock::instant,
    delivery::EntryFacts,
    id::{DeliveryKey, NodeNo, TenantNo, WebhookNo},
    store::{EntryPlace, EventBlock, StoreError, history::Logs},
};

/// Rows that make a segment: 4 MiB.
const ROWS: usize = if cfg!(test) { 24 } else { 128 << 10 };

/// Amendments that wait in memory, over all segments; some 64 bytes each.
const LATE: usize = if cfg!(test) { 6 } else { 128 << 10 };

/// Webhooks whose tenant is remembered for those amendments.
const TENANTS: usize = 64 << 10;

/// Damaged event blocks that are remembered; with more there is no index.
const DAMAGED: usize = 1024;

/// Chunks that a page reads before it asks to be continued: a few milliseconds.
const CHUNKS: usize = if cfg!(test) { 1 << 20 } else { 256 };

/// Blocks that a page takes in before it is read from the logs instead: some five milliseconds.
const CATCH_UP: usize = 256;

/// How often the index is made anew after damage before the process goes on without.
const TRIES: u32 = 3;

/// When it is tried again where the disk is full or no descriptor is left.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Index {
    dir: PathBuf,
    node: NodeNo,
    max_rows: usize,
    /// In the order of the event log, without gaps; the tail goes on behind the last.
    segments: VecDeque<Piece>,
    tail: Tail,
    /// The next entry block to take in: all before it are.
    entries: u64,
    /// Amendments of all segments.
    late: usize,
    /// Event blocks that could not be read when they were taken in.
    damaged: Vec<u64>,
    /// Whose a webhook is: the attempt log does not say it.
    tenants: HashMap<WebhookNo, TenantNo>,
    /// The event block that comes next, where it has to wait for entries.
    next: Option<Arc<EventBlock>>,
    errors: u32,
    /// Until then nothing is taken in.
    stalled_until: Option<Instant>,
    /// The file that is being written.
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct Piece {
    /// Shared with who writes it anew.
    segment: Arc<Segment>,
    late: Late,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be more to take in.
    More,
    /// Everything is.
    Done,
    /// Files have to be written first.
    Full,
    /// A file could not be written, or the logs not be read: later perhaps.
    Stalled,
    /// There is no index any more.
    Off,
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the logs could not be read: {0}")]
    Logs(#[from] StoreError),
    #[error("its files: {0}")]
    Files(#[from] io::Error),
    #[error("too many damaged blocks")]
    Damaged,
}

impl Trouble {
    fn is_damage(&self) -> bool {
        match self {
            Self::Logs(_) => false,
            Self::Files(error) => {
                matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
            }
            Self::Damaged => true,
        }
    }
}

/// What was found, and where a page that reached its bound of chunks goes on.
#[derive(Debug)]
struct Found {
    hits: Vec<Hit>,
    /// The bound of the blocks that were looked at.
    stopped: Option<u64>,
}

impl Index {
    /// Goes on with what an earlier process left in the directory, where that is about these logs.
    pub(super) fn open(
        dir: PathBuf,
        node: NodeNo,
        max_rows: usize,
        events: &Range<u64>,
        entries: &Range<u64>,
    ) -> Self {
        let mut index = Self {
            dir,
            node,
            max_rows,
            segments: VecDeque::new(),
            tail: Tail::starting_at(events.start),
            entries: entries.start,
            late: 0,
            damaged: Vec::new(),
            tenants: HashMap::new(),
            next: None,
            errors: 0,
            stalled_until: None,
            under_way: None,
        };
        if max_rows == 0 {
            index.errors = TRIES;
        }
        let went_on = index.go_on(events, entries);
        if let Err(error) = &went_on {
            tracing::info!(%error, "the index of history is made anew");
        }
        if !matches!(went_on, Ok(true)) {
            index.start_anew(events, entries);
        }
        index
    }

    /// Reads what was kept; false where nothing was that fits.
    fn go_on(&mut self, events: &Range<u64>, entries: &Range<u64>) -> io::Result<bool> {
        fs::create_dir_all(&self.dir)?;
        let Some(kept) = kept::take(&self.dir)? else { return Ok(false) };
        let fits = kept.node == self.node
            && kept.tail.end() <= events.end
            && kept.entries <= entries.end
            && self.errors < TRIES;
        if !fits {
            return Ok(false);
        }
        self.segments = kept.segments.into_iter().collect();
        self.late = self.segments.iter().map(|piece| piece.late.len()).sum();
        self.tail = kept.tail;
        self.entries = kept.entries;
        Ok(true)
    }

    /// Writes down how far it has come, for the next process.
    pub(super) fn close(&mut self) {
        // What could not be read is not remembered: the next start looks at it again.
        if self.is_off() || !self.damaged.is_empty() {
            return;
        }
        let pieces = self.segments.iter();
        if let Err(error) = kept::put(&self.dir, self.node, self.entries, &self.tail, pieces) {
            tracing::warn!(%error, "the index of history will be made anew");
        }
    }

    /// Takes in up to so many blocks of the logs.
    pub(super) fn advance(&mut self, logs: &mut impl Logs, blocks: usize) -> Step {
        if self.is_off() {
            return Step::Off;
        }
        if self.stalled_until.is_some_and(|until| instant() < until) {
            return Step::Stalled;
        }
        self.stalled_until = None;
        if self.is_full() {
            return Step::Full;
        }
        // In this order: every event that one of these entries is about is among these events.
        let entries = logs.entries();
        let events = logs.events();
        self.take(logs, blocks, &events, &entries)
            .unwrap_or_else(|trouble| self.fail(&trouble, &events, &entries))
    }

    fn take(
        &mut self,
        logs: &mut impl Logs,
        blocks: usize,
        events: &Range<u64>,
        entries: &Range<u64>,
    ) -> Result<Step, Trouble> {
        self.retire(events, entries);
        for _ in 0..blocks {
            if !self.take_next(logs, events, entries)? {
                return Ok(Step::Done);
            }
            if self.is_full() {
                return Ok(Step::Full);
            }
        }
        Ok(Step::More)
    }

    /// Takes in the next block; false where there is none.
    fn take_next(
        &mut self,
        logs: &mut impl Logs,
        events: &Range<u64>,
        entries: &Range<u64>,
    ) -> Result<bool, Trouble> {
        let has_entries = self.entries < entries.end;
        let number = self.tail.end();
        if number < events.end {
            let Some(block) = self.look_ahead(logs, number)? else {
                return self.miss(number, logs.events().start);
            };
            if !has_entries || block.entries_from <= self.entries {
                self.next = None;
                self.tail.push(&block);
                return Ok(true);
            }
        }
        if !has_entries {
            return Ok(false);
        }
        let number = self.entries;
        if let Some(block) = logs.entry_facts(number)? {
            for (index, entry) in block.iter().enumerate() {
                self.apply(logs, EntryPlace::new(number, index as u16), entry)?;
            }
        }
        self.entries = number + 1;
        Ok(true)
    }

    fn look_ahead(
        &mut self,
        logs: &mut impl Logs,
        number: u64,
    ) -> Result<Option<Arc<EventBlock>>, StoreError> {
        if self.next.as_ref().is_none_or(|next| next.number != number) {
            self.next = logs.event_block(number)?;
        }
        Ok(self.next.clone())
    }

    /// A block is damaged, or retention was faster.
    fn miss(&mut self, number: u64, oldest: u64) -> Result<bool, Trouble> {
        self.tail.push_missing();
        if number >= oldest {
            self.damaged.push(number);
        }
        if self.damaged.len() > DAMAGED { Err(Trouble::Damaged) } else { Ok(true) }
    }

    fn apply(
        &mut self,
        logs: &mut impl Logs,
        at: EntryPlace,
        entry: &EntryFacts,
    ) -> Result<(), Trouble> {
        if let Some(under_way) = &mut self.under_way {
            under_way.note(entry.key);
        }
        if self.tail.holds(entry.key) {
            self.tail.apply(at, entry);
            return Ok(());
        }
        let Some(piece) = self.piece_of(entry.key.place.block()) else { return Ok(()) };
        let Some(tenant) = self.tenant_of(logs, entry.key)? else { return Ok(()) };
        let Piece { segment, late } = &mut self.segments[piece];
        let before = late.len();
        late.apply(at, entry, segment.chunk_of(tenant, entry.key));
        self.late += late.len() - before;
        Ok(())
    }

    /// The segment about an event block.
    fn piece_of(&self, block: u64) -> Option<usize> {
        let end = |piece: &Piece| piece.segment.times.blocks().end;
        let at = self.segments.partition_point(|piece| end(piece) <= block);
        let piece = self.segments.get(at)?;
        piece.segment.times.blocks().contains(&block).then_some(at)
    }

    fn tenant_of(
        &mut self,
        logs: &mut impl Logs,
        key: DeliveryKey,
    ) -> Result<Option<TenantNo>, StoreError> {
        if let Some(tenant) = self.tenants.get(&key.webhook) {
            return Ok(Some(*tenant));
        }
        let Some(block) = logs.event_block(key.place.block())? else { return Ok(None) };
        let Some(event) = block.events.get(usize::from(key.place.index())) else { return Ok(None) };
        if self.tenants.len() >= TENANTS {
            self.tenants.clear();
        }
        self.tenants.insert(key.webhook, event.tenant);
        Ok(Some(event.tenant))
    }

    fn rows(&self) -> usize {
        self.segments.iter().map(|piece| piece.segment.len()).sum()
    }

    /// Removes whole segments of which retention has left nothing.
    fn retire(&mut self, events: &Range<u64>, entries: &Range<u64>) {
        while let Some(piece) = self.segments.front()
            && piece.segment.times.blocks().end <= events.start
        {
            self.drop_oldest();
        }
        self.damaged.retain(|block| *block >= events.start);
        if self.tail.end() < events.start {
            self.tail = Tail::starting_at(events.start);
            self.under_way.take_if(|under_way| under_way.is_seal());
        }
        self.entries = self.entries.max(entries.start);
    }

    fn drop_oldest(&mut self) {
        let Some(Piece { segment, late }) = self.segments.pop_front() else { return };
        self.late -= late.len();
        if let Err(error) = segment.remove() {
            tracing::warn!(%error, "a file of the index of history could not be removed");
        }
    }

    fn is_off(&self) -> bool {
        self.errors >= TRIES
    }

    /// What a file lacked may be there later. What is damaged is made anew from the logs, but not for
    /// ever.
    fn fail(&mut self, trouble: &Trouble, events: &Range<u64>, entries: &Range<u64>) -> Step {
        if !trouble.is_damage() {
            tracing::warn!(error = %trouble, "the index of history waits");
            self.stalled_until = Some(instant() + PATIENCE);
            return Step::Stalled;
        }
        self.errors += 1;
        tracing::error!(error = %trouble, tries = self.errors, "the index of history failed");
        self.start_anew(events, entries);
        if self.is_off() { Step::Off } else { Step::More }
    }

    fn start_anew(&mut self, events: &Range<u64>, entries: &Range<u64>) {
        self.segments.clear();
        self.tail = Tail::starting_at(events.start);
        self.entries = entries.start;
        (self.late, self.next, self.under_way) = (0, None, None);
        self.damaged.clear();
        if let Err(error) = kept::clear(&self.dir) {
            tracing::warn!(%error, "files of the index of history could not be removed");
        }
    }

    /// The event blocks that are in here.
    fn covers(&self) -> Range<u64> {
        let first = self.segments.front().map(|piece| piece.segment.times.first);
        first.unwrap_or(self.tail.times.first)..self.tail.end()
    }

    /// Looks for rows about the blocks that are kept, in up to so many chunks; what it has begun it
    /// finishes, so a segment's more.
    fn search(&self, search: &Search, kept: &Range<u64>, max: usize) -> io::Result<Found> {
        let mut hits = Hits::new(search);
        let mut read = 0;
        let mut stopped = None;
        let mut look = |piece: &Piece, hits: &mut Hits<'_>| {
            if stopped.is_some() || piece.segment.wanted(kept, hits).is_empty() {
                return Ok(());
            }
            if read >= max {
                let blocks = piece.segment.times.blocks();
                stopped = Some(if search.newest_first { blocks.end } else { blocks.start });
                return Ok(());
            }
            read += piece.segment.search(&piece.late, kept, hits)?;
            Ok::<_, io::Error>(())
        };
        if search.newest_first {
            self.tail.search(kept, &mut hits);
            self.segments.iter().rev().try_for_each(|piece| look(piece, &mut hits))?;
        } else {
            self.segments.iter().try_for_each(|piece| look(piece, &mut hits))?;
            if stopped.is_none() {
                self.tail.search(kept, &mut hits);
            }
        }
        Ok(Found { hits: hits.into_rows(), stopped })
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("covers", &self.covers()).finish_non_exhaustive()
    }
}
