//! Backups: the words for a copy of a running store, and how it is asked for.
//!
//! A copy holds what was durable at one instant, its **cut**: every event that was acknowledged before
//! it was asked for, the attempts recorded by then, and the directory as it was. It is a data directory
//! that a gateway starts on, and beside it a list of its files with their checksums.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;

use super::{Store, StoreError, Write};
use crate::clock::{Millis, rfc3339};

/// What is to be copied, and where to.
#[derive(Clone, Debug)]
pub struct BackupOrder {
    /// A directory that is not there yet. It appears once it is complete.
    pub target: PathBuf,
    /// Files of the data directory that stand beside the store and go with it, where they are there.
    pub files: Vec<&'static str>,
    /// Bytes a second.
    pub rate: u64,
    /// How many of those that are [named by their time](named_by) stay beside it; 0 means all.
    pub keep: usize,
    pub progress: Arc<BackupProgress>,
}

/// How far a copy is; written by whoever makes it.
#[derive(Debug, Default)]
pub struct BackupProgress {
    copied: AtomicU64,
    total: AtomicU64,
}

impl BackupProgress {
    pub(super) fn expect(&self, blocks: u64) {
        self.total.store(blocks, Ordering::Relaxed);
    }

    pub(super) fn copied(&self, blocks: u64) {
        self.copied.fetch_add(blocks, Ordering::Relaxed);
    }

    /// The share of the log that is copied, 0.0 to 1.0.
    pub fn share(&self) -> f64 {
        let total = self.total.load(Ordering::Relaxed);
        match total {
            0 => 0.0,
            total => (self.copied.load(Ordering::Relaxed) as f64 / total as f64).min(1.0),
        }
    }
}

/// What a complete copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// On disk.
    pub bytes: u64,
    /// The instant of the cut.
    pub at: Millis,
    /// The names of the older ones that it took the places of.
    pub replaced: Vec<String>,
}

/// The name of a copy that nobody names: its time, without what a file's name had better not have.
/// Later ones sort behind.
pub fn named_by(at: Millis) -> String {
    rfc3339(at).replace([':', '.'], "-")
}

/// Whether a name is of this kind. What somebody gave a name of their own is theirs to remove.
pub(super) fn is_named_by_time(name: &str) -> bool {
    let pattern = named_by(0);
    name.len() == pattern.len()
        && name.bytes().zip(pattern.bytes()).all(|(is, like)| match like {
            b'0'..=b'9' => is.is_ascii_digit(),
            sign => is == sign,
        })
}

/// Why there is no copy. What a crash left of one is removed by the next one.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{0} is there already; a backup is never written over anything")]
    Exists(PathBuf),
    #[error("another backup is being made")]
    Busy,
    #[error("the disk ran full, and retention could wait no longer; nothing was kept")]
    Full,
    #[error("the gateway is stopping")]
    Stopping,
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Open(#[from] super::OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the copy could not be written: {0}")]
    Write(String),
    #[error("this store cannot be copied")]
    Unsupported,
}

impl Store {
    /// Makes a copy of the store as it is now, beside everything else that goes on, and answers when
    /// it is complete.
    pub async fn back_up(&self, order: BackupOrder) -> Result<BackedUp, BackupError> {
        let (reply, answer) = oneshot::channel();
        let write = Write::Backup { order, reply };
        self.writes.send(write).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}
