//! What a replay of many reads: every ended delivery once, the oldest first, however it is cut.

use super::{pages::fill, *};
use crate::store::{EndedQuery, EndedRow};

suite!(
    ended_deliveries_come_oldest_first_whatever_the_limit_and_the_scan,
    what_found_its_webhook_disabled_is_missed_until_it_is_reopened,
    time_bounds_hold_for_ended_deliveries,
    what_was_reopened_since_is_told_as_such,
);

fn ended_query() -> EndedQuery {
    EndedQuery {
        tenant: TenantNo(1),
        webhook: None,
        states: vec!["delivered", "failed"],
        missed: false,
        event_types: EventTypes::ALL,
        since: None,
        until: Millis::MAX,
        reopened_since: None,
        after: None,
        limit: 1000,
    }
}

/// Asks until there is no more.
fn all_ended(running: &Running, query: &EndedQuery) -> Vec<EndedRow> {
    let mut query = query.clone();
    let mut rows = Vec::new();
    for _ in 0..10_000 {
        let page = running.runtime.block_on(running.store.ended(query.clone())).unwrap();
        assert!(page.rows.len() <= query.limit);
        rows.extend(page.rows);
        if page.is_last {
            return rows;
        }
        assert!(page.after > query.after, "it goes on");
        query.after = page.after;
    }
    panic!("it never ends")
}

fn keys(rows: &[EndedRow]) -> Vec<DeliveryKey> {
    rows.iter().map(|row| row.key).collect()
}

fn ended_deliveries_come_oldest_first_whatever_the_limit_and_the_scan(backend: &Backend) {
    let running = backend.start();
    fill(&running);
    let states = vec!["delivered", "failed"];
    let query = DeliveryQuery { states, limit: 1000, ..delivery_query() };
    let mut expected = running.deliveries(&query).rows;
    expected.sort_by_key(|row| row.key);
    running.close();
    for scan in [1, 9, 20_000] {
        let running = backend.start_with(|settings| settings.max_scan_blocks = scan);
        for limit in [1, 2, 7, 1000] {
            let rows = all_ended(&running, &EndedQuery { limit, ..ended_query() });
            let told: Vec<_> = rows.iter().map(|row| (row.key, row.attempts)).collect();
            let wanted: Vec<_> = expected.iter().map(|row| (row.key, row.attempts)).collect();
            assert_eq!(told, wanted, "limit {limit}, scan {scan}");
        }
        running.close();
    }
}

fn what_found_its_webhook_disabled_is_missed_until_it_is_reopened(backend: &Backend) {
    let running = backend.start();
    let routes: Arc<[Route]> = vec![route(1, false), route(2, true)].into();
    let accepted = running.accept(NewEvent { routes, ..event("x", &[]) });
    running.record(vec![delivered(accepted[1])]);
    let missed = EndedQuery { states: Vec::new(), missed: true, ..ended_query() };
    assert_eq!(keys(&all_ended(&running, &missed)), [accepted[0]]);
    assert_eq!(keys(&all_ended(&running, &ended_query())), [accepted[1]]);
    running.record(vec![decision(accepted[0], 99, Verdict::Reopened)]);
    assert_eq!(keys(&all_ended(&running, &missed)), []);
    running.record(vec![delivered(accepted[0])]);
    assert_eq!(keys(&all_ended(&running, &ended_query())), accepted);
    running.close();
}

fn time_bounds_hold_for_ended_deliveries(backend: &Backend) {
    let running = backend.start();
    let accepted = fill(&running);
    let query = EventQuery { limit: 1000, ..event_query() };
    let events = running.events(&query).events;
    let all = all_ended(&running, &ended_query());
    let at = |key: &DeliveryKey| {
        events.iter().find(|event| event.id.place == key.place).unwrap().id.accepted_at
    };
    for chosen in [&accepted[0], &accepted[20], &accepted[79]] {
        let time = at(chosen);
        let since = all_ended(&running, &EndedQuery { since: Some(time), ..ended_query() });
        let wanted: Vec<_> = keys(&all).into_iter().filter(|key| at(key) >= time).collect();
        assert_eq!(keys(&since), wanted);
        let until = all_ended(&running, &EndedQuery { until: time, ..ended_query() });
        let wanted: Vec<_> = keys(&all).into_iter().filter(|key| at(key) <= time).collect();
        assert_eq!(keys(&until), wanted);
    }
    running.close();
}

fn what_was_reopened_since_is_told_as_such(backend: &Backend) {
    let running = backend.start();
    let accepted: Vec<_> = (0..3).flat_map(|_| running.accept(event("x", &[1]))).collect();
    running.record(accepted.iter().map(|key| delivered(*key)).collect());
    running.record(vec![decision(accepted[0], 99, Verdict::Reopened)]);
    running.record(vec![decision(accepted[1], 100, Verdict::Reopened)]);
    let query = EndedQuery { reopened_since: Some(100), ..ended_query() };
    let told: Vec<_> =
        all_ended(&running, &query).iter().map(|row| (row.key, row.reopened)).collect();
    assert_eq!(told, [(accepted[1], true), (accepted[2], false)]);
    running.close();
}
