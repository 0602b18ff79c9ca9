//! The pages of the API, read from the two logs alone: what the index of the sled store is held to,
//! and what answers where that cannot.
//!
//! No write on the hot path serves these reads. What helps them is a [`Summary`] for each block of
//! the attempt log, kept in memory: which stretch of the event log its entries are about, and a
//! bloom of their webhooks. Attempts mostly follow their event closely, so the entries about one
//! event stand in few blocks, and the summaries say in which. They are derived: the writer adds
//! one with each block it commits, and after a start they are made again in the background; a
//! block without one is simply read.
//!
//! A page walks the event log from its newest end in growing stretches. For each stretch every
//! entry block that could matter is read once, folded into all deliveries of the stretch, and only
//! then are the filters applied. A page ends when it is full or when it has read as many blocks as
//! one request may; it then says where the next one starts.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    delivery::{Entry, EntryFacts},
    id::{DeliveryKey, Place, WebhookNo},
    store::{
        DeliveryPage, DeliveryQuery, DeliveryRow, EventBlock, EventPage, EventQuery, EventRow,
        Following, StoreError, fold::Story,
    },
};

/// Event blocks in a page's first stretch; each further one is twice as long, …
const FIRST_STRETCH: usize = 8;

/// … up to this.
const LONGEST_STRETCH: usize = 512;

/// What one block of the attempt log is about. 88 bytes for about a hundred entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    first: u64,
    last: u64,
    /// One bit out of 64 for each webhook.
    webhooks: u64,
    /// Two bits out of 512 for each event block: entries of retries are about many that lie far
    /// apart, and say nothing of those between.
    blocks: [u64; 8],
}

/// Of so many event blocks or fewer it is asked one by one whether a block could be about them.
const FEW: u64 = 16;

impl Summary {
    /// Not read yet: it could be about anything.
    pub(super) const UNKNOWN: Self =
        Self { first: 0, last: u64::MAX, webhooks: u64::MAX, blocks: [u64::MAX; 8] };

    /// About nothing: a block that is damaged or gone.
    pub(super) const NOTHING: Self = Self { first: u64::MAX, last: 0, webhooks: 0, blocks: [0; 8] };

    /// Adds an entry about this delivery.
    pub(super) fn add(&mut self, key: DeliveryKey) {
        let block = key.place.block();
        self.first = self.first.min(block);
        self.last = self.last.max(block);
        self.webhooks |= bit(key.webhook);
        for (word, bit) in bits(block) {
            self.blocks[word] |= bit;
        }
    }

    pub(super) fn of(keys: impl Iterator<Item = DeliveryKey>) -> Self {
        let mut summary = Self::NOTHING;
        keys.for_each(|key| summary.add(key));
        summary
    }

    /// Whether an entry about one of these event blocks, and of this webhook where one is given,
    /// could be in the block.
    pub(super) fn may_hold(&self, blocks: &Range<u64>, webhook: Option<WebhookNo>) -> bool {
        self.first < blocks.end
            && self.last >= blocks.start
            && webhook.is_none_or(|webhook| self.webhooks & bit(webhook) != 0)
            && (blocks.end - blocks.start > FEW
                || blocks.clone().any(|block| self.may_be_about(block)))
    }

    fn may_be_about(&self, block: u64) -> bool {
        bits(block).into_iter().all(|(word, bit)| self.blocks[word] & bit != 0)
    }
}

/// The bits of an event block, and in which words they stand.
fn bits(block: u64) -> [(usize, u64); 2] {
    let hash = block.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [hash >> 55, hash >> 46 & 0x1ff].map(|bit| ((bit >> 6) as usize, 1 << (bit & 63)))
}

fn bit(webhook: WebhookNo) -> u64 {
    1 << (webhook.0.wrapping_mul(0x9e37_79b9) >> 26)
}

/// What the logs hold, and the summaries of the attempt log. The writer changes it after each
/// commit; readers look at it under a lock that is held for a scan of memory at most.
#[derive(Debug, Default)]
pub(super) struct Extent {
    /// Durable event blocks: from the oldest kept up to the next to be written.
    pub(super) events: Range<u64>,
    /// The same of entry blocks.
    pub(super) entries: Range<u64>,
    /// Whether the start has found every delivery that is not settled.
    pub(super) is_recovered: bool,
    /// One for each of `entries`.
    summaries: VecDeque<Summary>,
    /// Tells those who watch that `entries` has grown. Nobody is fed: without a watcher it costs a
    /// store to memory for each block of about a hundred entries.
    recorded: watch::Sender<u64>,
}

impl Extent {
    /// Nothing is known of the entry blocks yet.
    pub(super) fn new(events: Range<u64>, entries: Range<u64>) -> Self {
        let count = (entries.end - entries.start) as usize;
        let summaries = VecDeque::from(vec![Summary::UNKNOWN; count]);
        let recorded = watch::Sender::new(entries.end);
        Self { events, entries, is_recovered: false, summaries, recorded }
    }

    /// An entry block was committed.
    pub(super) fn push(&mut self, number: u64, summary: Summary) {
        debug_assert_eq!(number, self.entries.end, "entry blocks are numbered without gaps");
        self.summaries.push_back(summary);
        self.entries.end = number + 1;
        self.recorded.send_replace(number + 1);
    }

    pub(super) fn recorded(&self) -> watch::Receiver<u64> {
        self.recorded.subscribe()
    }

    /// Whether a block could hold an entry of this webhook.
    pub(super) fn may_be_of(&self, number: u64, webhook: WebhookNo) -> bool {
        let at = number.checked_sub(self.entries.start).and_then(|at| usize::try_from(at).ok());
        let known = at.and_then(|at| self.summaries.get(at));
        known.is_none_or(|summary| summary.webhooks & bit(webhook) != 0)
    }

    /// What a block is about became known.
    pub(super) fn learn(&mut self, number: u64, summary: Summary) {
        if self.entries.contains(&number) {
            self.summaries[(number - self.entries.start) as usize] = summary;
        }
    }

    pub(super) fn is_unknown(&self, number: u64) -> bool {
        let at = number.checked_sub(self.entries.start).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.summaries.get(at)) == Some(&Summary::UNKNOWN)
    }

    /// Everything before these blocks was retired.
    pub(super) fn retire(&mut self, events: u64, entries: u64) {
        self.events.start = self.events.start.max(events);
        while self.entries.start < entries.min(self.entries.end) {
            self.summaries.pop_front();
            self.entries.start += 1;
        }
    }

    /// Entry blocks from `from` on that could hold an entry about these event blocks, in order.
    pub(super) fn candidates(
        &self,
        from: u64,
        blocks: &Range<u64>,
        webhook: Option<WebhookNo>,
    ) -> Vec<u64> {
        let skip = from.saturating_sub(self.entries.start) as usize;
        let known = self.summaries.iter().enumerate().skip(skip);
        known
            .filter(|(_, summary)| summary.may_hold(blocks, webhook))
            .map(|(at, _)| self.entries.start + at as u64)
            .collect()
    }

    /// The newest block before `below` that was not read yet.
    pub(super) fn unknown_before(&self, below: u64) -> Option<u64> {
        let count = below.saturating_sub(self.entries.start) as usize;
        let mut known = self.summaries.iter().take(count);
        known.rposition(|s| *s == Summary::UNKNOWN).map(|at| self.entries.start + at as u64)
    }
}

/// Where a page reads from. A damaged block counts itself and is none.
pub(super) trait Logs {
    fn events(&self) -> Range<u64>;
    fn event_block(&mut self, number: u64) -> Result<Option<Arc<EventBlock>>, StoreError>;
    fn entry_blocks(
        &mut self,
        from: u64,
        about: &Range<u64>,
        webhook: Option<WebhookNo>,
    ) -> Vec<u64>;
    fn entry_block(&mut self, number: u64) -> Result<Option<Arc<Vec<Entry>>>, StoreError>;
    /// The same, for those who read on and on.
    fn entry_facts(&mut self, number: u64) -> Result<Option<Vec<EntryFacts>>, StoreError>;
    /// Durable entry blocks, from the oldest kept.
    fn entries(&self) -> Range<u64>;
    fn may_be_of(&self, number: u64, webhook: WebhookNo) -> bool;
}

/// All entries about one event, or about one delivery of it.
pub(super) fn entries(
    logs: &mut impl Logs,
    place: Place,
    webhook: Option<WebhookNo>,
) -> Result<Vec<Entry>, StoreError> {
    let Some(block) = logs.event_block(place.block())? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let about = block.number..block.number + 1;
    for number in logs.entry_blocks(block.entries_from, &about, webhook) {
        let Some(entries) = logs.entry_block(number)? else { continue };
        let wanted = entries.iter().filter(|entry| {
            entry.key.place == place && webhook.is_none_or(|webhook| entry.key.webhook == webhook)
        });
        found.extend(wanted.cloned());
    }
    Ok(found)
}

/// A page of events, newest first.
pub(super) fn events(
    logs: &mut impl Logs,
    query: &EventQuery,
    max_scan: usize,
) -> Result<EventPage, StoreError> {
    let mut page = EventPage::default();
    let range = logs.events();
    let below = newest_wanted(&range, query.before.map(before_all));
    for (scanned, number) in (range.start..below).rev().enumerate() {
        if scanned >= max_scan {
            page.next = Some(Place::new(number + 1, 0));
            break;
        }
        let Some(block) = logs.event_block(number)? else { continue };
        if query.until.is_some_and(|until| block.accepted_at > until) {
            continue;
        }
        if query.since.is_some_and(|since| block.accepted_at < since) {
            break;
        }
        for index in (0..block.events.len()).rev() {
            let index = index as u16;
            let place = Place::new(number, index);
            if query.before.is_some_and(|before| place >= before) || !query.wants(&block, index) {
                continue;
            }
            if page.events.len() >= query.limit {
                page.next = page.events.last().map(|last| last.id.place);
                return Ok(page);
            }
            page.events.push(EventRow::of(&block, index));
        }
    }
    Ok(page)
}

/// Events from a place on, oldest first; none where retention has passed that place.
pub(super) fn following(
    logs: &mut impl Logs,
    asked: Option<Place>,
    query: &EventQuery,
    max_scan: usize,
) -> Result<Option<Following>, StoreError> {
    let range = logs.events();
    let from = asked.unwrap_or(Place::new(range.start, 0));
    if from.block() < range.start {
        return Ok(None);
    }
    let mut found = Following { events: Vec::new(), next: from, more: false, incomplete: false };
    for (scanned, number) in (from.block()..range.end).enumerate() {
        if scanned >= max_scan {
            found.more = true;
            break;
        }
        let Some(block) = logs.event_block(number)? else {
            let is_retired = number < logs.events().start;
            if is_retired && !found.events.is_empty() {
                // Who goes on from here learns it.
                found.more = true;
                break;
            }
            if is_retired && asked.is_some() {
                return Ok(None);
            }
            found.incomplete |= !is_retired;
            found.next = Place::new(number + 1, 0);
            continue;
        };
        if query.until.is_some_and(|until| block.accepted_at > until) {
            break;
        }
        if query.since.is_none_or(|since| block.accepted_at >= since)
            && !add_following(&block, query, &mut found)
        {
            found.more = true;
            break;
        }
        found.next = Place::new(number + 1, 0);
    }
    Ok(Some(found))
}

/// Adds what is wanted of a block from `next` on; false where there was more than may be added.
fn add_following(block: &EventBlock, query: &EventQuery, found: &mut Following) -> bool {
    for index in 0..block.events.len() {
        let place = Place::new(block.number, index as u16);
        if place < found.next || !query.wants(block, place.index()) {
            continue;
        }
        if found.events.len() >= query.limit {
            found.next = place;
            return false;
        }
        found.events.push(EventRow::of(block, place.index()));
    }
    true
}

/// A page of deliveries, newest event first, and within an event by falling webhook number.
pub(super) fn deliveries(
    logs: &mut impl Logs,
    query: &DeliveryQuery,
    max_scan: usize,
) -> Result<DeliveryPage, StoreError> {
    let mut page = DeliveryPage::default();
    let range = logs.events();
    let mut below = newest_wanted(&range, query.before);
    let (mut scanned, mut length) = (0, FIRST_STRETCH);
    while below > range.start {
        if scanned >= max_scan {
            page.next = Some(before_all(Place::new(below, 0)));
            return Ok(page);
        }
        let length_now = length.min(max_scan - scanned);
        let stretch = below.saturating_sub(length_now as u64).max(range.start)..below;
        scanned += (stretch.end - stretch.start) as usize;
        let (rows, is_last) = candidates(logs, &stretch, query)?;
        scanned += fold(logs, &stretch, query, rows, &mut page)?;
        if page.rows.len() > query.limit {
            page.rows.truncate(query.limit);
            page.next = page.rows.last().map(|last| last.key);
            return Ok(page);
        }
        if is_last {
            return Ok(page);
        }
        below = stretch.start;
        length = (length * 2).min(LONGEST_STRETCH);
    }
    Ok(page)
}

/// A stretch's deliveries before their entries are known.
struct Candidates {
    /// In the page's order.
    rows: Vec<Candidate>,
    entries_from: u64,
}

struct Candidate {
    row: DeliveryRow,
    story: Story,
    /// A disabled route is no delivery, unless a replay made it one.
    enabled: bool,
}

/// The deliveries of a stretch that the event log alone does not rule out, and whether all that
/// comes after is too old.
fn candidates(
    logs: &mut impl Logs,
    stretch: &Range<u64>,
    query: &DeliveryQuery,
) -> Result<(Candidates, bool), StoreError> {
    let mut found = Candidates { rows: Vec::new(), entries_from: u64::MAX };
    for number in stretch.clone().rev() {
        let Some(block) = logs.event_block(number)? else { continue };
        if query.until.is_some_and(|until| block.accepted_at > until) {
            continue;
        }
        if query.since.is_some_and(|since| block.accepted_at < since) {
            return Ok((found, true));
        }
        for index in (0..block.events.len()).rev() {
            add_event(&block, index as u16, query, &mut found);
        }
    }
    Ok((found, false))
}

fn add_event(block: &EventBlock, index: u16, query: &DeliveryQuery, found: &mut Candidates) {
    let event = block.events[usize::from(index)];
    if event.tenant != query.tenant || !wants(query.event_types, event.event_type) {
        return;
    }
    let id = block.event_id(index);
    let first = found.rows.len();
    for route in block.routes_of(index) {
        let key = DeliveryKey { place: id.place, webhook: route.webhook };
        let wanted = query.webhook.is_none_or(|webhook| webhook == route.webhook)
            && query.before.is_none_or(|before| key < before);
        if wanted {
            let row = DeliveryRow {
                key,
                event: id,
                event_type: event.event_type,
                state: Default::default(),
                attempts: 0,
                last: None,
            };
            let candidate = Candidate { row, story: Story::default(), enabled: route.enabled };
            found.rows.push(candidate);
            found.entries_from = found.entries_from.min(block.entries_from);
        }
    }
    found.rows[first..].sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.row.key));
}

/// Reads every entry block that could matter once, and adds what passes the filters to the page,
/// up to one more than the limit. Gives the number of blocks read.
fn fold(
    logs: &mut impl Logs,
    stretch: &Range<u64>,
    query: &DeliveryQuery,
    mut found: Candidates,
    page: &mut DeliveryPage,
) -> Result<usize, StoreError> {
    if found.rows.is_empty() {
        return Ok(0);
    }
    let at: HashMap<DeliveryKey, usize> =
        found.rows.iter().enumerate().map(|(at, candidate)| (candidate.row.key, at)).collect();
    let numbers = logs.entry_blocks(found.entries_from, stretch, query.webhook);
    for &number in &numbers {
        let Some(entries) = logs.entry_block(number)? else { continue };
        for entry in entries.iter() {
            if let Some(&at) = at.get(&entry.key) {
                found.rows[at].story.apply(entry);
            }
        }
    }
    for Candidate { mut row, story, enabled } in found.rows {
        if !enabled && story.last.is_none() {
            continue;
        }
        row.state = story.progress.state;
        row.attempts = story.progress.attempts;
        row.last = story.last;
        if matches(query, &row) {
            page.rows.push(row);
        }
        if page.rows.len() > query.limit {
            break;
        }
    }
    Ok(numbers.len())
}

/// The filters that need the attempt log.
pub(super) fn matches(query: &DeliveryQuery, row: &DeliveryRow) -> bool {
    let attempt = row.last.as_ref().and_then(|entry| entry.attempt.as_ref());
    let status = attempt.and_then(|attempt| attempt.status);
    let error = attempt.and_then(|attempt| attempt.error.as_ref()).map(|error| error.code);
    (query.states.is_empty() || query.states.contains(&row.state.as_str()))
        && query
            .status
            .is_none_or(|(low, high)| status.is_some_and(|status| (low..=high).contains(&status)))
        && query.error.is_none_or(|wanted| error == Some(wanted))
}

/// No type named means any.
pub(super) fn wants(types: crate::event::EventTypes, one: crate::event::EventType) -> bool {
    types.is_empty() || types.contains(one)
}

/// One past the newest block that a page with this cursor could show.
fn newest_wanted(range: &Range<u64>, before: Option<DeliveryKey>) -> u64 {
    let below = before.map_or(range.end, |DeliveryKey { place, webhook }| {
        let is_first = place.index() == 0 && webhook == WebhookNo(0);
        if is_first { place.block() } else { place.block() + 1 }
    });
    below.clamp(range.start, range.end)
}

/// The cursor before which every delivery of earlier places lies, and none of this one.
pub(super) fn before_all(place: Place) -> DeliveryKey {
    DeliveryKey { place, webhook: WebhookNo(0) }
}
