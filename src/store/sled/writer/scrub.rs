//! Makes sled's file forget.
//!
//! sled writes a log of segments and never over what it wrote: a record that was overwritten or
//! removed stays in its segment until that is used again, and that may be never. A segment is freed
//! once half of it is garbage and the pages in its other half have been moved; freed ones are filled
//! again from the front of the file, and the ones at its end are cut off. So what was erased may lie
//! about for as long as its neighbours live, and then for as long as nobody needs the room.
//!
//! A scrub makes it go. Every segment says in its head at which number of the log it begins, and the
//! numbers only grow. The newest that the file has when a scrub begins is its **mark**; it has ended
//! when no segment of the file, used or free, is as old as that. Nothing else is believed: not that
//! sled moved a page, nor that it will use a segment again.
//!
//! 1. **Turn**: fill the segment that is being written, so that what is written next lies behind the
//!    mark.
//! 2. **Move**: walk over all keys and change a little in each page (an empty key is put beside every
//!    other one, and taken away), often enough for sled to write the page anew. Then nothing in the old
//!    segments is needed, and sled frees them, in its own thread.
//! 3. **Fill**: write segments full of nothing until the free ones are used up. Where the file grows
//!    instead, a page was not moved, and all are walked over again, with every key.
//! 4. **Turn** again: the segment that was written last may hold, beyond its end, what it held before.
//! 5. **Clear** what it was filled with, and sync.
//!
//! All in small steps between commits, for a third of the time. It writes each page once or twice and
//! takes no more room than the file already has, but for a few segments. A crash leaves the filling,
//! which the next scrub clears, and empty keys, which say nothing.

use std::{
    io,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use crate::{
    clock::instant,
    store::sled::{
        disk::{Disk, Fault},
        group::{Reply, answer_all},
        writes::Writes,
    },
};

/// Keys walked over in one step.
const KEYS: usize = 16;
/// Records of filling in one step; 64 are a mebibyte.
const RECORDS: u32 = 64;
/// The least that a step leaves to others.
const PAUSE: Duration = Duration::from_millis(2);
/// How long sled has for freeing a segment before it is helped with another turn of the log.
const PATIENCE: Duration = Duration::from_millis(300);
/// By so much the file may grow before the pages are walked over again.
const GROWTH: u64 = 32 << 20;

/// What is asked for, and how far it is.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    /// Those whom the round under way answers.
    asked: Vec<Reply>,
    /// Those who came later: what they erased may be newer than its mark.
    waiting: Vec<Reply>,
    round: Option<Round>,
    /// Not before this.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Round {
    mark: u64,
    phase: Phase,
    /// Records of filling written.
    filled: u32,
    /// How often the pages were walked over.
    walks: u32,
}

#[derive(Debug)]
enum Phase {
    /// Until a segment behind this one is begun.
    Turn {
        behind: u64,
        last: bool,
    },
    Move {
        after: Vec<u8>,
    },
    Fill {
        old: usize,
        since: Instant,
        size: u64,
    },
    Clear,
    Done,
}

impl Scrub {
    pub(super) fn ask(&mut self, reply: Reply) {
        self.waiting.push(reply);
    }

    /// How long until it goes on; none where there is nothing to do.
    pub(super) fn patience(&self) -> Option<Duration> {
        let is_wanted = self.round.is_some() || !self.waiting.is_empty();
        let due = self.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(instant()));
        is_wanted.then_some(due)
    }

    /// Takes a step, where one is due.
    pub(super) fn step(&mut self, disk: &mut Disk) -> Result<(), Fault> {
        if self.patience() != Some(Duration::ZERO) {
            return Ok(());
        }
        let began = instant();
        let round = match &mut self.round {
            Some(round) => round,
            None => {
                self.asked = std::mem::take(&mut self.waiting);
                self.round.insert(Round::begin(disk)?)
            }
        };
        round.step(disk)?;
        if matches!(round.phase, Phase::Done) {
            let walks = round.walks;
            tracing::info!(walks, "what was erased is gone from the store's file");
            self.round = None;
            answer_all(std::mem::take(&mut self.asked), &Ok(()));
        }
        self.due = Some(instant() + PAUSE.max(2 * began.elapsed()));
        Ok(())
    }
}

impl Round {
    fn begin(disk: &mut Disk) -> Result<Self, Fault> {
        // What a crash left of an earlier one.
        while disk.clear_filling(RECORDS as usize)? > 0 {}
        disk.commit(Writes::default())?;
        let mark = newest(disk)?;
        let phase = Phase::Turn { behind: mark, last: false };
        Ok(Self { mark, phase, filled: 0, walks: 0 })
    }

    fn step(&mut self, disk: &mut Disk) -> Result<(), Fault> {
        let next = match &mut self.phase {
            Phase::Turn { behind, last } => {
                let (behind, last) = (*behind, *last);
                self.fill(disk)?;
                match (newest(disk)? > behind, last) {
                    (false, _) => None,
                    (true, false) => Some(Phase::Move { after: Vec::new() }),
                    (true, true) => Some(Phase::Clear),
                }
            }
            Phase::Move { after } => {
                // Densely where the first walk was not enough.
                let every = if self.walks == 0 { 2 } else { 1 };
                match disk.touch_pages(after, KEYS, every)? {
                    Some(last) => {
                        *after = last;
                        None
                    }
                    None => {
                        self.walks += 1;
                        disk.flush()?;
                        let (old, size) = (old(disk, self.mark)?, disk.size());
                        Some(Phase::Fill { old, since: instant(), size })
                    }
                }
            }
            Phase::Fill { old: before, since, size } => {
                let now = old(disk, self.mark)?;
                let (since, size) = (*since, *size);
                if now == 0 {
                    Some(Phase::Turn { behind: newest(disk)?, last: true })
                } else if now < *before {
                    Some(Phase::Fill { old: now, since: instant(), size })
                } else if disk.size() > size + GROWTH {
                    tracing::debug!(now, walks = self.walks, "sled keeps old segments; once more");
                    Some(Phase::Move { after: Vec::new() })
                } else {
                    if since.elapsed() > PATIENCE {
                        self.fill(disk)?;
                    }
                    None
                }
            }
            Phase::Clear => {
                let left = disk.clear_filling(RECORDS as usize)?;
                disk.commit(Writes::default())?;
                (left == 0).then_some(Phase::Done)
            }
            Phase::Done => None,
        };
        if let Some(next) = next {
            self.phase = next;
        }
        Ok(())
    }

    fn fill(&mut self, disk: &mut Disk) -> Result<(), Fault> {
        disk.fill(self.filled..self.filled + RECORDS)?;
        self.filled += RECORDS;
        Ok(())
    }
}

/// Where the newest segment of the file begins in the log.
fn newest(disk: &Disk) -> Result<u64, Fault> {
    let segments = segments(disk).map_err(Fault::Look)?;
    Ok(segments.into_iter().max().unwrap_or(0))
}

/// How many segments are as old as the mark.
fn old(disk: &Disk, mark: u64) -> Result<usize, Fault> {
    let segments = segments(disk).map_err(Fault::Look)?;
    Ok(segments.into_iter().filter(|begin| *begin <= mark).count())
}

/// Where each segment of the file begins in the log, whether it is in use or not. One that was wiped
/// by a start, or never begun, has no head.
fn segments(disk: &Disk) -> io::Result<Vec<u64>> {
    let file = disk.file();
    let mut found = Vec::new();
    let mut head = [0; HEAD];
    let len = file.metadata()?.len();
    let mut at = 0;
    while at + HEAD as u64 <= len {
        match file.read_exact_at(&mut head, at) {
            // It was cut off meanwhile.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            read => read?,
        }
        found.extend(begin_of(&head));
        at += super::super::SEGMENT as u64;
    }
    Ok(found)
}

/// Bytes of a segment's head: a checksum, where it begins, and up to where the log was stable, the
/// latter two with all bits but the sign turned.
const HEAD: usize = 20;

fn begin_of(head: &[u8; HEAD]) -> Option<u64> {
    let (crc, rest) = head.split_first_chunk::<4>()?;
    let begin = rest.first_chunk::<8>()?;
    if !u32::from_le_bytes(*crc) != crc32fast::hash(rest) {
        return None;
    }
    Some(u64::from_le_bytes(*begin) ^ (u64::MAX >> 1))
}

#[cfg(test)]
mod tests;
