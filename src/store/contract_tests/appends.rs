//! Appending: durable before the answer, fed once and in order, all or nothing, once per key.

use std::time::Duration;

use tokio::sync::oneshot;

use super::*;
use crate::{
    delivery::CancelReason,
    store::{Bundle, Write},
};

suite!(
    append_is_fed_before_it_is_answered,
    events_are_fed_once_and_in_order,
    events_are_fed_although_the_asker_is_gone,
    what_was_appended_reads_back_byte_for_byte,
    payloads_of_every_size_survive_a_restart,
    ten_thousand_events_are_one_batch,
    routes_survive_in_their_order,
    ids_go_on_after_a_restart,
    a_repeated_key_gives_the_first_answer,
    a_key_repeated_within_a_batch_is_one_event,
    a_hundred_appends_of_one_key_at_once_are_one_event,
    a_key_with_another_payload_refuses_the_whole_batch,
    keys_survive_a_restart,
    keys_are_forgotten_after_their_window,
    rows_are_durable_and_can_change_their_length,
    rows_are_taken_before_anyone_is_fed,
    rows_and_what_belongs_to_them_are_durable_together,
    events_of_rows_wait_until_somebody_is_fed,
    a_closed_store_takes_nothing,
    an_empty_batch_is_answered,
);

fn append_is_fed_before_it_is_answered(backend: &Backend) {
    let mut running = backend.start();
    for round in 0..20 {
        let answer = running.append(vec![event(&format!("{{\"n\":{round}}}"), &[1, 2])]).unwrap();
        // No waiting: the answer came, so the block must be here.
        let Ok(Feed::Block(block)) = running.feed.try_recv() else {
            panic!("answered before it was fed")
        };
        assert_eq!(answer[0].deliveries, 2);
        assert_eq!(answer[0].id, block.event_id(answer[0].id.place.index()));
    }
    running.close();
}

fn events_are_fed_once_and_in_order(backend: &Backend) {
    let mut running = backend.start();
    let mut appended = Vec::new();
    for batch in 0..30 {
        let events = (0..batch).map(|n| event(&format!("{batch}-{n}"), &[7])).collect();
        appended.extend(running.append(events).unwrap());
    }
    let fed: Vec<_> = fed(&mut running)
        .iter()
        .flat_map(|block| {
            (0..block.events.len() as u16).map(|i| block.event_id(i)).collect::<Vec<_>>()
        })
        .collect();
    let answered: Vec<_> = appended.iter().map(|appended| appended.id).collect();
    assert_eq!(fed, answered);
    assert!(fed.is_sorted_by_key(|id| (id.accepted_at, id.place)), "places order as accepted");
    running.close();
}

fn events_are_fed_although_the_asker_is_gone(backend: &Backend) {
    let mut running = backend.start();
    let (reply, answer) = oneshot::channel();
    drop(answer);
    let write = Write::Append { events: vec![event("orphan", &[1])], reply };
    running.runtime.block_on(running.store.writes.send(write)).unwrap();
    running.append(vec![event("next", &[1])]).unwrap();
    let payloads: Vec<_> = fed(&mut running).iter().flat_map(|block| block.payload(0)).collect();
    assert!(payloads.contains(&Bytes::from("orphan")), "{payloads:?}");
    running.close();
}

fn what_was_appended_reads_back_byte_for_byte(backend: &Backend) {
    let mut running = backend.start();
    let payloads: Vec<String> = (0..50).map(|n| "x\u{0}é\n".repeat(n * 7)).collect();
    let events = payloads.iter().map(|payload| event(payload, &[3])).collect();
    let appended = running.append(events).unwrap();
    let fed = fed(&mut running);
    for (payload, appended) in payloads.iter().zip(&appended) {
        let place = appended.id.place;
        let block = running.runtime.block_on(running.store.block(place.block())).unwrap().unwrap();
        assert_eq!(block.payload(place.index()).unwrap(), payload.as_bytes());
        assert!(fed.contains(&block), "what is read is what was fed");
    }
    let none = running.runtime.block_on(running.store.block(1 << 40)).unwrap();
    assert_eq!(none, None);
    running.close();
}

fn payloads_of_every_size_survive_a_restart(backend: &Backend) {
    let sizes = [0, 1, 600, 6_400, 6_480, 6_492, 6_493, 7_000, 65_536, 262_144];
    let running = backend.start();
    let payload = |size: usize| "0123456789abcdef".repeat(size / 16 + 1)[..size].to_owned();
    let together = sizes.iter().map(|size| event(&payload(*size), &[1])).collect();
    let appended = running.append(together).unwrap();
    running.close();
    let running = backend.start();
    assert_eq!(running.recovered.len(), sizes.len());
    for (size, appended) in sizes.iter().zip(appended) {
        let place = appended.id.place;
        let block = running.runtime.block_on(running.store.block(place.block())).unwrap().unwrap();
        assert_eq!(block.payload(place.index()).unwrap(), payload(*size).as_bytes());
    }
    running.close();
}

fn ten_thousand_events_are_one_batch(backend: &Backend) {
    let running = backend.start();
    let events = (0..10_000).map(|n| event(&format!("{n:0>600}"), &[1, 2])).collect();
    let appended = running.append(events).unwrap();
    assert_eq!(appended.len(), 10_000);
    assert_eq!(running.count_events(), 10_000);
    running.close();
    let running = backend.start();
    assert_eq!(running.recovered.len(), 20_000);
    assert!(running.recovered.is_sorted_by_key(|recovered| recovered.key.place));
    running.close();
}

fn routes_survive_in_their_order(backend: &Backend) {
    let running = backend.start();
    let all: Vec<Route> = [(9, true), (3, false), (u32::MAX, true), (0, false), (4, true)]
        .into_iter()
        .chain((100..10_100).map(|no| (no, no % 3 == 0)))
        .map(|(no, enabled)| route(no, enabled))
        .collect();
    let fan_out = NewEvent { routes: all.clone().into(), ..event("x", &[]) };
    let appended = running.append(vec![event("before", &[1]), fan_out]).unwrap();
    assert_eq!(appended[1].deliveries as usize, all.iter().filter(|route| route.enabled).count());
    running.close();
    let running = backend.start();
    let place = appended[1].id.place;
    let block = running.runtime.block_on(running.store.block(place.block())).unwrap().unwrap();
    assert_eq!(block.routes_of(place.index()), all);
    running.close();
}

fn ids_go_on_after_a_restart(backend: &Backend) {
    let mut last = None;
    for _ in 0..4 {
        let running = backend.start();
        for _ in 0..3 {
            let id = running.append(vec![event("x", &[1])]).unwrap()[0].id;
            assert!(last.is_none_or(|last| last < id.place), "{last:?} then {:?}", id.place);
            assert_eq!(id.node, running.store.node);
            last = Some(id.place);
        }
        running.abandon();
    }
}

fn a_repeated_key_gives_the_first_answer(backend: &Backend) {
    let mut running = backend.start();
    let first = running.append(vec![keyed("{}", 1)]).unwrap()[0];
    assert!(!first.replayed);
    let again = running.append(vec![event("other", &[2]), keyed("{}", 1)]).unwrap();
    assert!(!again[0].replayed);
    assert_eq!(again[1], Appended { replayed: true, ..first });
    let only_known = running.append(vec![keyed("{}", 1)]).unwrap();
    assert_eq!(only_known, vec![Appended { replayed: true, ..first }]);
    assert_eq!(running.count_events(), 2);
    assert_eq!(fed(&mut running).iter().map(|block| block.events.len()).sum::<usize>(), 2);
    running.close();
}

fn a_key_repeated_within_a_batch_is_one_event(backend: &Backend) {
    let running = backend.start();
    let batch = vec![keyed("a", 1), event("b", &[1]), keyed("a", 1), keyed("c", 2)];
    let answers = running.append(batch).unwrap();
    assert_eq!(answers[2], Appended { replayed: true, ..answers[0] });
    assert_eq!(answers.iter().filter(|answer| answer.replayed).count(), 1);
    assert_eq!(running.count_events(), 3);
    running.close();
}

fn a_hundred_appends_of_one_key_at_once_are_one_event(backend: &Backend) {
    let running = backend.start();
    let answers: Vec<_> = running.runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let store = running.store.clone();
            tasks.spawn(async move { store.append(vec![keyed("{}", 9)]).await.unwrap()[0] });
        }
        tasks.join_all().await
    });
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| answer.id == answers[0].id));
    assert_eq!(running.count_events(), 1);
    running.close();
}

fn a_key_with_another_payload_refuses_the_whole_batch(backend: &Backend) {
    let mut running = backend.start();
    running.append(vec![keyed("a", 1)]).unwrap();
    let batch =
        vec![event("new", &[1]), keyed("b", 1), keyed("c", 2), keyed("d", 2), keyed("a", 1)];
    assert_eq!(running.append(batch), Err(AppendError::KeyReused(vec![1, 3])));
    assert_eq!(running.count_events(), 1);
    assert_eq!(fed(&mut running).len(), 1);
    // Nothing of the refused batch is remembered either.
    assert!(!running.append(vec![keyed("d", 2)]).unwrap()[0].replayed);
    running.close();
}

fn keys_survive_a_restart(backend: &Backend) {
    let running = backend.start();
    let first: Vec<_> =
        (0..200).map(|n| running.append(vec![keyed("{}", n)]).unwrap()[0]).collect();
    let killed = backend.killed();
    running.abandon();
    for backend in [backend, &killed] {
        let running = backend.start();
        for (n, first) in first.iter().enumerate() {
            let again = running.append(vec![keyed("{}", n as u8)]).unwrap()[0];
            assert_eq!(again, Appended { replayed: true, ..*first });
        }
        assert_eq!(running.append(vec![keyed("[]", 3)]), Err(AppendError::KeyReused(vec![0])));
        assert_eq!(running.count_events(), 200);
        running.close();
    }
}

fn keys_are_forgotten_after_their_window(backend: &Backend) {
    let window = Duration::from_millis(150);
    let running = backend.start_with(|settings| settings.idempotency_window = window);
    let first = running.append(vec![keyed("{}", 1)]).unwrap()[0];
    assert!(running.append(vec![keyed("{}", 1)]).unwrap()[0].replayed);
    eventually("the key is new again", || {
        let again = running.append(vec![keyed("{}", 1)]).unwrap()[0];
        !again.replayed && again.id.accepted_at >= first.id.accepted_at + 150
    });
    // Another payload is a new event now, once the key has run out again.
    eventually("the key takes another payload", || running.append(vec![keyed("[]", 1)]).is_ok());
    running.close();
}

fn rows_are_durable_and_can_change_their_length(backend: &Backend) {
    let long = |byte: u8, len: usize| Some(vec![byte; len]);
    let row = |key: &[u8], value: Option<Vec<u8>>| Row { key: key.to_vec(), value };
    let running = backend.start();
    assert_eq!(running.rows, vec![]);
    let put = |running: &Running, rows| {
        running.runtime.block_on(running.store.put_rows(rows)).unwrap();
    };
    put(
        &running,
        vec![row(b"a", long(1, 20_000)), row(b"a\0\0", long(2, 3)), row(b"", long(3, 0))],
    );
    put(&running, vec![row(b"gone", long(4, 13_000)), row(b"b", long(5, 6_492))]);
    put(&running, vec![row(b"a", long(6, 7_000)), row(b"gone", None), row(b"never", None)]);
    running.abandon();
    let running = backend.start();
    let expected = vec![
        row(b"", long(3, 0)),
        row(b"a", long(6, 7_000)),
        row(b"a\0\0", long(2, 3)),
        row(b"b", long(5, 6_492)),
    ];
    assert_eq!(running.rows, expected);
    put(&running, vec![row(b"a", long(7, 1)), row(b"", None)]);
    running.close();
    let running = backend.start();
    let expected =
        vec![row(b"a", long(7, 1)), row(b"a\0\0", long(2, 3)), row(b"b", long(5, 6_492))];
    assert_eq!(running.rows, expected);
    running.close();
}

fn rows_are_taken_before_anyone_is_fed(backend: &Backend) {
    let opened = backend.open(settings());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let row = Row { key: b"key".to_vec(), value: Some(b"value".to_vec()) };
    runtime.block_on(opened.store.put_rows(vec![row.clone()])).unwrap();
    // An append waits for recovery, and is then taken.
    let (reply, answer) = oneshot::channel();
    let write = Write::Append { events: vec![event("early", &[1])], reply };
    runtime.block_on(opened.store.writes.send(write)).unwrap();
    let mut running = Running::feed(opened);
    assert_eq!(running.recovered, vec![], "what came early is a new block, not a recovered one");
    assert!(running.runtime.block_on(answer).unwrap().is_ok());
    assert_eq!(fed(&mut running).len(), 1);
    running.close();
    let running = backend.start();
    assert_eq!(running.rows, vec![row]);
    running.close();
}

fn rows_and_what_belongs_to_them_are_durable_together(backend: &Backend) {
    let mut running = backend.start();
    let before = running.append(vec![event("before", &[1])]).unwrap();
    fed(&mut running);
    let row = Row { key: b"row".to_vec(), value: Some(b"new".to_vec()) };
    let key = DeliveryKey { place: before[0].id.place, webhook: WebhookNo(1) };
    let verdict = Verdict::Canceled(CancelReason::Requested);
    let entry = Entry { key, at: 7, verdict, attempt: None };
    let write = running.store.put(Bundle {
        rows: vec![row.clone()],
        events: vec![event("told", &[1, 2])],
        entries: vec![entry.clone()],
    });
    running.runtime.block_on(write).unwrap();
    assert_eq!(running.entries(key), std::slice::from_ref(&entry));
    let Ok(Feed::Block(block)) = running.feed.try_recv() else { panic!("fed before the answer") };
    assert_eq!(block.payload(0), Some(Bytes::from("told")));
    assert_eq!(block.routes_of(0).len(), 2);
    let killed = backend.killed();
    running.close();
    let again = killed.start();
    assert_eq!(again.rows, [row]);
    let waiting = again.recovered.iter().filter(|one| one.key.place.block() == block.number);
    assert_eq!(waiting.count(), 2);
    assert_eq!(again.entries(key), [entry]);
    assert!(again.recovered.iter().all(|one| one.key != key), "it was canceled");
    again.close();
}

fn events_of_rows_wait_until_somebody_is_fed(backend: &Backend) {
    let opened = backend.open(settings());
    let (reply, answer) = oneshot::channel();
    let rows = vec![Row { key: b"row".to_vec(), value: Some(b"new".to_vec()) }];
    let bundle = Bundle { rows, events: vec![event("told", &[1])], ..Bundle::default() };
    let write = Write::Rows { bundle, reply };
    opened.store.writes.try_send(write).unwrap();
    // Rows alone are taken at once, so the others have been looked at.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let alone = vec![Row { key: b"alone".to_vec(), value: Some(b"1".to_vec()) }];
    runtime.block_on(opened.store.put_rows(alone)).unwrap();
    let mut running = Running::feed(opened);
    assert_eq!(running.runtime.block_on(answer).unwrap(), Ok(()));
    let blocks = fed(&mut running);
    assert_eq!(blocks.len(), 1, "fed once, and not found by recovery too");
    assert_eq!(blocks[0].payload(0), Some(Bytes::from("told")));
    assert_eq!(running.recovered, []);
    running.close();
}

fn a_closed_store_takes_nothing(backend: &Backend) {
    let running = backend.start();
    running.append(vec![event("x", &[1])]).unwrap();
    running.runtime.block_on(running.store.close()).unwrap();
    assert_eq!(running.append(vec![event("y", &[1])]), Err(AppendError::Poisoned));
    let put = running.runtime.block_on(running.store.put_rows(vec![]));
    assert!(is_gone(&put.unwrap_err()));
    // The threads end although a handle is still there.
    let Running { threads, store, .. } = running;
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(store);
}

fn an_empty_batch_is_answered(backend: &Backend) {
    let mut running = backend.start();
    assert_eq!(running.append(vec![]), Ok(vec![]));
    running.record(vec![]);
    assert_eq!(fed(&mut running).len(), 0);
    running.close();
}
