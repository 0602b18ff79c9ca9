//! That nothing is left in the files of what was erased, for whatever reason it lay there.

use bytes::Bytes;

use super::*;
use crate::{
    id::Place,
    store::{Erasure, NewEvent, contract_tests::event_query},
};

const SECRET: &[u8] = b"canary-4711";

/// How often it stands in any file of the directory.
fn found(dir: &Path) -> usize {
    let mut found = 0;
    for file in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        found += match file.file_type().unwrap().is_dir() {
            true => self::found(&file.path()),
            false => memchr::memmem::find_iter(&fs::read(file.path()).unwrap(), SECRET).count(),
        };
    }
    found
}

fn filler(size: usize) -> NewEvent {
    let text: String = (0..size).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    event(&text, &[1])
}

fn secret() -> NewEvent {
    NewEvent { payload: Bytes::from_static(b"{\"to\":\"canary-4711\"}"), ..event("", &[1]) }
}

fn echo(key: DeliveryKey) -> Entry {
    let mut entry = answered(key, 1, 200, Verdict::Delivered);
    let response = KeptResponse { body: Bytes::from_static(SECRET), ..KeptResponse::default() };
    entry.attempt.as_mut().unwrap().response = response;
    entry
}

/// Events and responses that hold the secret among others that do not, in many segments.
fn fill(running: &Running) -> Vec<Place> {
    let mut places = Vec::new();
    for round in 0..24 {
        let mut batch = vec![filler(4000); 60];
        batch.insert(round, secret());
        batch.push(filler(40_000));
        let place = running.append(batch).unwrap()[round].id.place;
        running.record(vec![echo(DeliveryKey { place, webhook: WebhookNo(1) })]);
        places.push(place);
    }
    places
}

fn erase(running: &Running, places: Vec<Place>) {
    let (store, runtime) = (&running.store, &running.runtime);
    let entries = runtime.block_on(store.responses(places.clone())).unwrap();
    let erasure = Erasure { places, entries, at: 1, text: None };
    runtime.block_on(store.erase(erasure)).unwrap();
}

fn scrub(running: &Running) {
    let limit = Duration::from_secs(120);
    let scrubbed = async { tokio::time::timeout(limit, running.store.scrub()).await };
    running.runtime.block_on(scrubbed).expect("it ends").unwrap();
}

#[test]
fn nothing_of_what_was_erased_is_left_in_the_files() {
    let dir = Dir::new();
    let running = dir.start();
    let places = fill(&running);
    let before = running.count_events();
    assert!(found(&dir.data()) >= 2 * places.len());
    erase(&running, places.clone());
    assert!(found(&dir.data()) > 0, "sled keeps what was overwritten: the scrub is for that");
    let size = fs::metadata(dir.data().join("store/db")).unwrap().len();
    scrub(&running);
    assert_eq!(found(&dir.data()), 0);
    let grown = fs::metadata(dir.data().join("store/db")).unwrap().len();
    assert!(grown < 2 * size + (64 << 20), "{grown} bytes, {size} before");
    running.close();
    assert_eq!(found(&dir.data()), 0);
    let running = dir.start();
    assert_eq!(running.count_events(), before);
    let rows = running.runtime.block_on(running.store.events(event_query())).unwrap().events;
    assert!(rows.iter().filter(|row| row.erased_at == Some(1)).count() > 0);
    running.close();
}

/// The file is full of it, so that whatever was not written over shows.
#[test]
fn a_segment_that_was_used_again_holds_nothing_behind_its_end() {
    let dir = Dir::new();
    let running = dir.start();
    let full = NewEvent { payload: SECRET.repeat(1400).into(), ..event("", &[1]) };
    let mut places = Vec::new();
    for _ in 0..16 {
        let appended = running.append(vec![full.clone(); 60]).unwrap();
        places.extend(appended.iter().map(|done| done.id.place));
    }
    for places in places.chunks(100) {
        erase(&running, places.to_vec());
    }
    scrub(&running);
    assert_eq!(found(&dir.data()), 0);
    running.close();
}

#[test]
fn a_scrub_that_was_killed_leaves_a_store_that_opens_and_the_next_one_ends_it() {
    let dir = Dir::new();
    let running = dir.start();
    let places = fill(&running);
    let before = running.count_events();
    erase(&running, places);
    let (reply, _answer) = tokio::sync::oneshot::channel();
    running.runtime.block_on(running.store.writes.send(Write::Scrub { reply })).unwrap();
    // Copies of the files at several moments are what SIGKILL would leave.
    for moment in 0..4 {
        // Steps of the scrub go between the commits.
        (0..1 + 8 * moment).for_each(|_| drop(running.append(vec![filler(10)]).unwrap()));
        let killed = Dir::new();
        copy_dir(&dir.data(), &killed.data());
        // A copy is no instant: what cannot be opened for that reason says nothing.
        let Ok(opened) = open(killed.settings()) else { continue };
        let again = Running::feed(opened);
        assert!(again.count_events() >= before);
        scrub(&again);
        assert_eq!(found(&killed.data()), 0, "killed at moment {moment}");
        again.close();
    }
    running.close();
}

#[test]
fn a_scrub_that_is_asked_for_while_another_goes_on_covers_what_was_erased_meanwhile() {
    let dir = Dir::new();
    let running = dir.start();
    let mut places = fill(&running);
    let late = places.split_off(3);
    erase(&running, places);
    let (reply, first) = tokio::sync::oneshot::channel();
    running.runtime.block_on(running.store.writes.send(Write::Scrub { reply })).unwrap();
    running.append(vec![filler(10)]).unwrap();
    erase(&running, late);
    scrub(&running);
    running.runtime.block_on(first).unwrap().unwrap();
    assert_eq!(found(&dir.data()), 0);
    running.close();
}

#[test]
fn damaged_blocks_that_were_moved_aside_are_emptied_where_they_hold_the_text() {
    let dir = Dir::new();
    let running = dir.start();
    running.append(vec![secret()]).unwrap();
    let kept = running.append(vec![filler(100)]).unwrap()[0].id.place;
    running.close();
    let db = dir.raw();
    for place in [Place::new(0, 0), kept] {
        let key = Log::Events.key(place.block(), 0);
        let mut record = db.get(key).unwrap().unwrap().to_vec();
        record[4] ^= 1;
        db.insert(key, record).unwrap();
    }
    db.flush().unwrap();
    drop(db);
    let running = dir.start();
    let text = Some(Bytes::from_static(SECRET));
    let erasure = Erasure { places: Vec::new(), entries: Vec::new(), at: 1, text };
    running.runtime.block_on(running.store.erase(erasure)).unwrap();
    scrub(&running);
    running.close();
    assert_eq!(found(&dir.data()), 0);
    let db = dir.raw();
    let aside: Vec<usize> =
        db.scan_prefix([0x60]).values().map(|value| value.unwrap().len()).collect();
    assert_eq!(aside.len(), 2, "that they were there is still known");
    assert!(aside[0] == 0 && aside[1] > 100, "{aside:?}");
}
