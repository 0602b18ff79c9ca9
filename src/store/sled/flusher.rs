//! Watches sled's flusher thread, which reclaims space and dies silently.

use std::{collections::HashSet, fs, path::PathBuf, sync::Mutex, thread, time::Duration};

/// The name sled gives it.
const NAME: &str = "log flusher";

const TASKS: &str = "/proc/self/task";

/// A thread names itself shortly after it was made: look this often, a millisecond apart.
const LOOKS: usize = 100;

/// Only one database is opened at a time, so that the thread that is new afterwards is its own:
/// there may be several stores in one process (tests).
static OPENING: Mutex<()> = Mutex::new(());

/// The flusher of one database.
#[derive(Debug)]
pub(super) struct Flusher {
    /// None where the system does not tell about threads; then it counts as alive.
    task: Option<PathBuf>,
}

impl Flusher {
    /// Opens a database and finds out which flusher belongs to it.
    pub(super) fn find<T>(open: impl FnOnce() -> T) -> (T, Self) {
        let _guard = OPENING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = flushers();
        let opened = open();
        let mut task = None;
        for _ in 0..LOOKS {
            task = flushers().into_iter().find(|task| !before.contains(task));
            if task.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        (opened, Self { task })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.task.as_ref().is_none_or(is_flusher)
    }
}

fn flushers() -> HashSet<PathBuf> {
    let Ok(tasks) = fs::read_dir(TASKS) else { return HashSet::new() };
    tasks.flatten().map(|task| task.path()).filter(is_flusher).collect()
}

fn is_flusher(task: &PathBuf) -> bool {
    fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim_end() == NAME)
}
