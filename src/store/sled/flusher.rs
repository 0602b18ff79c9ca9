//! Watches sled's flusher thread, which reclaims space and dies silently.

use std::{collections::HashSet, fs, io, path::Path, sync::Mutex, thread, time::Duration};

use rustix::io::Errno;

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
    task: Option<u32>,
}

impl Flusher {
    /// Opens a database and finds out which flusher belongs to it.
    pub(super) fn find<T>(open: impl FnOnce() -> T) -> (T, Self) {
        let _guard = OPENING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = flushers();
        let opened = open();
        let mut task = None;
        for _ in 0..LOOKS {
            // A thread that the flusher starts bears its name until it takes its own; the flusher
            // is the elder.
            task = flushers().difference(&before).min().copied();
            if task.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        (opened, Self { task })
    }

    pub(super) fn is_alive(&self) -> bool {
        let Some(task) = self.task else { return true };
        match name_of(task) {
            Ok(name) => name == NAME,
            // Whoever cannot look (no file descriptor is free) has not seen it gone.
            Err(error) => !is_gone(&error),
        }
    }
}

/// The numbers of all threads of that name.
fn flushers() -> HashSet<u32> {
    let Ok(tasks) = fs::read_dir(TASKS) else { return HashSet::new() };
    let numbers = tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok());
    numbers.filter(|task| is_flusher(*task)).collect()
}

fn is_flusher(task: u32) -> bool {
    name_of(task).is_ok_and(|name| name == NAME)
}

fn name_of(task: u32) -> io::Result<String> {
    let path = Path::new(TASKS).join(task.to_string()).join("comm");
    Ok(fs::read_to_string(path)?.trim_end().to_owned())
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::SRCH].map(Some);
    gone.contains(&Errno::from_io_error(error))
}
