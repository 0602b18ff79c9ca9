//! sled itself: opening it safely, committing durably, reading records. The only file that knows
//! how sled must be treated.
//!
//! - Everything is in one tree, so that one batch can hold a whole commit. The first byte of a key
//!   says what it is; the small, often rewritten rows sort away from the logs' growing ends.
//! - `flush` hands the log to the kernel but survives no power cut. [`Disk::commit`] therefore
//!   syncs the file itself, through a handle of its own: the kernel reports a failed write-back
//!   once to every open handle, and sled's own thread logs and forgets what it is told.
//! - Keys are removed one at a time in rising order, never in a batch. sled merges a page that has
//!   run low into its left neighbour and applies a batch in no order; many removals at once could
//!   pile up a page so large that it goes into a side file that nobody syncs.
//! - That side files never appear is checked at every commit.
//! - sled reclaims space only in its flusher thread, which ends at its first error and says so
//!   only in the log; that it lives is looked at every second.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use rustix::fs::Dir;
use sled::{Db, IVec};

use crate::store::{
    StoreError,
    codec::{self, Damage, Log},
    sled::{
        flusher::Flusher,
        meta::{Meta, Numbers},
        runway::Runway,
        writes::Writes,
    },
};

/// Kinds of keys beside the logs' own.
pub(super) const META_KEY: &[u8] = &[0x10];
pub(super) const ROW_TAG: u8 = 0x20;
const QUARANTINE_TAG: u8 = 0x60;
/// What a scrub fills free room with.
pub(super) const FILLING_TAG: u8 = 0x70;

/// How often each record is touched when it is read. sled collects 64 accesses in each of 256
/// queues before it looks whether its cache is too large; a scan, which needs each page once, would
/// fill the memory with a gigabyte of pages first. With some eight records a page this keeps a scan
/// near the cache's size, for about a microsecond a record.
const TOUCHES: usize = 4;

/// The parts of the operating system that tests replace to make them fail.
pub(crate) struct Os {
    /// Makes what was written to the file durable.
    pub(crate) sync: SyncFile,
    /// Bytes that a process without privileges may still write.
    pub(crate) free: FreeBytes,
}

pub(crate) type SyncFile = Box<dyn FnMut(&File) -> io::Result<()> + Send>;
pub(crate) type FreeBytes = Box<dyn FnMut(&Path) -> io::Result<u64> + Send>;

impl Default for Os {
    fn default() -> Self {
        Self { sync: Box::new(File::sync_data), free: Box::new(free_bytes) }
    }
}

fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What failed; the store is poisoned by it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("sled failed to write: {0}")]
    Write(String),
    #[error("the log could not be synced: {0}")]
    Sync(#[source] io::Error),
    #[error("sled wrote {0} side files, which are not durable")]
    SideFiles(usize),
    #[error("sled's flusher thread has ended")]
    Flusher,
    #[error("the store's file could not be looked at: {0}")]
    Look(#[source] io::Error),
}

impl From<sled::Error> for Fault {
    fn from(error: sled::Error) -> Self {
        Self::Write(in_words(&error))
    }
}

/// What sled's own words for it hide between a backtrace and an advice to report it.
pub(super) fn in_words(error: &sled::Error) -> String {
    match error {
        sled::Error::Corruption { .. } => "its files are not as they were written".to_owned(),
        sled::Error::Io(error) => error.to_string(),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// The writer's side.
pub(super) struct Disk {
    view: View,
    runway: Runway,
    /// Our own handle of sled's file.
    file: File,
    /// Open for good: while the process has no descriptor left, events are committed all the same.
    blobs: Dir,
    blobs_at_open: usize,
    flusher: Flusher,
    data_dir: PathBuf,
    os: Os,
}

impl Disk {
    pub(super) fn new(
        view: View,
        flusher: Flusher,
        data_dir: PathBuf,
        store_dir: &Path,
        os: Os,
    ) -> io::Result<Self> {
        let file = File::open(store_dir.join("db"))?;
        let mut blobs = Dir::new(File::open(store_dir.join("blobs"))?)?;
        let blobs_at_open = count_files(&mut blobs)?;
        let runway = Runway::new();
        Ok(Self { view, runway, file, blobs, blobs_at_open, flusher, data_dir, os })
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Writes a commit and returns when it is durable.
    pub(super) fn commit(&mut self, writes: Writes) -> Result<(), Fault> {
        writes.apply(&self.view.db)?;
        self.view.db.flush()?;
        (self.os.sync)(&self.file).map_err(Fault::Sync)?;
        self.check_side_files()
    }

    /// The same with records that overwrite blocks which somebody may have read.
    pub(super) fn rewrite(&mut self, writes: Writes) -> Result<(), Fault> {
        self.commit(writes)?;
        self.view.rewrites.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Hands what was written to the kernel.
    pub(super) fn flush(&self) -> Result<(), Fault> {
        self.view.db.flush()?;
        Ok(())
    }

    /// Our own handle of sled's file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The logs of an empty store begin at these numbers; to be called before room is made.
    pub(super) fn begin_at(&mut self, numbers: Numbers) -> Result<(), Fault> {
        self.runway.begin_at(&self.view.db, numbers)
    }

    /// Makes room for the blocks below `next`; to be called before they are committed.
    pub(super) fn make_room(&mut self, next: Numbers) -> Result<(), Fault> {
        self.runway.extend(&self.view.db, next)
    }

    /// Writes the meta row by itself and returns when it is durable.
    pub(super) fn put_meta(&mut self, meta: &Meta) -> Result<(), Fault> {
        let mut writes = Writes::default();
        writes.insert(META_KEY, &meta.encode());
        self.commit(writes)
    }

    /// Writes one row; durable with the next commit.
    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.view.db.insert(key, value)?;
        Ok(())
    }

    /// Removes up to `limit` keys of a log below a block, in order; durable with the next commit.
    /// Gives how many there were.
    pub(super) fn remove_below(&self, log: Log, block: u64, limit: usize) -> Result<usize, Fault> {
        let keys = self.view.db.range(log.key(0, 0)..log.key(block, 0)).keys().take(limit);
        let keys = keys.collect::<Result<Vec<IVec>, _>>()?;
        for key in &keys {
            self.view.db.remove(key)?;
        }
        Ok(keys.len())
    }

    /// Moves a damaged block out of its log, to where a person can look at it.
    pub(super) fn quarantine(&self, log: Log, block: u64) -> Result<(), Fault> {
        let parts = self.view.db.range(log.key(block, 0)..=log.key(block, u16::MAX));
        for part in parts.collect::<Result<Vec<_>, _>>()? {
            self.view.db.insert(quarantine_key(&part.0), part.1)?;
            self.view.db.remove(part.0)?;
        }
        Ok(())
    }

    /// What can go wrong while nothing is committed.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        if !self.flusher.is_alive() {
            return Err(Fault::Flusher);
        }
        self.check_side_files()
    }

    pub(super) fn free(&mut self) -> io::Result<u64> {
        (self.os.free)(&self.data_dir)
    }

    /// Bytes on disk, sled's garbage included.
    pub(super) fn size(&self) -> u64 {
        self.view.db.size_on_disk().unwrap_or(0)
    }

    fn check_side_files(&mut self) -> Result<(), Fault> {
        let count = count_files(&mut self.blobs).map_err(Fault::Sync)?;
        if count > self.blobs_at_open {
            Err(Fault::SideFiles(count - self.blobs_at_open))
        } else {
            Ok(())
        }
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// The names in a directory, `.` and `..` included.
fn count_files(dir: &mut Dir) -> io::Result<usize> {
    dir.rewind();
    let mut count = 0;
    while let Some(entry) = dir.read() {
        entry?;
        count += 1;
    }
    Ok(count)
}

fn quarantine_key(key: &[u8]) -> Vec<u8> {
    [&[QUARANTINE_TAG], key].concat()
}

/// What a block turned out to be.
pub(super) type Found = Result<Bytes, Damage>;

/// The readers' side; copies share the database. The last one to go closes it and gives up the
/// lock on the data directory.
#[derive(Clone, Debug)]
pub(super) struct View {
    db: Db,
    /// How often blocks were overwritten.
    rewrites: Arc<AtomicU64>,
    _lock: Arc<File>,
}

impl View {
    pub(super) fn new(db: Db, lock: File) -> Self {
        Self { db, rewrites: Arc::default(), _lock: Arc::new(lock) }
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Changes after blocks were overwritten: what was read before may be older than what is there.
    pub(super) fn rewrites(&self) -> u64 {
        self.rewrites.load(Ordering::Acquire)
    }

    /// Whether nothing was ever written.
    pub(super) fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.db.get(key).map_err(read_failed)
    }

    /// The body of a block; none where there is none.
    pub(super) fn block(&self, log: Log, number: u64) -> Result<Option<Found>, StoreError> {
        let key = log.key(number, 0);
        touch(&self.db, &key)?;
        let Some(first) = self.get(&key)?.filter(is_written) else {
            return Ok(self.is_quarantined(log, number)?.then_some(Err(Damage::MissingPart)));
        };
        let parts = match codec::open(&key, &first) {
            Ok((1, body)) => return Ok(Some(Ok(Bytes::copy_from_slice(body)))),
            Ok((parts, _)) => parts,
            Err(damage) => return Ok(Some(Err(damage))),
        };
        let mut records = Vec::with_capacity(usize::from(parts));
        for part in 0..parts {
            let key = log.key(number, part);
            let Some(record) = self.get(&key)? else {
                return Ok(Some(Err(Damage::MissingPart)));
            };
            records.push((part, record));
        }
        Ok(Some(join(log, number, &records)))
    }

    /// The first part of the first block at or after `from`: its number, and as much of its body.
    pub(super) fn first_part(
        &self,
        log: Log,
        from: u64,
    ) -> Result<Option<(u64, Found)>, StoreError> {
        let end = log.key(u64::MAX, u16::MAX);
        let mut records = self.db.range(log.key(from, 0)..=end);
        let (key, record) = loop {
            let Some(first) = records.next() else { return Ok(None) };
            let (key, record) = first.map_err(read_failed)?;
            if is_written(&record) {
                break (key, record);
            }
        };
        let (number, _) = codec::parse_key(&key).unwrap_or((u64::MAX, 0));
        let found = codec::open(&key, &record).map(|(_, body)| Bytes::copy_from_slice(body));
        Ok(Some((number, found)))
    }

    /// The highest block number in a log.
    pub(super) fn last_number(&self, log: Log) -> Result<Option<u64>, StoreError> {
        let range = log.key(0, 0)..=log.key(u64::MAX, u16::MAX);
        for last in self.db.range(range).rev() {
            let (key, record) = last.map_err(read_failed)?;
            if is_written(&record) {
                return Ok(codec::parse_key(&key).map(|(number, _)| number));
            }
        }
        Ok(None)
    }

    /// All blocks of a log from `from` on, in order.
    pub(super) fn scan(&self, log: Log, from: u64) -> Scan {
        let range = log.key(from, 0)..=log.key(u64::MAX, u16::MAX);
        Scan { log, records: self.db.range(range), next: None, db: self.db.clone() }
    }

    /// All keys with this first byte, and their values.
    pub(super) fn tagged(&self, tag: u8) -> impl Iterator<Item = sled::Result<(IVec, IVec)>> {
        self.db.range([tag].as_slice()..[tag + 1].as_slice())
    }

    /// The records of all blocks that were moved aside and hold this text.
    pub(super) fn quarantined_with(&self, text: &[u8]) -> Result<Vec<IVec>, StoreError> {
        let mut blocks: BTreeMap<Vec<u8>, (Vec<IVec>, Vec<u8>)> = BTreeMap::new();
        for record in self.tagged(QUARANTINE_TAG) {
            let (key, record) = record.map_err(read_failed)?;
            let (keys, bytes) =
                blocks.entry(key[..key.len().saturating_sub(2)].to_vec()).or_default();
            bytes.extend_from_slice(record.get(codec::RECORD_HEAD..).unwrap_or_default());
            keys.push(key);
        }
        let holds = |bytes: &[u8]| memchr::memmem::find(bytes, text).is_some();
        let found = blocks.into_values().filter(|(_, bytes)| holds(bytes));
        Ok(found.flat_map(|(keys, _)| keys).collect())
    }

    /// The same without the empty ones.
    pub(super) fn written(&self, tag: u8) -> impl Iterator<Item = sled::Result<(IVec, IVec)>> {
        self.tagged(tag).filter(is_written_or_bad)
    }

    /// The records of a block, as they are.
    pub(super) fn records(&self, log: Log, number: u64) -> Result<Vec<(IVec, IVec)>, StoreError> {
        let key = log.key(number, 0);
        touch(&self.db, &key)?;
        let records = self.db.range(key..=log.key(number, u16::MAX));
        records.filter(is_written_or_bad).collect::<Result<_, _>>().map_err(read_failed)
    }

    /// All records of blocks that were moved aside.
    pub(super) fn quarantined(&self) -> Result<Vec<(IVec, IVec)>, StoreError> {
        self.tagged(QUARANTINE_TAG).collect::<Result<_, _>>().map_err(read_failed)
    }

    /// Whether a block was found damaged and moved aside.
    pub(super) fn is_quarantined(&self, log: Log, number: u64) -> Result<bool, StoreError> {
        let from = quarantine_key(&log.key(number, 0));
        let until = quarantine_key(&log.key(number, u16::MAX));
        match self.db.range(from..=until).next() {
            None => Ok(false),
            Some(found) => found.map(|_| true).map_err(read_failed),
        }
    }
}

/// Whether it is more than a key made ahead (see `runway`) or put there by a scrub.
pub(super) fn is_written(record: &IVec) -> bool {
    !record.is_empty()
}

fn is_written_or_bad(found: &sled::Result<(IVec, IVec)>) -> bool {
    found.as_ref().map_or(true, |(_, record)| is_written(record))
}

/// See [`TOUCHES`].
fn touch(db: &Db, key: &[u8]) -> Result<(), StoreError> {
    for _ in 0..TOUCHES {
        db.contains_key(key).map_err(read_failed)?;
    }
    Ok(())
}

pub(super) fn read_failed(error: sled::Error) -> StoreError {
    StoreError::Io(in_words(&error))
}

/// Puts a block's parts together again. They must be all of it, in order.
fn join(log: Log, number: u64, records: &[(u16, IVec)]) -> Found {
    let mut body = Vec::with_capacity(records.len() * codec::PART_MAX);
    let mut expected = None;
    for (at, (part, record)) in records.iter().enumerate() {
        let (parts, piece) = codec::open(&log.key(number, *part), record)?;
        let is_next = usize::from(*part) == at && *expected.get_or_insert(parts) == parts;
        if !is_next {
            return Err(Damage::MissingPart);
        }
        body.extend_from_slice(piece);
    }
    if expected.map(usize::from) != Some(records.len()) {
        return Err(Damage::MissingPart);
    }
    Ok(Bytes::from(body))
}

/// Blocks in order, each put together from its parts. An unreadable page ends it with an error.
pub(super) struct Scan {
    log: Log,
    records: sled::Iter,
    /// The record that showed that the block before it was complete.
    next: Option<(u64, u16, IVec)>,
    db: Db,
}

impl Iterator for Scan {
    type Item = Result<(u64, Found), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (number, part, record) = match self.next.take() {
            Some(record) => record,
            None => match self.record()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            },
        };
        let mut records = vec![(part, record)];
        while let Some(following) = self.record() {
            match following {
                Ok((same, part, record)) if same == number => records.push((part, record)),
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok((number, join(self.log, number, &records))))
    }
}

impl Scan {
    fn record(&mut self) -> Option<Result<(u64, u16, IVec), StoreError>> {
        loop {
            let (key, record) = match self.records.next()? {
                Ok(found) => found,
                Err(error) => return Some(Err(read_failed(error))),
            };
            if is_written(&record) {
                let (number, part) = codec::parse_key(&key).unwrap_or((u64::MAX, u16::MAX));
                return Some(touch(&self.db, &key).map(|()| (number, part, record)));
            }
        }
    }
}
