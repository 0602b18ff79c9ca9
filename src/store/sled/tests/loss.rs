//! Histories that are not whole any more, and what the mark makes of them.

use std::fs;

use super::{Dir, delivered};
use crate::{
    id::{DeliveryKey, WebhookNo},
    store::{
        Feed, OpenError, Row,
        codec::{Log, parse_key},
        contract_tests::{copy_dir, event, eventually},
        sled::{SEGMENT, data_dir, disk::META_KEY, meta::Meta, open},
    },
};

/// What a start came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With so many deliveries waiting.
    Whole(usize),
    Refused(String),
}

/// Starts until recovery is done, and closes.
pub(super) fn start(dir: &Dir) -> Ended {
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
                Feed::Block(_) | Feed::Erased(_) => unreachable!("nothing was appended"),
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

pub(super) fn copy(dir: &Dir) -> Dir {
    let copy = Dir::new();
    copy_dir(&dir.data(), &copy.data());
    copy
}

/// The same directory with other bytes in sled's file.
pub(super) fn with_db(dir: &Dir, change: impl FnOnce(&mut Vec<u8>)) -> Dir {
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
    let dir = full(8000);
    let len = fs::metadata(dir.data().join("store/db")).unwrap().len();
    assert!(len > 3 * SEGMENT as u64, "several segments: {len}");
    let mut lost = 0;
    // The beginning of each segment, its quarters, and the last bytes of the file.
    let places = (0..len).step_by(SEGMENT / 4).chain([len - 4096, len - 20_000, len - 9]);
    for at in places {
        let damaged = with_db(&dir, |bytes| {
            let end = bytes.len().min(at as usize + 4096);
            bytes[at as usize..end].fill(0x5a);
        });
        match start(&damaged) {
            Ended::Whole(waiting) => assert_eq!(waiting, 8000, "damage at {at}"),
            Ended::Refused(text) => lost += usize::from(text.contains("has lost part")),
        }
    }
    assert!(lost > 0, "none of it was noticed by the mark");
}

/// sled takes it for a torn end, and what was accepted behind it would be gone without a word.
#[test]
fn damage_in_the_middle_is_refused() {
    let dir = full(200);
    let damaged = with_db(&dir, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..][..4096].fill(0x5a);
    });
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
    refused(&replaced, "its log of events ends at block 0 but had reached block ");
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
    let check = |bytes: Option<&[u8]>, sentence: &str| {
        match bytes {
            Some(bytes) => fs::write(&mark, bytes).unwrap(),
            None => fs::remove_file(&mark).unwrap(),
        }
        refused(&dir, sentence);
        assert!(data_dir::check(&dir.data()).unwrap_err().to_string().contains(sentence));
    };
    let damaged = "its file `mark`, which says how far its history goes, is damaged";
    check(Some(b""), damaged);
    check(Some(b"garbage"), damaged);
    check(None, "its file `mark`, which says how far its history goes, is missing");
    // One slot is enough: a crash tears one at most.
    for slot in 0..2 {
        let mut torn = whole.clone();
        torn[slot * 4096..][..4096].fill(0);
        fs::write(&mark, torn).unwrap();
        assert_eq!(start(&copy(&dir)), Ended::Whole(100));
    }
}

/// A file that is there and cannot be opened is no loss: not even the operator's word makes the
/// store go on without it. (A directory in its place is what root cannot open, either.)
#[test]
fn a_file_that_cannot_be_opened_is_no_loss_to_accept() {
    let dir = full(100);
    for name in ["mark", "loss"] {
        let copy = copy(&dir);
        let path = copy.data().join(name);
        let whole = fs::read(&path).ok();
        fs::remove_file(&path).ok();
        fs::create_dir(&path).unwrap();
        if name == "mark" {
            accept(&copy);
        }
        let sentence =
            format!("cannot be used: its file `{name}` cannot be opened: Is a directory");
        for error in [open(copy.settings()).map(drop), data_dir::check(&copy.data())] {
            let error = error.unwrap_err();
            assert!(matches!(error, OpenError::Unusable { .. }), "{error:?}");
            assert!(error.to_string().contains(&sentence), "{error}");
        }
        fs::remove_dir(&path).unwrap();
        if let Some(whole) = whole {
            fs::write(&path, whole).unwrap();
        }
        assert_eq!(start(&copy), Ended::Whole(100));
    }
}

#[test]
fn a_directory_whose_mark_speaks_of_a_store_is_not_taken_for_a_new_one() {
    let dir = full(100);
    fs::remove_dir_all(dir.data().join("store")).unwrap();
    fs::remove_file(dir.data().join("format")).unwrap();
    refused(&dir, "its file `format` cannot be read");
    data_dir::check(&dir.data()).unwrap_err();
    // A start that was killed before it came to make one is tried again.
    let dir = Dir::new();
    dir.start().close();
    fs::remove_dir_all(dir.data().join("store")).unwrap();
    for file in ["format", "mark"] {
        fs::remove_file(dir.data().join(file)).ok();
        crate::store::sled::mark::MarkFile::make(&dir.data()).unwrap();
        assert_eq!(start(&dir), Ended::Whole(0), "without {file}");
        fs::remove_dir_all(dir.data().join("store")).unwrap();
        fs::remove_file(dir.data().join("format")).unwrap();
    }
}

/// Between two steps of its removal, too: first what was lost is forgotten, then the word.
#[test]
fn the_operators_word_about_a_whole_store_changes_nothing_in_it() {
    let dir = full(100);
    for _ in 0..2 {
        accept(&dir);
        assert_eq!(start(&dir), Ended::Whole(100));
        assert!(!dir.data().join("accept-loss").exists());
        assert_eq!(start(&dir), Ended::Whole(100));
    }
    // Only a file is a word: nothing could take a directory back.
    fs::create_dir(dir.data().join("accept-loss")).unwrap();
    fs::write(dir.data().join("loss"), "").unwrap();
    refused(&dir, "has lost part of what it held: its file `loss` says so");
    fs::remove_file(dir.data().join("loss")).unwrap();
    assert_eq!(start(&dir), Ended::Whole(100));
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
        let records = raw.scan_prefix([log as u8]).map(Result::unwrap);
        let keys: Vec<_> = records.filter(|(_, r)| !r.is_empty()).map(|(key, _)| key).collect();
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

/// The store of a week ago beside the mark of today: what the gap is kept in must not be as large.
#[test]
fn an_accepted_loss_of_almost_everything_costs_no_memory() {
    let dir = full(100);
    let far = 1_000_000_000_000_u64;
    let line = format!(
        "senderz-gateway mark 1: revision {far} events {far} entries {far} keys {far} whole-from 0 0 0"
    );
    let line = format!("{line} crc32 {:08x}\n", crc32fast::hash(line.as_bytes()));
    fs::write(dir.data().join("mark"), line).unwrap();
    refused(&dir, &format!("but had reached block {far}"));
    accept(&dir);
    let running = dir.start();
    assert_eq!(running.recovered.len(), 100);
    let appended = running.append(vec![event("after", &[1])]).unwrap();
    assert_eq!(appended[0].id.place.block(), far);
    running.close();
    assert_eq!(start(&dir), Ended::Whole(101));
}

/// An event block says where entries about it can begin. Where the attempt log has lost its end, it
/// must not go on before that.
#[test]
fn the_attempt_log_goes_on_where_the_kept_events_expect_it() {
    let dir = Dir::new();
    let running = dir.start();
    for _ in 0..6 {
        let place = running.append(vec![event("x", &[1])]).unwrap()[0].id.place;
        running.record(vec![delivered(DeliveryKey { place, webhook: WebhookNo(1) })]);
    }
    running.close();
    let raw = dir.raw();
    for key in raw.scan_prefix([Log::Entries as u8]).keys().skip(3) {
        raw.remove(key.unwrap()).unwrap();
    }
    // As it was when these blocks were written: the row is lazy.
    let mut meta = Meta::decode(&raw.get(META_KEY).unwrap().unwrap()).unwrap();
    (meta.next.entry, meta.low) = (3, 3);
    raw.insert(META_KEY, meta.encode()).unwrap();
    drop(raw);
    refused(&dir, "its log of entries ends at block 3 but had reached block 6");
    accept(&dir);
    assert_eq!(start(&dir), Ended::Whole(3));
    let mark = fs::read_to_string(dir.data().join("mark")).unwrap();
    assert!(mark.contains(" events 6 entries 5 "), "{mark}");
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
