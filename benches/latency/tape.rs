//! What became of each event of a phase, and when; and what quantiles there are in that.
//!
//! Everything is measured in one thread with one clock (`CLOCK_MONOTONIC`), and every event is
//! kept: quantiles are exact.

use std::{
    cell::{Cell, RefCell},
    time::Instant,
};

use serde_json::{Value, json};

use crate::rig::now;

/// Nanoseconds since the phase began.
pub(crate) type Nanos = u64;

/// An event's instants. None for what did not happen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Course {
    /// When it was to be sent: what latency counts from, whenever it was sent.
    pub(crate) scheduled: Nanos,
    /// When the load generator looked: its own lateness.
    pub(crate) noticed: Option<Nanos>,
    /// There was a connection for it.
    pub(crate) sent: Option<Nanos>,
    /// The 202 was read.
    pub(crate) accepted: Option<Nanos>,
    /// The receiver had the whole request, for the first time.
    pub(crate) received: Option<Nanos>,
}

/// Events have numbers, which travel in their payloads and go on from phase to phase: what comes
/// late from an earlier one is known as such.
pub(crate) struct Tape {
    began: Cell<Instant>,
    /// The number of this phase's first event.
    first: Cell<usize>,
    courses: RefCell<Vec<Course>>,
    received: Cell<usize>,
}

impl Tape {
    pub(crate) fn new() -> Self {
        Self {
            began: Cell::new(now()),
            first: Cell::default(),
            courses: RefCell::default(),
            received: Cell::default(),
        }
    }

    /// Begins a phase and gives what the last one recorded.
    pub(crate) fn begin(&self) -> Vec<Course> {
        let courses = self.courses.take();
        self.first.set(self.first.get() + courses.len());
        self.received.set(0);
        self.began.set(now());
        courses
    }

    pub(crate) fn elapsed(&self) -> Nanos {
        self.began.get().elapsed().as_nanos() as Nanos
    }

    /// An event that is due. Gives its number.
    pub(crate) fn notice(&self, scheduled: Nanos) -> usize {
        let mut courses = self.courses.borrow_mut();
        let noticed = Some(self.elapsed());
        courses.push(Course { scheduled, noticed, ..Course::default() });
        self.first.get() + courses.len() - 1
    }

    pub(crate) fn sent(&self, number: usize) {
        self.note(number, |course| &mut course.sent);
    }

    pub(crate) fn accepted(&self, number: usize) {
        self.note(number, |course| &mut course.accepted);
    }

    pub(crate) fn received(&self, number: usize) {
        if self.note(number, |course| &mut course.received) {
            self.received.set(self.received.get() + 1);
        }
    }

    /// Whether it is of this phase and happened for the first time.
    fn note(&self, number: usize, what: impl Fn(&mut Course) -> &mut Option<Nanos>) -> bool {
        let at = self.elapsed();
        let mut courses = self.courses.borrow_mut();
        let index = number.checked_sub(self.first.get());
        let Some(course) = index.and_then(|index| courses.get_mut(index)) else { return false };
        let what = what(course);
        let is_first = what.is_none();
        what.get_or_insert(at);
        is_first
    }

    pub(crate) fn noticed_count(&self) -> usize {
        self.courses.borrow().len()
    }

    pub(crate) fn received_count(&self) -> usize {
        self.received.get()
    }
}

/// Milliseconds, of one span of all events of a phase.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    /// An event that did not come took for ever. A span may be negative: a delivery can arrive
    /// before the producer has read its 202.
    pub(crate) fn of(
        courses: &[Course],
        from: impl Fn(&Course) -> Option<Nanos>,
        to: impl Fn(&Course) -> Option<Nanos>,
    ) -> Self {
        let span = |course: &Course| match (from(course), to(course)) {
            (Some(from), Some(to)) => (to as f64 - from as f64) / 1e6,
            _ => f64::INFINITY,
        };
        let mut spans: Vec<f64> = courses.iter().map(span).collect();
        spans.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * spans.len() as f64).ceil() as usize;
            spans.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
        };
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }

    pub(crate) fn json(&self) -> Value {
        let Self { p50, p99, p999, max } = *self;
        let [p50, p99, p999, max] = [p50, p99, p999, max].map(round3);
        json!({"p50": p50, "p99": p99, "p99.9": p999, "max": max})
    }
}

pub(crate) fn round3(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
