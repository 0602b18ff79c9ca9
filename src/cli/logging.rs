//! Structured logs to stderr that never hold the gateway up.
//!
//! Lines go through a bounded queue to a thread that writes them. When whoever reads them is too
//! slow (a full pipe, a full disk) the queue fills and further lines are dropped and counted in
//! `senderz_log_lines_dropped_total`; when stderr is closed they go nowhere. Neither is ever an
//! error for the code that logs.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use ::metrics::Counter;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    clock,
    config::{Log, LogFormat},
    metrics::LOG_LINES_DROPPED,
};

/// Lines waiting to be written.
const QUEUE: usize = 8192;
/// How often the writer looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// At the end, how long lines that still wait may take.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Keeps logging going; its drop writes what waits.
#[derive(Debug)]
pub(super) struct Logging {
    ending: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
    level: Relevel,
}

/// Puts another `log.level` into force.
struct Relevel(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl std::fmt::Debug for Relevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Relevel")
    }
}

impl Logging {
    /// From now on, lines of this level and above.
    pub(super) fn set_level(&self, log: &Log) {
        (self.level.0)(filter(log));
    }
}

fn filter(log: &Log) -> EnvFilter {
    EnvFilter::try_new(&log.level).expect("the configuration has checked it")
}

/// Starts logging for the process. Where something else already does (a test), it stays.
pub(super) fn start(log: &Log) -> Logging {
    let (lines, ending, writer) = lossy(io::stderr(), QUEUE);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(log))
        .with_writer(lines)
        .with_ansi(false)
        // It would use eprintln!, which panics where stderr is closed.
        .log_internal_errors(false);
    // A handle whose subscriber is gone changes nothing, and nothing would be seen of it.
    let (started, level): (_, Box<dyn Fn(EnvFilter) + Send + Sync>) = match log.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |filter| drop(handle.reload(filter))))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            (builder.try_init(), Box::new(move |filter| drop(handle.reload(filter))))
        }
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
    Logging { ending, writer: Some(writer), level: Relevel(level) }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.ending.store(true, Relaxed);
        if let Some(writer) = self.writer.take() {
            // A reader that takes nothing must not keep the process alive.
            let since = clock::instant();
            while !writer.is_finished() && since.elapsed() < LAST_LINES {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// Hands lines to the writer's thread.
#[derive(Clone, Debug)]
struct Lines {
    queue: SyncSender<Vec<u8>>,
    dropped: Counter,
}

fn lossy(
    out: impl Write + Send + 'static,
    capacity: usize,
) -> (Lines, Arc<AtomicBool>, JoinHandle<()>) {
    let (queue, lines) = sync_channel(capacity);
    let ending = Arc::new(AtomicBool::new(false));
    let writer = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn({
            let ending = Arc::clone(&ending);
            move || write_all(&lines, out, &ending)
        })
        .expect("a process that cannot start a thread cannot run a gateway");
    let dropped = ::metrics::counter!(LOG_LINES_DROPPED);
    (Lines { queue, dropped }, ending, writer)
}

fn write_all(lines: &Receiver<Vec<u8>>, mut out: impl Write, ending: &AtomicBool) {
    loop {
        match lines.recv_timeout(LOOK_EVERY) {
            // A closed stderr is nobody's problem but its reader's.
            Ok(line) => drop(out.write_all(&line)),
            Err(RecvTimeoutError::Timeout) if !ending.load(Relaxed) => {}
            Err(_) => return,
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

impl Write for &Lines {
    /// The subscriber writes each line with one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(line.to_vec()).is_err() {
            self.dropped.increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that takes nothing until it is let go.
    struct Stuck(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_never_time() {
        let (release, held) = mpsc::channel();
        let (sink, written) = mpsc::channel();
        let (lines, ending, writer) = lossy(Stuck(held, sink), 4);
        let since = clock::instant();
        for number in 0..1000 {
            (&lines).write_all(format!("line {number}").as_bytes()).unwrap();
        }
        assert!(since.elapsed() < Duration::from_secs(5));
        ending.store(true, Relaxed);
        drop(release);
        writer.join().unwrap();
        let written: Vec<_> = written.try_iter().collect();
        assert!((4..=5).contains(&written.len()), "queue and one under way: {}", written.len());
        assert_eq!(written[0], b"line 0");
    }
}
