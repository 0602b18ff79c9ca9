//! Watching: every attempt once, in the order of recording, and never a gap without a word.

use super::*;
use crate::{
    id::Place,
    store::{AttemptQuery, Attempts, EntryPlace, Gap},
};

suite!(
    watchers_see_every_attempt_once_while_more_come,
    a_watcher_begins_where_the_log_ends,
    every_filter_holds_for_watchers,
    a_place_survives_a_restart,
    what_became_of_the_events_is_told_as_a_gap,
    who_watches_hears_of_every_commit,
);

impl Running {
    fn attempts(&self, from: Option<EntryPlace>, query: &AttemptQuery) -> Attempts {
        self.runtime.block_on(self.store.attempts(from, query.clone())).unwrap()
    }
}

fn query() -> AttemptQuery {
    AttemptQuery {
        tenant: None,
        webhook: None,
        states: Vec::new(),
        event_types: EventTypes::ALL,
        status: None,
        error: None,
        limit: 100,
    }
}

/// The oldest place there can be.
const BEGINNING: EntryPlace = EntryPlace(Place::MIN);

/// Asks until there is no more: the entries, and where to go on.
fn all_attempts(
    running: &Running,
    mut from: EntryPlace,
    query: &AttemptQuery,
) -> (Vec<Entry>, EntryPlace) {
    let mut told = Vec::new();
    for _ in 0..10_000 {
        let found = running.attempts(Some(from), query);
        assert!(found.rows.len() <= query.limit && found.gap.is_none());
        assert!(found.next >= from, "it goes on");
        assert!(found.rows.iter().all(|row| row.place >= from && row.place < found.next));
        told.extend(found.rows.into_iter().map(|row| row.entry));
        from = found.next;
        if !found.more {
            return (told, from);
        }
    }
    panic!("it never ends")
}

fn watchers_see_every_attempt_once_while_more_come(backend: &Backend) {
    for limit in [1, 3, 1000] {
        let running = backend.start();
        let query = AttemptQuery { limit, ..query() };
        let mut from = running.attempts(None, &query).next;
        let begin = from;
        let (mut recorded, mut told) = (Vec::new(), Vec::new());
        for n in 0..40_u16 {
            let key = running.accept(event(&n.to_string(), &[1]))[0];
            let mut entries: Vec<_> =
                (1..=n % 4).map(|number| answered(key, number, 500, Verdict::RetryAt(9))).collect();
            // Decisions are no attempts.
            entries.push(decision(key, 1, Verdict::Failed(crate::delivery::FailReason::Expired)));
            running.record(entries.clone());
            recorded.extend(entries.into_iter().filter(|entry| entry.attempt.is_some()));
            let found = running.attempts(Some(from), &query);
            told.extend(found.rows.into_iter().map(|row| row.entry));
            from = found.next;
        }
        told.extend(all_attempts(&running, from, &query).0);
        assert_eq!(told, recorded, "limit {limit}");
        assert_eq!(all_attempts(&running, begin, &query).0, recorded, "limit {limit}");
        // Behind any one attempt come all later ones.
        let all = AttemptQuery { limit: 1000, ..query };
        let rows = running.attempts(Some(begin), &all).rows;
        for (at, row) in rows.iter().enumerate() {
            let behind = EntryPlace(Place::from_u64(row.place.0.as_u64() + 1));
            assert_eq!(all_attempts(&running, behind, &all).0, recorded[at + 1..]);
        }
        running.close();
    }
}

fn a_watcher_begins_where_the_log_ends(backend: &Backend) {
    let running = backend.start();
    let key = running.accept(event("x", &[1]))[0];
    running.record(vec![answered(key, 1, 500, Verdict::RetryAt(9))]);
    let now = running.attempts(None, &query());
    assert_eq!((now.rows.len(), now.more, now.gap), (0, false, None));
    assert_eq!(running.attempts(Some(now.next), &query()), now);
    running.record(vec![delivered(key)]);
    let found = running.attempts(Some(now.next), &query());
    assert_eq!(found.rows.iter().map(|row| &row.entry).collect::<Vec<_>>(), [&delivered(key)]);
    assert_eq!(found.rows[0].event.place, key.place);
    running.close();
}

fn every_filter_holds_for_watchers(backend: &Backend) {
    let running = backend.start();
    let begin = running.attempts(None, &query()).next;
    let mut all = Vec::new();
    for n in 0..60_u32 {
        let webhook = n % 5;
        let accepted = NewEvent {
            tenant: TenantNo(1 + n % 2),
            event_type: EventType::ALL[n as usize % 6],
            ..event("x", &[webhook])
        };
        let (tenant, event_type) = (accepted.tenant, accepted.event_type);
        let key = running.accept(accepted)[0];
        let entry = match n % 3 {
            0 => delivered(key),
            1 => answered(key, 1, 503, Verdict::RetryAt(9)),
            _ => answered(key, 6, 404, Verdict::Failed(crate::delivery::FailReason::Expired)),
        };
        running.record(vec![entry.clone()]);
        all.push((tenant, event_type, entry));
    }
    type One = (TenantNo, EventType, Entry);
    let check = |query: AttemptQuery, wanted: &dyn Fn(&One) -> bool| {
        let wanted: Vec<_> = all.iter().filter(|one| wanted(one)).map(|one| &one.2).collect();
        assert!(!wanted.is_empty() && wanted.len() < all.len(), "{query:?}");
        let (told, _) = all_attempts(&running, begin, &query);
        assert_eq!(told.iter().collect::<Vec<_>>(), wanted, "{query:?}");
    };
    let status = |one: &One| one.2.attempt.as_ref().and_then(|attempt| attempt.status);
    check(AttemptQuery { tenant: Some(TenantNo(2)), ..query() }, &|one| one.0 == TenantNo(2));
    check(AttemptQuery { webhook: Some(WebhookNo(3)), ..query() }, &|one| {
        one.2.key.webhook == WebhookNo(3)
    });
    let types = EventTypes::NONE.with(EventType::Read).with(EventType::Failed);
    check(AttemptQuery { event_types: types, ..query() }, &|one| types.contains(one.1));
    check(AttemptQuery { states: vec!["failed"], ..query() }, &|one| status(one) == Some(404));
    check(AttemptQuery { states: vec!["retrying", "delivered"], ..query() }, &|one| {
        status(one) != Some(404)
    });
    check(AttemptQuery { status: Some((500, 599)), limit: 2, ..query() }, &|one| {
        status(one) == Some(503)
    });
    check(AttemptQuery { error: Some(ErrorCode::Status), ..query() }, &|one| {
        status(one) != Some(200)
    });
    running.close();
}

fn a_place_survives_a_restart(backend: &Backend) {
    let running = backend.start();
    let keys = running.accept(event("x", &[1, 2, 3]));
    running.record(vec![delivered(keys[0])]);
    let (_, place) = all_attempts(&running, BEGINNING, &query());
    running.record(vec![delivered(keys[1])]);
    running.close();
    let running = backend.start();
    assert_eq!(all_attempts(&running, place, &query()).0, [delivered(keys[1])]);
    running.record(vec![delivered(keys[2])]);
    assert_eq!(all_attempts(&running, place, &query()).0, [delivered(keys[1]), delivered(keys[2])]);
    running.close();
}

fn what_became_of_the_events_is_told_as_a_gap(backend: &Backend) {
    let running = backend.start_with(|settings| settings.retention_age = Duration::ZERO);
    let begin = running.attempts(None, &query()).next;
    let key = running.accept(event("x", &[1]))[0];
    running.record(vec![delivered(key)]);
    eventually("it is removed", || running.count_events() == 0);
    let found = running.attempts(Some(begin), &query());
    assert_eq!((found.rows.len(), found.gap), (0, Some(Gap::Retired)));
    assert_eq!(running.attempts(Some(found.next), &query()).gap, None, "it is told once");
    // A place that is not reached yet is one of another history.
    let ahead = EntryPlace(Place::new(found.next.0.block() + 1, 0));
    let lost = running.attempts(Some(ahead), &query());
    assert_eq!((lost.next, lost.gap, lost.more), (found.next, Some(Gap::Lost), false));
    running.close();
}

fn who_watches_hears_of_every_commit(backend: &Backend) {
    let running = backend.start();
    let mut recorded = running.store.recorded.clone();
    let key = running.accept(event("x", &[1]))[0];
    for number in 1..=3 {
        recorded.mark_unchanged();
        running.record(vec![answered(key, number, 500, Verdict::RetryAt(9))]);
        assert!(recorded.has_changed().unwrap(), "it is told no later than the answer");
    }
    running.close();
}
