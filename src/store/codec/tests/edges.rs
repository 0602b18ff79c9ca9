//! Where something is just full, just fits, or is one too many.

use std::collections::HashSet;

use super::*;
use crate::store::codec::wire::{Reader, put_varint};

#[test]
fn logs_are_named_as_metrics_and_messages_name_them() {
    let names = [Log::Entries, Log::Events, Log::Idempotency].map(Log::name);
    assert_eq!(names, ["entries", "events", "idempotency"]);
}

#[test]
fn a_varint_has_at_most_64_bits() {
    let read = |bytes: &[u8]| Reader::new(bytes).varint();
    let ten = |last: u8| [[0xff; 9].as_slice(), &[last]].concat();
    assert_eq!(read(&ten(1)), Ok(u64::MAX));
    for over in [2, 3, 0x7f, 0x81] {
        assert_eq!(read(&ten(over)), Err(Damage::Value("integer")), "{over}");
    }
    assert_eq!(read(&[0xff; 9]), Err(Damage::Truncated));
    for value in (0..64).flat_map(|bits| [(1 << bits) - 1, 1 << bits, u64::MAX >> bits]) {
        let mut written = Vec::new();
        put_varint(&mut written, value);
        assert_eq!(read(&written), Ok(value));
    }
}

#[test]
fn a_count_is_at_most_what_the_rest_can_hold() {
    let count = |bytes: &[u8], least| Reader::new(bytes).count(least);
    assert_eq!(count(&[2, 0, 0, 0, 0], 2), Ok(2));
    assert_eq!(count(&[2, 0, 0, 0], 2), Err(Damage::Truncated));
    assert_eq!(count(&[3, 0, 0, 0, 0], 2), Err(Damage::Truncated));
    assert_eq!(count(&[0], 2), Ok(0));
}

#[test]
fn a_body_is_cut_into_as_few_parts_as_hold_it() {
    let sizes = [0, 1, PART_MAX - 1, PART_MAX, PART_MAX + 1, 2 * PART_MAX, 2 * PART_MAX + 1];
    for (size, parts) in sizes.into_iter().zip([1, 1, 1, 1, 2, 2, 3]) {
        let mut buffer = vec![0; RECORD_HEAD];
        buffer.extend((0..size).map(|at| at as u8));
        let body = buffer[RECORD_HEAD..].to_vec();
        let mut records = Vec::new();
        cut(Log::Events, 7, &mut buffer, keep(&mut records));
        assert_eq!(records.len(), parts, "{size} bytes");
        assert_eq!(join(&records).unwrap(), body, "{size} bytes");
    }
}

/// An entry with a body of `len` bytes.
fn entry_of(len: usize) -> Entry {
    let response = KeptResponse { body: Bytes::from(vec![b'b'; len]), ..Default::default() };
    entry(Some(Attempt { response, ..attempt() }))
}

fn entry_builder() -> EntryBlockBuilder {
    EntryBlockBuilder::new(EntryHead { number: 5, base: entry(None).at, bytes_before: 3 })
}

#[test]
fn a_block_of_entries_is_filled_to_its_last_byte() {
    let mut builder = entry_builder();
    assert!(builder.is_empty());
    let mut entries = vec![entry_of(4000); 4];
    assert!(entries.iter().all(|entry| builder.push(entry)));
    assert!(!builder.is_empty());
    let before = builder.len();
    // The last one takes exactly the room that is left.
    let of_size = |size| {
        let adds = |len: &usize| {
            let mut alone = entry_builder();
            let empty = alone.len();
            alone.push(&entry_of(*len)) && alone.len() - empty == size
        };
        entry_of((0..size).find(adds).expect("a body of the right length"))
    };
    assert!(!builder.push(&of_size(PART_MAX - before + 1)), "one byte too many");
    assert_eq!(builder.len(), before, "what did not fit leaves nothing behind");
    entries.push(of_size(PART_MAX - before));
    assert!(builder.push(&entries[4]));
    assert_eq!(builder.len(), PART_MAX);
    assert!(!builder.push(&entry(None)));
    let mut records = Vec::new();
    builder.finish(keep(&mut records));
    assert_eq!(records.iter().map(|(_, record)| record.len()).collect::<Vec<_>>(), [RECORD_MAX]);
    assert_eq!(decode_entries(5, join(&records).unwrap()).unwrap(), entries);
}

#[test]
fn a_block_of_events_is_filled_to_its_last_byte() {
    let fill = |payload: usize| {
        let mut builder = EventBlockBuilder::new(head(1), 0);
        assert!(builder.is_empty() && builder.push(&event(600, &[])).is_some());
        assert!(!builder.is_empty());
        let (taken, len) = (builder.push(&event(payload, &[])).is_some(), builder.len());
        let mut records = Vec::new();
        builder.finish(keep(&mut records));
        assert_eq!(records[0].1.len(), RECORD_HEAD + len);
        (taken, len)
    };
    let (taken, len) = fill(10_000);
    assert!(taken);
    let room = PART_MAX - len;
    assert_eq!(fill(10_000 + room), (true, PART_MAX));
    assert!(!fill(10_000 + room + 1).0, "one byte too many");
    assert_eq!(fill(100_000), fill(10_000 + room + 1), "and nothing of it is left behind");
}

#[test]
fn a_trace_counts_as_part_of_its_event() {
    for state in ["", "k=v", &"k=v,".repeat(120)] {
        let fill = |payload: usize| {
            let mut builder = EventBlockBuilder::new(head(1), 0);
            assert!(builder.push(&event(600, &[])).is_some());
            let trace = Some(Box::new(trace(state)));
            let taken = builder.push(&NewEvent { trace, ..event(payload, &[]) }).is_some();
            (taken, builder.len())
        };
        let (taken, len) = fill(10_000);
        assert!(taken);
        let room = 10_000 + PART_MAX - len;
        for payload in room - 100..room + 100 {
            let (taken, len) = fill(payload);
            assert!(len <= PART_MAX, "{payload}");
            // How much a trace takes is reckoned a few bytes too high.
            assert!(taken || payload > room - 10, "{payload}");
        }
    }
}

/// A body that says it has so many of the smallest events, and has `there` of them.
fn smallest_events(says: u32, there: usize) -> Bytes {
    let mut body = says.to_le_bytes().to_vec();
    body.extend([0, 0, 1, 1, 1]);
    body.extend([0, 1, 0, 0].repeat(there));
    body.into()
}

#[test]
fn a_block_has_no_more_events_than_places_and_bytes() {
    let events = |says, there| {
        let block = decode_event_block(1, smallest_events(says, there));
        block.map(|block| block.events.len())
    };
    assert_eq!(events(3, 3), Ok(3));
    assert_eq!(events(4, 3), Err(Damage::Value("number of events")));
    assert_eq!(events(2, 3), Err(Damage::Trailing));
    let places = 1 << 16;
    assert_eq!(events(places, places as usize), Ok(places as usize));
    for over in [places + 1, places + 2] {
        let refused = events(over, over as usize);
        assert_eq!(refused, Err(Damage::Value("number of events")), "{over}");
    }
}

#[test]
fn a_block_has_no_more_entries_than_bytes() {
    // At block, index and webhook 0, at the base time, delivered, without an attempt.
    let entries = |says: u32, there: usize| {
        let mut body = says.to_le_bytes().to_vec();
        body.extend([1, 1]);
        body.extend([0, 0, 0, 0, 1].repeat(there));
        decode_entries(1, body.into()).map(|entries| entries.len())
    };
    assert_eq!(entries(3, 3), Ok(3));
    assert_eq!(entries(4, 3), Err(Damage::Value("number of entries")));
    assert_eq!(entries(2, 3), Err(Damage::Trailing));
}

#[test]
fn a_place_has_at_most_48_bits_of_block() {
    let highest = DeliveryKey { place: Place::new(Place::MAX_BLOCK, 17), webhook: WebhookNo(1) };
    let written = write_entries(&[Entry { key: highest, ..entry(None) }]);
    let body = join(&written).unwrap();
    assert_eq!(decode_entries(5, body.clone()).unwrap()[0].key, highest);
    // Seven bytes of the varint, the last with the highest bits.
    let at = body.windows(7).position(|bytes| bytes == [255, 255, 255, 255, 255, 255, 0x3f]);
    let over = |body: &[u8], at: usize| {
        let mut body = body.to_vec();
        body[at + 6] = 0x7f;
        Bytes::from(body)
    };
    let damaged = decode_entries(5, over(&body, at.unwrap()));
    assert_eq!(damaged, Err(Damage::Value("place")));

    let row = |block| KeyRow {
        key: IdempotencyKey([7; 16]),
        payload: 9,
        place: Place::new(block, 1),
        deliveries: 1,
    };
    let mut records = Vec::new();
    encode_keys(1, 1, &[row(Place::MAX_BLOCK)], keep(&mut records));
    let body = join(&records).unwrap();
    assert_eq!(decode_keys(&body), Ok((1, vec![row(Place::MAX_BLOCK)])));
    let at = body.windows(7).position(|bytes| bytes == [255, 255, 255, 255, 255, 255, 0x3f]);
    assert_eq!(decode_keys(&over(&body, at.unwrap())), Err(Damage::Value("place")));
    assert_eq!(decode_keys(&[&body[..], &[0]].concat()), Err(Damage::Trailing));
}

#[test]
fn the_widest_idempotency_rows_fit_their_block() {
    let widest = KeyRow {
        key: IdempotencyKey([255; 16]),
        payload: u64::MAX,
        place: Place::new(Place::MAX_BLOCK, u16::MAX),
        deliveries: u32::MAX,
    };
    let mut records = Vec::new();
    let counts = encode_keys(1, u64::MAX, &[widest; 1000], keep(&mut records));
    assert_eq!(counts.len(), records.len(), "each block is one part");
    assert_eq!(records.len(), 3, "hundreds of them share one");
}

#[test]
fn what_is_erased_leaves_its_neighbours_as_they_were_whatever_its_length() {
    for len in [0, 1, 7, 8, 9, 120, 127, 128, 600, 16_000] {
        let (block, _) = build(42, &[event(100, &[]), event(len, &[(1, true)]), event(30, &[])]);
        let mut records = Vec::new();
        let left = erase_events(42, &block.bytes, &[1], 1_795_407_700_000, keep(&mut records));
        let left = left.unwrap().unwrap();
        assert_eq!(decode_event_block(42, join(&records).unwrap()).unwrap(), left, "{len}");
        assert_eq!((left.payload(1), left.erased_at(1)), (None, Some(1_795_407_700_000)), "{len}");
        for index in [0, 2] {
            assert_eq!(left.payload(index), block.payload(index), "{len}");
        }
        assert_eq!(left.routes, block.routes, "{len}");
        let again = erase_events(42, &left.bytes, &[1], 1, |_, _| panic!("nothing is written"));
        assert_eq!(again, Ok(None), "{len}");
        let longer = Bytes::from([&block.bytes[..], &[0]].concat());
        let damaged = erase_events(42, &longer, &[1], 1, |_, _| panic!("nothing is written"));
        assert_eq!(damaged, Err(Damage::Trailing));
    }
}

#[test]
fn responses_are_taken_out_of_the_entries_that_are_named() {
    let at = |index, len| {
        let key = DeliveryKey { place: Place::new(9, index), webhook: WebhookNo(1) };
        Entry { key, ..entry_of(len) }
    };
    let bare = Entry { key: at(3, 0).key, ..entry(None) };
    let entries = [at(1, 50), at(2, 60), at(1, 0), bare];
    let body = join(&write_entries(&entries)).unwrap();
    let redact = |places: &[u16]| {
        let places: HashSet<_> = places.iter().map(|index| Place::new(9, *index)).collect();
        let mut records = Vec::new();
        let left = redact_entries(5, body.clone(), &places, keep(&mut records)).unwrap();
        (left, records)
    };
    for nothing in [&[][..], &[3], &[8]] {
        assert_eq!(redact(nothing), (None, Vec::new()), "{nothing:?}");
    }
    let (left, records) = redact(&[1, 3]);
    let mut expected = entries;
    expected[0] = at(1, 0);
    assert_eq!(left.unwrap(), expected);
    let written = join(&records).unwrap();
    assert_eq!(decode_entries(5, written.clone()).unwrap(), expected);
    assert_eq!(decode_entry_head(5, &written), decode_entry_head(5, &body));
}
