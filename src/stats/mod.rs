//! Statistics: what the attempts of each webhook, of each tenant and of all came to over time.
//!
//! Each shard counts for its own webhooks, in plain integers, as it records an attempt: two look-ups
//! and nine additions. Nothing is shared and nothing is written; whoever wants to know asks the shards
//! ([`crate::command`]).
//!
//! Counts stand in stretches of five minutes for an hour or two, then of an hour, for three days;
//! only stretches in which something happened take memory. There is a bound on all of them
//! (`runtime.stats_memory`): where it is reached, the older five minutes become hours, and then the
//! oldest hours go, for all alike. So one time says for all from when on the counts are whole
//! ([`Report::since`]); it is the process's start at first, because counts do not survive it. The
//! attempts themselves do, and the lists of deliveries show them.
//!
//! Time is that of the engine, which a stepped wall clock does not move.

mod counts;
mod series;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, time::Duration};

pub use self::counts::Counts;
use self::{
    counts::Moves,
    series::{Bucket, HOURS, SLOTS_PER_HOUR, Series, oldest_hour},
};
use crate::{
    clock::Millis,
    delivery::{Attempt, Verdict},
    engine::Gauges,
    id::{ByNumber, TenantNo, WebhookNo},
};

const SLOT: Millis = 5 * 60 * 1000;
const HOUR: Millis = SLOT * SLOTS_PER_HOUR as Millis;

/// Over which time somebody wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// In points of five minutes.
    Hour,
    /// In points of an hour, as everything longer.
    Day,
    ThreeDays,
}

impl Period {
    pub const ALL: [Period; 3] = [Self::Hour, Self::Day, Self::ThreeDays];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "24h",
            Self::ThreeDays => "3d",
        }
    }

    /// How many five minutes a point has, and how many points there are.
    const fn points(self) -> (u32, u32) {
        match self {
            Self::Hour => (1, SLOTS_PER_HOUR),
            Self::Day => (SLOTS_PER_HOUR, 24),
            Self::ThreeDays => (SLOTS_PER_HOUR, HOURS),
        }
    }
}

/// What was counted over a period, point by point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When the first point begins; the last one is under way.
    pub from: Millis,
    /// From when on the counts are whole: `from`, or later where counting began later.
    pub since: Millis,
    pub until: Millis,
    /// From one point to the next.
    pub step: Duration,
    pub points: Vec<Counts>,
}

impl Report {
    /// Everything in it.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.points.iter().for_each(|point| total.merge(point));
        total
    }

    /// The points of which anything is known, each with when it begins.
    pub fn known(&self) -> impl Iterator<Item = (Millis, &Counts)> {
        let step = self.step.as_millis() as Millis;
        let starts = (0..).map(move |nth| self.from + nth * step);
        starts.zip(&self.points).skip_while(move |(at, _)| at + step <= self.since)
    }

    /// Adds another shard's, which may have been asked a moment later.
    fn merge(&mut self, mut other: Self) {
        if other.from > self.from {
            std::mem::swap(self, &mut other);
        }
        let step = self.step.as_millis() as Millis;
        let shift = ((self.from - other.from) / step.max(1)) as usize;
        for (point, more) in self.points.iter_mut().zip(other.points.iter().skip(shift)) {
            point.merge(more);
        }
        self.since = self.since.max(other.since);
        self.until = self.until.max(other.until);
    }
}

/// What is known of a webhook, a tenant or the gateway: what came of its attempts, and what waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub report: Report,
    /// What its lanes hold now; of one webhook, the breaker's state is the one that is counted.
    pub now: Gauges,
}

impl Standing {
    /// Adds what another shard says.
    pub fn merge(&mut self, other: Self) {
        self.report.merge(other.report);
        self.now.add(other.now);
    }
}

/// One shard's counts.
#[derive(Debug)]
pub struct Stats {
    webhooks: HashMap<WebhookNo, Counted, ByNumber>,
    tenants: HashMap<TenantNo, Series, ByNumber>,
    all: Series,
    /// Buckets that memory is held for.
    held: usize,
    most: usize,
    /// From when on counts are whole, …
    since: Millis,
    /// … and by the five minutes.
    fine_since: Millis,
}

#[derive(Debug)]
struct Counted {
    tenant: TenantNo,
    series: Series,
}

impl Stats {
    /// Counts begin `now`, and take at most so many bytes.
    pub fn new(now: Millis, bytes: usize) -> Self {
        Self {
            webhooks: HashMap::default(),
            tenants: HashMap::default(),
            all: Series::default(),
            held: 0,
            most: bytes / size_of::<Bucket>(),
            since: now,
            fine_since: now,
        }
    }

    /// Another bound, from the next stretch on.
    pub fn set_bound(&mut self, bytes: usize) {
        self.most = bytes / size_of::<Bucket>();
    }

    /// Counts what is being recorded. `tenant` is asked for a webhook's first; where it does not
    /// know, the webhook was deleted, and only the whole counts it.
    pub fn record(
        &mut self,
        now: Millis,
        webhook: WebhookNo,
        tenant: impl FnOnce() -> Option<TenantNo>,
        verdict: Verdict,
        attempt: Option<&Attempt>,
    ) {
        let (slot, moves) = (slot(now), Moves::of(verdict, attempt));
        self.held += count(&mut self.all, slot, moves);
        let counted = match self.webhooks.get_mut(&webhook) {
            Some(counted) => Some(counted),
            None => tenant().map(|tenant| {
                let counted = Counted { tenant, series: Series::default() };
                self.webhooks.entry(webhook).or_insert(counted)
            }),
        };
        if let Some(counted) = counted {
            self.held += count(&mut counted.series, slot, moves);
            self.held += count(self.tenants.entry(counted.tenant).or_default(), slot, moves);
        }
        if self.held > self.most {
            self.shed(now);
        }
    }

    /// The webhook was deleted. Its tenant's counts stay.
    pub fn forget(&mut self, webhook: WebhookNo) {
        if let Some(counted) = self.webhooks.remove(&webhook) {
            self.held -= counted.series.held();
        }
    }

    pub fn of_webhook(&self, webhook: WebhookNo, period: Period, now: Millis) -> Report {
        self.report(self.webhooks.get(&webhook).map(|counted| &counted.series), period, now)
    }

    pub fn of_tenant(&self, tenant: TenantNo, period: Period, now: Millis) -> Report {
        self.report(self.tenants.get(&tenant), period, now)
    }

    pub fn of_all(&self, period: Period, now: Millis) -> Report {
        self.report(Some(&self.all), period, now)
    }

    fn report(&self, series: Option<&Series>, period: Period, now: Millis) -> Report {
        let (slots, points) = period.points();
        let last = slot(now) / slots;
        let first = (last + 1).saturating_sub(points);
        let from = Millis::from(first * slots) * SLOT;
        // Where five minutes became hours, an hour is not one of them.
        let whole = if period == Period::Hour { self.fine_since } else { self.since };
        let mut all = vec![Counts::default(); points as usize];
        for bucket in series.into_iter().flat_map(Series::iter) {
            let at = (bucket.slot / slots).checked_sub(first);
            let is_whole = slots > 1 || Millis::from(bucket.slot + 1) * SLOT > whole;
            let point = at.filter(|_| is_whole).and_then(|at| all.get_mut(at as usize));
            if let Some(point) = point {
                bucket.add_to(point);
            }
        }
        let step = Duration::from_millis(Millis::from(slots) * SLOT);
        Report { from, since: whole.max(from), until: now, step, points: all }
    }

    /// Gets down to three quarters of the bound, so that it is not done again soon.
    #[cold]
    fn shed(&mut self, now: Millis) {
        let (hour, aim) = (slot(now) / SLOTS_PER_HOUR, self.most / 4 * 3);
        self.fine_since = self.fine_since.max(Millis::from(hour) * HOUR);
        self.tidy(hour, oldest_hour(hour));
        if self.held <= aim {
            return;
        }
        let mut by_hour = vec![0; HOURS as usize];
        for age in self.series().flat_map(Series::hours).map(|of| hour.saturating_sub(of)) {
            by_hour[(age as usize).min(HOURS as usize - 1)] += 1;
        }
        let mut room = aim;
        let fits = |count: &&usize| {
            let fits = **count <= room;
            room = room.saturating_sub(**count);
            fits
        };
        let kept = by_hour.iter().take_while(fits).count() as u32;
        if kept == 0 {
            // Not even the hour under way; what is being recorded went with it.
            (self.since, self.fine_since) = (now + 1, now + 1);
        } else {
            self.since = self.since.max(Millis::from(hour + 1 - kept) * HOUR);
        }
        self.tidy(hour, hour + 1 - kept);
    }

    fn tidy(&mut self, fine_from: u32, oldest: u32) {
        let tidy = |series: &mut Series| {
            series.tidy(fine_from, oldest);
            series.shrink();
            !series.is_empty()
        };
        self.webhooks.retain(|_, counted| tidy(&mut counted.series));
        self.tenants.retain(|_, series| tidy(series));
        tidy(&mut self.all);
        self.held = self.series().map(Series::held).sum();
    }

    fn series(&self) -> impl Iterator<Item = &Series> {
        let webhooks = self.webhooks.values().map(|counted| &counted.series);
        webhooks.chain(self.tenants.values()).chain([&self.all])
    }
}

/// Counts, and says how many more buckets memory is held for; tidying a series gives none back.
fn count(series: &mut Series, slot: u32, moves: Moves) -> usize {
    let before = series.held();
    series.count(slot, moves);
    series.held() - before
}

fn slot(now: Millis) -> u32 {
    u32::try_from(now / SLOT).unwrap_or(u32::MAX)
}
