use super::*;
use crate::delivery::{AttemptError, ErrorCode, FailReason, KeptResponse, Phases, Protocol};

/// 2026-11-23, on the hour.
const START: Millis = 1_795_406_400_000;
const MINUTE: Millis = 60_000;
const ROOM: usize = 1 << 20;

fn attempt(error: Option<ErrorCode>, latency_ms: u32) -> Attempt {
    Attempt {
        number: 1,
        at: START,
        status: None,
        error: error.map(|code| AttemptError { code, detail: String::new() }),
        latency: latency_ms * 1000,
        phases: Phases::default(),
        response: KeptResponse::default(),
        peer: None,
        protocol: Protocol::Http1,
        reused_connection: false,
    }
}

fn deliver(stats: &mut Stats, now: Millis, webhook: u32, tenant: u32) {
    let attempt = attempt(None, 20);
    let tenant = || Some(TenantNo(tenant));
    stats.record(now, WebhookNo(webhook), tenant, Verdict::Delivered, Some(&attempt));
}

fn delivered(report: &Report) -> u64 {
    report.total().delivered()
}

#[test]
fn every_record_counts_for_its_webhook_its_tenant_and_all() {
    let mut stats = Stats::new(START, ROOM);
    let now = START + MINUTE;
    let records = [
        (Verdict::RetryAt(now), Some(attempt(Some(ErrorCode::Timeout), 15_000))),
        (Verdict::Delivered, Some(attempt(None, 30))),
        (
            Verdict::Failed(FailReason::AttemptsExhausted),
            Some(attempt(Some(ErrorCode::Status), 30)),
        ),
        // Decisions: nothing was attempted.
        (Verdict::Failed(FailReason::Expired), None),
        (Verdict::Canceled(crate::delivery::CancelReason::Requested), None),
    ];
    for (verdict, attempt) in &records {
        let tenant = || Some(TenantNo(1));
        stats.record(now, WebhookNo(7), tenant, *verdict, attempt.as_ref());
    }
    deliver(&mut stats, now, 8, 1);
    // Deleted: nobody knows any more whose it was.
    stats.record(now, WebhookNo(9), || None, Verdict::Delivered, Some(&attempt(None, 1)));

    let of_webhook = stats.of_webhook(WebhookNo(7), Period::Hour, now).total();
    let errors: Vec<_> = of_webhook.errors().filter(|(_, count)| *count > 0).collect();
    assert_eq!(errors, [(ErrorCode::Timeout, 1), (ErrorCode::Status, 1)]);
    let ended = (of_webhook.delivered(), of_webhook.failed(), of_webhook.canceled());
    assert_eq!((of_webhook.attempts(), ended), (3, (1, 2, 1)));
    assert_eq!(of_webhook.success_rate(), Some(1.0 / 3.0));
    assert!(of_webhook.latency(0.99).is_some_and(|p99| (10_000_000..20_000_000).contains(&p99)));
    assert_eq!(delivered(&stats.of_tenant(TenantNo(1), Period::Day, now)), 2);
    assert_eq!(delivered(&stats.of_all(Period::ThreeDays, now)), 3);
    assert_eq!(stats.of_webhook(WebhookNo(9), Period::Hour, now).total().success_rate(), None);
}

#[test]
fn points_begin_on_the_clocks_five_minutes_and_hours() {
    let mut stats = Stats::new(START - 10 * HOUR, ROOM);
    let now = START + 62 * MINUTE;
    for minutes in [3, 8, 9, 58, 61] {
        deliver(&mut stats, START + minutes * MINUTE, 1, 1);
    }
    let report = stats.of_webhook(WebhookNo(1), Period::Hour, now);
    assert_eq!((report.points.len(), report.step), (12, Duration::from_secs(300)));
    assert_eq!((report.from, report.since, report.until), (START + 5 * MINUTE, report.from, now));
    let counts: Vec<_> = report.points.iter().map(Counts::delivered).collect();
    assert_eq!(counts, [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    let report = stats.of_webhook(WebhookNo(1), Period::Day, now);
    assert_eq!((report.points.len(), report.from), (24, START - 22 * HOUR));
    let counts: Vec<_> = report.points.iter().rev().map(Counts::delivered).take(3).collect();
    assert_eq!(counts, [1, 4, 0]);
    // Nothing is known of before counting began: the hour in which it did is the first that is told.
    assert_eq!(report.since, START - 10 * HOUR);
    let known: Vec<_> = report.known().map(|(at, _)| at).collect();
    assert_eq!((known.len(), known[0]), (12, START - 10 * HOUR));
}

#[test]
fn what_is_older_than_three_days_goes_and_nothing_else() {
    let mut stats = Stats::new(START, ROOM);
    let mut recorded = Vec::new();
    for nth in 0..2000 {
        let now = START + nth * 7 * MINUTE;
        deliver(&mut stats, now, 1, 1);
        recorded.push(now);
        let report = stats.of_webhook(WebhookNo(1), Period::ThreeDays, now);
        let expected = recorded.iter().filter(|at| **at >= report.from).count();
        assert_eq!(delivered(&report), expected as u64, "after {nth}");
        let report = stats.of_webhook(WebhookNo(1), Period::Hour, now);
        let expected = recorded.iter().filter(|at| **at >= report.from).count();
        assert_eq!(delivered(&report), expected as u64, "after {nth}");
    }
    // All, a tenant and a webhook, each 24 times five minutes and 71 hours at most.
    assert!(stats.held <= 3 * (24 + 71 + 1), "{}", stats.held);
}

/// Whatever is forgotten, `since` says it: from there on the counts are those of a list of all.
#[test]
fn memory_is_bounded_and_what_is_left_is_whole() {
    let bucket = size_of::<Bucket>();
    for (webhooks, buckets) in [(3, 1000), (50, 400), (500, 1500), (2000, 1500)] {
        let mut stats = Stats::new(START, buckets * bucket);
        let mut recorded: Vec<(Millis, u32)> = Vec::new();
        let mut state = 17_u32;
        for nth in 0..20_000_u64 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (now, webhook) = (START + nth * MINUTE / 3, (state >> 8) % webhooks + 1);
            deliver(&mut stats, now, webhook, webhook % 5);
            recorded.push((now, webhook));
            let held: usize = stats.series().map(Series::held).sum();
            assert_eq!(stats.held, held, "it knows what it holds");
            assert!(held <= buckets, "{held} of {buckets}");
            if nth % 500 != 499 {
                continue;
            }
            for period in Period::ALL {
                let report = stats.of_webhook(WebhookNo(webhook), period, now);
                let step = report.step.as_millis() as Millis;
                for (at, point) in report.known().filter(|(at, _)| *at >= report.since) {
                    let of_it = |(when, who): &&(Millis, u32)| {
                        *who == webhook && (at..at + step).contains(when)
                    };
                    let expected = recorded.iter().filter(of_it).count() as u64;
                    assert_eq!(point.delivered(), expected, "{period:?} after {nth}");
                }
            }
        }
        let whole = stats.of_all(Period::ThreeDays, START + 20_000 * MINUTE / 3);
        assert_eq!(whole.since > whole.from.max(START), webhooks > 3, "{webhooks}");
    }
}

#[test]
fn a_deleted_webhook_gives_its_memory_back() {
    let mut stats = Stats::new(START, ROOM);
    deliver(&mut stats, START, 1, 1);
    let before = stats.held;
    deliver(&mut stats, START, 2, 1);
    stats.forget(WebhookNo(2));
    assert_eq!(stats.held, before);
    assert_eq!(delivered(&stats.of_webhook(WebhookNo(2), Period::Hour, START)), 0);
    assert_eq!(delivered(&stats.of_tenant(TenantNo(1), Period::Hour, START)), 2);
}

#[test]
fn shards_that_answer_on_both_sides_of_a_point_are_added_right() {
    let mut parts = [Stats::new(START, ROOM), Stats::new(START + MINUTE, ROOM)];
    let asked = [START + 5 * MINUTE - 1, START + 5 * MINUTE];
    for (stats, now) in parts.iter_mut().zip(asked) {
        deliver(stats, START + 2 * MINUTE, 1, 1);
        deliver(stats, now, 1, 1);
    }
    let report = |nth: usize| parts[nth].of_tenant(TenantNo(1), Period::Hour, asked[nth]);
    for (mut first, second) in [(report(0), report(1)), (report(1), report(0))] {
        first.merge(second);
        let counts: Vec<_> = first.points.iter().map(Counts::delivered).collect();
        assert_eq!(counts, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1]);
        assert_eq!((first.since, first.until), (START + MINUTE, asked[1]));
    }
}
