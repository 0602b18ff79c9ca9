//! How far the store's history has come, remembered outside of sled.
//!
//! sled reads its log up to the first place that does not fit and takes that for the torn end that
//! a crash leaves. After a crash it is. After damage it is not: everything that was accepted behind
//! it is gone, and the store opens as what it was before, or as a new one, without a word. So the
//! data directory holds a second witness, the file `mark`:
//!
//! ```text
//! senderz-gateway mark 1: revision 17 events 900 entries 1200 keys 4 whole-from 0 0 0 crc32 1a2b3c4d
//! ```
//!
//! `revision` counts how often the meta row was written, which is at least once for each change of
//! the directory; the next three are the logs' next block numbers. The line stands in two slots of
//! a page each. They are overwritten in turns and in place, with one `fdatasync`, so that a torn
//! write costs the newer one at most and needs no space on a full disk.
//!
//! The mark is **never newer than what is durable**: it is written after the commits that it speaks
//! of, every second in which something changed and when the store is closed. It may be older: after
//! a crash it is, and then nothing is amiss.
//!
//! At the start history must be whole:
//!
//! | looked at | finds |
//! |---|---|
//! | `store/db` is there and is not empty | a file that was removed, replaced or emptied |
//! | each log reaches its number, in the mark and in the meta row | a cut-off end |
//! | the meta row's revision reaches the mark's | a lost change of the directory |
//! | the directory has as many rows as the meta row says | a row lost from the middle |
//! | no number is missing among the blocks that recovery reads anyway, unless it is quarantined | a stretch lost from the middle |
//!
//! What is found is written down in the file `loss`, because sled has by then cut its log off: the
//! next start, and `check`, repeat it and leave the database alone. With a file `accept-loss` the
//! operator lets the store go on with what is left. Then event blocks are numbered from behind the
//! highest that was ever marked, so that no entry about a lost event is ever taken for one about a
//! new one, and `whole-from` says from which numbers on history is complete. (The other logs go on
//! where they end: nothing outside of the store knows their numbers, and what is kept in memory for
//! each entry block would be kept for the gap as well.)
//!
//! **Not found:**
//!
//! - Damage after a crash that hits only what was written in the second before the crash; it looks
//!   like the torn end that it may as well be.
//! - Blocks missing from the middle of what has long been settled: recovery does not read those, so
//!   that they are missed only where somebody looks for them.
//! - A row of the directory in an older version of itself, where nothing else is missing.
//! - A data directory that was replaced whole by an older copy of itself, or by nothing: a volume
//!   that is not mounted looks like a first start.
//! - `store` replaced by that of another gateway that has come further.
//!
//! By the time that a loss is found, sled has overwritten what was behind the damage in `store/db`.
//! Who wants to search in it needs a copy from before the first start.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    data_dir::{self, STORE, write_whole},
    disk::{Disk, Fault, View},
    meta::Meta,
    recovery::Start,
};
use crate::store::{OpenError, StoreError, codec::Log};

const MARK: &str = "mark";

/// What a start found missing, in words.
const LOSS: &str = "loss";

/// Made by the operator, removed by the start that it allowed.
const ACCEPT: &str = "accept-loss";

/// A slot may share no page with the other one.
const SLOT: usize = 4096;

const HEAD: &str = "senderz-gateway mark 1:";

const LOGS: [Log; 3] = [Log::Events, Log::Entries, Log::Idempotency];

/// What of the history is missing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Loss {
    #[error("its file `mark`, which says how far its history goes, {0}")]
    Mark(&'static str),
    #[error("its file `store/db` is missing or empty, although it was written to")]
    Database,
    #[error("its log of {} ends at block {found} but had reached block {reached}", log.name())]
    End { log: Log, found: u64, reached: u64 },
    #[error("it stands at revision {found} but had reached revision {reached}")]
    Revision { found: u64, reached: u64 },
    #[error("its directory has {found} rows instead of {written}")]
    Rows { found: u64, written: u64 },
    #[error("block {number} is missing from its log of {}", log.name())]
    Hole { log: Log, number: u64 },
    /// Found by an earlier start.
    #[error("{0}")]
    Known(String),
}

impl Loss {
    pub(super) fn of(self, data_dir: &Path) -> OpenError {
        OpenError::Lost { path: data_dir.to_owned(), reason: self.to_string() }
    }
}

/// A block number for each log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Blocks([u64; 3]);

impl Blocks {
    fn next(meta: &Meta) -> Self {
        Self(LOGS.map(|log| meta.next_of(log)))
    }

    fn of(self, log: Log) -> u64 {
        let [event, entry, keys] = self.0;
        match log {
            Log::Events => event,
            Log::Entries => entry,
            Log::Idempotency => keys,
        }
    }
}

/// What was durable once. Every field only grows, so that of two marks the greater is the newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    revision: u64,
    next: Blocks,
    /// Below these numbers an operator has accepted that blocks are missing.
    whole_from: Blocks,
}

impl Mark {
    fn encode(self) -> Vec<u8> {
        let [event, entry, keys] = self.next.0;
        let [w_event, w_entry, w_keys] = self.whole_from.0;
        let body = format!(
            "{HEAD} revision {} events {event} entries {entry} keys {keys} \
             whole-from {w_event} {w_entry} {w_keys}",
            self.revision
        );
        let line = format!("{body} crc32 {:08x}", crc32fast::hash(body.as_bytes()));
        let mut slot = line.into_bytes();
        slot.resize(SLOT - 1, b' ');
        slot.push(b'\n');
        slot
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(slot).ok()?;
        let (body, crc) = text.trim_end().rsplit_once(" crc32 ")?;
        if u32::from_str_radix(crc, 16) != Ok(crc32fast::hash(body.as_bytes())) {
            return None;
        }
        let words = body.strip_prefix(HEAD)?.split_whitespace();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        let [revision, event, entry, keys, w_event, w_entry, w_keys] = numbers[..] else {
            return None;
        };
        let whole_from = Blocks([w_event, w_entry, w_keys]);
        Some(Self { revision, next: Blocks([event, entry, keys]), whole_from })
    }

    /// Both slots as they are in a file of its own.
    fn file(self) -> Vec<u8> {
        self.encode().repeat(2)
    }
}

/// The mark of an opened data directory.
#[derive(Debug)]
pub(super) struct MarkFile {
    data_dir: PathBuf,
    file: File,
    /// As it was written last.
    mark: Mark,
    /// The slot that is older, or torn.
    slot: usize,
    /// Whether the operator lets the store go on with what is left.
    is_accepted: bool,
}

impl MarkFile {
    /// Makes the mark of a store that never held anything. It stands before the store does, so that
    /// a missing one is a lost one.
    pub(super) fn make(data_dir: &Path) -> io::Result<()> {
        write_whole(data_dir, MARK, &Mark::default().file())
    }

    /// Whether there is no mark that speaks of anything, so that a store may be made here.
    pub(super) fn is_blank(data_dir: &Path) -> bool {
        match fs::read(data_dir.join(MARK)) {
            Ok(bytes) => newest(slots(&bytes)) == Some(Mark::default()),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Reads the mark, and all that can be told before sled is let near its files.
    pub(super) fn open(data_dir: &Path) -> Result<Self, OpenError> {
        let is_accepted = is_accepted(data_dir);
        match Self::read(data_dir, is_accepted) {
            Err(OpenError::Lost { .. }) if is_accepted => {
                Self::make(data_dir).map_err(|error| data_dir::unusable(data_dir, error))?;
                Self::read(data_dir, is_accepted)
            }
            read => read,
        }
    }

    /// The same for whoever only wants to know.
    pub(super) fn check(data_dir: &Path) -> Result<(), OpenError> {
        let is_accepted = is_accepted(data_dir);
        match Self::read(data_dir, is_accepted) {
            Err(OpenError::Lost { .. }) if is_accepted => Ok(()),
            read => read.map(drop),
        }
    }

    /// A file that is there and that may not be read says nothing about what was lost: that is no
    /// loss which somebody could accept, and no reason to write another file over it.
    fn read(data_dir: &Path, is_accepted: bool) -> Result<Self, OpenError> {
        let unreadable = |name: &'static str| {
            move |error: io::Error| OpenError::Unusable {
                path: data_dir.to_owned(),
                reason: format!("its file `{name}` cannot be opened: {error}"),
            }
        };
        let lost = |loss: Loss| Err(loss.of(data_dir));
        if !is_accepted && let Some(known) = known_loss(data_dir).map_err(unreadable(LOSS))? {
            return lost(known);
        }
        let path = data_dir.join(MARK);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return lost(Loss::Mark("is missing"));
            }
            read => read.map_err(unreadable(MARK))?,
        };
        let [first, second] = slots(&bytes);
        let Some(mark) = newest([first, second]) else {
            return lost(Loss::Mark("is damaged: neither of its two lines is whole"));
        };
        let db = fs::metadata(data_dir.join(STORE).join("db"));
        if !is_accepted && mark != Mark::default() && db.map_or(0, |db| db.len()) == 0 {
            return lost(Loss::Database);
        }
        let file = File::options().write(true).open(path).map_err(unreadable(MARK))?;
        let slot = usize::from(first >= second);
        Ok(Self { data_dir: data_dir.to_owned(), file, mark, slot, is_accepted })
    }

    /// Whether the store's own record and the ends of its logs reach what was once durable.
    pub(super) fn check_reach(&self, view: &View, meta: &Meta) -> Result<(), LossError> {
        if self.is_accepted {
            return Ok(());
        }
        for log in LOGS {
            let reached = self.mark.next.of(log).max(meta.next_of(log));
            let mut found = meta.kept_from(log).max(self.mark.whole_from.of(log));
            found = found.max(view.last_number(log)?.map_or(0, |last| last + 1));
            while found < reached && view.is_quarantined(log, found)? {
                found += 1;
            }
            if found < reached {
                return Err(Loss::End { log, found, reached }.into());
            }
        }
        let reached = self.mark.revision;
        if meta.revision < reached {
            return Err(Loss::Revision { found: meta.revision, reached }.into());
        }
        Ok(())
    }

    /// Whether the directory is as large as it was when it last changed.
    pub(super) fn check_rows(&self, found: u64, meta: &Meta) -> Result<(), Loss> {
        let written = meta.rows;
        let is_whole = self.is_accepted || found == written;
        is_whole.then_some(()).ok_or(Loss::Rows { found, written })
    }

    /// Follows a log that is read from block `from` on.
    pub(super) fn chain<'a>(&self, view: &'a View, log: Log, from: u64) -> Chain<'a> {
        let is_checked = !self.is_accepted;
        Chain { view, log, expected: from.max(self.mark.whole_from.of(log)), is_checked }
    }

    /// Where the operator has accepted a loss: takes what was found for whole from now on.
    pub(super) fn settle(&mut self, disk: &mut Disk, start: &mut Start) -> Result<(), SettleError> {
        if !self.is_accepted {
            return Ok(());
        }
        let meta = &mut start.meta;
        meta.go_on_from(self.mark.next.of(Log::Events));
        meta.revision = meta.revision.max(self.mark.revision) + 1;
        meta.rows = start.directory.len();
        (start.events, start.entries) = meta.extents();
        disk.put_meta(meta)?;
        let next = Blocks::next(meta);
        let mark = Mark { revision: meta.revision, next, whole_from: next };
        write_whole(&self.data_dir, MARK, &mark.file())?;
        // The operator's word must not be gone while what it was about is still there.
        for told in [LOSS, ACCEPT] {
            match fs::remove_file(self.data_dir.join(told)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => data_dir::sync(&self.data_dir)?,
            }
        }
        self.file = File::options().write(true).open(self.data_dir.join(MARK))?;
        (self.mark, self.slot, self.is_accepted) = (mark, 0, false);
        tracing::warn!(
            events = meta.next.event,
            entries = meta.next.entry,
            rows = meta.rows,
            "the store goes on with what is left of it, as the operator decided"
        );
        Ok(())
    }

    /// Everything that this speaks of is durable. A mark that cannot be written stays what it is,
    /// which says less but nothing wrong.
    pub(super) fn advance(&mut self, meta: &Meta) {
        let mark = Mark { revision: meta.revision, next: Blocks::next(meta), ..self.mark };
        if mark == self.mark {
            return;
        }
        let at = (self.slot * SLOT) as u64;
        let written = self.file.write_all_at(&mark.encode(), at);
        match written.and_then(|()| self.file.sync_data()) {
            Ok(()) => (self.mark, self.slot) = (mark, 1 - self.slot),
            Err(error) => tracing::warn!(%error, "the mark could not be written"),
        }
    }

    /// Writes down what was found, for all later starts.
    pub(super) fn tell(&self, loss: &Loss) {
        let text = format!("{loss}\n");
        if let Err(error) = write_whole(&self.data_dir, LOSS, text.as_bytes()) {
            tracing::warn!(%error, "what is lost could not be written down");
        }
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

/// Both slots as they were found; what is torn or not there is none.
fn slots(bytes: &[u8]) -> [Option<Mark>; 2] {
    let mut slots = bytes.chunks(SLOT).map(Mark::decode);
    [slots.next().flatten(), slots.next().flatten()]
}

fn newest([first, second]: [Option<Mark>; 2]) -> Option<Mark> {
    first.max(second)
}

fn is_accepted(data_dir: &Path) -> bool {
    data_dir.join(ACCEPT).is_file()
}

/// What an earlier start has written down.
fn known_loss(data_dir: &Path) -> io::Result<Option<Loss>> {
    let bytes = match fs::read(data_dir.join(LOSS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let known = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    let known = if known.is_empty() { format!("its file `{LOSS}` says so") } else { known };
    Ok(Some(Loss::Known(known)))
}

/// Notices blocks that are missing from a log while it is read in order.
#[derive(Debug)]
pub(super) struct Chain<'a> {
    view: &'a View,
    log: Log,
    expected: u64,
    is_checked: bool,
}

impl Chain<'_> {
    /// This block was found next.
    pub(super) fn found(&mut self, number: u64) -> Result<(), LossError> {
        self.reach(number)?;
        self.expected = self.expected.max(number + 1);
        Ok(())
    }

    /// Every block before this one was found, or was moved aside when it was found damaged.
    pub(super) fn reach(&mut self, number: u64) -> Result<(), LossError> {
        while self.is_checked && self.expected < number {
            if !self.view.is_quarantined(self.log, self.expected)? {
                return Err(Loss::Hole { log: self.log, number: self.expected }.into());
            }
            self.expected += 1;
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LossError {
    #[error(transparent)]
    Lost(#[from] Loss),
    #[error(transparent)]
    Read(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SettleError {
    #[error(transparent)]
    Write(#[from] Fault),
    #[error(transparent)]
    File(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: Mark =
        Mark { revision: 4, next: Blocks([u64::MAX - 1, 2, 3]), whole_from: Blocks([7, 8, 9]) };
    const NEWER: Mark = Mark { next: Blocks([u64::MAX, 2, 3]), ..OLDER };

    #[test]
    fn every_flipped_bit_of_a_mark_is_noticed() {
        let slot = OLDER.encode();
        assert_eq!((slot.len(), Mark::decode(&slot)), (SLOT, Some(OLDER)));
        let line = slot.trim_ascii_end().len();
        for bit in 0..line * 8 {
            let mut damaged = slot.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // The case of a checksum's digit says nothing.
            assert!(Mark::decode(&damaged).is_none_or(|mark| mark == OLDER), "bit {bit}");
        }
        for end in 0..line {
            assert_eq!(Mark::decode(&slot[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn the_newer_slot_counts_and_the_other_one_is_written_next() {
        let dir = tempfile::tempdir().unwrap();
        let read = |first: &[u8], second: &[u8]| {
            fs::write(dir.path().join(MARK), [first, second].concat()).unwrap();
            let read = MarkFile::read(dir.path(), true);
            read.map(|file| (file.mark, file.slot)).map_err(|error| error.to_string())
        };
        let (older, newer, torn) = (OLDER.encode(), NEWER.encode(), vec![0; SLOT]);
        assert_eq!(read(&older, &newer), Ok((NEWER, 0)));
        assert_eq!(read(&newer, &older), Ok((NEWER, 1)));
        assert_eq!(read(&torn, &older), Ok((OLDER, 0)));
        assert_eq!(read(&older, &torn), Ok((OLDER, 1)));
        assert_eq!(read(&older, &[]), Ok((OLDER, 1)), "the file was cut");
        assert!(read(&torn, &torn).unwrap_err().contains("neither of its two lines is whole"));
        assert!(read(&[], &[]).unwrap_err().contains("neither of its two lines is whole"));
    }

    #[test]
    fn a_mark_is_written_only_when_something_changed_and_in_turns() {
        let dir = tempfile::tempdir().unwrap();
        MarkFile::make(dir.path()).unwrap();
        let mut file = MarkFile::open(dir.path()).unwrap();
        let mut meta = Meta::new();
        let mut slots = Vec::new();
        for event in [0, 1, 1, 2, 3] {
            meta.next.event = event;
            file.advance(&meta);
            slots.push(file.slot);
            assert_eq!(MarkFile::read(dir.path(), true).unwrap().mark, file.mark);
        }
        assert_eq!(slots, [1, 0, 0, 1, 0]);
        assert_eq!(file.mark.next.of(Log::Events), 3);
    }
}
