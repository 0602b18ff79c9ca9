//! The store for one machine: two logs in one sled database, written by one thread.
//!
//! ```text
//! data_dir/
//!   format        the version of what is in here, as text
//!   lock          held by the process that uses the directory
//!   mark          how far history has come, so that a loss is noticed
//!   loss          what a start found missing; no other one opens the store
//!   accept-loss   made by the operator: go on with what is left
//!   store/        sled: db, conf, snap.*, blobs/ (stays empty)
//!   index/        where pages find what they show; can be removed while no store is open
//!   set-aside/    snapshots that a crash left half written
//! ```
//!
//! | key | value |
//! |---|---|
//! | `10` | `meta`: next block numbers, low watermark, bounds of what is kept |
//! | `20` row key, part | directory rows, each cut into parts |
//! | `30` block, part | attempt log |
//! | `40` block, part | event log |
//! | `50` block, part | idempotency keys |
//! | `60` key | quarantined records, as they were found |
//! | `2f` `3f` `4f` | fences: empty (see `runway`) |
//! | `70` number | filling, while a scrub is under way |
//!
//! A block whose record is empty has not been written yet. (A scrub leaves empty records in other
//! places too, where a crash ends it; nobody reads them.)
//!
//! Threads: `store-write` owns everything that changes (`writer`); `store-read` answers what the
//! shards wait for and `store-page` what people look at (`reader`), which `store-index` makes easy
//! to find (`index`). `disk` alone knows sled's
//! ways, and why records are small, why we sync ourselves and why removals go one by one.

mod backup;
mod data_dir;
mod disk;
mod draft;
mod flusher;
mod group;
mod index;
mod manifest;
mod mark;
mod meta;
mod metrics;
mod pace;
mod pages;
mod quiet;
mod reader;
mod recovery;
mod retention;
mod room;
mod rows;
mod runway;
mod shelf;
#[cfg(test)]
mod tests;
mod writer;
mod writes;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::disk::Os;
pub use self::{
    data_dir::check,
    manifest::{NotVerified, Verified, verify_backup},
    shelf::newest_backup,
};
use self::{
    disk::{Disk, View, in_words},
    flusher::Flusher,
    index::Index,
    mark::MarkFile,
    metrics::StoreMetrics,
    recovery::RecoveryError,
    writer::Writer,
};
use crate::{
    clock,
    store::{Health, OpenError, Opened, Settings, Store, history::Extent},
};

/// The version of the directory's layout and of all records. From 4 on an event may carry a trace,
/// and events may be erased.
pub const FORMAT: u32 = 4;

/// The oldest version that is read. What it wrote stays as it is; the directory is of this version
/// from the first start on, so that an older one does not take what it cannot read for damage.
const OLDEST_FORMAT: u32 = 3;

/// sled writes its file in segments, and what it has of one at each flush: with its own size of
/// half a mebibyte nearly every commit under load was written in two pieces.
const SEGMENT: usize = 4 << 20;

/// How often sled's flusher runs: it reclaims space for up to half of the time.
const FLUSH_EVERY_MS: u64 = 250;

/// How long to wait for sled's lock, and how long between looks.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_STEP: Duration = Duration::from_millis(10);

/// What the threads share beside the database.
type Shared = Arc<RwLock<Extent>>;

/// Opens the store in `settings.data_dir`, making it where it is missing. Blocks: it reads the
/// directory's rows and the idempotency keys, but no event.
pub fn open(settings: Settings) -> Result<Opened, OpenError> {
    open_with(settings, Os::default())
}

/// Opens the store on an operating system that tests can make fail.
pub(crate) fn open_with(settings: Settings, os: Os) -> Result<Opened, OpenError> {
    let began = clock::instant();
    let (mut disk, mut mark) = open_disk(&settings, os)?;
    let path = || settings.data_dir.clone();
    let broken = |error: &dyn std::error::Error| OpenError::Broken {
        path: path(),
        reason: error.to_string(),
    };

    let mut start = match quiet::catch(|| recovery::inspect(&disk, &settings, &mark)) {
        Ok(Ok(start)) => start,
        Ok(Err(error @ RecoveryError::Write(_))) => return Err(broken(&error)),
        Ok(Err(RecoveryError::Lost(loss))) => {
            mark.tell(&loss);
            return Err(loss.of(&settings.data_dir));
        }
        Ok(Err(error)) => return Err(damaged(path(), error.to_string())),
        Err(panic) => return Err(senseless(path(), &panic)),
    };
    mark.settle(&mut disk, &mut start).map_err(|error| broken(&error))?;
    let node = start.meta.node;
    let rows = start.directory.rows();
    let view = disk.view().clone();
    let shared: Shared =
        Arc::new(RwLock::new(Extent::new(start.events.clone(), start.entries.clone())));
    let recorded = shared.read().expect("nobody else has it yet").recorded();
    let metrics = StoreMetrics::new();

    let (write_sender, writes) = mpsc::channel(settings.queue.max(1));
    let (read_sender, reads) = mpsc::channel(settings.queue.max(1));
    let (health_sender, health) = watch::channel(Health::default());
    let (feeds_sender, feeds) = oneshot::channel();
    let (closing, closed) = watch::channel(());

    let index = settings.data_dir.join(data_dir::INDEX);
    let index = Index::open(index, node, settings.max_indexed, &start.events, &start.entries);
    let reader = reader::Reader::new(view, Arc::clone(&shared), index, &settings, metrics.clone());
    let mut threads =
        reader.spawn(reads, closed, &health_sender).map_err(|error| broken(&error))?;
    let writer = Writer::new(disk, mark, settings.clone(), start, shared, health_sender, metrics);
    let run = move || writer.run(writes, feeds, began, closing);
    let writer = thread::Builder::new().name("store-write".to_owned()).spawn(run);
    threads.push(writer.map_err(|error| broken(&error))?);

    let store = Store { writes: write_sender, reads: read_sender, health, recorded, node };
    Ok(Opened { store, rows, feeds: feeds_sender, threads })
}

fn open_disk(settings: &Settings, os: Os) -> Result<(Disk, MarkFile), OpenError> {
    let data_dir = &settings.data_dir;
    let unusable = |error| data_dir::unusable(data_dir, error);
    let store_dir = data_dir.join(data_dir::STORE);
    let (lock, mark) = data_dir::prepare(data_dir)?;

    let config =
        sled_config(&store_dir).cache_capacity(settings.cache).flush_every_ms(Some(FLUSH_EVERY_MS));
    let (opened, flusher) = Flusher::find(|| quiet::catch(|| open_patiently(&config)));
    let db = match opened {
        Ok(Ok(db)) => db,
        Ok(Err(error)) if is_locked(&error) => return Err(OpenError::InUse(data_dir.clone())),
        Ok(Err(error @ sled::Error::Corruption { .. })) => {
            return Err(damaged(data_dir.clone(), in_words(&error)));
        }
        Ok(Err(error)) => {
            return Err(OpenError::Broken { path: data_dir.clone(), reason: in_words(&error) });
        }
        Err(panic) => return Err(senseless(data_dir.clone(), &panic)),
    };
    // sled does not sync its settings: a power cut could leave zeroes, which it does not read.
    let synced = [&store_dir.join("conf"), &store_dir.join("blobs"), &store_dir, data_dir]
        .into_iter()
        .try_for_each(data_dir::sync);
    synced.map_err(unusable)?;
    let view = View::new(db, lock);
    let disk = Disk::new(view, flusher, data_dir.clone(), &store_dir, os).map_err(unusable)?;
    Ok((disk, mark))
}

/// sled refuses a database that was made with another size of segments.
fn sled_config(store_dir: &Path) -> sled::Config {
    sled::Config::new().path(store_dir).segment_size(SEGMENT)
}

fn damaged(path: PathBuf, reason: String) -> OpenError {
    OpenError::Damaged { path, reason }
}

/// sled asserted something that its files do not hold.
fn senseless(path: PathBuf, panic: &str) -> OpenError {
    tracing::debug!(panic, "sled gave up on its files");
    damaged(path, "its files do not fit together".to_owned())
}

/// Our own lock is free, so whoever holds sled's is a store of this process that was closed just
/// now: sled's threads let go of the file a moment after the database.
fn open_patiently(config: &sled::Config) -> sled::Result<sled::Db> {
    let mut left = LOCK_PATIENCE;
    loop {
        match config.open() {
            Err(error) if is_locked(&error) && !left.is_zero() => {
                thread::sleep(LOCK_STEP);
                left = left.saturating_sub(LOCK_STEP);
            }
            other => return other,
        }
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("acquire lock"))
}
