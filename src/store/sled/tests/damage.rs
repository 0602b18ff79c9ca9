//! What a crash, a bad disk or a careless hand leaves behind.

use std::fs;

use super::{Dir, delivered};
use crate::{
    id::{DeliveryKey, WebhookNo},
    store::{
        EventQuery, OpenError, StoreError,
        codec::{Log, RECORD_MAX, parse_key},
        contract_tests::{copy_dir, event, event_query},
        sled::{meta::Meta, open},
    },
};

/// Rewrites records of the event log: each block gets another byte flipped, or is cut.
#[test]
fn damaged_blocks_are_quarantined_and_their_neighbours_kept() {
    let dir = Dir::new();
    let running = dir.start();
    let count = 2 * RECORD_MAX / 16;
    let mut places = Vec::new();
    for _ in 0..count / 50 {
        // One event a block: they fill it.
        let events = (0..50).map(|_| event(&"x".repeat(RECORD_MAX - 100), &[1])).collect();
        places.extend(running.append(events).unwrap().iter().map(|appended| appended.id.place));
    }
    running.close();
    let raw = dir.raw();
    let mut damaged = Vec::new();
    for (n, place) in places.iter().enumerate().filter(|(n, _)| n % 2 == 1) {
        let key = Log::Events.key(place.block(), 0);
        let mut record = raw.get(key).unwrap().unwrap().to_vec();
        let at = (n / 2 * 16) % record.len();
        if n % 4 == 1 {
            record[at] ^= 1
        } else {
            record.truncate(at)
        }
        raw.insert(key, record).unwrap();
        damaged.push(*place);
    }
    raw.flush().unwrap();
    drop(raw);
    for _ in 0..2 {
        let running = dir.start();
        let told: Vec<_> = running.recovered.iter().map(|r| r.key.place).collect();
        let intact: Vec<_> = places.iter().copied().filter(|p| !damaged.contains(p)).collect();
        assert_eq!(told, intact, "neighbours are kept, damage is never told");
        let read = |block| running.runtime.block_on(running.store.block(block));
        assert_eq!(read(damaged[3].block()), Err(StoreError::Damaged));
        assert!(read(intact[3].block()).unwrap().is_some());
        assert_eq!(running.count_events(), intact.len(), "pages go on behind damage");
        let query = EventQuery { limit: usize::MAX, ..event_query() };
        let following = running.runtime.block_on(running.store.following(None, query));
        let following = following.unwrap().expect("nothing was removed");
        assert_eq!(following.events.len(), intact.len());
        assert!(following.incomplete, "who catches up learns that something is missing");
        running.close();
    }
    let raw = dir.raw();
    let kept = raw.scan_prefix([0x60]).count();
    assert_eq!(kept, damaged.len(), "what was damaged is kept to be looked at");
}

#[test]
fn a_damaged_entry_block_costs_a_duplicate_and_no_event() {
    let dir = Dir::new();
    let running = dir.start();
    let mut keys = Vec::new();
    for n in 0..6 {
        let place = running.append(vec![event(&n.to_string(), &[1])]).unwrap()[0].id.place;
        keys.push(DeliveryKey { place, webhook: WebhookNo(1) });
    }
    for key in &keys {
        running.record(vec![delivered(*key)]);
    }
    running.close();
    let raw = dir.raw();
    // Meta that never learned of the settling: the low watermark is where it began.
    let old = raw.scan_prefix([Log::Entries as u8]).nth(2).unwrap().unwrap();
    assert_eq!(parse_key(&old.0), Some((2, 0)));
    let mut record = old.1.to_vec();
    record[20] ^= 0x10;
    raw.insert(old.0, record).unwrap();
    let meta = raw.get([0x10]).unwrap().unwrap();
    let mut meta = Meta::decode(&meta).unwrap();
    meta.low = 0;
    raw.insert([0x10], meta.encode()).unwrap();
    drop(raw);
    let running = dir.start();
    let told: Vec<_> = running.recovered.iter().map(|r| r.key).collect();
    assert_eq!(told, vec![keys[2]], "only the delivery whose record is lost is made again");
    running.close();
}

#[test]
fn a_block_that_lost_a_part_is_quarantined() {
    let dir = Dir::new();
    let running = dir.start();
    // It waits, so what is behind it is kept, damaged or not: were the damaged block the oldest one,
    // retention might say first that nothing is there any more.
    running.append(vec![event("w", &[1])]).unwrap();
    let appended = running.append(vec![event(&"x".repeat(20_000), &[1])]).unwrap();
    running.append(vec![event("y", &[1])]).unwrap();
    running.close();
    let raw = dir.raw();
    let block = appended[0].id.place.block();
    raw.remove(Log::Events.key(block, 1)).unwrap();
    drop(raw);
    // Recovery meets it first; what is left of the block is moved aside.
    let running = dir.start();
    assert_eq!(running.recovered.len(), 2);
    assert_eq!(running.runtime.block_on(running.store.block(block)), Err(StoreError::Damaged));
    running.close();
}

#[test]
fn a_torn_snapshot_is_set_aside() {
    let dir = Dir::new();
    let running = dir.start();
    running.append(vec![event("x", &[1])]).unwrap();
    running.close();
    let torn = dir.data().join("store/snap.000000000000ABCD.generating");
    fs::write(&torn, b"half").unwrap();
    let running = dir.start();
    assert_eq!(running.recovered.len(), 1);
    assert!(!torn.exists());
    assert_eq!(fs::read_dir(dir.data().join("set-aside")).unwrap().count(), 1);
    running.close();
}

#[test]
fn garbage_in_place_of_the_log_is_refused_without_a_panic() {
    let dir = Dir::new();
    dir.start().close();
    fs::write(dir.data().join("store/conf"), b"garbage that is long enough").unwrap();
    check_sentence(&open(dir.settings()).expect_err("sled cannot read its settings"));
}

#[track_caller]
fn check_sentence(error: &OpenError) {
    let text = error.to_string();
    let what_to_do = match error {
        OpenError::Damaged { .. } => "restore it from a backup, or move it aside",
        OpenError::Lost { .. } => "restore it from a backup, or, to go on with what is left",
        _ => panic!("{error:?}"),
    };
    assert!(text.contains(what_to_do), "{text}");
    assert!(!text.contains("backtrace") && !text.contains('\n'), "{text}");
}

/// sled answers some damage with an error, some with a failed assertion, and works around the rest.
#[test]
fn a_damaged_file_opens_or_is_refused_with_a_sentence_wherever_the_damage_is() {
    let dir = Dir::new();
    let running = dir.start();
    for _ in 0..40 {
        running.append((0..20).map(|n| event(&format!("{n:0>2000}"), &[1])).collect()).unwrap();
    }
    running.close();
    let whole = fs::read(dir.data().join("store/db")).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(whole.len() / 24) {
        let copy = Dir::new();
        copy_dir(&dir.data(), &copy.data());
        let mut bytes = whole.clone();
        let end = bytes.len().min(at + 8192);
        bytes[at..end].fill(0x5a);
        fs::write(copy.data().join("store/db"), bytes).unwrap();
        match open(copy.settings()) {
            Err(error) => {
                check_sentence(&error);
                refused += 1;
            }
            Ok(opened) => {
                drop((opened.feeds, opened.store));
                opened.threads.into_iter().for_each(|thread| thread.join().unwrap());
            }
        }
    }
    assert!(refused > 0, "none of the damage was noticed");
}

/// Five starts in a row that are killed while they recover change nothing.
#[test]
fn killed_during_recovery_again_and_again_it_still_opens() {
    let mut dir = Dir::new();
    let running = dir.start();
    let events = (0..500).map(|n| event(&format!("{n:0>600}"), &[1])).collect();
    let appended = running.append(events).unwrap();
    running.close();
    for _ in 0..5 {
        let opened = open(dir.settings()).unwrap();
        // Nobody reads this feed: the writer hangs in the middle of recovery.
        let (feed, hung) = tokio::sync::mpsc::channel(1);
        opened.feeds.send(vec![feed]).unwrap();
        let copy = Dir::new();
        copy_dir(&dir.data(), &copy.data());
        drop((hung, opened.store));
        opened.threads.into_iter().for_each(|thread| thread.join().unwrap());
        dir = copy;
    }
    let running = dir.start();
    assert_eq!(running.recovered.len(), appended.len());
    running.close();
}

#[test]
fn meta_survives_and_its_damage_is_noticed() {
    let mut meta = Meta::new();
    meta.next.event = 7;
    meta.kept.keys = 9;
    meta.accepted_at = u64::MAX;
    let record = meta.encode();
    assert_eq!(Meta::decode(&record), Ok(meta));
    for at in 0..record.len() {
        let mut damaged = record.clone();
        damaged[at] ^= 0x40;
        assert!(Meta::decode(&damaged).is_err(), "byte {at}");
    }
}
