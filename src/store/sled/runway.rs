//! Keys for blocks to come, with nothing under them yet.
//!
//! sled splits a leaf of 17 records in two and writes both halves anew. In a log, which only grows
//! at its end, every record would be in such a leaf twice: three bytes written for each byte kept,
//! and garbage for sled to collect. So the keys are made ahead of the blocks, empty: the leaves
//! split while there is next to nothing in them, and a block goes as a single small change into a
//! leaf that never splits again. Such a leaf takes nine of them, one fewer than make sled write it
//! anew for its many changes.
//!
//! A **fence** of empty keys stands where one kind of record meets the next. Without it the first
//! records of the one would be written anew whenever the last leaf of the other splits.
//!
//! An empty record means: not written yet. The keys of a commit's blocks are in sled's log before
//! the blocks, so what a crash leaves is blocks without a gap and then empty keys.

use sled::{Db, IVec};

use super::{disk::Fault, meta::Numbers};
use crate::store::codec::{Log, parse_key};

/// How far the keys are ahead of the blocks: more than a leaf has.
const AHEAD: u64 = 32;
/// How many are made at once.
const STEP: u64 = 64;
/// No commit has more blocks of one log.
const MOST: u64 = 1 << 16;
/// Empty keys of one fence: more than a leaf has.
const FENCE: u8 = 24;
/// Between the rows and the attempt log, that and the event log, that and the idempotency keys.
const FENCES: [u8; 3] = [0x2F, 0x3F, 0x4F];

/// Up to where the keys are made.
#[derive(Debug)]
pub(super) struct Runway {
    /// None until it has been looked for.
    ends: Option<Numbers>,
}

impl Runway {
    pub(super) fn new() -> Self {
        Self { ends: None }
    }

    /// Makes the fences of an empty store, and takes these numbers for where its logs begin.
    pub(super) fn begin_at(&mut self, db: &Db, numbers: Numbers) -> Result<(), Fault> {
        fence(db)?;
        self.ends = Some(numbers);
        Ok(())
    }

    /// Makes keys so that blocks below `next` and a few more have theirs.
    pub(super) fn extend(&mut self, db: &Db, next: Numbers) -> Result<(), Fault> {
        let ends = match &mut self.ends {
            Some(ends) => ends,
            None => {
                fence(db)?;
                let event = end(db, Log::Events)?;
                let entry = end(db, Log::Entries)?;
                self.ends.insert(Numbers { event, entry, ..Numbers::default() })
            }
        };
        extend(db, Log::Entries, &mut ends.entry, next.entry)?;
        extend(db, Log::Events, &mut ends.event, next.event)
    }
}

/// Whether a key is one of a fence's.
pub(super) fn is_fence(key: &[u8]) -> bool {
    matches!(key, [tag, _] if FENCES.contains(tag))
}

fn extend(db: &Db, log: Log, end: &mut u64, next: u64) -> Result<(), Fault> {
    let wanted = next + AHEAD;
    if *end >= wanted {
        return Ok(());
    }
    // What is further back was skipped and stays so: an accepted loss leaves a gap.
    let from = (*end).max(next.saturating_sub(MOST));
    for block in from..wanted + STEP {
        db.insert(log.key(block, 0), IVec::default())?;
    }
    *end = wanted + STEP;
    Ok(())
}

fn end(db: &Db, log: Log) -> Result<u64, Fault> {
    let last = db.range(log.key(0, 0)..=log.key(u64::MAX, u16::MAX)).next_back().transpose()?;
    Ok(last.and_then(|(key, _)| parse_key(&key)).map_or(0, |(block, _)| block + 1))
}

fn fence(db: &Db) -> Result<(), Fault> {
    for tag in FENCES {
        if db.contains_key([tag, 0])? {
            continue;
        }
        // The first one last: it says that all are there.
        for n in (0..FENCE).rev() {
            db.insert([tag, n], IVec::default())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sled::sled_config;

    /// Bytes that sled wrote for so many blocks of eight kibibytes, and how many they hold.
    fn written(extend: bool) -> (u64, u64) {
        const BLOCKS: u64 = 2000;
        let dir = tempfile::tempdir().unwrap();
        let db = sled_config(dir.path()).open().unwrap();
        let mut runway = Runway::new();
        for block in 0..BLOCKS {
            if extend {
                let next = Numbers { event: block + 1, entry: block + 1, ..Numbers::default() };
                runway.extend(&db, next).unwrap();
            }
            for log in [Log::Entries, Log::Events] {
                db.insert(log.key(block, 0), vec![7; 8192]).unwrap();
            }
        }
        db.flush().unwrap();
        let kept = 2 * BLOCKS * 8192;
        for block in 0..BLOCKS {
            assert_eq!(db.get(Log::Events.key(block, 0)).unwrap().unwrap().len(), 8192);
        }
        drop(db);
        (std::fs::metadata(dir.path().join("db")).unwrap().len(), kept)
    }

    #[test]
    fn a_block_is_written_once() {
        let (bytes, kept) = written(true);
        assert!(bytes < kept * 12 / 10, "{bytes} bytes for {kept}");
        // What it is there for; sled reuses what it collected, so the file tells a part only.
        let (bytes, kept) = written(false);
        assert!(bytes > kept * 3 / 2, "{bytes} bytes for {kept}");
    }

    #[test]
    fn keys_go_on_where_an_earlier_process_ended_and_skip_what_was_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled_config(dir.path()).open().unwrap();
        let made = || db.scan_prefix([Log::Events as u8]).count() as u64;
        let at = |event| Numbers { event, ..Numbers::default() };
        Runway::new().extend(&db, at(1)).unwrap();
        assert_eq!(made(), 1 + AHEAD + STEP);
        db.insert(Log::Events.key(0, 0), vec![1]).unwrap();
        let mut again = Runway::new();
        again.extend(&db, at(2)).unwrap();
        assert_eq!(made(), 1 + AHEAD + STEP, "there are enough");
        assert_eq!(db.get(Log::Events.key(0, 0)).unwrap().unwrap(), vec![1], "it is kept");
        again.extend(&db, at(1 << 40)).unwrap();
        assert_eq!(made(), 1 + AHEAD + STEP + MOST + AHEAD + STEP);
    }
}
