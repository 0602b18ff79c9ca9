use std::collections::BTreeMap;

use super::*;
use crate::{
    delivery::{Attempt, AttemptError, CancelReason, FailReason, Phases, Verdict},
    engine::{BreakerState, Gauges},
};

/// The exposition as a map from series to value; panics where a line is not of the format.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let mut types = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').unwrap();
            assert!(types.insert(name.to_owned(), kind).is_none(), "{name} has two families");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
            assert!(series.insert(name.to_owned(), value).is_none(), "{name} is there twice");
        }
    }
    series
}

fn attempt(status: Option<u16>, code: Option<ErrorCode>, latency: u32) -> Attempt {
    Attempt {
        number: 1,
        at: 0,
        status,
        error: code.map(|code| AttemptError { code, detail: String::new() }),
        latency,
        phases: Phases { queue: 10, first_byte: latency, ..Phases::default() },
        response: Default::default(),
        peer: None,
        protocol: Default::default(),
        reused_connection: false,
    }
}

#[test]
fn every_name_of_the_catalogue_is_rendered_with_help_and_type() {
    let text = install().render();
    parse(&text);
    for metric in &CATALOGUE {
        assert!(text.contains(&format!("# HELP {} ", metric.name)), "{}", metric.name);
        let kind = format!("{:?}", metric.kind).to_lowercase();
        assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}", metric.name);
        assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"));
    }
    assert!(parse(&text).contains_key("process_cpu_seconds_total"));
    for name in ["resident_memory_bytes", "open_fds", "max_fds", "threads"] {
        assert!(parse(&text)[&format!("process_{name}")] > 0.0, "{name}");
    }
    assert_eq!(parse(&text)["senderz_build_info{version=\"0.1.0\"}"], 1.0);
}

/// One test for all that shards count: the recorder is the process's, so tests beside each other
/// would see each other's counts.
#[test]
fn shards_add_up_exactly_and_take_their_gauges_with_them() {
    let handle = install();
    let before = parse(&handle.render());
    let (mut one, mut two) = (ShardMetrics::new(), ShardMetrics::new());
    for micros in [90, 100, 101, 4_000_000_000] {
        one.attempt(Verdict::Delivered, &attempt(Some(200), None, micros));
    }
    let timeout = attempt(None, Some(ErrorCode::Timeout), 15_000_000);
    two.attempt(Verdict::RetryAt(7), &timeout);
    let reset = attempt(None, Some(ErrorCode::Reset), 500);
    for last in [
        Verdict::Failed(FailReason::AttemptsExhausted),
        Verdict::Failed(FailReason::BlockedTarget),
        Verdict::Canceled(CancelReason::Requested),
    ] {
        two.attempt(last, &reset);
    }
    two.retry_lag(3);
    two.ended(Verdict::Delivered, 40);
    two.ended(Verdict::RetryAt(1), 40);
    // Within the same millisecond.
    two.ended(Verdict::Delivered, 0);
    one.ended(Verdict::Failed(FailReason::Expired), 40);
    one.breaker(BreakerState::Open);
    let holds = |pending, spilled| Gauges { pending, spilled, ..Gauges::default() };
    one.gauges(holds(5, 6));
    two.gauges(Gauges { oldest_accepted_at: Some(clock_ms() - 90_000), ..holds(100, 0) });

    assert_eq!(parse(&handle.render())[ATTEMPT_DURATION_COUNT], before[ATTEMPT_DURATION_COUNT]);
    one.flush();
    two.flush();
    let after = parse(&handle.render());
    let check = |series: &str, grew: f64| {
        let difference = after[series] - before.get(series).copied().unwrap_or(0.0);
        assert!((difference - grew).abs() < 1e-6, "{series} grew by {difference}, not {grew}");
    };
    check("senderz_attempts_total{outcome=\"delivered\",error=\"none\"}", 4.0);
    check("senderz_attempts_total{outcome=\"retry\",error=\"timeout\"}", 1.0);
    check("senderz_attempts_total{outcome=\"retry\",error=\"dns\"}", 0.0);
    check("senderz_attempts_total{outcome=\"retry\",error=\"reset\"}", 0.0);
    check("senderz_attempts_total{outcome=\"failed\",error=\"reset\"}", 3.0);
    check("senderz_responses_total{code_class=\"2xx\"}", 4.0);
    check(ATTEMPT_DURATION_COUNT, 8.0);
    check("senderz_attempt_duration_seconds_bucket{le=\"0.0001\"}", 2.0);
    check("senderz_attempt_duration_seconds_bucket{le=\"0.00025\"}", 3.0);
    check("senderz_attempt_duration_seconds_bucket{le=\"15\"}", 7.0);
    check("senderz_attempt_duration_seconds_bucket{le=\"300\"}", 7.0);
    check("senderz_attempt_duration_seconds_bucket{le=\"+Inf\"}", 8.0);
    check("senderz_attempt_duration_seconds_sum", 4015.001791);
    check("senderz_attempt_phase_seconds_count{phase=\"queue\"}", 8.0);
    check("senderz_attempt_phase_seconds_count{phase=\"first_byte\"}", 8.0);
    check("senderz_attempt_phase_seconds_count{phase=\"dns\"}", 0.0);
    check("senderz_delivery_latency_seconds_sum", 0.04);
    check("senderz_delivery_latency_seconds_bucket{le=\"0.001\"}", 1.0);
    check("senderz_delivery_latency_seconds_bucket{le=\"0.05\"}", 2.0);
    check("senderz_retry_lag_seconds_bucket{le=\"0.0025\"}", 0.0);
    check("senderz_retry_lag_seconds_bucket{le=\"0.005\"}", 1.0);
    check("senderz_deliveries_ended_total{outcome=\"delivered\"}", 2.0);
    check("senderz_deliveries_ended_total{outcome=\"failed\"}", 1.0);
    check("senderz_breaker_transitions_total{to=\"open\"}", 1.0);
    check("senderz_deliveries{state=\"pending\"}", 111.0);
    assert!(after[OLDEST_PENDING_AGE] >= 90.0, "{}", after[OLDEST_PENDING_AGE]);

    drop((one, two));
    let ended = parse(&handle.render());
    assert_eq!(ended["senderz_deliveries{state=\"pending\"}"], 0.0);
    assert_eq!(ended[OLDEST_PENDING_AGE], 0.0);
    assert_eq!(ended[ATTEMPT_DURATION_COUNT], after[ATTEMPT_DURATION_COUNT], "counts stay");
}

#[test]
fn every_bound_tells_something() {
    let series = parse(&install().render());
    let bounds = |prefix: &str| {
        let bounds = series.keys().filter(|name| name.starts_with(prefix));
        let bounds = bounds.filter_map(|name| name.split("le=\"").nth(1)?.split('"').next());
        let bounds = bounds.filter_map(|bound| bound.parse::<f64>().ok());
        let finite: Vec<_> = bounds.filter(|bound| bound.is_finite()).collect();
        let least = finite.iter().copied().fold(f64::INFINITY, f64::min);
        (least, finite.iter().copied().fold(0.0, f64::max))
    };
    for in_millis in [
        "senderz_delivery_latency_seconds_bucket{",
        "senderz_retry_lag_seconds_bucket{",
        "senderz_attempt_phase_seconds_bucket{phase=\"queue\"",
    ] {
        assert_eq!(bounds(in_millis), (0.001, 3600.0), "{in_millis}");
    }
    for in_micros in [
        "senderz_attempt_duration_seconds_bucket{",
        "senderz_attempt_phase_seconds_bucket{phase=\"first_byte\"",
    ] {
        // No attempt lasts an hour.
        assert_eq!(bounds(in_micros), (0.0001, 300.0), "{in_micros}");
    }
}

#[test]
fn every_series_has_the_labels_of_the_catalogue() {
    let text = install().render();
    for metric in CATALOGUE.iter().chain(&PROCESS) {
        let is_own = |series: &str| {
            let rest = series.strip_prefix(metric.name)?;
            let rest = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| rest.strip_prefix(end))
                .unwrap_or(rest);
            (rest.is_empty() || rest.starts_with('{')).then(|| rest.to_owned())
        };
        for labels in parse(&text).keys().filter_map(|series| is_own(series)) {
            let names =
                labels.trim_matches(['{', '}']).split(',').filter_map(|pair| pair.split_once('='));
            let names: Vec<_> = names.map(|(name, _)| name).filter(|name| *name != "le").collect();
            assert_eq!(names, metric.labels, "{}", metric.name);
        }
    }
}

const ATTEMPT_DURATION_COUNT: &str = "senderz_attempt_duration_seconds_count";

fn clock_ms() -> u64 {
    crate::clock::wall_ms()
}
