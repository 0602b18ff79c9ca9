//! The receiver's part: it hangs, answers, or asks for a retry at a time of its own choice and
//! sees how exactly that is kept.
//!
//! Each of a million deliveries is asked to come back after a number of whole seconds (429 with
//! `Retry-After`), different from one to the next: so they fall due over a stretch of time instead
//! of all at the rate at which the gateway made the first attempts. What is measured is whether an
//! attempt comes when it should, not how many the gateway can make.
//!
//! A retry's due time counts from the moment before the first answer is sent, its arrival is when
//! the second request has been read. So the error is the receiver's view: with the time until the
//! gateway reads the first answer, reads the payload back from its log and sends the second request,
//! and with what the receiver itself takes.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::sync::watch;

use crate::rig::{
    now,
    receiver::{OK, Script, field},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Ok,
    /// Requests are read and not answered until the mode changes.
    Hang,
    /// First attempts are asked to come back after so many seconds or up to `span - 1` more.
    Later {
        from: u64,
        span: u64,
    },
}

#[derive(Clone)]
pub(crate) struct Scripted {
    mode: watch::Sender<Mode>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    /// By the hash of the delivery's id.
    due: HashMap<u64, Instant>,
    /// Microseconds from due to arrival; negative for an attempt that came early.
    errors: Vec<i64>,
}

impl Scripted {
    pub(crate) fn new() -> Self {
        Self { mode: watch::Sender::new(Mode::Ok), kept: Arc::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no holder of this lock panics")
    }

    fn delivery(request: &[u8]) -> u64 {
        let id = field(request, "x-senderz-delivery:").unwrap_or_default();
        BuildHasherDefault::<DefaultHasher>::default().hash_one(id)
    }
}

impl Script for Scripted {
    const NEVER_SLEEPS: bool = false;

    async fn awake(&self) {
        if *self.mode.borrow() == Mode::Hang {
            let _ = self.mode.subscribe().wait_for(|mode| *mode != Mode::Hang).await;
        }
    }

    fn answer(&self, request: &[u8], answers: &mut Vec<u8>) {
        let mode = *self.mode.borrow();
        let mut kept = self.kept();
        let first = field(request, "x-senderz-attempt:") == Some("1");
        if !first && let Some(due) = kept.due.remove(&Self::delivery(request)) {
            let at = now();
            let micros = |time: Duration| time.as_micros() as i64;
            let late = micros(at.saturating_duration_since(due));
            kept.errors.push(late - micros(due.saturating_duration_since(at)));
        }
        match mode {
            Mode::Later { from, span } if first => {
                let delivery = Self::delivery(request);
                let seconds = from + delivery % span;
                let head = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\nretry-after: ";
                answers.extend_from_slice(format!("{head}{seconds}\r\n\r\n").as_bytes());
                kept.due.insert(delivery, now() + Duration::from_secs(seconds));
            }
            _ => answers.extend_from_slice(OK),
        }
    }

    /// `ok`, `hang`, `later FROM SPAN`; `errors` tells how exactly the retries came.
    fn tell(&self, question: &str) -> String {
        let mut words = question.split(' ');
        let word = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        let mode = match word {
            "errors" => return summary(&mut self.kept().errors),
            "ok" => Mode::Ok,
            "hang" => Mode::Hang,
            "later" => Mode::Later { from: number(), span: number() },
            unknown => return format!("{unknown}?"),
        };
        self.mode.send_replace(mode);
        word.to_owned()
    }
}

fn summary(errors: &mut [i64]) -> String {
    errors.sort_unstable();
    let at = |share: f64| {
        let rank = (errors.len() as f64 * share).ceil() as usize;
        errors.get(rank.saturating_sub(1)).map(|micros| *micros as f64 / 1000.0)
    };
    json!({
        "retries": errors.len(),
        "early": errors.iter().filter(|error| **error < 0).count(),
        "least_ms": at(0.0), "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999),
        "most_ms": at(1.0),
    })
    .to_string()
}
