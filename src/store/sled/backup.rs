//! Copies a running store into a directory of its own.
//!
//! The files of a running store cannot be copied one after the other: sled writes meanwhile, and what
//! was copied would be no state that ever was. So the copy is made of the records. The writer makes
//! the **cut** between two commits: the numbers that the logs have reached, and the rows of the
//! directory, which are the only records that change later. From then on a thread of its own copies
//! the blocks below these numbers, which nobody changes (but for erasures, and those may show), and
//! retention waits meanwhile. Where the disk runs full, retention goes on and the copy is given up.
//!
//! The copy is written as a store writes: with its own lock, format, mark, commits and syncs. It grows
//! under a name of its own and gets the one that was asked for in the end, so that whatever bears a
//! backup's name is one.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    LOCK_STEP, data_dir,
    disk::{Disk, Fault, META_KEY, View},
    manifest,
    mark::MarkFile,
    meta::{Meta, Numbers},
    open_disk, shelf,
    writes::Writes,
};
use crate::{
    clock::{Millis, instant, wall_ms},
    store::{
        BackedUp, BackupError, BackupOrder, Settings,
        codec::{Log, RECORD_MAX},
        sled::disk::Os,
    },
};

/// Written in one commit.
const CHUNK: usize = 1 << 20;
/// The copy's page cache: it is only written to.
const CACHE: u64 = 4 << 20;
/// How long sled may take to let go of the copy.
const CLOSING_PATIENCE: Duration = Duration::from_secs(30);
/// The longest that a copy which keeps to its rate sleeps before it looks up.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

pub(super) type BackupReply = oneshot::Sender<Result<BackedUp, BackupError>>;

/// Held for as long as a copy is made.
#[derive(Debug, Default)]
pub(super) struct Hold(AtomicU8);

const GOES_ON: u8 = 0;
const DISK_FULL: u8 = 1;
const STOPPING: u8 = 2;

impl Hold {
    fn check(&self) -> Result<(), BackupError> {
        match self.0.load(Ordering::Acquire) {
            GOES_ON => Ok(()),
            DISK_FULL => Err(BackupError::Full),
            _ => Err(BackupError::Stopping),
        }
    }
}

/// The writer's side: whether a copy is being made.
#[derive(Debug, Default)]
pub(super) struct Backup(Weak<Hold>);

impl Backup {
    /// Whether retention has to wait. Where the disk is full it does not, and the copy is lost.
    pub(super) fn holds(&self, disk_is_full: bool) -> bool {
        let Some(hold) = self.0.upgrade() else { return false };
        if disk_is_full {
            hold.0.store(DISK_FULL, Ordering::Release);
        }
        hold.check().is_ok()
    }

    /// Makes the copy in a thread of its own.
    pub(super) fn begin(&mut self, cut: Cut, order: BackupOrder, reply: BackupReply) {
        if self.0.upgrade().is_some() {
            let _ = reply.send(Err(BackupError::Busy));
            return;
        }
        let hold = Arc::new(Hold::default());
        self.0 = Arc::downgrade(&hold);
        let at = wall_ms();
        let work = move || {
            let copy = Copy { cut, at, order, hold, began: instant(), bytes: 0 };
            // Whoever asked may have gone away; the copy is there all the same.
            let _ = reply.send(copy.make());
        };
        // Without a thread the reply is dropped, and whoever asked hears that.
        if let Err(error) = thread::Builder::new().name("store-backup".to_owned()).spawn(work) {
            tracing::warn!(%error, "a backup's thread could not be started");
        }
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        if let Some(hold) = self.0.upgrade() {
            hold.0.store(STOPPING, Ordering::Release);
        }
    }
}

/// The state that is copied.
pub(super) struct Cut {
    pub(super) view: View,
    /// As it is written into the copy.
    pub(super) meta: Meta,
    /// The directory's records.
    pub(super) rows: Vec<(sled::IVec, sled::IVec)>,
    pub(super) data_dir: PathBuf,
    /// How the store was opened.
    pub(super) settings: Settings,
}

struct Copy {
    cut: Cut,
    /// When that was made.
    at: Millis,
    order: BackupOrder,
    hold: Arc<Hold>,
    began: Instant,
    bytes: u64,
}

impl Copy {
    fn make(mut self) -> Result<BackedUp, BackupError> {
        let target = self.order.target.clone();
        refuse_existing(&target)?;
        let partial = partial(&target)?;
        let made = self.fill(&partial).and_then(|()| {
            wait_until_closed(&partial.join(data_dir::STORE).join("db")).map_err(file(&partial))?;
            self.copy_files(&partial)?;
            let bytes = manifest::write(&partial, self.at).map_err(file(&partial))?;
            self.hold.check()?;
            // Nobody else makes directories of this name, but somebody may have made this one.
            refuse_existing(&target)?;
            fs::rename(&partial, &target).map_err(file(&target))?;
            data_dir::sync(parent(&target)).map_err(file(&target))?;
            let replaced = self.thin_out(parent(&target));
            Ok(BackedUp { bytes, at: self.at, replaced })
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&partial);
        }
        made
    }

    /// The copy is made, whatever comes of the older ones.
    fn thin_out(&self, shelf: &Path) -> Vec<String> {
        if self.order.keep == 0 {
            return Vec::new();
        }
        shelf::thin_out(shelf, self.order.keep).unwrap_or_else(|error| {
            tracing::warn!(%error, shelf = %shelf.display(), "older backups could not be removed");
            Vec::new()
        })
    }

    fn fill(&mut self, partial: &Path) -> Result<(), BackupError> {
        let settings =
            Settings { data_dir: partial.to_owned(), cache: CACHE, ..self.cut.settings.clone() };
        let (mut disk, mut mark): (Disk, MarkFile) = open_disk(&settings, Os::default())?;
        let meta = self.cut.meta;
        let mut next = Numbers { event: meta.kept.event, entry: meta.kept.entry, ..meta.next };
        disk.begin_at(next).map_err(written)?;
        let ranges = [Log::Entries, Log::Events, Log::Idempotency]
            .map(|log| (log, meta.kept_from(log)..meta.next_of(log)));
        self.order.progress.expect(ranges.iter().map(|(_, range)| range.end - range.start).sum());
        for (log, range) in ranges {
            let mut chunk = Chunk::default();
            for number in range {
                self.hold.check()?;
                for (key, record) in self.cut.view.records(log, number)? {
                    chunk.add(&key, &record);
                }
                match log {
                    Log::Events => next.event = number + 1,
                    Log::Entries => next.entry = number + 1,
                    Log::Idempotency => {}
                }
                if chunk.bytes >= CHUNK {
                    disk.make_room(next).map_err(written)?;
                    self.commit(&mut disk, &mut chunk)?;
                }
                self.order.progress.copied(1);
            }
            disk.make_room(next).map_err(written)?;
            self.commit(&mut disk, &mut chunk)?;
        }
        let mut chunk = Chunk::default();
        let mut rest = self.cut.view.quarantined()?;
        rest.append(&mut self.cut.rows);
        for (key, record) in &rest {
            chunk.add(key, record);
            if chunk.bytes >= CHUNK {
                self.commit(&mut disk, &mut chunk)?;
            }
        }
        chunk.add(META_KEY, &meta.encode());
        self.commit(&mut disk, &mut chunk)?;
        mark.advance(&meta);
        Ok(())
    }

    fn commit(&mut self, disk: &mut Disk, chunk: &mut Chunk) -> Result<(), BackupError> {
        let Chunk { writes, bytes } = std::mem::take(chunk);
        disk.commit(writes).map_err(written)?;
        self.bytes += bytes as u64;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.order.rate.max(1) as f64);
        loop {
            self.hold.check()?;
            match due.checked_sub(self.began.elapsed()) {
                None | Some(Duration::ZERO) => return Ok(()),
                Some(early) => thread::sleep(early.min(LONGEST_SLEEP)),
            }
        }
    }

    fn copy_files(&self, partial: &Path) -> Result<(), BackupError> {
        for name in &self.order.files {
            let from = self.cut.data_dir.join(name);
            let content = match fs::read(&from) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read.map_err(file(&from))?,
            };
            let to = partial.join(name);
            let options = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to);
            let written = options.and_then(|mut file| io::Write::write_all(&mut file, &content));
            written.map_err(file(&to))?;
        }
        // It says who uses the directory, and nobody does.
        match fs::remove_file(partial.join(data_dir::LOCK)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file(partial)(error)),
            _ => Ok(()),
        }
    }
}

#[derive(Default)]
struct Chunk {
    writes: Writes,
    bytes: usize,
}

impl Chunk {
    fn add(&mut self, key: &[u8], record: &[u8]) {
        debug_assert!(record.len() <= RECORD_MAX, "it was a record of a store");
        self.writes.insert(key, record);
        self.bytes += key.len() + record.len();
    }
}

fn written(fault: Fault) -> BackupError {
    match std::error::Error::source(&fault) {
        Some(source) => BackupError::Write(format!("{fault}: {source}")),
        None => BackupError::Write(fault.to_string()),
    }
}

fn file(path: &Path) -> impl Fn(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path: path.clone(), source }
}

fn refuse_existing(target: &Path) -> Result<(), BackupError> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file(target)(error)),
        Ok(_) => Err(BackupError::Exists(target.to_owned())),
    }
}

fn parent(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Where the copy grows: beside its place, so that it can be moved there at once. What a crash left of
/// others is gone from there.
fn partial(target: &Path) -> Result<PathBuf, BackupError> {
    let invalid = || file(target)(io::ErrorKind::InvalidFilename.into());
    let name = target.file_name().and_then(|name| name.to_str()).ok_or_else(invalid)?;
    let shelf = parent(target);
    DirBuilder::new().recursive(true).mode(0o700).create(shelf).map_err(file(shelf))?;
    shelf::clear_partials(shelf).map_err(file(shelf))?;
    Ok(shelf::partial(shelf, name))
}

/// sled cuts its file in threads that outlive the database for a moment, and lets go of the file's
/// lock only then. What is listed before would not be what is there.
fn wait_until_closed(db: &Path) -> io::Result<()> {
    let db = File::open(db)?;
    let mut left = CLOSING_PATIENCE;
    loop {
        match db.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if left.is_zero() => {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_STEP),
        }
        left = left.saturating_sub(LOCK_STEP);
    }
}
