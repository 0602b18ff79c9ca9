//! What is forgotten, and what is not.

use super::*;
use crate::{
    id::Place,
    store::{EventBlock, erasure::Erasure},
};

suite! {
    an_erased_event_keeps_everything_but_what_it_said,
    responses_to_what_was_erased_go_too_and_those_that_come_later_are_not_kept,
    an_erased_event_is_told_to_the_shards_as_what_is_left_of_it,
    keys_of_erased_events_still_dedupe,
    what_waits_of_an_erased_event_is_recovered,
    large_events_are_erased_among_small_ones,
}

const AT: Millis = 1_795_407_600_000;

fn erase(running: &Running, places: &[Place], entries: Vec<u64>) {
    let erasure = Erasure { places: places.to_vec(), entries, at: AT, text: None };
    running.runtime.block_on(running.store.erase(erasure)).unwrap();
}

fn responses(running: &Running, place: Place) -> Vec<u64> {
    running.runtime.block_on(running.store.responses(vec![place])).unwrap()
}

fn block(running: &Running, place: Place) -> Arc<EventBlock> {
    running.runtime.block_on(running.store.block(place.block())).unwrap().expect("it is kept")
}

fn echo(key: DeliveryKey, number: u16, verdict: Verdict) -> Entry {
    let mut entry = answered(key, number, 500, verdict);
    let body = Bytes::from_static(b"you sent a secret");
    let headers = Bytes::from_static(b"x-echo: a secret\r\n");
    let response = KeptResponse { headers, body, truncated: true };
    entry.attempt.as_mut().expect("it was answered").response = response;
    entry
}

fn an_erased_event_keeps_everything_but_what_it_said(backend: &Backend) {
    let running = backend.start();
    let batch = vec![event("one", &[1, 2]), event("a secret", &[1, 7, 3]), event("three", &[2])];
    let ids: Vec<_> = running.append(batch).unwrap().iter().map(|done| done.id).collect();
    let place = ids[1].place;
    assert_eq!(block(&running, place).payload(place.index()).unwrap(), "a secret", "read before");
    erase(&running, &[place], Vec::new());
    let check = |running: &Running| {
        let block = block(running, place);
        let payloads: Vec<_> = ids.iter().map(|id| block.payload(id.place.index())).collect();
        assert_eq!(payloads, [Some("one".into()), None, Some("three".into())]);
        let erased: Vec<_> = ids.iter().map(|id| block.erased_at(id.place.index())).collect();
        assert_eq!(erased, [None, Some(AT), None]);
        assert_eq!(block.event_id(place.index()), ids[1]);
        assert_eq!(block.routes_of(place.index()), [1, 7, 3].map(|no| route(no, true)));
        assert!(memchr::memmem::find(&block.bytes, b"secret").is_none());
        let rows = running.events(&event_query()).events;
        assert_eq!(rows.iter().map(|row| row.erased_at).collect::<Vec<_>>(), erased);
        assert_eq!(running.deliveries(&delivery_query()).rows.len(), 6);
    };
    check(&running);
    // Again, and what is not there.
    erase(&running, &[place, Place::new(place.block(), 99), Place::new(1 << 40, 0)], Vec::new());
    check(&running);
    running.close();
    check(&backend.start());
}

fn responses_to_what_was_erased_go_too_and_those_that_come_later_are_not_kept(backend: &Backend) {
    let running = backend.start();
    let wanted = running.accept(event("a secret", &[1]))[0];
    let other = running.accept(event("something else", &[1]))[0];
    let again = Verdict::RetryAt(AT);
    running.record(vec![echo(wanted, 1, again), echo(other, 1, again)]);
    assert_eq!(running.entries(wanted), [echo(wanted, 1, again)], "read before");
    erase(&running, &[wanted.place], Vec::new());
    // It was under way.
    running.record(vec![echo(wanted, 2, again), echo(other, 2, again)]);
    let blocks = responses(&running, wanted.place);
    assert_eq!(blocks.len(), 1, "what came later kept none");
    erase(&running, &[wanted.place], blocks);
    assert_eq!(responses(&running, wanted.place), Vec::<u64>::new());
    let check = |running: &Running| {
        let kept = |number| answered(wanted, number, 500, again);
        assert_eq!(running.entries(wanted), [kept(1), kept(2)]);
        assert_eq!(running.entries(other), [echo(other, 1, again), echo(other, 2, again)]);
    };
    check(&running);
    running.close();
    check(&backend.start());
}

fn an_erased_event_is_told_to_the_shards_as_what_is_left_of_it(backend: &Backend) {
    let mut running = backend.start();
    let place = running.accept(event("a secret", &[1]))[0].place;
    assert_eq!(fed(&mut running).len(), 1);
    erase(&running, &[place], Vec::new());
    let Ok(Feed::Erased(left)) = running.feed.try_recv() else { panic!("it is not told") };
    assert_eq!((left.number, left.payload(0), left.erased_at(0)), (place.block(), None, Some(AT)));
    erase(&running, &[place], Vec::new());
    assert!(running.feed.try_recv().is_err(), "nothing has changed");
}

fn keys_of_erased_events_still_dedupe(backend: &Backend) {
    let running = backend.start();
    let first = running.append(vec![keyed("a secret", 1)]).unwrap()[0];
    erase(&running, &[first.id.place], Vec::new());
    let check = |running: &Running| {
        let again = running.append(vec![keyed("a secret", 1)]).unwrap()[0];
        assert_eq!((again.id, again.replayed), (first.id, true));
        let other = running.append(vec![keyed("another", 1)]);
        assert_eq!(other, Err(AppendError::KeyReused(vec![0])));
    };
    check(&running);
    running.close();
    check(&backend.start());
}

fn what_waits_of_an_erased_event_is_recovered(backend: &Backend) {
    let running = backend.start();
    let keys = running.accept(event("a secret", &[1, 2]));
    running.record(vec![delivered(keys[0])]);
    erase(&running, &[keys[0].place], Vec::new());
    let killed = backend.killed();
    drop(running);
    let running = killed.start();
    let open = running.recovered.iter().filter(|told| told.key == keys[1]).count();
    assert_eq!(open, 1, "nothing is ended without a word: {:?}", running.recovered);
}

fn large_events_are_erased_among_small_ones(backend: &Backend) {
    let running = backend.start();
    let large = "a secret".repeat(10_000);
    let batch = vec![event("one", &[1]), event(&large, &[1]), event("three", &[1])];
    let ids: Vec<_> = running.append(batch).unwrap().iter().map(|done| done.id).collect();
    erase(&running, &[ids[1].place], Vec::new());
    let check = |running: &Running| {
        let payloads = ids.iter().map(|id| block(running, id.place).payload(id.place.index()));
        assert!(payloads.eq([Some("one".into()), None, Some("three".into())]));
        assert_eq!(running.recovered.len() % 3, 0, "{:?}", running.recovered);
    };
    check(&running);
    running.close();
    check(&backend.start());
}
