//! Reading: pages, cursors, filters, entries and places.

use super::*;
use crate::{
    delivery::{FailReason, State},
    id::{EventId, Place},
    store::DeliveryRow,
};

suite!(
    deliveries_come_newest_first_whatever_the_limit,
    each_filter_of_deliveries_matches_its_kind,
    a_row_tells_of_the_last_attempt,
    entries_of_a_delivery_and_of_an_event_are_in_order,
    disabled_routes_are_no_deliveries,
    events_come_newest_first_whatever_the_limit,
    each_filter_of_events_matches_its_kind,
    another_tenant_sees_nothing,
    places_of_a_webhook_can_be_read_in_pieces,
    pages_are_the_same_after_a_restart,
    a_small_scan_limit_only_makes_pages_short,
);

/// Follows the cursors to the end.
fn all_rows(running: &Running, query: &DeliveryQuery) -> Vec<DeliveryRow> {
    let mut query = query.clone();
    let mut rows = Vec::new();
    for _ in 0..10_000 {
        let page = running.deliveries(&query);
        assert!(page.rows.len() <= query.limit);
        rows.extend(page.rows);
        let Some(next) = page.next else { return rows };
        assert!(query.before.is_none_or(|before| next < before), "the cursor goes on");
        query.before = Some(next);
    }
    panic!("the pages never end")
}

fn all_events(running: &Running, query: &EventQuery) -> Vec<EventId> {
    let mut query = query.clone();
    let mut events = Vec::new();
    for _ in 0..10_000 {
        let page = running.events(&query);
        assert!(page.events.len() <= query.limit);
        events.extend(page.events.iter().map(|event| event.id));
        let Some(next) = page.next else { return events };
        query.before = Some(next);
    }
    panic!("the pages never end")
}

/// Forty events of two tenants with deliveries in every state; gives tenant 1's keys, as accepted.
pub(super) fn fill(running: &Running) -> Vec<DeliveryKey> {
    let mut keys = Vec::new();
    for n in 0..40u32 {
        let event_type = EventType::ALL[n as usize % 6];
        let mine = NewEvent { event_type, ..event(&format!("{n:0>900}"), &[1, 2 + n % 3]) };
        let accepted = running.accept(mine);
        running.accept(NewEvent { tenant: TenantNo(2), ..event("not mine", &[99]) });
        let entries = match n % 5 {
            0 => vec![],
            1 => vec![delivered(accepted[0])],
            2 => vec![answered(accepted[0], 1, 503, Verdict::RetryAt(9)), delivered(accepted[1])],
            3 => {
                vec![answered(accepted[1], 6, 404, Verdict::Failed(FailReason::AttemptsExhausted))]
            }
            _ => vec![
                answered(accepted[0], 1, 500, Verdict::RetryAt(9)),
                answered(accepted[0], 2, 200, Verdict::Delivered),
                decision(accepted[0], 99, Verdict::Reopened),
            ],
        };
        if !entries.is_empty() {
            running.record(entries);
        }
        keys.extend(accepted);
    }
    keys
}

fn deliveries_come_newest_first_whatever_the_limit(backend: &Backend) {
    let running = backend.start();
    let mut expected = fill(&running);
    expected.sort_by_key(|key| std::cmp::Reverse(*key));
    for limit in [1, 2, 7, 79, 80, 81, 1000] {
        let query = DeliveryQuery { limit, ..delivery_query() };
        let keys: Vec<_> = all_rows(&running, &query).iter().map(|row| row.key).collect();
        assert_eq!(keys, expected, "limit {limit}");
    }
    running.close();
}

fn each_filter_of_deliveries_matches_its_kind(backend: &Backend) {
    let running = backend.start();
    fill(&running);
    let everything = all_rows(&running, &delivery_query());
    let check = |query: DeliveryQuery, is_wanted: &dyn Fn(&DeliveryRow) -> bool| {
        let wanted: Vec<_> = everything.iter().filter(|row| is_wanted(row)).cloned().collect();
        assert!(!wanted.is_empty() && wanted.len() < everything.len(), "{query:?} tells nothing");
        for limit in [3, 1000] {
            let query = DeliveryQuery { limit, ..query.clone() };
            assert_eq!(all_rows(&running, &query), wanted, "{query:?}");
        }
    };
    let all = delivery_query;
    for name in ["pending", "retrying", "delivered", "failed"] {
        let query = DeliveryQuery { states: vec![name], ..all() };
        check(query, &|row| row.state.as_str() == name);
    }
    let query = DeliveryQuery { states: vec!["pending", "failed"], ..all() };
    check(query, &|row| {
        !row.state.is_ended() && row.state == State::Pending
            || matches!(row.state, State::Failed(_))
    });
    let query = DeliveryQuery { webhook: Some(WebhookNo(3)), ..all() };
    check(query, &|row| row.key.webhook == WebhookNo(3));
    let types = EventTypes::NONE.with(EventType::Read).with(EventType::Sent);
    let query = DeliveryQuery { event_types: types, ..all() };
    check(query, &|row| types.contains(row.event_type));
    let status = |row: &DeliveryRow| {
        row.last.as_ref().and_then(|entry| entry.attempt.as_ref()).and_then(|a| a.status)
    };
    let query = DeliveryQuery { status: Some((500, 599)), ..all() };
    check(query, &|row| status(row).is_some_and(|status| status >= 500));
    let query = DeliveryQuery { status: Some((404, 404)), ..all() };
    check(query, &|row| status(row) == Some(404));
    let query = DeliveryQuery { error: Some(ErrorCode::Status), ..all() };
    check(query, &|row| status(row).is_some_and(|status| status != 200));
    let none = DeliveryQuery { error: Some(ErrorCode::Dns), ..all() };
    assert_eq!(all_rows(&running, &none), vec![]);
    let middle = everything[40].event.accepted_at;
    if everything.iter().any(|row| row.event.accepted_at < middle) {
        let query = DeliveryQuery { since: Some(middle), ..all() };
        check(query, &|row| row.event.accepted_at >= middle);
    }
    if everything.iter().any(|row| row.event.accepted_at > middle) {
        let query = DeliveryQuery { until: Some(middle), ..all() };
        check(query, &|row| row.event.accepted_at <= middle);
    }
    running.close();
}

fn a_row_tells_of_the_last_attempt(backend: &Backend) {
    let running = backend.start();
    let keys = running.accept(event("x", &[1, 2]));
    let last = answered(keys[0], 2, 500, Verdict::Failed(FailReason::AttemptsExhausted));
    running.record(vec![answered(keys[0], 1, 503, Verdict::RetryAt(1)), last.clone()]);
    let expired = decision(keys[1], 7, Verdict::Failed(FailReason::Expired));
    running.record(vec![expired.clone(), decision(keys[0], 8, Verdict::Reopened)]);
    let rows = all_rows(&running, &delivery_query());
    assert_eq!(rows[0].last, Some(expired), "without an attempt, the decision");
    assert_eq!(rows[0].state, State::Failed(FailReason::Expired));
    assert_eq!((rows[1].state, rows[1].attempts), (State::Pending, 2));
    assert_eq!(rows[1].last, Some(last), "the attempt, although a replay came after it");
    running.close();
}

fn entries_of_a_delivery_and_of_an_event_are_in_order(backend: &Backend) {
    let running = backend.start();
    let keys = running.accept(event("x", &[1, 2]));
    let other = running.accept(event("y", &[1, 2]));
    let mut all = Vec::new();
    for number in 1..=6 {
        all.push(answered(keys[0], number, 500, Verdict::RetryAt(u64::from(number))));
        all.push(answered(keys[1], number, 502, Verdict::RetryAt(1)));
        running.record(vec![all[all.len() - 2].clone(), delivered(other[0])]);
        running.record(vec![all[all.len() - 1].clone()]);
    }
    let read = |webhook| {
        let entries = running.store.entries(keys[0].place, webhook);
        running.runtime.block_on(entries).unwrap()
    };
    assert_eq!(read(None), all);
    let firsts: Vec<_> = all.iter().filter(|e| e.key == keys[0]).cloned().collect();
    assert_eq!(read(Some(WebhookNo(1))), firsts);
    assert_eq!(read(Some(WebhookNo(3))), vec![]);
    running.close();
}

fn disabled_routes_are_no_deliveries(backend: &Backend) {
    let running = backend.start();
    let routes: Arc<[Route]> = vec![route(1, true), route(2, false)].into();
    let keys = running.accept(NewEvent { routes: routes.clone(), ..event("x", &[]) });
    let rows = all_rows(&running, &delivery_query());
    assert_eq!(rows.iter().map(|row| row.key).collect::<Vec<_>>(), vec![keys[0]]);
    let page = running.events(&event_query());
    assert_eq!(page.events[0].routes, &routes[..], "but the event tells of them");
    // A replay makes it one.
    running.record(vec![decision(keys[1], 5, Verdict::Reopened)]);
    assert_eq!(all_rows(&running, &delivery_query()).len(), 2);
    running.close();
    let running = backend.start();
    assert_eq!(running.recovered.len(), 2);
    running.close();
}

fn events_come_newest_first_whatever_the_limit(backend: &Backend) {
    let running = backend.start();
    let mut expected = Vec::new();
    for n in 0..25 {
        let batch = (0..n % 4).map(|i| event(&format!("{n}-{i:0>700}"), &[1])).collect();
        expected.extend(running.append(batch).unwrap().iter().map(|appended| appended.id));
    }
    expected.reverse();
    for limit in [1, 2, 5, 1000] {
        let query = EventQuery { limit, ..event_query() };
        assert_eq!(all_events(&running, &query), expected, "limit {limit}");
    }
    let page = running.events(&event_query());
    assert_eq!(page.events[0].payload, format!("23-{:0>700}", 2).as_bytes());
    running.close();
}

fn each_filter_of_events_matches_its_kind(backend: &Backend) {
    let running = backend.start();
    fill(&running);
    let everything = running.events(&event_query()).events;
    let types = EventTypes::NONE.with(EventType::Failed);
    let query = EventQuery { event_types: types, limit: 2, ..event_query() };
    let wanted: Vec<_> =
        everything.iter().filter(|e| e.event_type == EventType::Failed).map(|e| e.id).collect();
    assert!(!wanted.is_empty());
    assert_eq!(all_events(&running, &query), wanted);
    let middle = everything[20].id.accepted_at;
    let query = EventQuery { since: Some(middle), until: Some(middle), ..event_query() };
    let wanted: Vec<_> =
        everything.iter().map(|e| e.id).filter(|id| id.accepted_at == middle).collect();
    assert_eq!(all_events(&running, &query), wanted);
    running.close();
}

fn another_tenant_sees_nothing(backend: &Backend) {
    let running = backend.start();
    let key = running.accept(event("x", &[1]))[0];
    let other = TenantNo(3);
    let forged = DeliveryKey { place: Place::MAX, webhook: WebhookNo(u32::MAX) };
    for before in [None, Some(key), Some(forged)] {
        let query = DeliveryQuery { tenant: other, before, ..delivery_query() };
        assert_eq!(running.deliveries(&query), DeliveryPage::default());
        let before = before.map(|key| key.place);
        let query = EventQuery { tenant: other, before, ..event_query() };
        assert_eq!(running.events(&query), EventPage::default());
    }
    running.close();
}

fn places_of_a_webhook_can_be_read_in_pieces(backend: &Backend) {
    let running = backend.start();
    let mut expected = Vec::new();
    for n in 0..60u32 {
        let webhooks = if n % 3 == 0 { vec![5, 6] } else { vec![6] };
        let place = running.accept(event(&format!("{n:0>1000}"), &webhooks))[0].place;
        if n % 3 == 0 {
            expected.push(place);
        }
    }
    let disabled: Arc<[Route]> = vec![route(5, false), route(6, true)].into();
    running.accept(NewEvent { routes: disabled, ..event("x", &[]) });
    let read = |from, until, limit| {
        let places = running.store.places(WebhookNo(5), from, until, limit);
        running.runtime.block_on(places).unwrap()
    };
    for limit in [1, 4, 100] {
        let (mut places, mut from) = (Vec::new(), Some(Place::MIN));
        while let Some(start) = from {
            let found = read(start, Place::MAX, limit);
            assert!(found.places.len() <= limit);
            places.extend(found.places);
            from = found.next;
        }
        assert_eq!(places, expected, "limit {limit}");
    }
    assert_eq!(read(expected[3], expected[5], 100).places, expected[3..=5]);
    assert_eq!(read(expected[5], expected[3], 100), Default::default());
    running.close();
}

fn pages_are_the_same_after_a_restart(backend: &Backend) {
    let running = backend.start();
    let keys = fill(&running);
    let before = (all_rows(&running, &delivery_query()), running.events(&event_query()));
    let entries = running.entries(keys[8]);
    running.close();
    let running = backend.start();
    assert_eq!((all_rows(&running, &delivery_query()), running.events(&event_query())), before);
    assert_eq!(running.entries(keys[8]), entries);
    running.close();
}

fn a_small_scan_limit_only_makes_pages_short(backend: &Backend) {
    let running = backend.start_with(|settings| settings.max_scan_blocks = 1);
    let mut expected = fill(&running);
    expected.sort_by_key(|key| std::cmp::Reverse(*key));
    for webhook in [None, Some(WebhookNo(3))] {
        let query = DeliveryQuery { webhook, ..delivery_query() };
        let wanted: Vec<_> =
            expected.iter().filter(|key| webhook.is_none_or(|w| w == key.webhook)).collect();
        let rows = all_rows(&running, &query);
        assert_eq!(rows.iter().map(|row| &row.key).collect::<Vec<_>>(), wanted);
    }
    assert_eq!(all_events(&running, &event_query()).len(), 40);
    running.close();
}
