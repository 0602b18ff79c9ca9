//! The index's files, and what it costs to look something up.

use std::fs;

use super::*;
use crate::delivery::FailReason;

/// Blocks of three events each, of three tenants with a hundred webhooks: what came in is
/// delivered a block later, but each seventh fails.
fn fill(logs: &mut Logs, blocks: u64) {
    for block in 0..blocks {
        let event = |n: u64| {
            let tenant = 1 + (n % 3) as u32;
            let webhook = tenant * 1000 + (block * 7 % 100) as u32;
            (tenant, EventType::ALL[(block % 6) as usize], vec![(webhook, true)])
        };
        logs.accept(block + 1, &[event(0), event(1), event(2)]);
        let last = logs.events.last_key_value().expect("one was added").1.clone();
        let entry = |index: u16| {
            let place = Place::new(last.number, index);
            let key = DeliveryKey { place, webhook: last.routes_of(index)[0].webhook };
            match block % 7 {
                0 => attempt(key, 6, 503, Verdict::Failed(FailReason::AttemptsExhausted)),
                _ => attempt(key, 1, 200, Verdict::Delivered),
            }
        };
        logs.record((0..3).map(entry).collect());
    }
}

fn names(dir: &TempDir) -> Vec<String> {
    let files = fs::read_dir(dir.path().join("index")).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An index that has taken in all of some full logs.
fn filled(blocks: u64) -> (TempDir, Logs, Index) {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Logs::default();
    fill(&mut logs, blocks);
    let mut index = open(dir.path(), &logs);
    advance_to_the_end(&mut index, &mut logs);
    logs.reads = (0, 0);
    (dir, logs, index)
}

#[test]
fn a_page_reads_only_the_entries_that_it_shows() {
    for blocks in [100, 1000] {
        let (_dir, mut logs, mut index) = filled(blocks);
        logs.max_scan = 1000;
        let rare = DeliveryQuery { webhook: Some(WebhookNo(2035)), limit: 50, ..deliveries_of(2) };
        let (rows, pages) = all_deliveries(Some(&mut index), &mut logs, &rare);
        assert_eq!(rows.len() as u64, blocks / 100);
        assert_eq!(pages, 1);
        assert_eq!(logs.reads, (0, rows.len()), "of {blocks} blocks");
        let none = DeliveryQuery { error: Some(ErrorCode::Dns), ..rare };
        let (rows, pages) = all_deliveries(Some(&mut index), &mut logs, &none);
        assert_eq!((rows.len(), pages), (0, 1), "the tables say that there is none");
        let failed = DeliveryQuery { states: vec!["failed"], limit: 5, ..deliveries_of(1) };
        logs.reads = (0, 0);
        let found = index.find_deliveries(&mut logs, &failed, 1000).unwrap();
        assert_eq!(found.read(&mut logs, &failed).unwrap().rows.len(), 5);
        assert_eq!(logs.reads, (0, 5));
    }
}

#[test]
fn a_page_stops_at_its_bound_and_the_next_goes_on() {
    let (_dir, mut logs, mut index) = filled(400);
    // Each chunk may have both, and none has a row that is both.
    let query =
        DeliveryQuery { states: vec!["failed"], status: Some((200, 299)), ..deliveries_of(3) };
    let found = index.find_deliveries(&mut logs, &query, 6).unwrap();
    let page = found.read(&mut logs, &query).unwrap();
    assert_eq!(page.rows, vec![]);
    assert!(page.next.is_some(), "it stopped and says so");
    let (rows, pages) = all_deliveries(Some(&mut index), &mut logs, &query);
    assert_eq!(rows, vec![]);
    assert!((2..100).contains(&pages), "{pages} pages");
}

#[test]
fn a_closed_index_goes_on_and_a_killed_one_is_made_anew() {
    let (dir, mut logs, mut index) = filled(100);
    let query = deliveries_of(1);
    let before = all_deliveries(Some(&mut index), &mut logs, &query).0;
    index.close();
    fill(&mut logs, 1);
    logs.reads = (0, 0);
    let mut index = open(dir.path(), &logs);
    advance_to_the_end(&mut index, &mut logs);
    assert_eq!(logs.reads, (1, 1), "only what was new is read");
    assert_eq!(all_deliveries(Some(&mut index), &mut logs, &query).0[1..], before);
    drop(index);
    logs.reads = (0, 0);
    let mut index = open(dir.path(), &logs);
    assert_eq!(names(&dir), Vec::<String>::new(), "nothing of the killed one is believed");
    advance_to_the_end(&mut index, &mut logs);
    assert!(logs.reads.0 >= 101 && logs.reads.1 == 101, "{:?}", logs.reads);
    assert_eq!(all_deliveries(Some(&mut index), &mut logs, &query).0[1..], before);
}

#[test]
fn an_index_of_other_logs_is_made_anew() {
    let (dir, logs, mut index) = filled(100);
    index.close();
    let mut shorter = Logs::default();
    fill(&mut shorter, 50);
    let mut index = open(dir.path(), &shorter);
    let (rows, _) = all_deliveries(Some(&mut index), &mut shorter, &deliveries_of(1));
    assert_eq!(rows.len(), 50);
    index.close();
    let other = NodeNo(NODE.0 + 1);
    let ranges = (&logs.events_range, &logs.entries_range);
    let index = Index::open(dir.path().join("index"), other, 1000, ranges.0, ranges.1);
    assert_eq!(index.covers(), 0..0, "another gateway's");
}

#[test]
fn damaged_files_cost_a_scan_and_are_made_anew() {
    let (dir, mut logs, mut index) = filled(100);
    let query = deliveries_of(2);
    let expected = all_deliveries(None, &mut logs, &query).0;
    let path = dir.path().join("index").join(&names(&dir)[3]);
    let mut bytes = fs::read(&path).unwrap();
    // How many attempts were made: a row like any other, were it not for its checksum.
    bytes[..ROWS * 32].chunks_exact_mut(32).for_each(|row| row[26] ^= 1);
    fs::write(&path, bytes).unwrap();
    let (rows, by_index) = all_deliveries(Some(&mut index), &mut logs, &query);
    assert_eq!(rows, expected);
    assert!(by_index > 0, "until it came to the damage, and again when it was made anew");
    advance_to_the_end(&mut index, &mut logs);
    assert_eq!(all_deliveries(Some(&mut index), &mut logs, &query).0, expected);
    index.close();
    for name in names(&dir) {
        let path = dir.path().join("index").join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        // Of a segment only the tables are read by a start.
        let at = if path.ends_with("kept") { middle } else { bytes.len() - 3 };
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let mut index = open(dir.path(), &logs);
        assert_eq!(index.covers(), 0..0, "{} is believed", path.display());
        advance_to_the_end(&mut index, &mut logs);
        assert_eq!(all_deliveries(Some(&mut index), &mut logs, &query).0, expected);
        index.close();
    }
}

#[test]
fn retention_removes_whole_files() {
    let (dir, mut logs, mut index) = filled(100);
    let before = names(&dir).len();
    assert!(before >= 10, "{before} segments");
    logs.retire(60);
    index.advance(&mut logs, 1);
    assert!((1..before / 2).contains(&names(&dir).len()), "{:?}", names(&dir));
    let rows = all_deliveries(Some(&mut index), &mut logs, &deliveries_of(1)).0;
    assert_eq!(rows.len(), 40);
    logs.retire(100);
    index.advance(&mut logs, 1);
    assert_eq!(names(&dir), Vec::<String>::new());
}

#[test]
fn what_is_too_much_for_the_index_is_read_from_the_logs() {
    let dir = tempfile::tempdir().unwrap();
    let mut logs = Logs::default();
    fill(&mut logs, 200);
    let mut index = open_with(dir.path(), &logs, 100);
    advance_to_the_end(&mut index, &mut logs);
    assert!(index.rows() <= 100 && index.covers().start > 150, "{index:?}");
    let (rows, by_index) = all_deliveries(Some(&mut index), &mut logs, &deliveries_of(1));
    assert_eq!(rows, all_deliveries(None, &mut logs, &deliveries_of(1)).0);
    assert!((1..20).contains(&by_index), "{by_index} pages by the index");
    let mut none = open_with(dir.path(), &logs, 0);
    assert_eq!(none.advance(&mut logs, 10), Step::Off);
    assert!(none.find_deliveries(&mut logs, &deliveries_of(1), 1000).is_none());
}

#[test]
fn without_its_directory_it_waits_and_pages_are_read_from_the_logs() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("index"), "in the way").unwrap();
    let mut logs = Logs::default();
    fill(&mut logs, 100);
    let mut index = open(dir.path(), &logs);
    advance_to_the_end(&mut index, &mut logs);
    assert_eq!(index.advance(&mut logs, 1), Step::Stalled);
    let (rows, by_index) = all_deliveries(Some(&mut index), &mut logs, &deliveries_of(1));
    assert_eq!((rows.len(), by_index), (100, 0));
    // As if it had waited long enough.
    fs::remove_file(dir.path().join("index")).unwrap();
    fs::create_dir(dir.path().join("index")).unwrap();
    index.stalled_until = None;
    advance_to_the_end(&mut index, &mut logs);
    let (rows, by_index) = all_deliveries(Some(&mut index), &mut logs, &deliveries_of(1));
    assert_eq!(rows.len(), 100);
    assert!(by_index > 0, "it goes on where it waited");
}

#[test]
fn amendments_in_memory_are_bounded() {
    let (_dir, mut logs, mut index) = filled(100);
    for key in logs.keys() {
        logs.record(vec![decision(key, Verdict::Reopened)]);
        advance_to_the_end(&mut index, &mut logs);
        assert!(index.late < LATE, "{} wait", index.late);
    }
    let pending = DeliveryQuery { states: vec!["pending"], ..deliveries_of(1) };
    assert_eq!(all_deliveries(Some(&mut index), &mut logs, &pending).0.len(), 100);
}
