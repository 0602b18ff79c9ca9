//! Files are written while the index goes on: what is to be written is taken out of it, and what
//! was written is put in. Nobody who looks for a page waits for the disk, or for a sort.
//!
//! One file is under way at a time. Entries that are taken in meanwhile are not in it; which
//! deliveries they were about is remembered, and what they added waits beside the new file as what
//! comes later does.

use std::{collections::HashSet, io, ops::Range, path::PathBuf, sync::Arc};

use super::{
    Index, LATE, Piece, ROWS, Step,
    late::{Amendment, Late},
    row::Row,
    segment::Segment,
    times::Times,
};
use crate::{clock::instant, id::DeliveryKey, store::history::Logs};

/// A file that is to be written.
#[derive(Debug)]
pub(super) enum Work {
    /// The tail's first rows become a segment.
    Seal { dir: PathBuf, times: Times, rows: Vec<Row> },
    /// A segment and what became known since become one.
    Amend { segment: Arc<Segment>, late: Late },
}

impl Work {
    /// Takes the time of a disk; the index goes on.
    pub(super) fn write(self) -> io::Result<Segment> {
        match self {
            Self::Seal { dir, times, mut rows } => Segment::write(&dir, times, &mut rows),
            Self::Amend { segment, late } => segment.amended(&late),
        }
    }
}

/// What is remembered of the file that is being written.
#[derive(Debug)]
pub(super) struct UnderWay {
    is_seal: bool,
    /// The event blocks that it is about.
    blocks: Range<u64>,
    /// Of its deliveries those about which something was taken in since.
    told: HashSet<DeliveryKey>,
}

impl UnderWay {
    fn new(is_seal: bool, blocks: Range<u64>) -> Self {
        Self { is_seal, blocks, told: HashSet::new() }
    }

    /// An entry about the delivery was taken in.
    pub(super) fn note(&mut self, key: DeliveryKey) {
        if self.blocks.contains(&key.place.block()) {
            self.told.insert(key);
        }
    }

    pub(super) fn is_seal(&self) -> bool {
        self.is_seal
    }
}

impl Index {
    /// The file that is due, if one is and none is under way.
    pub(super) fn begin(&mut self) -> Option<Work> {
        let waits = self.stalled_until.is_some_and(|until| instant() < until);
        if self.under_way.is_some() || self.is_off() || waits {
            return None;
        }
        if self.tail.rows.len() >= ROWS + ROWS / 4 {
            // The newest are the ones whose attempts are still to come.
            let (times, rows) = self.tail.first(ROWS);
            self.under_way = Some(UnderWay::new(true, times.blocks()));
            return Some(Work::Seal { dir: self.dir.clone(), times, rows });
        }
        if self.late < LATE {
            return None;
        }
        // That segment about which most is new.
        let fullest = self.segments.iter().max_by_key(|piece| piece.late.len())?;
        self.under_way = Some(UnderWay::new(false, fullest.segment.times.blocks()));
        let (segment, late) = (Arc::clone(&fullest.segment), fullest.late.clone());
        Some(Work::Amend { segment, late })
    }

    /// So much waits for files that nothing more is taken in.
    pub(super) fn is_full(&self) -> bool {
        self.tail.rows.len() >= 2 * ROWS || self.late >= 2 * LATE
    }

    /// Puts in what became of [`Index::begin`]'s work.
    pub(super) fn finish(&mut self, written: io::Result<Segment>, logs: &impl Logs) -> Step {
        let under_way = self.under_way.take();
        match (under_way, written) {
            (Some(UnderWay { is_seal: true, told, .. }), Ok(segment)) => {
                self.append(segment, &told)
            }
            (Some(UnderWay { is_seal: false, told, .. }), Ok(segment)) => {
                self.exchange(segment, &told);
            }
            // It was made anew meanwhile, or retention came.
            (None, Ok(segment)) => discard(&segment),
            (None, Err(_)) => {}
            (Some(_), Err(error)) => {
                let (events, entries) = (logs.events(), logs.entries());
                return self.fail(&error.into(), &events, &entries);
            }
        }
        Step::More
    }

    fn append(&mut self, segment: Segment, told: &HashSet<DeliveryKey>) {
        let mut late = Late::default();
        for key in told {
            if let Some(row) = self.tail.row(*key) {
                let chunk = segment.chunk_of(row.tenant, *key);
                late.put(*key, Amendment { chunk, told: row.told });
            }
        }
        self.late += late.len();
        self.tail.forget_before(segment.times.blocks().end);
        self.segments.push_back(Piece { segment: Arc::new(segment), late });
        while self.rows() > self.max_rows {
            self.drop_oldest();
        }
    }

    fn exchange(&mut self, segment: Segment, told: &HashSet<DeliveryKey>) {
        let first = segment.times.first;
        let piece = self.segments.iter_mut().find(|piece| piece.segment.times.first == first);
        let Some(piece) = piece else { return discard(&segment) };
        let late = piece.late.only(told);
        self.late = self.late - piece.late.len() + late.len();
        *piece = Piece { segment: Arc::new(segment), late };
    }
}

fn discard(segment: &Segment) {
    if let Err(error) = segment.remove() {
        tracing::warn!(%error, "a file of the index of history could not be removed");
    }
}
