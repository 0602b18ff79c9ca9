//! Histories that are not whole any more, and what the mark makes of them.

use std::fs;

use super::{Dir, delivered};
use crate::{
    id::{DeliveryKey, WebhookNo},
    store::{
        Feed, OpenError, Row,
        codec::{Log, parse_key},
        contract_tests::{copy_dir, event, eventually},
        sled::{data_dir, open},
    },
};

/// sled's segments are of this size.
const SEGMENT: u64 = 512 << 10;

/// What a start came to.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// With so many deliveries waiting.
    Whole(usize),
    Refused(String),
}

/// Starts until recovery is done, and closes.
fn start(dir: &Dir) -> Ended {
    let opened = match open(dir.settings()) {
        Ok(opened) => opened,
        Err(error @ (OpenError::Lost { .. } | OpenError::Damaged { .. })) => {
            return Ended::Refused(error.to_string());
        }
        Err(error) => panic!("{error:?}"),
    };
    let (sender, mut feed) = tokio::sync::mpsc::channel(100_000);
    opened.feeds.send(vec![sender]).unwrap();
    let health = opened.store.health.clone();
    let mut waiting = 0;
    let mut ended = None;
    eventually("recovery ends", || {
        while let Ok(told) = feed.try_recv() {
            match told {
                Feed::Recovered(stretch) => waiting += stretch.len(),
                Feed::RecoveryDone => ended = Some(Ended::Whole(waiting)),
                Feed::Block(_) => unreachable!("nothing was appended"),
            }
        }
        if let Some(why) = health.borrow().poisoned.clone() {
            ended = Some(Ended::Refused(why));
        }
        ended.is_some()
    });
    if let Some(Ended::Refused(_)) = ended {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let told = runtime.block_on(opened.store.put_rows(vec![row("x", "y")])).unwrap_err();
        assert!(!told.to_string().contains("write"), "nothing was written: {told}");
    }
    drop(opened.store);
    opened.threads.into_iter().for_each(|thread| thread.join().unwrap());
    ended.unwrap()
}

#[track_caller]
fn refused(dir: &Dir, what: &str) {
    let Ended::Refused(text) = start(dir) else { panic!("it started") };
    assert!(text.contains(what), "{what:?} in: {text}");
}

/// A directory with rows and `count` events that wait, closed cleanly.
fn full(count: usize) -> Dir {
    let dir = Dir::new();
    let running = dir.start();
    running.runtime.block_on(running.store.put_rows(vec![row("tenant", "one")])).unwrap();
    for _ in 0..count / 20 {
        running.append((0..20).map(|n| event(&format!("{n:0>2000}"), &[1])).collect()).unwrap();
    }
    running.close();
    dir
}

fn row(key: &str, value: &str) -> Row {
    Row { key: key.as_bytes().to_vec(), value: Some(value.as_bytes().to_vec()) }
}

fn copy(dir: &Dir) -> Dir {
    let copy = Dir::new();
    copy_dir(&dir.data(), &copy.data());
    copy
}

/// The same directory with other bytes in sled's file.
fn with_db(dir: &Dir, change: impl FnOnce(&mut Vec<u8>)) -> Dir {
    let copy = copy(dir);
    let path = copy.data().join("store/db");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
    copy
}

fn accept(dir: &Dir) {
    fs::write(dir.data().join("accept-loss"), "").unwrap();
}

/// The heart of it: 4 KiB anywhere are noticed, or did not matter.
#[test]
fn damage_anywhere_in_the_file_loses_no_event_silently() {
    let dir = full(3000);
    let len = fs::metadata(dir.data().join("store/db")).unwrap().len();
    assert!(len > 8 * SEGMENT, "several segments: {len}");
    let mut lost = 0;
    // The beginning of each segment, its middle, and the last bytes of the file.
    let places = (0..len).step_by(SEGMENT as usize / 2).chain([len - 4096, len - 20_000, len - 9]);
    for at in places {
        let damaged = with_db(&dir, |bytes| {
            let end = bytes.len().min(at as usize + 4096);
            bytes[at as usize..end].fill(0x5a);
        });
        match start(&damaged) {
            Ended::Whole(waiting) => assert_eq!(waiting, 3000, "damage at {at}"),
            Ended::Refused(text) => lost += usize::from(text.contains("has lost part")),
        }
    }
    assert!(lost > 0, "none of it was noticed by the mark");
}

/// sled takes it for a torn end, and what was accepted behind it would be gone without a word.
#[test]
fn damage_at_one_mebibyte_is_refused() {
    let dir = full(200);
    let damaged = with_db(&dir, |bytes| bytes[1 << 20..][..4096].fill(0x5a));
    refused(&damaged, "but had reached block");
    refused(&damaged, "but had reached block");
}

#[test]
fn a_cut_file_is_refused_wherever_it_was_cut() {
    let dir = full(1000);
    let len = fs::metadata(dir.data().join("store/db")).unwrap().len() as usize;
    for keep in [1, 4096, len / 3, len / 2, len - len / 10] {
        let cut = with_db(&dir, |bytes| bytes.truncate(keep));
        let ended = start(&cut);
        assert!(matches!(ended, Ended::Refused(_)), "cut at {keep} of {len}: {ended:?}");
    }
}

#[test]
fn the_last_commit_before_a_clean_close_is_missed() {
    let dir = full(200);
    // Nothing but the close is written after the events: the loss of any of it shows.
    let db = fs::read(dir.data().join("store/db")).unwrap();
    let end = db.iter().rposition(|byte| *byte != 0).unwrap();
    let damaged = with_db(&dir, |bytes| bytes[end - 2000..end].fill(0x5a));
    let ended = start(&damaged);
    assert!(matches!(ended, Ended::Refused(_)), "{ended:?}");
}

#[test]
fn a_database_that_was_emptied_removed_or_made_anew_is_refused() {
    let dir = full(100);
    let missing = "its file `store/db` is missing or empty";
    refused(&with_db(&dir, Vec::clear), missing);

    let removed = copy(&dir);
    fs::remove_file(removed.data().join("store/db")).unwrap();
    refused(&removed, missing);
    let whole = copy(&dir);
    fs::remove_dir_all(whole.data().join("store")).unwrap();
    refused(&whole, missing);
    let told = data_dir::check(&whole.data()).unwrap_err().to_string();
    assert!(told.contains(missing), "{told}");

    let other = Dir::new();
    other.start().close();
    let replaced = copy(&dir);
    fs::remove_dir_all(replaced.data().join("store")).unwrap();
    copy_dir(&other.data().join("store"), &replaced.data().join("store"));
    refused(&replaced, "its log of events ends at block 0 but had reached block 3");
}

#[test]
fn what_a_start_found_is_repeated_by_the_next_one_and_by_check() {
    // All in sled's first segment: without it there is nothing, and sled takes that for a new store.
    let dir = with_db(&full(100), |bytes| bytes[..4096].fill(0x5a));
    let Ended::Refused(first) = start(&dir) else { panic!("it started") };
    assert!(first.contains("ends at block 0 but had reached block"), "{first}");
    let db = fs::read(dir.data().join("store/db")).unwrap();
    assert_eq!(start(&dir), Ended::Refused(first.clone()));
    assert_eq!(data_dir::check(&dir.data()).unwrap_err().to_string(), first);
    assert!(fs::read(dir.data().join("store/db")).unwrap() == db, "the database is left alone");
}

#[test]
fn a_mark_that_cannot_be_read_is_refused_with_a_sentence() {
    let dir = full(100);
    let mark = dir.data().join("mark");
    let whole = fs::read(&mark).unwrap();
    let unreadable = "its file `mark`, which says how far its history goes, cannot be read";
    let check = |bytes: Option<&[u8]>| {
        match bytes {
            Some(bytes) => fs::write(&mark, bytes).unwrap(),
            None => fs::remove_file(&mark).unwrap(),
        }
        refused(&dir, unreadable);
        assert!(data_dir::check(&dir.data()).unwrap_err().to_string().contains(unreadable));
    };
    check(Some(b""));
    check(Some(b"garbage"));
    check(None);
    // One slot is enough: a crash tears one at most.
    for slot in 0..2 {
        let mut torn = whole.clone();
        torn[slot * 4096..][..4096].fill(0);
        fs::write(&mark, torn).unwrap();
        assert_eq!(start(&copy(&dir)), Ended::Whole(100));
    }
}

/// What a crash leaves: commits that the mark does not know of yet.
#[test]
fn a_mark_older_than_the_store_is_accepted() {
    let dir = full(100);
    let old = fs::read(dir.data().join("mark")).unwrap();
    let running = dir.start();
    running.append(vec![event("later", &[1]); 20]).unwrap();
    running.runtime.block_on(running.store.put_rows(vec![row("tenant", "two")])).unwrap();
    running.close();
    fs::write(dir.data().join("mark"), old).unwrap();
    assert_eq!(start(&dir), Ended::Whole(120));
}

/// The rule that makes the mark trustworthy: at every moment it says no more than sled holds.
#[test]
fn a_store_killed_at_any_moment_opens() {
    let dir = Dir::new();
    let running = dir.start();
    for n in 0..30 {
        running.append(vec![event("x", &[1]); 3]).unwrap();
        running.runtime.block_on(running.store.put_rows(vec![row("r", &n.to_string())])).unwrap();
        if n % 3 == 0 {
            // Two ticks' time: marks are written between and beside the commits.
            eventually("the mark follows", || {
                let mark = fs::read_to_string(dir.data().join("mark")).unwrap();
                mark.contains(&format!("events {} ", n + 1))
            });
        }
        assert_eq!(start(&copy(&dir)), Ended::Whole(3 * (n + 1)));
    }
    running.close();
}

/// A change of the directory alone is history, too.
#[test]
fn a_lost_change_of_the_directory_is_noticed() {
    let dir = full(20);
    let before = fs::read(dir.data().join("store/db")).unwrap();
    let running = dir.start();
    running.runtime.block_on(running.store.put_rows(vec![row("tenant", "revoked")])).unwrap();
    running.close();
    let dir = with_db(&dir, |bytes| *bytes = before);
    // Newer snapshots would show that the file is older than they are.
    for file in fs::read_dir(dir.data().join("store")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
            fs::remove_file(path).unwrap();
        }
    }
    refused(&dir, "it stands at revision");
}

#[test]
fn a_lost_row_is_noticed() {
    let dir = full(20);
    let raw = dir.raw();
    let (key, _) = raw.scan_prefix([0x20]).next().unwrap().unwrap();
    raw.remove(key).unwrap();
    drop(raw);
    refused(&dir, "its directory has 0 rows instead of 1");
}

#[test]
fn a_hole_in_a_log_is_noticed_by_recovery() {
    let check = |log: Log, at: usize, sentence: &str| {
        let dir = Dir::new();
        let running = dir.start();
        for n in 0..6 {
            let keyed = crate::store::NewEvent {
                key: Some(crate::store::IdempotencyKey([n; 16])),
                ..event("x", &[1, 2])
            };
            let place = running.append(vec![keyed]).unwrap()[0].id.place;
            running.record(vec![delivered(DeliveryKey { place, webhook: WebhookNo(1) })]);
        }
        running.close();
        let raw = dir.raw();
        let keys: Vec<_> = raw.scan_prefix([log as u8]).keys().map(Result::unwrap).collect();
        assert_eq!((keys.len(), parse_key(&keys[at])), (6, Some((at as u64, 0))));
        raw.remove(&keys[at]).unwrap();
        drop(raw);
        refused(&dir, sentence);
        refused(&dir, sentence);
        // With the operator's word it goes on, and holes made later are found again.
        accept(&dir);
        assert!(matches!(start(&dir), Ended::Whole(_)));
        let again = start(&dir);
        assert!(matches!(again, Ended::Whole(_)), "the decision lasts: {again:?}");
    };
    check(Log::Events, 0, "block 0 is missing from its log of events");
    check(Log::Events, 3, "block 3 is missing from its log of events");
    check(Log::Entries, 2, "block 2 is missing from its log of entries");
    check(Log::Idempotency, 4, "block 4 is missing from its log of idempotency");
    check(Log::Events, 5, "its log of events ends at block 5 but had reached block 6");
    check(Log::Entries, 5, "its log of entries ends at block 5 but had reached block 6");
}

#[test]
fn an_accepted_loss_goes_on_behind_the_highest_number_that_ever_was() {
    let dir = full(100);
    let mark = fs::read_to_string(dir.data().join("mark")).unwrap();
    // Of the two slots, the newer one.
    let slots = mark.split(" events ").skip(1);
    let numbers = slots.map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap());
    let reached = numbers.max().unwrap();
    let dir = with_db(&dir, |bytes| bytes[..4096].fill(0x5a));
    refused(&dir, "but had reached block");
    accept(&dir);
    data_dir::check(&dir.data()).expect("it would start");
    let running = dir.start();
    assert!(!dir.data().join("accept-loss").exists() && !dir.data().join("loss").exists());
    let appended = running.append(vec![event("after", &[1])]).unwrap();
    assert_eq!(appended[0].id.place.block(), reached);
    assert_eq!(running.count_events(), running.recovered.len() + 1);
    let key = DeliveryKey { place: appended[0].id.place, webhook: WebhookNo(1) };
    let left = running.recovered.len();
    running.close();
    assert_eq!(start(&dir), Ended::Whole(left + 1), "from now on it is whole again");
    let running = dir.start();
    running.record(vec![delivered(key)]);
    running.close();
    assert_eq!(start(&dir), Ended::Whole(left));
    // And the next loss is found again.
    refused(&with_db(&dir, Vec::clear), "missing or empty");
}

#[test]
fn without_a_mark_an_accepted_loss_goes_on_behind_what_is_found() {
    let dir = full(100);
    fs::remove_file(dir.data().join("mark")).unwrap();
    accept(&dir);
    assert_eq!(start(&dir), Ended::Whole(100));
    assert_eq!(start(&dir), Ended::Whole(100));
    refused(&with_db(&dir, Vec::clear), "missing or empty");
}

#[test]
fn what_retention_removed_is_not_missed() {
    let dir = Dir::new();
    let settings = || crate::store::Settings {
        retention_age: std::time::Duration::ZERO,
        idempotency_window: std::time::Duration::ZERO,
        ..dir.settings()
    };
    for _ in 0..3 {
        let running = crate::store::contract_tests::Running::feed(open(settings()).unwrap());
        for n in 0..40 {
            let keyed = crate::store::NewEvent {
                key: Some(crate::store::IdempotencyKey([n; 16])),
                ..event("x", &[1])
            };
            let place = running.append(vec![keyed]).unwrap()[0].id.place;
            running.record(vec![delivered(DeliveryKey { place, webhook: WebhookNo(1) })]);
        }
        eventually("all is removed", || running.count_events() == 0);
        assert_eq!(start(&copy(&dir)), Ended::Whole(0));
        running.close();
    }
}
