//! An attempt's phases as bars on one scale, so that attempts of a delivery can be compared.

use super::{wire::Phases, words::latency};

/// The width of the drawing, in its own units.
const WIDTH: f64 = 1000.0;

/// One phase: where it begins and how long it took.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    pub(super) x: f64,
    pub(super) width: f64,
    pub(super) took: String,
}

/// The phases that happened, one after the other; `longest` milliseconds fill the drawing.
pub(super) fn bars(phases: &Phases, longest: f64) -> Vec<Bar> {
    let all = [
        ("queue", "waiting for a slot", phases.queue),
        ("dns", "looking the name up", phases.dns),
        ("connect", "connecting", phases.connect),
        ("tls", "TLS handshake", phases.tls),
        ("first-byte", "waiting for the answer", phases.first_byte),
        ("body", "reading the answer", phases.body),
    ];
    let sum: f64 = all.iter().map(|(.., ms)| ms).sum();
    let scale = WIDTH / longest.max(sum).max(f64::MIN_POSITIVE);
    let mut x = 0.0;
    let mut bars = Vec::new();
    for (class, name, ms) in all.into_iter().filter(|(.., ms)| *ms > 0.0) {
        let width = ms * scale;
        // What took no time to speak of is still to be seen.
        bars.push(Bar { class, name, x, width: width.max(2.0), took: latency(ms) });
        x += width;
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_fill_the_width() {
        let phases =
            Phases { queue: 0.0, dns: 10.0, connect: 20.0, tls: 0.0, first_byte: 70.0, body: 0.0 };
        let bars = bars(&phases, 50.0);
        let places: Vec<_> = bars.iter().map(|bar| (bar.class, bar.x, bar.width)).collect();
        assert_eq!(
            places,
            [("dns", 0.0, 100.0), ("connect", 100.0, 200.0), ("first-byte", 300.0, 700.0)]
        );
    }

    #[test]
    fn an_attempt_without_any_phase_has_no_bars() {
        let none =
            Phases { queue: 0.0, dns: 0.0, connect: 0.0, tls: 0.0, first_byte: 0.0, body: 0.0 };
        assert!(bars(&none, 0.0).is_empty());
    }
}
