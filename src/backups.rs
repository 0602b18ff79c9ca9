//! Backups: copies of the running store, made one at a time into directories of their own.
//!
//! A copy that has begun is made whether its asker still waits or not. What is known of them is in
//! memory only: after a restart the directories say what there is, and one that is there is complete.
//! Bounded: [`KEPT`], and on disk by `backup.keep`.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    clock::{Millis, wall_ms},
    config,
    directory::KEY_FILES,
    metrics,
    store::{BackedUp, BackupError, BackupOrder, BackupProgress, Store, named_by},
};

/// How many of them can still be looked at.
pub const KEPT: usize = 100;
/// The longest name, in characters.
pub const LONGEST_NAME: usize = 64;

/// What a copy always takes along: which encryption keys its rows need.
const BESIDE: &[&str] = &["encryption.ids"];

#[derive(Clone, Debug)]
pub struct Backup {
    /// Of its directory.
    pub name: String,
    pub path: PathBuf,
    /// Whether the keys that the gateway keeps in its data directory are in it.
    pub with_keys: bool,
    pub began_at: Millis,
    pub ended_at: Option<Millis>,
    pub outcome: Option<Result<BackedUp, String>>,
    progress: Arc<BackupProgress>,
}

impl Backup {
    pub const STATES: [&str; 3] = ["running", "done", "failed"];

    pub fn state(&self) -> &'static str {
        let [running, done, failed] = Self::STATES;
        match &self.outcome {
            None => running,
            Some(Ok(_)) => done,
            Some(Err(_)) => failed,
        }
    }

    /// 0.0 to 1.0.
    pub fn progress(&self) -> f64 {
        if matches!(self.outcome, Some(Ok(_))) { 1.0 } else { self.progress.share() }
    }
}

/// Why none was begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("another backup is being made")]
    Busy,
    #[error("there is a backup of this name, or something else")]
    Exists,
}

/// A cheap handle; copies share what they know.
#[derive(Clone, Debug)]
pub struct Backups {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    settings: config::Backup,
    /// The oldest first.
    made: Mutex<Vec<Backup>>,
}

/// Whether a directory may have this name.
pub fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

impl Backups {
    pub fn new(store: Store, settings: config::Backup) -> Self {
        Self { inner: Arc::new(Inner { store, settings, made: Mutex::default() }) }
    }

    /// Begins one of this name, which [`is_name`], or of its time; at most at so many bytes a second.
    pub fn begin(
        &self,
        name: Option<String>,
        rate: Option<u64>,
        with_keys: bool,
    ) -> Result<Backup, Refusal> {
        let name = name.unwrap_or_else(|| named_by(wall_ms()));
        let path = self.inner.settings.dir.join(&name);
        let mut made = self.made();
        if made.last().is_some_and(|last| last.outcome.is_none()) {
            return Err(Refusal::Busy);
        }
        if path.symlink_metadata().is_ok() {
            return Err(Refusal::Exists);
        }
        // One that failed gives its name away.
        made.retain(|backup| backup.name != name);
        if made.len() >= KEPT {
            made.remove(0);
        }
        let backup = Backup {
            name,
            path: path.clone(),
            with_keys,
            began_at: wall_ms(),
            ended_at: None,
            outcome: None,
            progress: Arc::default(),
        };
        made.push(backup.clone());
        let keys: &[&str] = if with_keys { &KEY_FILES } else { &[] };
        let order = BackupOrder {
            target: path,
            files: [BESIDE, keys].concat(),
            rate: rate.unwrap_or(self.inner.settings.rate),
            keep: self.inner.settings.keep,
            progress: Arc::clone(&backup.progress),
        };
        tokio::spawn(self.clone().make(order, backup.name.clone()));
        Ok(backup)
    }

    async fn make(self, order: BackupOrder, name: String) {
        let path = order.target.display().to_string();
        tracing::info!(backup = name, path, "backup begun");
        let outcome = self.inner.store.back_up(order).await;
        let mut made = self.made();
        match &outcome {
            Ok(BackedUp { bytes, at, replaced }) => {
                metrics::backup_made(*at);
                made.retain(|older| !replaced.contains(&older.name));
                let replaced = replaced.join(", ");
                tracing::info!(backup = name, path, bytes, replaced, "backup done");
            }
            Err(error) => tracing::error!(backup = name, path, %error, "backup failed"),
        }
        let outcome = outcome.map_err(|error: BackupError| error.to_string());
        if let Some(backup) = made.iter_mut().find(|backup| backup.name == name) {
            (backup.ended_at, backup.outcome) = (Some(wall_ms()), Some(outcome));
        }
    }

    pub fn named(&self, name: &str) -> Option<Backup> {
        self.made().iter().find(|backup| backup.name == name).cloned()
    }

    /// Up to `limit` of those begun before, newest first.
    pub fn list(&self, before: Option<Millis>, limit: usize) -> Vec<Backup> {
        let made = self.made();
        let earlier = made.iter().rev();
        let earlier = earlier.filter(|backup| before.is_none_or(|before| backup.began_at < before));
        earlier.take(limit).cloned().collect()
    }

    fn made(&self) -> MutexGuard<'_, Vec<Backup>> {
        self.inner.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in ["a", "20261123T042000Z", "nightly-1.2_x", &"a".repeat(LONGEST_NAME)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "/a", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
