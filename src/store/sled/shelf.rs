//! The directory that a gateway's backups stand in, side by side: what is removed from it, and what
//! it says of the last one. It belongs to one gateway.
//!
//! Removed are only what a crash left half-made, and the oldest of the complete ones whose name is a
//! time. What somebody named, and a directory that a gateway was started on, stay.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{data_dir, manifest};
use crate::{clock::Millis, store::backup::is_named_by_time};

/// Where a copy grows, and what is being removed: under a name that is nobody's backup.
pub(super) fn partial(shelf: &Path, name: &str) -> PathBuf {
    shelf.join(format!(".{name}.partial"))
}

/// Removes what earlier processes left of copies, whatever they were to be called.
pub(super) fn clear_partials(shelf: &Path) -> io::Result<()> {
    for entry in fs::read_dir(shelf)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_partial =
            name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(".partial"));
        if is_partial && entry.file_type()?.is_dir() && !is_in_use(&entry.path()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a process writes it: two gateways should not share a shelf, and some will.
fn is_in_use(partial: &Path) -> bool {
    File::open(partial.join(data_dir::LOCK))
        .is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Removes the oldest complete ones that are named by their time, until so many are left. Gives
/// their names, the oldest first. A crash in the middle leaves no half of one under its name.
pub(super) fn thin_out(shelf: &Path, keep: usize) -> io::Result<Vec<String>> {
    let mut names: Vec<_> =
        complete(shelf)?.into_iter().filter(|name| is_named_by_time(name)).collect();
    names.sort_unstable();
    names.truncate(names.len().saturating_sub(keep));
    for name in &names {
        let doomed = partial(shelf, name);
        fs::rename(shelf.join(name), &doomed)?;
        fs::remove_dir_all(&doomed)?;
    }
    Ok(names)
}

/// The time of the newest complete backup; none where there is none, or the shelf cannot be read.
pub fn newest_backup(shelf: &Path) -> Option<Millis> {
    let names = complete(shelf).ok()?;
    names.iter().filter_map(|name| manifest::made_at(&shelf.join(name))).max()
}

/// The names of what is a backup.
fn complete(shelf: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(shelf)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_one = entry.file_type()?.is_dir() && entry.path().join(manifest::FILE).is_file();
        if is_one && !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}
