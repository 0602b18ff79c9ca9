//! Files that are written while the index goes on.

use super::{super::work::Work, *};
use crate::delivery::FailReason;

/// Ten blocks of an event for each of two webhooks, all delivered.
fn fill(logs: &mut Logs, blocks: u64) {
    for block in 0..blocks {
        logs.accept(block + 1, &[(1, EventType::ALL[0], vec![(1, true), (2, true)])]);
        let key = |webhook| DeliveryKey {
            place: Place::new(logs.events_range.end - 1, 0),
            webhook: WebhookNo(webhook),
        };
        logs.record(vec![
            attempt(key(1), 1, 200, Verdict::Delivered),
            attempt(key(2), 1, 200, Verdict::Delivered),
        ]);
    }
}

fn opened(blocks: u64) -> (TempDir, Logs, Index) {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Logs::default();
    fill(&mut logs, blocks);
    let index = open(dir.path(), &logs);
    (dir, logs, index)
}

/// Takes in blocks until a file is due.
fn begun(index: &mut Index, logs: &mut Logs) -> Work {
    loop {
        if let Some(work) = index.begin() {
            return work;
        }
        assert_eq!(index.advance(logs, 1), Step::More, "no file was due");
    }
}

/// Fails the oldest deliveries once more.
fn fail_oldest(logs: &mut Logs, count: usize) {
    let keys = logs.keys();
    let failed = Verdict::Failed(FailReason::AttemptsExhausted);
    logs.record(keys[..count].iter().map(|key| attempt(*key, 2, 503, failed)).collect());
}

fn failed(index: &mut Index, logs: &mut Logs) -> usize {
    let query = DeliveryQuery { states: vec!["failed"], limit: 50, ..deliveries_of(1) };
    let (rows, by_index) = all_deliveries(Some(index), logs, &query);
    assert!(by_index > 0, "the index tells");
    rows.len()
}

#[test]
fn pages_are_told_while_a_file_is_written() {
    let (_dir, mut logs, mut index) = opened(16);
    let work = begun(&mut index, &mut logs);
    assert!(matches!(work, Work::Seal { .. }));
    assert!(index.begin().is_none(), "one at a time");
    let (rows, by_index) = all_deliveries(Some(&mut index), &mut logs, &deliveries_of(1));
    assert_eq!(rows.len(), 32);
    assert!(by_index > 0);
    index.finish(work.write(), &logs);
    assert_eq!(index.segments.len(), 1);
    assert_eq!(all_deliveries(Some(&mut index), &mut logs, &deliveries_of(1)).0, rows);
}

#[test]
fn what_comes_while_a_segment_is_written_is_in_none_and_known_all_the_same() {
    let (_dir, mut logs, mut index) = opened(16);
    let work = begun(&mut index, &mut logs);
    fail_oldest(&mut logs, 3);
    assert_eq!(failed(&mut index, &mut logs), 3);
    index.finish(work.write(), &logs);
    assert_eq!(index.late, 3);
    assert_eq!(failed(&mut index, &mut logs), 3);
}

#[test]
fn what_comes_while_a_segment_is_written_anew_waits_for_the_next_time() {
    let (_dir, mut logs, mut index) = opened(16);
    advance_to_the_end(&mut index, &mut logs);
    assert_eq!(index.segments.len(), 1);
    fail_oldest(&mut logs, LATE);
    let work = begun(&mut index, &mut logs);
    assert!(matches!(work, Work::Amend { .. }));
    fail_oldest(&mut logs, LATE + 2);
    assert_eq!(failed(&mut index, &mut logs), LATE + 2);
    index.finish(work.write(), &logs);
    assert_eq!(index.late, LATE + 2, "told again while it was written");
    assert_eq!(failed(&mut index, &mut logs), LATE + 2);
    advance_to_the_end(&mut index, &mut logs);
    assert_eq!(index.late, 0);
    assert_eq!(failed(&mut index, &mut logs), LATE + 2);
}

#[test]
fn a_file_of_an_index_that_was_made_anew_meanwhile_is_none_of_it() {
    let (dir, mut logs, mut index) = opened(16);
    let work = begun(&mut index, &mut logs);
    index.start_anew(&logs.events_range, &logs.entries_range);
    index.finish(work.write(), &logs);
    assert_eq!(index.segments.len(), 0);
    let files = std::fs::read_dir(dir.path().join("index")).unwrap().count();
    assert_eq!(files, 0, "it is removed");
    let (rows, _) = all_deliveries(Some(&mut index), &mut logs, &deliveries_of(1));
    assert_eq!(rows.len(), 32);
}

#[test]
fn retention_may_take_what_is_being_written() {
    for is_sealed in [false, true] {
        let (dir, mut logs, mut index) = opened(16);
        if is_sealed {
            advance_to_the_end(&mut index, &mut logs);
            fail_oldest(&mut logs, LATE);
        }
        let work = begun(&mut index, &mut logs);
        fill(&mut logs, 4);
        logs.retire(18);
        index.advance(&mut logs, 1);
        index.finish(work.write(), &logs);
        assert_eq!(index.segments.len(), 0, "sealed before: {is_sealed}");
        let files = std::fs::read_dir(dir.path().join("index")).unwrap().count();
        assert_eq!(files, 0);
        advance_to_the_end(&mut index, &mut logs);
        let (rows, _) = all_deliveries(Some(&mut index), &mut logs, &deliveries_of(1));
        assert_eq!(rows.len(), 4);
    }
}

#[test]
fn an_index_whose_files_are_slow_takes_in_no_more_than_twice() {
    let (_dir, mut logs, mut index) = opened(100);
    let work = begun(&mut index, &mut logs);
    while index.advance(&mut logs, 1) == Step::More {}
    assert_eq!(index.advance(&mut logs, 1), Step::Full);
    assert_eq!(index.tail.rows.len(), 2 * ROWS);
    let (rows, by_index) = all_deliveries(Some(&mut index), &mut logs, &deliveries_of(1));
    assert_eq!((rows.len(), by_index), (200, 0), "pages are read from the logs");
    index.finish(work.write(), &logs);
    advance_to_the_end(&mut index, &mut logs);
    let (rows, by_index) = all_deliveries(Some(&mut index), &mut logs, &deliveries_of(1));
    assert_eq!(rows.len(), 200);
    assert!(by_index > 0);
}
