//! The store for one machine: two logs in one sled database, written by one thread.
//!
//! ```text
//! data_dir/
//!   format        the version of what is in here, as text
//!   lock          held by the process that uses the directory
//!   store/        sled: db, conf, snap.*, blobs/ (stays empty)
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
//!
//! Threads: `store-write` owns everything that changes (`writer`); `store-read` answers what the
//! shards wait for and `store-page` what people look at (`reader`). `disk` alone knows sled's
//! ways, and why records are small, why we sync ourselves and why removals go one by one.

mod disk;
mod draft;
mod flusher;
mod group;
mod meta;
mod metrics;
mod pace;
mod reader;
mod recovery;
mod retention;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::disk::Os;
use self::{
    disk::{Disk, View},
    flusher::Flusher,
    metrics::StoreMetrics,
    writer::Writer,
};
use crate::{
    clock,
    store::{Health, OpenError, Opened, Settings, Store, history::Extent},
};

/// The version of the directory's layout and of all records.
pub const FORMAT: u32 = 1;

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
    let disk = open_disk(&settings, os)?;
    let path = || settings.data_dir.clone();
    let broken = |error: &dyn std::error::Error| OpenError::Broken {
        path: path(),
        reason: error.to_string(),
    };

    let start = recovery::inspect(&disk, &settings).map_err(|error| broken(&error))?;
    let node = start.meta.node;
    let rows = start.directory.rows();
    let view = disk.view().clone();
    let shared: Shared =
        Arc::new(RwLock::new(Extent::new(start.events.clone(), start.entries.clone())));
    let metrics = StoreMetrics::new();

    let (write_sender, writes) = mpsc::channel(settings.queue.max(1));
    let (read_sender, reads) = mpsc::channel(settings.queue.max(1));
    let (health_sender, health) = watch::channel(Health::default());
    let (feeds_sender, feeds) = oneshot::channel();
    let (closing, closed) = watch::channel(());

    let reader = reader::Reader::new(view, Arc::clone(&shared), &settings, metrics.clone());
    let mut threads =
        reader.spawn(reads, closed, &health_sender).map_err(|error| broken(&error))?;
    let writer = Writer::new(disk, settings.clone(), start, shared, health_sender, metrics);
    let run = move || writer.run(writes, feeds, began, closing);
    let writer = thread::Builder::new().name("store-write".to_owned()).spawn(run);
    threads.push(writer.map_err(|error| broken(&error))?);

    let store = Store { writes: write_sender, reads: read_sender, health, node };
    Ok(Opened { store, rows, feeds: feeds_sender, threads })
}

fn open_disk(settings: &Settings, os: Os) -> Result<Disk, OpenError> {
    let data_dir = &settings.data_dir;
    let unusable = |error: io::Error| OpenError::Unusable {
        path: data_dir.clone(),
        reason: error.to_string(),
    };
    let store_dir = data_dir.join("store");
    make_dir(data_dir).map_err(unusable)?;
    let lock = take_lock(data_dir)?;
    check_format(data_dir, &store_dir)?;
    make_dir(&store_dir).map_err(unusable)?;
    set_aside_torn_snapshots(data_dir, &store_dir).map_err(unusable)?;

    let config = sled::Config::new()
        .path(&store_dir)
        .cache_capacity(settings.cache)
        .flush_every_ms(Some(FLUSH_EVERY_MS));
    // sled asserts what it expects of its files; a damaged one must end in a sentence.
    let open = || panic::catch_unwind(AssertUnwindSafe(|| open_patiently(&config)));
    let (opened, flusher) = Flusher::find(open);
    let broken = |reason: String| OpenError::Broken { path: data_dir.clone(), reason };
    let db = match opened {
        Ok(Ok(db)) => db,
        Ok(Err(error)) if is_locked(&error) => return Err(OpenError::InUse(data_dir.clone())),
        Ok(Err(error)) => return Err(broken(error.to_string())),
        Err(_) => return Err(broken("sled could not make sense of its files".to_owned())),
    };
    let synced =
        [&store_dir.join("blobs"), &store_dir, data_dir].into_iter().try_for_each(sync_dir);
    synced.map_err(unusable)?;
    let view = View::new(db, lock);
    Disk::new(view, flusher, data_dir.clone(), &store_dir, os).map_err(unusable)
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

/// Makes a directory that only we may enter, and makes its name durable.
fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(parent.unwrap_or(Path::new(".")))
}

fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The kernel gives it up when the process dies, however it dies.
fn take_lock(data_dir: &Path) -> Result<File, OpenError> {
    let unusable = |error: io::Error| OpenError::Unusable {
        path: data_dir.to_owned(),
        reason: error.to_string(),
    };
    let path = data_dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(path);
    let lock = lock.map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// Reads the directory's format, or writes ours where the directory is new.
fn check_format(data_dir: &Path, store_dir: &Path) -> Result<(), OpenError> {
    let marker = data_dir.join("format");
    let path = || data_dir.to_owned();
    let unusable =
        |error: io::Error| OpenError::Unusable { path: path(), reason: error.to_string() };
    let text = match fs::read_to_string(&marker) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !store_dir.exists() => {
            return write_format(data_dir, &marker).map_err(unusable);
        }
        Err(error) => {
            let reason = format!("its file `format` cannot be read: {error}");
            return Err(OpenError::Broken { path: path(), reason });
        }
    };
    match text.trim().parse::<u32>() {
        Ok(FORMAT) => Ok(()),
        Ok(found) if found > FORMAT => {
            Err(OpenError::Newer { path: path(), found, supported: FORMAT })
        }
        _ => {
            let reason = "its file `format` holds no version".to_owned();
            Err(OpenError::Broken { path: path(), reason })
        }
    }
}

/// Whole or not at all: written beside, then renamed.
fn write_format(data_dir: &Path, marker: &Path) -> io::Result<()> {
    let beside = data_dir.join("format.new");
    let mut file = File::create(&beside)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    fs::rename(&beside, marker)?;
    sync_dir(data_dir)
}

/// A snapshot that was being written when the process died makes sled refuse to open. It is only a
/// shortcut through the log, so nothing is lost without it; it is kept to be looked at.
fn set_aside_torn_snapshots(data_dir: &Path, store_dir: &Path) -> io::Result<()> {
    let mut torn: Vec<PathBuf> = Vec::new();
    for file in fs::read_dir(store_dir)? {
        let file = file?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            torn.push(file.path());
        }
    }
    if torn.is_empty() {
        return Ok(());
    }
    let aside = data_dir.join("set-aside");
    make_dir(&aside)?;
    for path in torn {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kept = aside.join(format!("{name}.{}", clock::wall_ms()));
        fs::rename(&path, &kept)?;
        tracing::warn!(file = %kept.display(), "set aside a half-written snapshot");
    }
    sync_dir(store_dir)
}
