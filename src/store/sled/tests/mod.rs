//! What only a store on a disk can do wrong: syncing, poisoning, filling up, being damaged.

mod backup;
mod batch;
mod damage;
mod loss;
mod scrub;
mod sweep;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc as std_mpsc,
    },
    time::Duration,
};

use tempfile::TempDir;

use super::{
    FORMAT, Os, disk::Fault, flusher::Flusher, open, open_with, recovery::RecoveryError,
    sled_config,
};
use crate::{
    delivery::{Entry, KeptResponse, Verdict},
    id::{DeliveryKey, WebhookNo},
    store::{
        AppendError, Feed, OpenError, Settings, StoreError, Write,
        codec::Log,
        contract_tests::{Running, answered, copy_dir, event, eventually, settings},
    },
};

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn settings(&self) -> Settings {
        Settings { data_dir: self.data(), ..settings() }
    }

    fn start(&self) -> Running {
        Running::feed(open(self.settings()).unwrap())
    }

    fn start_on(&self, os: Os) -> Running {
        Running::feed(open_with(self.settings(), os).unwrap())
    }

    /// sled's own view, while no store is open.
    fn raw(&self) -> sled::Db {
        let path = self.data().join("store");
        let mut opened = None;
        eventually("sled gives up its lock", || {
            // Not beside another opening: the flushers could not be told apart.
            opened = Flusher::find(|| sled_config(&path).open()).0.ok();
            opened.is_some()
        });
        opened.unwrap()
    }
}

fn os(sync: impl FnMut(&fs::File) -> io::Result<()> + Send + 'static) -> Os {
    Os { sync: Box::new(sync), ..Os::default() }
}

fn delivered(key: DeliveryKey) -> Entry {
    answered(key, 1, 200, Verdict::Delivered)
}

#[test]
fn append_is_durable_before_it_is_fed_and_answered() {
    let dir = Dir::new();
    let (entered, in_sync) = std_mpsc::channel();
    let (release, released) = std_mpsc::channel::<()>();
    let released = Mutex::new(released);
    let running = dir.start_on(os(move |file| {
        entered.send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
        file.sync_data()
    }));
    let Running { store, mut feed, threads, runtime, .. } = running;
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    let append = Write::Append { events: vec![event("x", &[1])], reply };
    runtime.block_on(store.writes.send(append)).unwrap();
    in_sync.recv_timeout(Duration::from_secs(10)).expect("the commit is synced");
    // The commit is being synced: nobody may have heard of it.
    assert!(answer.try_recv().is_err(), "answered before the sync");
    assert!(feed.try_recv().is_err(), "fed before the sync");
    assert_eq!(runtime.block_on(store.block(0)), Ok(None), "readable before the sync");
    release.send(()).unwrap();
    assert!(runtime.block_on(answer).unwrap().is_ok());
    assert!(matches!(feed.try_recv(), Ok(Feed::Block(_))));
    release.send(()).unwrap(); // for the meta row at the end, if there is one
    drop(store);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn every_commit_is_synced_once() {
    let dir = Dir::new();
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&syncs);
    let running = dir.start_on(os(move |file| {
        counted.fetch_add(1, Ordering::SeqCst);
        file.sync_data()
    }));
    for n in 1..=20 {
        running.append(vec![event("x", &[1]); 5]).unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), n);
    }
    running.close();
}

/// For every N: what was answered before the Nth sync failed survives, nothing is after it.
#[test]
fn the_nth_failed_sync_poisons_and_nothing_is_acknowledged_after_it() {
    for nth in 1..=6 {
        let dir = Dir::new();
        let mut syncs = 0;
        let running = dir.start_on(os(move |file| {
            syncs += 1;
            // Only once: the next one would succeed, and must not be tried.
            if syncs == nth { Err(io::Error::other("injected")) } else { file.sync_data() }
        }));
        let mut answered_ok = Vec::new();
        let mut refused = 0;
        for n in 0..8 {
            match running.append(vec![event(&n.to_string(), &[1])]) {
                Ok(appended) => {
                    assert_eq!(refused, 0, "acknowledged after the failure");
                    answered_ok.push(appended[0].id);
                }
                Err(error) => {
                    assert_eq!(error, AppendError::Poisoned);
                    refused += 1;
                }
            }
        }
        assert_eq!((answered_ok.len(), refused), (nth - 1, 9 - nth));
        let health = running.store.health.borrow().clone();
        assert!(health.poisoned.unwrap().contains("injected"));
        let entries = running.runtime.block_on(running.store.put_entries(vec![]));
        assert_eq!(entries, Err(StoreError::Poisoned));
        let rows = running.runtime.block_on(running.store.put_rows(vec![]));
        assert_eq!(rows, Err(StoreError::Poisoned));
        assert_eq!(running.runtime.block_on(running.store.close()), Err(StoreError::Poisoned));
        running.join();
        let running = dir.start();
        let places: Vec<_> = running.recovered.iter().map(|r| r.key.place).collect();
        assert!(answered_ok.iter().all(|id| places.contains(&id.place)));
        running.close();
    }
}

#[test]
fn events_of_a_failed_commit_are_not_fed() {
    let dir = Dir::new();
    let mut running = dir.start_on(os(|_| Err(io::Error::other("injected"))));
    assert_eq!(running.append(vec![event("x", &[1])]), Err(AppendError::Poisoned));
    assert!(running.feed.try_recv().is_err());
    running.join();
}

#[test]
fn entries_without_an_append_are_durable_soon_and_ride_along_otherwise() {
    let dir = Dir::new();
    let syncs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&syncs);
    let running = dir.start_on(os(move |file| {
        counted.fetch_add(1, Ordering::SeqCst);
        file.sync_data()
    }));
    let place = running.append(vec![event("x", &[1])]).unwrap()[0].id.place;
    let key = DeliveryKey { place, webhook: WebhookNo(1) };
    let send = |entries| {
        let write = Write::Entries { entries, reply: None };
        running.runtime.block_on(running.store.writes.send(write)).unwrap();
    };
    let before = syncs.load(Ordering::SeqCst);
    for n in 1..=50 {
        send(vec![answered(key, n, 500, Verdict::RetryAt(1))]);
    }
    running.append(vec![event("y", &[1])]).unwrap();
    assert_eq!(running.entries(key).len(), 50, "what came before the append is in its commit");
    assert!(syncs.load(Ordering::SeqCst) - before <= 4, "they cost no sync each");
    send(vec![answered(key, 51, 200, Verdict::Delivered)]);
    eventually("the entry is written by itself", || running.entries(key).len() == 51);
    running.close();
}

#[test]
fn a_full_disk_refuses_events_takes_entries_and_heals() {
    let dir = Dir::new();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let told = Arc::clone(&free);
    let os =
        Os { free: Box::new(move |_: &Path| Ok(told.load(Ordering::SeqCst))), ..Os::default() };
    let settings = Settings { disk_headroom: 1 << 20, ..dir.settings() };
    let running = Running::feed(open_with(settings, os).unwrap());
    let place = running.append(vec![event("x", &[1])]).unwrap()[0].id.place;
    let key = DeliveryKey { place, webhook: WebhookNo(1) };
    free.store((1 << 20) - 1, Ordering::SeqCst);
    eventually("the store is full", || running.store.health.borrow().full);
    assert_eq!(running.append(vec![event("y", &[1])]), Err(AppendError::Full));
    running.record(vec![delivered(key)]);
    assert_eq!(running.entries(key).len(), 1);
    assert_eq!(running.count_events(), 1, "nothing of the refused batch was written");
    free.store(1 << 20, Ordering::SeqCst);
    eventually("it has room again", || !running.store.health.borrow().full);
    running.append(vec![event("y", &[1])]).unwrap();
    // A batch that would eat the headroom is refused although there is room for others.
    free.store(3 << 20, Ordering::SeqCst);
    let large = vec![event(&"z".repeat(200_000), &[1]); 10];
    assert_eq!(running.append(large), Err(AppendError::Full));
    eventually("small ones are taken again", || running.append(vec![event("s", &[])]).is_ok());
    running.close();
}

/// Pages as full as they get on both sides of where the logs meet in the tree, and hundreds of
/// removals in one step.
#[test]
fn side_files_never_appear() {
    let dir = Dir::new();
    let settings = Settings { retention_age: Duration::ZERO, ..dir.settings() };
    let running = Running::feed(open(settings).unwrap());
    for round in 0..6 {
        let sizes = [10, 600, 6_000, 6_470];
        let events: Vec<_> = (0..300)
            .map(|n| if n == 0 { 262_144 } else { sizes[(n + round) % 4].max(6_470 * (round % 2)) })
            .map(|size| event(&"x".repeat(size), &[1]))
            .collect();
        let appended = running.append(events).unwrap();
        // Every entry fills a record.
        let response = KeptResponse {
            headers: "x: 123456\r\n".repeat(186).into(),
            body: vec![b'b'; 4096].into(),
            truncated: false,
        };
        let entries: Vec<Entry> = appended
            .iter()
            .map(|a| DeliveryKey { place: a.id.place, webhook: WebhookNo(1) })
            .map(delivered)
            .map(|mut entry| {
                entry.attempt.as_mut().unwrap().response = response.clone();
                entry
            })
            .collect();
        // The first delivery holds all the others until the end.
        running.record(entries[1..].to_vec());
        running.record(entries[..1].to_vec());
        eventually("all is removed", || running.count_events() == 0);
        assert_eq!(running.store.health.borrow().poisoned, None);
    }
    eventually("the records are removed too", || dir_keys(&dir, Log::Events) == 0);
    assert_eq!(fs::read_dir(dir.data().join("store/blobs")).unwrap().count(), 0);
    // A side file that came and went is seen by the commits; this is one more.
    running.append(vec![event("x", &[1])]).unwrap();
    running.close();
}

/// A block of a large event has dozens of records, and each of them is removed by itself.
#[test]
fn retention_keeps_up_with_large_events() {
    let dir = Dir::new();
    let settings = Settings { retention_bytes: 1 << 20, ..dir.settings() };
    let running = Running::feed(open(settings).unwrap());
    // One after the other, so that there is little time between them.
    for _ in 0..80 {
        running.append(vec![event(&"z".repeat(250_000), &[])]).unwrap();
    }
    running.close();
    let written = |found: sled::Result<(sled::IVec, sled::IVec)>| !found.unwrap().1.is_empty();
    let left = dir.raw().scan_prefix([Log::Events as u8]).filter(|r| written(r.clone())).count();
    assert!(left < 1000, "{left} of some 2500 records are left, where 140 are to be kept");
}

#[test]
fn a_side_file_poisons() {
    let dir = Dir::new();
    let running = dir.start();
    running.append(vec![event("x", &[1])]).unwrap();
    fs::write(dir.data().join("store/blobs/123"), b"unsynced").unwrap();
    assert_eq!(running.append(vec![event("y", &[1])]), Err(AppendError::Poisoned));
    let health = running.store.health.borrow().poisoned.clone().unwrap();
    assert!(health.contains("side files"), "{health}");
    running.join();
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_with_a_sentence() {
    let check = |prepare: &dyn Fn(&Dir), expected: &str| {
        let dir = Dir::new();
        prepare(&dir);
        let error = open(dir.settings()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    };
    let format = |text: &str| {
        let text = text.to_owned();
        move |dir: &Dir| {
            fs::create_dir(dir.data()).unwrap();
            fs::write(dir.data().join("format"), &text).unwrap();
        }
    };
    check(&format("5\n"), "written by a newer version (format 5, this one writes 4)");
    check(&format("2\n"), "written by an earlier version (format 2, this one writes 4)");
    check(&format("x\n"), "is damaged: its file `format` holds no version");
    check(&format(""), "is damaged: its file `format` holds no version");
    check(&|dir| fs::write(dir.data(), "a file").unwrap(), "cannot be used");
    check(
        &|dir| fs::create_dir_all(dir.data().join("store/db")).unwrap(),
        "is damaged: its file `format` cannot be read",
    );
    let settings = Settings { data_dir: "/proc/nowhere".into(), ..settings() };
    assert!(matches!(open(settings), Err(OpenError::Unusable { .. })));
}

#[test]
fn a_second_store_on_the_directory_is_refused() {
    let dir = Dir::new();
    let running = dir.start();
    let second = open(dir.settings()).unwrap_err();
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
    running.append(vec![event("x", &[1])]).unwrap();
    running.close();
    assert_eq!(dir.start().recovered.len(), 1);
}

#[test]
fn a_new_directory_is_ours_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    dir.start().close();
    for path in [dir.data(), dir.data().join("store")] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
    assert_eq!(fs::read_to_string(dir.data().join("format")).unwrap(), format!("{FORMAT}\n"));
}

#[test]
fn a_directory_of_the_format_before_is_taken_over_with_its_events() {
    let dir = Dir::new();
    let running = dir.start();
    running.append(vec![event("x", &[1])]).unwrap();
    running.close();
    // What it holds, format 3 would have written as well: no event of it carries a trace or was erased.
    fs::write(dir.data().join("format"), "3\n").unwrap();
    super::check(&dir.data()).unwrap();
    assert_eq!(fs::read_to_string(dir.data().join("format")).unwrap(), "3\n", "only looked at");
    let running = dir.start();
    assert_eq!(running.recovered.len(), 1);
    running.close();
    assert_eq!(fs::read_to_string(dir.data().join("format")).unwrap(), format!("{FORMAT}\n"));
}

#[test]
fn keys_beyond_the_number_forget_the_oldest() {
    let dir = Dir::new();
    let settings = || Settings { idempotency_max_keys: 10, ..dir.settings() };
    let keyed = |n: u8| crate::store::NewEvent {
        key: Some(crate::store::IdempotencyKey([n; 16])),
        ..event("{}", &[1])
    };
    let running = Running::feed(open(settings()).unwrap());
    for n in 0..30 {
        assert!(!running.append(vec![keyed(n)]).unwrap()[0].replayed);
    }
    assert!(running.append(vec![keyed(29)]).unwrap()[0].replayed);
    assert!(!running.append(vec![keyed(3)]).unwrap()[0].replayed);
    running.close();
    let running = Running::feed(open(settings()).unwrap());
    assert!(running.append(vec![keyed(29)]).unwrap()[0].replayed);
    assert!(!running.append(vec![keyed(5)]).unwrap()[0].replayed);
    eventually("the forgotten keys' blocks are removed", || {
        running.append(vec![event("x", &[])]).unwrap();
        let keys = dir_keys(&dir, Log::Idempotency);
        keys <= 12
    });
    running.close();
}

/// Counts a log's records in a copy of the directory.
fn dir_keys(dir: &Dir, log: Log) -> usize {
    let copy = Dir::new();
    copy_dir(&dir.data(), &copy.data());
    let records = copy.raw().scan_prefix([log as u8]);
    records.filter(|record| record.as_ref().is_ok_and(|(_, value)| !value.is_empty())).count()
}

/// sled would go on without it and write nothing any more by itself.
#[test]
fn a_flusher_that_has_ended_is_noticed() {
    let dir = Dir::new();
    let path = dir.data().join("store");
    let (db, flusher) = Flusher::find(|| sled_config(&path).open());
    let db = db.unwrap();
    assert!(flusher.is_alive());
    drop(db);
    eventually("its thread is gone", || !flusher.is_alive());
}

#[test]
fn faults_say_what_failed() {
    let sync = Fault::Sync(io::Error::other("input/output error"));
    assert_eq!(sync.to_string(), "the log could not be synced: input/output error");
    let error = RecoveryError::from(StoreError::Damaged);
    assert_eq!(error.to_string(), "the record is damaged and was quarantined");
}
