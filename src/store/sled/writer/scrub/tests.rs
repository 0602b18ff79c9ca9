//! A scrub step by step, over a file that was full of what has to go.

use std::fs;

use super::*;
use crate::store::{
    Settings,
    codec::RECORD_MAX,
    contract_tests::settings,
    sled::{Os, SEGMENT, disk::ROW_TAG, open_disk},
};

const SECRET: &[u8] = b"canary-4711";
/// With which the file has a dozen segments and more.
const RECORDS: u32 = 3000;

/// How often it stands in the file.
fn found(disk: &Disk) -> usize {
    let len = disk.file().metadata().unwrap().len();
    let mut all = vec![0; usize::try_from(len).unwrap()];
    disk.file().read_exact_at(&mut all, 0).unwrap();
    memchr::memmem::find_iter(&all, SECRET).count()
}

/// Every record of the store at once, as the erasure of one person's events would write it.
fn write(disk: &mut Disk, record: &[u8]) {
    for from in (0..RECORDS).step_by(50) {
        let mut writes = Writes::default();
        for n in from..from + 50 {
            writes.insert(&[[ROW_TAG].as_slice(), &n.to_be_bytes(), &[0; 3]].concat(), record);
        }
        disk.commit(writes).unwrap();
    }
}

/// Scrubs, and finds nothing from the last turn on; gives how much there was before it.
fn scrub(disk: &mut Disk) -> usize {
    let mut round = Round::begin(disk).unwrap();
    let mut before_the_last_turn = None;
    while !matches!(round.phase, Phase::Clear) {
        round.step(disk).unwrap();
        if matches!(round.phase, Phase::Turn { last: true, .. }) {
            before_the_last_turn.get_or_insert_with(|| found(disk));
        }
        // sled frees segments in a thread of its own.
        std::thread::yield_now();
    }
    disk.flush().unwrap();
    assert_eq!(found(disk), 0, "before the last turn: {before_the_last_turn:?}");
    while !matches!(round.phase, Phase::Done) {
        round.step(disk).unwrap();
    }
    assert_eq!(found(disk), 0);
    before_the_last_turn.unwrap_or_default()
}

/// The segment that is begun when the last old one is used up lies where an old one lay, and is not
/// full yet: what is behind its end is still what was to go. Clearing the filling may write over it,
/// or not; the last turn always does.
#[test]
fn the_last_turn_leaves_nothing_behind_the_end_of_the_newest_segment() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { data_dir: dir.path().join("data"), ..settings() };
    let (mut disk, _mark) = open_disk(&settings, Os::default()).unwrap();
    let full = SECRET.repeat(RECORD_MAX / 2 / SECRET.len());
    let mut left = 0;
    // Where the last old segment was cut off instead of used again, there was nothing behind its end.
    for _ in 0..5 {
        write(&mut disk, &full);
        write(&mut disk, b"erased");
        let size = disk.file().metadata().unwrap().len();
        assert!(size > 6 * SEGMENT as u64 && found(&disk) > 1000, "{size} bytes hold it");
        left = scrub(&mut disk);
        if left > 0 {
            break;
        }
    }
    assert!(left > 0, "there was something left for the last turn");
    drop(disk);
    let file = fs::read(settings.data_dir.join("store/db")).unwrap();
    assert!(memchr::memmem::find(&file, SECRET).is_none());
}
