//! Copies of a running store: whole, of one moment, and nothing in place of something else.

use std::{collections::HashSet, ffi::OsString};

use super::*;
use crate::{
    clock::instant,
    id::Place,
    store::{
        BackedUp, BackupError, BackupOrder, Row,
        contract_tests::event_query,
        named_by,
        sled::{NotVerified, newest_backup, verify_backup},
    },
};

fn order(dir: &Dir, name: &str) -> BackupOrder {
    let target = dir.0.path().join("backups").join(name);
    let files = vec!["encryption.ids", "missing"];
    BackupOrder { target, files, rate: u64::MAX, keep: 0, progress: Arc::default() }
}

fn make(running: &Running, order: BackupOrder) -> Result<BackedUp, BackupError> {
    running.runtime.block_on(running.store.back_up(order))
}

fn places(running: &Running) -> HashSet<(Place, Vec<u8>)> {
    let query = crate::store::EventQuery { limit: usize::MAX, ..event_query() };
    let events = running.runtime.block_on(running.store.events(query)).unwrap().events;
    events.into_iter().map(|row| (row.id.place, row.payload.to_vec())).collect()
}

/// Waits until the cut was made.
fn begun(target: &Path) {
    let name = target.file_name().unwrap().to_str().unwrap();
    let partial = target.with_file_name(format!(".{name}.partial"));
    eventually("the copy is begun", || partial.exists());
}

/// A store on the copy.
fn restored(target: &Path) -> Running {
    Running::feed(open(Settings { data_dir: target.to_owned(), ..settings() }).unwrap())
}

#[test]
fn a_copy_of_a_store_under_load_holds_all_that_was_accepted_before_and_opens() {
    let dir = Dir::new();
    let running = dir.start();
    fs::write(dir.data().join("encryption.ids"), "ids").unwrap();
    let row = |value: &[u8]| Row { key: b"t1".to_vec(), value: Some(value.to_vec()) };
    let long = vec![7; 40_000];
    running.runtime.block_on(running.store.put_rows(vec![row(&long)])).unwrap();
    for number in 0..50 {
        let mut batch = vec![event(&format!("before {number}"), &[1, 2]); 40];
        batch.push(event(&"large".repeat(9000), &[1]));
        let place = running.append(batch).unwrap()[0].id.place;
        running.record(vec![delivered(DeliveryKey { place, webhook: WebhookNo(1) })]);
    }
    let before = places(&running);
    let store = running.store.clone();
    let ending = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&ending);
    let load = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut sent = 0;
        while told.load(Ordering::SeqCst) == 0 {
            let batch = vec![event(&format!("during {sent}"), &[1]); 20];
            runtime.block_on(store.append(batch)).unwrap();
            let row = Row { key: b"t1".to_vec(), value: Some(format!("{sent}").into_bytes()) };
            runtime.block_on(store.put_rows(vec![row])).unwrap();
            sent += 1;
        }
        sent
    });
    let slow = BackupOrder { rate: 3 << 20, ..order(&dir, "one") };
    let (target, progress) = (slow.target.clone(), Arc::clone(&slow.progress));
    let done = make(&running, slow).unwrap();
    ending.store(1, Ordering::SeqCst);
    assert!(load.join().unwrap() > 1, "it went on meanwhile");
    assert_eq!(progress.share(), 1.0);
    let verified = verify_backup(&target).unwrap();
    assert_eq!(verified.bytes, done.bytes);
    assert_eq!(fs::read(target.join("encryption.ids")).unwrap(), b"ids");
    assert!(!target.join("lock").exists());
    let mark = fs::read_to_string(target.join("mark")).unwrap();
    let says = mark.lines().any(|line| !line.contains("events 0 "));
    assert!(says, "a loss of what is in it is to be noticed");

    let copy = restored(&target);
    let held = places(&copy);
    assert!(before.is_subset(&held), "{} of {} are there", held.len(), before.len());
    let open =
        copy.recovered.iter().filter(|told| before.iter().any(|(p, _)| *p == told.key.place));
    assert_eq!(copy.rows.len(), 1);
    let value = copy.rows[0].value.as_ref().unwrap();
    assert!(*value == long || std::str::from_utf8(value).is_ok(), "a row is of one moment");
    assert!(open.count() >= 50, "what waits goes on");
    copy.append(vec![event("after", &[1])]).unwrap();
    copy.close();
    assert!(matches!(verify_backup(&target), Err(NotVerified::NoManifest)), "it is in use now");
    running.close();
}

#[test]
fn a_backup_takes_no_name_that_is_taken_and_there_is_one_at_a_time() {
    let dir = Dir::new();
    let running = dir.start();
    running.append(vec![event("x", &[1])]).unwrap();
    let first = order(&dir, "one");
    fs::create_dir_all(&first.target).unwrap();
    let refused = make(&running, first.clone()).unwrap_err();
    assert!(matches!(refused, BackupError::Exists(path) if path == first.target));
    assert_eq!(fs::read_dir(&first.target).unwrap().count(), 0, "it is left alone");

    // What a crash left of one is no backup, and in nobody's way.
    let partial = dir.0.path().join("backups/.two.partial");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("format"), "nonsense").unwrap();
    running.append(vec![event(&"x".repeat(200_000), &[1]); 8]).unwrap();
    let slow = BackupOrder { rate: 500_000, ..order(&dir, "two") };
    let (reply, answer) = tokio::sync::oneshot::channel();
    let write = Write::Backup { order: slow, reply };
    running.runtime.block_on(running.store.writes.send(write)).unwrap();
    let refused = make(&running, order(&dir, "three")).unwrap_err();
    assert!(matches!(refused, BackupError::Busy), "{refused}");
    running.runtime.block_on(answer).unwrap().unwrap();
    assert!(!partial.exists());
    make(&running, order(&dir, "three")).unwrap();
    running.close();
}

#[test]
fn the_oldest_named_by_their_time_make_room_and_nothing_else_does() {
    let dir = Dir::new();
    let running = dir.start();
    running.append(vec![event("x", &[1])]).unwrap();
    let shelf = dir.0.path().join("backups");
    assert_eq!(newest_backup(&shelf), None, "there is no such directory yet");
    let day = |day: u64| named_by(day * 86_400_000);
    for name in ["by hand", &day(1), &day(2), &day(3), &day(4)] {
        make(&running, order(&dir, name)).unwrap();
    }
    // A gateway was started on it, a file has such a name, and a crash left what it was making.
    restored(&shelf.join(day(1))).close();
    fs::write(shelf.join(day(0)), "a file").unwrap();
    let left_over = shelf.join(format!(".{}.partial", day(9)));
    fs::create_dir_all(left_over.join("store")).unwrap();
    let made = make(&running, BackupOrder { keep: 2, ..order(&dir, &day(5)) }).unwrap();
    assert_eq!(made.replaced, [day(2), day(3)]);
    let mut left: Vec<_> = fs::read_dir(&shelf).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [&*day(0), &day(1), &day(4), &day(5), "by hand"].map(OsString::from));
    assert_eq!(newest_backup(&shelf), Some(made.at));
    assert_eq!(verify_backup(&shelf.join(day(5))).unwrap().made_at, made.at);
    running.close();
}

#[test]
fn what_another_gateway_is_making_is_left_alone() {
    let dir = Dir::new();
    let running = dir.start();
    running.append(vec![event("x", &[1])]).unwrap();
    let others = dir.0.path().join("backups/.theirs.partial");
    fs::create_dir_all(&others).unwrap();
    let lock = fs::File::create(others.join("lock")).unwrap();
    lock.lock().unwrap();
    make(&running, order(&dir, "one")).unwrap();
    assert!(others.exists());
    drop(lock);
    make(&running, order(&dir, "two")).unwrap();
    assert!(!others.exists());
    running.close();
}

#[test]
fn retention_waits_for_a_copy_and_a_full_disk_does_not() {
    let dir = Dir::new();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let looked = Arc::clone(&free);
    let os = Os { free: Box::new(move |_| Ok(looked.load(Ordering::SeqCst))), ..Os::default() };
    let settings = Settings { retention_bytes: 0, disk_headroom: 1, ..dir.settings() };
    let running = Running::feed(open_with(settings, os).unwrap());
    let keys = |batch: usize| -> Vec<DeliveryKey> {
        let done = running.append(vec![event(&"x".repeat(100_000), &[1]); batch]).unwrap();
        let key = |place| DeliveryKey { place, webhook: WebhookNo(1) };
        done.iter().map(|done| key(done.id.place)).collect()
    };
    let open = keys(12);
    let (reply, answer) = tokio::sync::oneshot::channel();
    let slow = BackupOrder { rate: 400_000, ..order(&dir, "one") };
    let target = slow.target.clone();
    let write = Write::Backup { order: slow, reply };
    running.runtime.block_on(running.store.writes.send(write)).unwrap();
    begun(&target);
    running.record(open.iter().copied().map(delivered).collect());
    running.runtime.block_on(answer).unwrap().unwrap();
    let copy = restored(&target);
    assert_eq!(copy.recovered.len(), open.len(), "all of it was copied");
    copy.close();
    eventually("retention goes on", || running.count_events() == 0);

    let open = keys(12);
    let (reply, answer) = tokio::sync::oneshot::channel();
    let slow = BackupOrder { rate: 1, ..order(&dir, "two") };
    let target = slow.target.clone();
    let write = Write::Backup { order: slow, reply };
    running.runtime.block_on(running.store.writes.send(write)).unwrap();
    begun(&target);
    running.record(open.iter().copied().map(delivered).collect());
    free.store(0, Ordering::SeqCst);
    let began = instant();
    let failed = running.runtime.block_on(answer).unwrap().unwrap_err();
    assert!(matches!(failed, BackupError::Full), "{failed}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(!target.exists());
    eventually("retention frees the disk", || running.count_events() == 0);
    running.close();
}

#[test]
fn every_change_of_a_backup_is_noticed() {
    let dir = Dir::new();
    let running = dir.start();
    running.append(vec![event("x", &[1])]).unwrap();
    let order = order(&dir, "one");
    let target = order.target.clone();
    make(&running, order).unwrap();
    running.close();
    verify_backup(&target).unwrap();
    let check = |change: &dyn Fn(&Path), expected: &str| {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(&target, copy.path());
        verify_backup(copy.path()).unwrap();
        change(copy.path());
        let error = verify_backup(copy.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let flip = |path: PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    check(&|dir| flip(dir.join("store/db")), "store/db is not what was written");
    check(&|dir| flip(dir.join("mark")), "mark is not what was written");
    check(&|dir| fs::remove_file(dir.join("format")).unwrap(), "format is missing");
    check(&|dir| fs::write(dir.join("store/more"), "x").unwrap(), "store/more was not part");
    check(&|dir| fs::remove_file(dir.join("backup.json")).unwrap(), "holds no `backup.json`");
    check(&|dir| fs::write(dir.join("backup.json"), "{").unwrap(), "cannot be read");
    check(&|dir| fs::remove_dir_all(dir).unwrap(), "No such file");
}

#[test]
fn a_copy_that_is_cut_off_by_the_end_leaves_nothing() {
    let dir = Dir::new();
    let running = dir.start();
    running.append(vec![event(&"x".repeat(100_000), &[1]); 20]).unwrap();
    let slow = BackupOrder { rate: 1, ..order(&dir, "one") };
    let (reply, answer) = tokio::sync::oneshot::channel();
    let write = Write::Backup { order: slow, reply };
    running.runtime.block_on(running.store.writes.send(write)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    running.close();
    let failed = runtime.block_on(answer).unwrap().unwrap_err();
    assert!(matches!(failed, BackupError::Stopping), "{failed}");
    assert_eq!(fs::read_dir(dir.0.path().join("backups")).unwrap().count(), 0);
    dir.start().close();
}
