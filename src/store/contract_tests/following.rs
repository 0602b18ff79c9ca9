//! Catching up: every event once, in the order of acceptance, and never a gap without a word.

use super::*;
use crate::{
    id::{EventId, Place},
    store::Following,
};

suite!(
    followers_see_every_event_once_while_more_come,
    followers_may_ask_for_one_webhook_and_for_what_found_it_disabled,
    a_follower_whom_retention_overtook_is_told,
    a_small_scan_limit_only_makes_a_follower_ask_more_often,
    filters_of_time_and_type_hold_for_followers,
);

impl Running {
    fn following(&self, from: Option<Place>, query: &EventQuery) -> Option<Following> {
        self.runtime.block_on(self.store.following(from, query.clone())).unwrap()
    }
}

/// Asks until there is no more; where to go on comes with it.
fn all_following(
    running: &Running,
    mut from: Option<Place>,
    query: &EventQuery,
) -> (Vec<EventId>, Place) {
    let mut told = Vec::new();
    for _ in 0..10_000 {
        let found = running.following(from, query).expect("nothing was removed");
        assert!(found.events.len() <= query.limit && !found.incomplete);
        assert!(from.is_none_or(|from| found.next >= from), "it goes on");
        told.extend(found.events.iter().map(|event| event.id));
        from = Some(found.next);
        if !found.more {
            return (told, found.next);
        }
    }
    panic!("it never ends")
}

fn followers_see_every_event_once_while_more_come(backend: &Backend) {
    for limit in [1, 3, 1000] {
        let running = backend.start();
        let query = EventQuery { limit, ..event_query() };
        let (_, mut from) = all_following(&running, None, &query);
        let (mut accepted, mut told) = (Vec::new(), Vec::new());
        for n in 0..25 {
            let batch = (0..n % 4).map(|i| event(&format!("{n}-{i:0>700}"), &[1])).collect();
            accepted.extend(running.append(batch).unwrap().iter().map(|appended| appended.id));
            running.accept(NewEvent { tenant: TenantNo(2), ..event("not mine", &[99]) });
            let found = running.following(Some(from), &query).unwrap();
            told.extend(found.events.iter().map(|event| event.id));
            from = found.next;
        }
        told.extend(all_following(&running, Some(from), &query).0);
        assert_eq!(told, accepted, "limit {limit}");
        // After any one event come all later ones.
        for (at, id) in accepted.iter().enumerate() {
            let after = Place::from_u64(id.place.as_u64() + 1);
            assert_eq!(all_following(&running, Some(after), &query).0, accepted[at + 1..]);
        }
        running.close();
    }
}

fn followers_may_ask_for_one_webhook_and_for_what_found_it_disabled(backend: &Backend) {
    let running = backend.start();
    let add = |one: Option<bool>, two: bool| {
        let one = one.map(|enabled| route(1, enabled));
        let routes: Arc<[Route]> = one.into_iter().chain([route(2, two)]).collect();
        running.append(vec![NewEvent { routes, ..event("x", &[]) }]).unwrap()[0].id
    };
    let ids =
        [add(Some(true), true), add(Some(false), true), add(None, false), add(Some(true), false)];
    let check = |webhook: Option<u32>, found_disabled, expected: &[usize]| {
        let webhook = webhook.map(WebhookNo);
        let query = EventQuery { webhook, found_disabled, ..event_query() };
        let mut wanted: Vec<_> = expected.iter().map(|at| ids[*at]).collect();
        assert_eq!(all_following(&running, None, &query).0, wanted, "{query:?}");
        wanted.reverse();
        let page: Vec<_> = running.events(&query).events.iter().map(|event| event.id).collect();
        assert_eq!(page, wanted, "{query:?}");
    };
    check(None, false, &[0, 1, 2, 3]);
    check(Some(1), false, &[0, 1, 3]);
    check(Some(1), true, &[1]);
    check(Some(2), true, &[2, 3]);
    check(None, true, &[1, 2, 3]);
    check(Some(3), false, &[]);
    running.close();
}

fn a_follower_whom_retention_overtook_is_told(backend: &Backend) {
    let running = backend.start_with(|settings| settings.retention_age = Duration::ZERO);
    let query = event_query();
    let first = running.accept(event("x", &[1]))[0];
    let beginning = running.following(None, &query).unwrap();
    assert_eq!(beginning.events.len(), 1);
    let kept = running.accept(event("y", &[1]))[0];
    running.record(vec![delivered(first)]);
    eventually("the first is removed", || running.count_events() == 1);
    assert_eq!(running.following(Some(first.place), &query), None);
    // Who had read the first misses nothing, and the oldest kept is a place to begin.
    for from in [Some(beginning.next), None] {
        let found = running.following(from, &query).expect("nothing is missing");
        assert_eq!(found.events.iter().map(|e| e.id.place).collect::<Vec<_>>(), [kept.place]);
        assert!(!found.incomplete);
    }
    running.record(vec![delivered(kept)]);
    eventually("all is removed", || running.count_events() == 0);
    assert_eq!(running.following(Some(beginning.next), &query), None);
    let end = running.following(None, &query).expect("an empty log has a beginning").next;
    running.close();
    let running = backend.start();
    let next = running.accept(event("z", &[1]))[0];
    let found = running.following(Some(end), &query).expect("nothing is missing");
    assert_eq!(found.events.iter().map(|e| e.id.place).collect::<Vec<_>>(), [next.place]);
    assert!(!found.incomplete, "a restart is no gap");
    running.close();
}

fn a_small_scan_limit_only_makes_a_follower_ask_more_often(backend: &Backend) {
    let running = backend.start_with(|settings| settings.max_scan_blocks = 1);
    let mut mine = Vec::new();
    for n in 0..30 {
        let tenant = TenantNo(if n % 10 == 9 { 1 } else { 2 });
        let place = running.accept(NewEvent { tenant, ..event("x", &[1]) })[0].place;
        if tenant == TenantNo(1) {
            mine.push(place);
        }
    }
    let (told, _) = all_following(&running, None, &event_query());
    assert_eq!(told.iter().map(|id| id.place).collect::<Vec<_>>(), mine);
    running.close();
}

fn filters_of_time_and_type_hold_for_followers(backend: &Backend) {
    let running = backend.start();
    for n in 0..40 {
        running.accept(NewEvent { event_type: EventType::ALL[n % 6], ..event("x", &[1]) });
    }
    let mut all = running.events(&event_query()).events;
    all.reverse();
    let middle = all[20].id.accepted_at;
    let types = EventTypes::NONE.with(EventType::Read);
    for (since, until) in [(Some(middle), None), (None, Some(middle)), (Some(middle), Some(middle))]
    {
        let query = EventQuery { since, until, event_types: types, limit: 2, ..event_query() };
        let wanted = all.iter().filter(|event| {
            let at = event.id.accepted_at;
            event.event_type == EventType::Read
                && since.is_none_or(|since| at >= since)
                && until.is_none_or(|until| at <= until)
        });
        let wanted: Vec<_> = wanted.map(|event| event.id).collect();
        assert_eq!(all_following(&running, None, &query).0, wanted, "{query:?}");
    }
    running.close();
}
