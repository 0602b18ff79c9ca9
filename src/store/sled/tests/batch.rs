//! What a crash in the middle of a commit leaves.

use std::fs;

use super::{
    Dir,
    loss::{Ended, copy, start, with_db},
};
use crate::store::contract_tests::event;

/// A crash may leave any beginning of what a commit wrote, and of a batch all or nothing.
#[test]
fn a_batch_is_there_whole_or_not_at_all_wherever_the_log_ends() {
    const BATCH: usize = 60;
    let dir = Dir::new();
    let running = dir.start();
    running.append(vec![event("first", &[1])]).unwrap();
    running.close();
    let before = copy(&dir);
    let from = fs::metadata(before.data().join("store/db")).unwrap().len();
    let running = dir.start();
    // It takes the meta row along, which would make the next commit whole by itself.
    running.append(vec![event("second", &[1])]).unwrap();
    running.append((0..BATCH).map(|n| event(&format!("{n:0>2000}"), &[1])).collect()).unwrap();
    let written = fs::read(dir.data().join("store/db")).unwrap();
    running.close();
    // A segment that was opened again is filled up with zeroes.
    let last = written.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    assert!(last as u64 > from + 100_000, "the batch is long: {from} to {last}");
    let mut seen = [0; 2];
    for end in (from as usize..=last).step_by(2048).chain([last]) {
        // The mark is that of the time before.
        let cut = with_db(&before, |bytes| *bytes = written[..end].to_vec());
        match start(&cut) {
            Ended::Whole(1 | 2) => seen[0] += 1,
            Ended::Whole(waiting) if waiting == 2 + BATCH => seen[1] += 1,
            other => panic!("cut at {end} of {last}: {other:?}"),
        }
    }
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}
