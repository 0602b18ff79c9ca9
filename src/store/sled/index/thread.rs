//! The thread that keeps the index up to the present.

use std::{sync::Mutex, time::Duration};

use tokio::sync::watch;

use super::{Index, Step};
use crate::{clock::instant, store::history::Logs};

/// How often it looks for what is new.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Blocks taken in before others may have the index: a millisecond or two.
const STEP: usize = 64;

/// Takes in what is written until the store has closed. Where there is much of it, after a crash,
/// every second moment is left to others.
pub(in crate::store::sled) fn keep(
    index: &Mutex<Index>,
    logs: &mut impl Logs,
    is_recovered: impl Fn() -> bool,
    mut closed: watch::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a timer needs nothing from the system");
    let lock = || index.lock().expect("no holder of this lock panics");
    loop {
        let began = instant();
        // A start needs the disk for itself.
        let step = if is_recovered() { lock().advance(logs, STEP) } else { Step::Done };
        let work = lock().begin();
        if let Some(work) = work {
            let written = work.write();
            lock().finish(written, logs);
        }
        let pause = if step == Step::More { began.elapsed() } else { LOOK_EVERY };
        let is_closed = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = closed.changed() => true,
                () = tokio::time::sleep(pause) => false,
            }
        });
        if is_closed {
            lock().close();
            return;
        }
    }
}
