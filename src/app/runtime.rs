//! The runtime of the listener, ingest and the API.
//!
//! Its workers are tokio's own threads. tokio ends a task that panics; a worker that panics outside
//! of every task (its event queue fails) is not missed by it: in a release build the thread goes
//! back to the pool, and the connections that it held, maybe the listener itself, wait for ever
//! while readiness stays. So each worker is watched over. A thread of this runtime that parks is a
//! worker; a worker's thread ends with the runtime, or [`IDLE`] after its worker panicked.
//!
//! (A thread that gives its worker away, as `block_in_place` does, would count as one that
//! panicked; `clippy.toml` bans that call.)

use std::{cell::RefCell, io, time::Duration};

use tokio::runtime::{Builder, Runtime};

use crate::shutdown::{Alarm, Vigil};

/// How long a thread without work stays, and so a panic of a worker goes unheard.
const IDLE: Duration = Duration::from_millis(500);

thread_local! {
    /// Dropped with the thread, which raises the alarm. After the runtime's own end nobody hears it.
    static WORKER: RefCell<Option<Vigil>> = const { RefCell::new(None) };
}

/// A runtime for [`Gateway::start`](super::Gateway::start), with the same alarm.
pub fn runtime(alarm: &Alarm) -> io::Result<Runtime> {
    let alarm = alarm.clone();
    let watch = move || {
        WORKER.with_borrow_mut(|vigil| {
            vigil.get_or_insert_with(|| alarm.watch_over("a thread of the API"));
        });
    };
    Builder::new_multi_thread()
        .enable_all()
        .thread_name("api")
        .thread_keep_alive(IDLE)
        .on_thread_park(watch)
        .build()
}
