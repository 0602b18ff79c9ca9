//! What a load came to, for people and for programs.

use std::{collections::BTreeMap, fmt::Write as _};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Milliseconds, of all answered requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Quantiles {
    /// Of microseconds.
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max() as f64 / 1e3,
        }
    }

    fn named(self) -> [(&'static str, f64); 5] {
        let Self { p50, p90, p99, p999, max } = self;
        [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", max)]
    }

    fn json(self) -> Value {
        self.named()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report {
    /// Events a second, in an open loop.
    pub(super) asked: Option<f64>,
    pub(super) seconds: f64,
    pub(super) requests: u64,
    /// Events.
    pub(super) accepted: u64,
    /// Requests that were due and that no connection was free for until the end.
    pub(super) never_sent: u64,
    pub(super) latency: Quantiles,
    pub(super) own_lateness: Option<Quantiles>,
    pub(super) errors: BTreeMap<String, u64>,
}

impl Report {
    fn rate(&self) -> f64 {
        self.accepted as f64 / self.seconds.max(1e-9)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "loop": if self.asked.is_some() { "open" } else { "closed" },
            "asked_events_per_second": self.asked,
            "seconds": self.seconds,
            "requests": self.requests,
            "events_accepted": self.accepted,
            "events_per_second": self.rate(),
            "never_sent": self.never_sent,
            "latency_ms": self.latency.json(),
            "own_lateness_ms": self.own_lateness.map(Quantiles::json),
            "errors": self.errors,
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<12}  {value}").expect("a string takes all");
        };
        let asked = self.asked.map_or(String::new(), |asked| format!(" of {asked:.0} asked for"));
        line("accepted", format!("{} events in {:.2} s", self.accepted, self.seconds));
        line("rate", format!("{:.0} events/s{asked}", self.rate()));
        line("requests", self.requests.to_string());
        for (name, value) in self.latency.named() {
            line(name, format!("{value:.3} ms"));
        }
        if self.never_sent > 0 {
            let what = "requests were due and found no free connection: more --concurrency, or \
                        less --rate";
            line("never sent", format!("{} {what}", self.never_sent));
        }
        match self.errors.is_empty() {
            true => line("errors", "none".to_owned()),
            false => self.errors.iter().for_each(|(code, count)| {
                line("error", format!("{count} × {code}"));
            }),
        }
        if let Some(own) = self.own_lateness {
            line("timer", format!("{:.3} ms late at p99 (not in the latencies)", own.p99));
        }
        text.truncate(text.trim_end().len());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut histogram = Histogram::new_with_max(1_000_000, 3).unwrap();
        (1..=1000).for_each(|n| histogram.saturating_record(n * 100));
        Report {
            asked: None,
            seconds: 2.0,
            requests: 1010,
            accepted: 1000,
            never_sent: 0,
            latency: Quantiles::of(&histogram),
            own_lateness: None,
            errors: BTreeMap::new(),
        }
    }

    #[test]
    fn people_get_a_table() {
        let text = report().text();
        assert!(
            text.starts_with("accepted      1000 events in 2.00 s\nrate          500 events/s\n")
        );
        assert!(text.contains("\np50           50.0"), "{text}");
        assert!(text.ends_with("errors        none"), "{text}");
        let errors = BTreeMap::from([("503 overloaded".to_owned(), 10)]);
        let open = Report { asked: Some(600.0), never_sent: 3, errors, ..report() };
        let text = open.text();
        assert!(text.contains("500 events/s of 600 asked for"), "{text}");
        assert!(text.contains("never sent    3 requests"), "{text}");
        assert!(text.contains("error         10 × 503 overloaded"), "{text}");
    }

    #[test]
    fn programs_get_the_same_figures() {
        let value = report().json();
        assert_eq!(value["loop"], "closed");
        assert_eq!(value["events_per_second"], 500.0);
        let p99 = value["latency_ms"]["p99"].as_f64().unwrap();
        assert!((98.9..=99.2).contains(&p99), "{p99}");
        assert_eq!(value["latency_ms"].as_object().unwrap().len(), 5);
    }
}
