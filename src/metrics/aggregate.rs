//! Histograms that shards fill: plain counts per shard, added up here once a second.
//!
//! A [`Local`] belongs to one shard and costs a search of a few bounds per sample. A [`Total`] is
//! what all shards have flushed since the process started. Sums are kept in microseconds, so they
//! are exact.

use std::{
    fmt::Write as _,
    sync::{
        Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    ATTEMPT_DURATION, ATTEMPT_PHASE, DELIVERY_LATENCY, OLDEST_PENDING_AGE, RETRY_LAG, metric,
    write_head,
};
use crate::clock;

const MS: u64 = 1000;
const S: u64 = 1_000_000;

/// Upper bounds in microseconds. One set for everything that takes between the time of a packet on
/// a local network and a day of retries, so that any two of them can be compared; what is known to
/// the millisecond only shows those from there on.
pub(super) const BOUNDS: [u64; 20] = [
    100,
    250,
    500,
    MS,
    2 * MS + 500,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    2 * S + 500 * MS,
    5 * S,
    10 * S,
    15 * S,
    35 * S,
    300 * S,
    3600 * S,
];

/// Which bounds tell something about the values of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grain {
    /// Parts of an attempt, known to the microsecond. None is longer than `delivery.max_timeout`,
    /// an hour at the most.
    Micros,
    /// Since a time that is kept in whole milliseconds: a bound below one would tell what nobody
    /// knows.
    Millis,
}

impl Grain {
    fn tells(self, bound: u64) -> bool {
        match self {
            Self::Micros => bound < 3600 * S,
            Self::Millis => bound >= MS,
        }
    }
}

/// A label's name and value.
type Label = (&'static str, &'static str);

/// The histograms of the shards: name, the label where it has one, and the grain.
pub(super) const AGGREGATED: [(&str, Option<Label>, Grain); HISTOGRAMS] = [
    (ATTEMPT_DURATION, None, Grain::Micros),
    (ATTEMPT_PHASE, Some(("phase", "queue")), Grain::Millis),
    (ATTEMPT_PHASE, Some(("phase", "dns")), Grain::Micros),
    (ATTEMPT_PHASE, Some(("phase", "connect")), Grain::Micros),
    (ATTEMPT_PHASE, Some(("phase", "tls")), Grain::Micros),
    (ATTEMPT_PHASE, Some(("phase", "first_byte")), Grain::Micros),
    (ATTEMPT_PHASE, Some(("phase", "body")), Grain::Micros),
    (DELIVERY_LATENCY, None, Grain::Millis),
    (RETRY_LAG, None, Grain::Millis),
];

pub(super) const HISTOGRAMS: usize = 9;
/// The last one is for what lies beyond every bound.
const BUCKETS: usize = BOUNDS.len() + 1;

/// One shard's samples since its last flush.
#[derive(Clone, Debug, Default)]
pub(super) struct Local {
    counts: [u64; BUCKETS],
    sum: u64,
}

impl Local {
    pub(super) fn record(&mut self, micros: u64) {
        self.counts[BOUNDS.partition_point(|bound| *bound < micros)] += 1;
        self.sum += micros;
    }
}

#[derive(Debug, Default)]
struct Total {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Total {
    fn add(&self, local: &mut Local) {
        for (total, count) in self.counts.iter().zip(&mut local.counts) {
            if *count > 0 {
                total.fetch_add(std::mem::take(count), Relaxed);
            }
        }
        self.sum.fetch_add(std::mem::take(&mut local.sum), Relaxed);
    }
}

/// What a shard says about now, read at each rendering.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// When its oldest waiting delivery was accepted; 0 where none waits.
    pub(super) oldest_accepted_at: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct Aggregated {
    totals: [Total; HISTOGRAMS],
    /// One per living shard.
    slots: Mutex<Vec<Weak<Slot>>>,
}

impl Aggregated {
    pub(super) fn join(&self, slot: Weak<Slot>) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
    }

    pub(super) fn add(&self, locals: &mut [Local; HISTOGRAMS]) {
        for (total, local) in self.totals.iter().zip(locals) {
            total.add(local);
        }
    }

    pub(super) fn render(&self, out: &mut String) {
        let mut family = "";
        for ((name, label, grain), total) in AGGREGATED.iter().zip(&self.totals) {
            if *name != family {
                family = name;
                write_head(out, metric(name));
            }
            render_histogram(out, name, *label, *grain, total);
        }
        write_head(out, metric(OLDEST_PENDING_AGE));
        let _ = writeln!(out, "{OLDEST_PENDING_AGE} {}", self.oldest_age_ms() as f64 / 1e3);
    }

    fn oldest_age_ms(&self) -> u64 {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| slot.strong_count() > 0);
        let accepted = slots.iter().filter_map(Weak::upgrade);
        let oldest =
            accepted.map(|slot| slot.oldest_accepted_at.load(Relaxed)).filter(|at| *at > 0);
        oldest.min().map_or(0, |at| clock::wall_ms().saturating_sub(at))
    }
}

fn render_histogram(
    out: &mut String,
    name: &str,
    label: Option<Label>,
    grain: Grain,
    total: &Total,
) {
    let label = label.map(|(key, value)| format!("{key}=\"{value}\""));
    let (inside, alone) = match &label {
        Some(label) => (format!("{label},"), format!("{{{label}}}")),
        None => (String::new(), String::new()),
    };
    let mut count = 0;
    for (index, bucket) in total.counts.iter().enumerate() {
        count += bucket.load(Relaxed);
        let bound = match BOUNDS.get(index) {
            Some(micros) if !grain.tells(*micros) => continue,
            Some(micros) => (*micros as f64 / 1e6).to_string(),
            None => "+Inf".to_owned(),
        };
        let _ = writeln!(out, "{name}_bucket{{{inside}le=\"{bound}\"}} {count}");
    }
    let sum = total.sum.load(Relaxed) as f64 / 1e6;
    let _ = writeln!(out, "{name}_sum{alone} {sum}\n{name}_count{alone} {count}");
}
