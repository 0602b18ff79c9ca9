//! The data directory around sled's own: made where it is missing, locked, its format known.
//!
//! [`check`] asks the same without changing anything, for whoever wants to know before a start.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, Advice, FsWord, PROC_SUPER_MAGIC},
    io::Errno,
};

use super::{FORMAT, OLDEST_FORMAT, mark::MarkFile};
use crate::{clock, store::OpenError};

/// sled's directory in ours.
pub(super) const STORE: &str = "store";
const LOCK: &str = "lock";
const FORMAT_FILE: &str = "format";

/// Makes the directory ready for sled. It is ours for as long as the lock lives.
pub(super) fn prepare(data_dir: &Path) -> Result<(File, MarkFile), OpenError> {
    let unusable = |error| unusable(data_dir, error);
    make_dir(data_dir).map_err(unusable)?;
    let lock = File::options().create(true).truncate(false).write(true).open(data_dir.join(LOCK));
    let lock = take(lock.map_err(unusable)?, data_dir)?;
    let found = format_of(data_dir)?;
    if found.is_none() {
        MarkFile::make(data_dir).map_err(unusable)?;
    }
    if found != Some(FORMAT) {
        write_whole(data_dir, FORMAT_FILE, format!("{FORMAT}\n").as_bytes()).map_err(unusable)?;
    }
    let mark = MarkFile::open(data_dir)?;
    let store_dir = data_dir.join(STORE);
    make_dir(&store_dir).map_err(unusable)?;
    sync_log(&store_dir).map_err(unusable)?;
    set_aside_torn_snapshots(data_dir, &store_dir).map_err(unusable)?;
    Ok((lock, mark))
}

/// Whether a store would open here, as far as can be said without opening one. Makes nothing, and
/// holds the lock no longer than it takes to see that it is free.
pub fn check(data_dir: &Path) -> Result<(), OpenError> {
    let unusable = |error| unusable(data_dir, error);
    match fs::symlink_metadata(data_dir) {
        Ok(_) => can_be_used(data_dir, Making::File).map_err(unusable)?,
        Err(error) if is_missing(&error) => return can_be_made(data_dir).map_err(unusable),
        Err(error) => return Err(unusable(error)),
    }
    match File::options().write(true).open(data_dir.join(LOCK)) {
        Ok(lock) => drop(take(lock, data_dir)?),
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(unusable(error)),
    }
    if format_of(data_dir)?.is_none() {
        return Ok(());
    }
    let store_dir = data_dir.join(STORE);
    if !fs::symlink_metadata(&store_dir).is_err_and(|error| is_missing(&error)) {
        can_be_used(&store_dir, Making::File).map_err(unusable)?;
        let log = access(&store_dir.join("db"), Access::READ_OK | Access::WRITE_OK);
        match log {
            Err(error) if is_missing(&error) => {}
            other => other.map_err(unusable)?,
        }
    }
    MarkFile::check(data_dir)
}

pub(super) fn unusable(data_dir: &Path, error: io::Error) -> OpenError {
    OpenError::Unusable { path: data_dir.to_owned(), reason: error.to_string() }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Whether the directory, and those above it that are missing too, could be made. The errors are
/// those that making them would give.
fn can_be_made(path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut above = Path::new(".");
    for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        match fs::symlink_metadata(ancestor) {
            Ok(_) => {
                above = ancestor;
                break;
            }
            Err(error) if is_missing(&error) => missing.extend(ancestor.file_name()),
            Err(error) => return Err(error),
        }
    }
    if !above.is_dir() {
        // A link that leads nowhere is in the way of the directory that would be made.
        return Err(Errno::EXIST.into());
    }
    for name in missing {
        match fs::symlink_metadata(above.join(name)) {
            // Which names it takes (how long they may be), the file system says itself.
            Err(error) if !is_missing(&error) => return Err(error),
            _ => {}
        }
    }
    can_be_used(above, Making::Directory)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Making {
    Directory,
    File,
}

/// File systems in which the kernel shows its own state (linux/magic.h). Nothing can be made
/// there, and the permissions do not say so.
const SHOW_ONLY: [FsWord; 4] = [
    0x6265_6572, // sysfs
    0x1cd1,      // devpts
    0x6462_6720, // debugfs
    0x7363_6673, // securityfs
];

fn can_be_used(dir: &Path, making: Making) -> io::Result<()> {
    if !dir.is_dir() {
        // One that cannot even be looked at says why.
        return Err(fs::symlink_metadata(dir).err().unwrap_or(Errno::NOTDIR.into()));
    }
    let kind = rustix::fs::statfs(dir)?.f_type;
    // Every name but those of processes is missing in it, for making as for reading.
    if kind == PROC_SUPER_MAGIC {
        return Err(Errno::NOENT.into());
    }
    access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
    match making {
        _ if !SHOW_ONLY.contains(&kind) => Ok(()),
        Making::Directory => Err(Errno::PERM.into()),
        Making::File => Err(Errno::ACCESS.into()),
    }
}

fn access(path: &Path, rights: Access) -> io::Result<()> {
    Ok(rustix::fs::access(path, rights)?)
}

/// The kernel gives it up when the process dies, however it dies.
fn take(lock: File, data_dir: &Path) -> Result<File, OpenError> {
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(unusable(data_dir, error)),
    }
}

/// The format of what is in the directory, none where nobody used it before; an error where it was
/// used by what we do not know.
fn format_of(data_dir: &Path) -> Result<Option<u32>, OpenError> {
    let path = || data_dir.to_owned();
    let text = match fs::read_to_string(data_dir.join(FORMAT_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_untouched(data_dir) => {
            return Ok(None);
        }
        Err(error) => {
            let reason = format!("its file `format` cannot be read: {error}");
            return Err(OpenError::Damaged { path: path(), reason });
        }
    };
    match text.trim().parse::<u32>() {
        Ok(found @ OLDEST_FORMAT..=FORMAT) => Ok(Some(found)),
        Ok(found) if found > FORMAT => {
            Err(OpenError::Newer { path: path(), found, supported: FORMAT })
        }
        Ok(found) => Err(OpenError::Older { path: path(), found, supported: FORMAT }),
        Err(_) => {
            let reason = "its file `format` holds no version".to_owned();
            Err(OpenError::Damaged { path: path(), reason })
        }
    }
}

/// Whether no start has come as far as to make a store here.
fn is_untouched(data_dir: &Path) -> bool {
    !data_dir.join(STORE).exists() && MarkFile::is_blank(data_dir)
}

/// Whole or not at all: written beside, then renamed.
pub(super) fn write_whole(data_dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let beside = data_dir.join(format!("{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, data_dir.join(name))?;
    sync(data_dir)
}

/// What a process that was killed had written is still in the kernel's hands alone. The start takes
/// it for history: it tells the mark, and answers idempotency keys from it. So it must be durable
/// before anything is concluded from it.
///
/// It must also be what is on the disk. Of what the kernel failed to write it tells once; then it
/// takes its own copy for clean, shows that to every reader, and no later sync complains. A start
/// that believed it would append to a log with a hole in it, and a power cut would end the log at
/// the hole, with all that was acknowledged since. So after the sync, which leaves nothing unsaid,
/// the kernel is made to forget its copy: what is read from here on comes from the disk.
fn sync_log(store_dir: &Path) -> io::Result<()> {
    let log = match File::open(store_dir.join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        log => log?,
    };
    log.sync_all()?;
    Ok(rustix::fs::fadvise(&log, 0, None, Advice::DontNeed)?)
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
    sync(store_dir)
}

/// Makes a directory that only we may enter, and makes the name of everything that it had to make
/// durable.
fn make_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if path.symlink_metadata().is_ok() {
        return Err(Errno::NOTDIR.into());
    }
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.is_dir()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    missing.into_iter().filter_map(Path::parent).try_for_each(|above| {
        sync(if above.as_os_str().is_empty() { Path::new(".") } else { above })
    })
}

/// A file or a directory: what is in it.
pub(super) fn sync(path: impl AsRef<Path>) -> io::Result<()> {
    File::open(path)?.sync_all()
}
