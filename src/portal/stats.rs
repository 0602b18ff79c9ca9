//! Figures and charts of what the API counted: of a tenant's webhooks together, or of one.
//!
//! A chart is drawn here, in its own units, and the numbers behind it stand in a table. What attempts
//! came to is stacked; what they took is a mark for each point, so that a gap stays a gap.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    ask::{Refused, with_query},
    visit::Visit,
    words::{When, count, latency},
};
use crate::stats::Period;

/// A chart's height and width.
const HEIGHT: f64 = 120.0;
const WIDTH: f64 = 1000.0;
/// How thick a mark is.
const MARK: f64 = 4.0;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Stats {
    period: String,
    since: String,
    until: String,
    complete: bool,
    #[serde(flatten)]
    total: Counts,
    backlog: Backlog,
    points: Vec<Point>,
    /// Of one webhook.
    pub(super) breaker: Option<String>,
    #[serde(default)]
    pub(super) held_back: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Counts {
    attempts: u64,
    success_rate: Option<f64>,
    errors: BTreeMap<String, u64>,
    deliveries: Ended,
    latency_ms: Option<Quantiles>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Ended {
    delivered: u64,
    failed: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Quantiles {
    p50: f64,
    p95: f64,
    p99: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Backlog {
    pending: u64,
    retrying: u64,
    oldest_at: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Point {
    at: String,
    #[serde(flatten)]
    counts: Counts,
}

/// What the API counted under `path` in the period that the visit names, or in this one.
pub(super) async fn ask(visit: &Visit, path: &str, period: Period) -> Result<Stats, Refused> {
    let asked = visit.query.filled("period");
    let known = Period::ALL.into_iter().find(|known| Some(known.as_str()) == asked);
    let period = known.unwrap_or(period).as_str();
    visit.asker.get(&with_query(path, [("period", period)])).await
}

impl Stats {
    /// From when on it was counted.
    pub(super) fn since(&self) -> &str {
        &self.since
    }

    pub(super) fn success(&self) -> String {
        self.total.success()
    }

    pub(super) fn p95(&self) -> String {
        self.total.latency_ms.map_or("–".to_owned(), |found| latency(found.p95))
    }

    pub(super) fn waiting(&self) -> String {
        count(self.backlog.pending + self.backlog.retrying)
    }

    /// What is worth a word beside whether it is enabled.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        match self.breaker.as_deref() {
            Some("open") => Some("cut down to single attempts: they time out"),
            Some("half_open") => Some("coming back from timeouts"),
            _ if self.held_back => Some("first attempts wait for retries"),
            _ => None,
        }
    }

    fn seconds(&self) -> f64 {
        let parse = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let counted = parse(&self.since).zip(parse(&self.until));
        counted.map_or(1.0, |(since, until)| {
            ((until.as_millisecond() - since.as_millisecond()) as f64 / 1000.0).max(1.0)
        })
    }
}

impl Counts {
    fn success(&self) -> String {
        self.success_rate.map_or("–".to_owned(), |rate| format!("{:.1} %", 100.0 * rate))
    }

    fn delivered(&self) -> u64 {
        (self.success_rate.unwrap_or_default() * self.attempts as f64).round() as u64
    }
}

/// The figures of a page, and its charts.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    pub(super) periods: Vec<(&'static str, String, bool)>,
    pub(super) since: Option<When>,
    pub(super) is_complete: bool,
    pub(super) rate: String,
    pub(super) success: String,
    pub(super) delivered: String,
    pub(super) failed: String,
    pub(super) waiting: String,
    pub(super) oldest: Option<When>,
    pub(super) quantiles: Vec<(&'static str, String)>,
    pub(super) errors: Vec<(String, String, String)>,
    pub(super) spots: Vec<Spot>,
    /// The lists behind the numbers.
    pub(super) of_all: String,
    pub(super) of_failed: String,
    pub(super) of_waiting: String,
    pub(super) of_delivered: String,
}

/// One point of the charts.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) x: f64,
    pub(super) width: f64,
    pub(super) at: Option<When>,
    pub(super) delivered: Bar,
    pub(super) other: Bar,
    pub(super) p50: Option<Mark>,
    pub(super) p95: Option<Mark>,
    /// The lists behind its numbers; empty where only the drawing is shown.
    pub(super) of_delivered: String,
    pub(super) of_other: String,
}

#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) count: u64,
    pub(super) y: f64,
    pub(super) height: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) y: f64,
    pub(super) text: String,
}

impl Panel {
    /// `here`: the page's own address; `webhook`: the one that it is about, if it is.
    pub(super) fn of(visit: &Visit, stats: &Stats, here: &str, webhook: Option<&str>) -> Self {
        let within = |status: &str, error: Option<&str>, since: &str, until: &str| {
            let filters = [
                ("webhook", webhook.unwrap_or_default()),
                ("status", status),
                ("error", error.unwrap_or_default()),
                ("since", since),
                ("until", until),
            ];
            let set = filters.into_iter().filter(|(_, value)| !value.is_empty());
            with_query(&visit.to("/deliveries"), set)
        };
        let list = |status: &str, error: Option<&str>| {
            let since = if status.contains("pending") { "" } else { stats.since.as_str() };
            within(status, error, since, "")
        };
        let ends = stats.points.iter().skip(1).map(|point| point.at.as_str()).chain([""]);
        let spots = spots(stats).into_iter().zip(&stats.points).zip(ends);
        let spots = spots.map(|((spot, point), end)| Spot {
            of_delivered: within("delivered", None, &point.at, end),
            of_other: within("failed,retrying", None, &point.at, end),
            ..spot
        });
        let total = &stats.total;
        let quantiles = total.latency_ms.map(|found| {
            vec![
                ("p50", latency(found.p50)),
                ("p95", latency(found.p95)),
                ("p99", latency(found.p99)),
            ]
        });
        let period = |period: Period| {
            let name = period.as_str();
            (name, with_query(here, [("period", name)]), name == stats.period)
        };
        let errors = total.errors.iter();
        Self {
            periods: Period::ALL.map(period).into(),
            since: When::of(&stats.since),
            is_complete: stats.complete,
            rate: rate(total.deliveries.delivered as f64 / stats.seconds()),
            success: total.success(),
            delivered: count(total.deliveries.delivered),
            failed: count(total.deliveries.failed),
            waiting: stats.waiting(),
            oldest: stats.backlog.oldest_at.as_deref().and_then(When::of),
            quantiles: quantiles.unwrap_or_default(),
            errors: errors
                .map(|(code, times)| {
                    (code.clone(), count(*times), list("failed,retrying", Some(code)))
                })
                .collect(),
            spots: spots.collect(),
            of_all: list("", None),
            of_failed: list("failed", None),
            of_waiting: list("pending,retrying", None),
            of_delivered: list("delivered", None),
        }
    }
}

/// A second, with the digits that matter.
fn rate(a_second: f64) -> String {
    match a_second {
        10.0.. => format!("{a_second:.0}/s"),
        0.1.. => format!("{a_second:.1}/s"),
        _ => format!("{:.1}/min", a_second * 60.0),
    }
}

fn longest(points: &[Point]) -> f64 {
    let all = points.iter().filter_map(|point| point.counts.latency_ms);
    all.map(|found| found.p95).fold(0.0, f64::max)
}

/// How many points a period has.
fn slots(period: &str) -> usize {
    match Period::ALL.into_iter().find(|known| known.as_str() == period) {
        Some(Period::Hour) => 12,
        Some(Period::Day) => 24,
        Some(Period::ThreeDays) => 72,
        None => 1,
    }
}

pub(super) fn spots(stats: &Stats) -> Vec<Spot> {
    let points = &stats.points;
    let most = points.iter().map(|point| point.counts.attempts).max().unwrap_or_default().max(1);
    let slowest = longest(points).max(f64::MIN_POSITIVE);
    // On the scale of the whole period: what was not counted yet is empty on the left.
    let slots = slots(&stats.period).max(points.len());
    let width = WIDTH / slots as f64;
    let first = slots - points.len();
    let spot = |(at, point): (usize, &Point)| {
        let mut y = HEIGHT;
        let mut stack = |count: u64| {
            let height = HEIGHT * count as f64 / most as f64;
            y -= height;
            Bar { count, y, height }
        };
        let delivered = point.counts.delivered();
        let mark = |ms: f64| Mark { y: (HEIGHT - MARK) * (1.0 - ms / slowest), text: latency(ms) };
        Spot {
            x: (first + at) as f64 * width,
            width: (width * 0.85).max(4.0),
            at: When::of(&point.at),
            delivered: stack(delivered),
            other: stack(point.counts.attempts.saturating_sub(delivered)),
            p50: point.counts.latency_ms.map(|found| mark(found.p50)),
            p95: point.counts.latency_ms.map(|found| mark(found.p95)),
            of_delivered: String::new(),
            of_other: String::new(),
        }
    };
    points.iter().enumerate().map(spot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        let point = |attempts: u64, rate: f64, p95: f64| {
            serde_json::json!({
                "at": "2026-11-23T04:20:00Z", "attempts": attempts, "success_rate": rate,
                "errors": {}, "deliveries": {"delivered": 1, "failed": 0, "canceled": 0},
                "latency_ms": {"p50": p95 / 2.0, "p95": p95, "p99": p95},
            })
        };
        serde_json::from_value(serde_json::json!({
            "period": "1h", "since": "2026-11-23T04:20:00Z", "until": "2026-11-23T04:20:10Z",
            "complete": true, "attempts": 50, "success_rate": 0.5, "errors": {"timeout": 25},
            "deliveries": {"delivered": 25, "failed": 1, "canceled": 0},
            "latency_ms": {"p50": 1.0, "p95": 2.0, "p99": 3.0},
            "backlog": {"pending": 1500, "retrying": 34, "in_flight": 0, "oldest_at": null},
            "step": "5m", "points": [point(40, 0.25, 50.0), point(10, 1.0, 100.0)],
        }))
        .expect("as the API writes it")
    }

    #[test]
    fn points_are_drawn_on_one_scale() {
        let drawn = spots(&stats());
        let bars: Vec<_> = drawn
            .iter()
            .map(|spot| {
                let (good, bad) = (&spot.delivered, &spot.other);
                [(good.count, good.y, good.height), (bad.count, bad.y, bad.height)]
            })
            .collect();
        assert_eq!(bars[0], [(10, 90.0, 30.0), (30, 0.0, 90.0)]);
        assert_eq!(bars[1], [(10, 90.0, 30.0), (0, 90.0, 0.0)]);
        let marks: Vec<_> = drawn.iter().filter_map(|spot| Some(spot.p95.as_ref()?.y)).collect();
        assert_eq!(marks, [58.0, 0.0], "the slowest is at the top");
    }

    #[test]
    fn figures_are_said_with_the_digits_that_matter() {
        let stats = stats();
        assert_eq!(stats.success(), "50.0 %");
        assert_eq!(stats.waiting(), "1\u{2009}534");
        assert_eq!([25.0 / stats.seconds(), 120.4, 0.01].map(rate), ["2.5/s", "120/s", "0.6/min"]);
    }
}
