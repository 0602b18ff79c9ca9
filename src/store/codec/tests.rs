//! Round trips, limits, and damage of every kind.

mod edges;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    delivery::{
        Attempt, AttemptError, CancelReason, Entry, EntryFacts, ErrorCode, FailReason,
        KeptResponse, Phases, Protocol, Verdict,
    },
    event::EventType,
    id::{DeliveryKey, NodeNo, Place, TenantNo, WebhookNo},
    store::{EventBlock, IdempotencyKey, NewEvent, Route},
    trace::TraceContext,
};

type Records = Vec<(Vec<u8>, Vec<u8>)>;

fn keep(records: &mut Records) -> impl FnMut(&[u8], &[u8]) {
    |key, record| records.push((key.to_vec(), record.to_vec()))
}

fn head(number: u64) -> EventHead {
    let node = NodeNo(0xbeef);
    EventHead { number, node, accepted_at: 1_795_407_600_123, entries_from: 77, bytes_before: 9 }
}

fn build(number: u64, events: &[NewEvent]) -> (EventBlock, Records) {
    let mut builder = EventBlockBuilder::new(head(number), 0);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(builder.push(event), Some(Place::new(number, index as u16)));
    }
    let mut records = Vec::new();
    let block = builder.finish(keep(&mut records));
    (block, records)
}

/// What a reader does with the records of one block.
fn join(records: &Records) -> Result<Bytes, Damage> {
    let mut body = Vec::new();
    for (at, (key, record)) in records.iter().enumerate() {
        let (parts, piece) = open(key, record)?;
        if usize::from(parts) != records.len() || parse_key(key).unwrap().1 as usize != at {
            return Err(Damage::MissingPart);
        }
        body.extend_from_slice(piece);
    }
    Ok(body.into())
}

fn event(payload: usize, routes: &[(u32, bool)]) -> NewEvent {
    NewEvent {
        tenant: TenantNo(7),
        event_type: EventType::Failed,
        payload: vec![b'p'; payload].into(),
        key: None,
        trace: None,
        routes: routes
            .iter()
            .map(|&(no, enabled)| Route { webhook: WebhookNo(no), enabled })
            .collect(),
    }
}

fn attempt() -> Attempt {
    Attempt {
        number: 1,
        at: 1_795_407_600_100,
        status: Some(200),
        error: None,
        latency: 23_456,
        phases: Phases { queue: 120, first_byte: 21_000, body: 300, ..Phases::default() },
        response: KeptResponse::default(),
        peer: Some(([203, 0, 113, 7], 443).into()),
        protocol: Protocol::Http2,
        reused_connection: true,
    }
}

fn entry(attempt: Option<Attempt>) -> Entry {
    let key = DeliveryKey { place: Place::new(123_456, 17), webhook: WebhookNo(4_321) };
    Entry { key, at: 1_795_407_600_124, verdict: Verdict::Delivered, attempt }
}

fn write_entries(entries: &[Entry]) -> Records {
    let mut builder =
        EntryBlockBuilder::new(EntryHead { number: 5, base: entries[0].at, bytes_before: 3 });
    for entry in entries {
        assert!(builder.push(entry), "the test's entries fit a block");
    }
    let mut records = Vec::new();
    builder.finish(keep(&mut records));
    records
}

#[test]
fn a_block_is_the_same_after_writing_and_reading() {
    let events = [
        event(600, &[(1, true), (2, false), (900, true)]),
        event(0, &[]),
        event(30, &[(u32::MAX, true), (0, false), (u32::MAX, false)]),
    ];
    let (block, records) = build(42, &events);
    assert_eq!(records.len(), 1, "small events share one record");
    let decoded = decode_event_block(42, join(&records).unwrap()).unwrap();
    assert_eq!(decoded, block);
    assert_eq!(decoded.payload(0).unwrap(), events[0].payload);
    assert_eq!(decoded.routes_of(2), &events[2].routes[..]);
    assert_eq!(decode_event_head(42, &join(&records).unwrap()), Ok(head(42)));
}

fn trace(state: &str) -> TraceContext {
    TraceContext { trace_id: [0xa5; 16], span_id: [0x5a; 8], flags: 1, state: state.into() }
}

#[test]
fn a_trace_stands_behind_its_events_payload_and_nowhere_else() {
    let traced =
        |state: &str| NewEvent { trace: Some(Box::new(trace(state))), ..event(600, &[(1, true)]) };
    let long = "k=".to_owned() + &"v".repeat(510);
    let events = [traced(""), event(600, &[(2, true)]), traced(&long)];
    let (block, records) = build(42, &events);
    let decoded = decode_event_block(42, join(&records).unwrap()).unwrap();
    assert_eq!(decoded, block);
    for (index, event) in events.iter().enumerate() {
        assert_eq!(decoded.trace(index as u16), event.trace.as_deref().cloned());
        assert_eq!(decoded.payload(index as u16).unwrap(), event.payload);
    }
    assert_eq!(decoded.trace(3), None);
}

#[test]
fn an_event_that_is_erased_keeps_its_trace_and_so_do_its_neighbours() {
    let traced = || NewEvent { trace: Some(Box::new(trace("k=v"))), ..event(600, &[(1, true)]) };
    let (block, _) = build(42, &[traced(), traced(), event(9, &[])]);
    let mut records = Vec::new();
    let put = |key: &[u8], record: &[u8]| records.push((key.to_vec(), record.to_vec()));
    let left = erase_events(42, &block.bytes, &[0], 1_795_407_700_000, put).unwrap().unwrap();
    assert_eq!(decode_event_block(42, join(&records).unwrap()).unwrap(), left);
    assert_eq!((left.payload(0), left.erased_at(0)), (None, Some(1_795_407_700_000)));
    assert_eq!([0, 1, 2].map(|index| left.trace(index)), [0, 1, 2].map(|index| block.trace(index)));
    assert_eq!([1, 2].map(|index| left.payload(index)), [1, 2].map(|index| block.payload(index)));
}

/// A body as format 3 wrote it, byte by byte: nothing of it has moved.
#[test]
fn a_block_of_the_format_before_is_read_and_written_as_it_was() {
    let mut body = vec![2, 0, 0, 0, 0xef, 0xbe];
    body.extend([0xfb, 0xb3, 0x87, 0xb5, 0xa0, 0x34, 77, 9]);
    body.extend([2, 7, 2, 1 << 1 | 1, 2 << 1 << 1, 3]);
    body.extend(b"ppp");
    body.extend([2, 7, 0, 0]);
    let read = decode_event_block(1, body.clone().into()).unwrap();
    assert_eq!((read.accepted_at, read.entries_from), (1_795_407_600_123, 77));
    assert_eq!(read.payload(0).unwrap(), "ppp");
    assert!((0..2).all(|index| read.trace(index).is_none()));
    let (_, records) = build(1, &[event(3, &[(1, true), (3, false)]), event(0, &[])]);
    assert_eq!(join(&records).unwrap(), body);
}

#[test]
fn the_payload_is_not_copied_out_of_the_block() {
    let (block, _) = build(1, &[event(600, &[(1, true)])]);
    let payload = block.payload(0).unwrap();
    assert!(block.bytes.as_ptr_range().contains(&payload.as_ptr()));
}

#[test]
fn no_record_is_larger_than_the_limit() {
    let check = |payload, routes: u32, parts| {
        let routes: Vec<_> = (0..routes).map(|no| (no, true)).collect();
        let event = event(payload, &routes);
        let (block, records) = build(3, &[event]);
        assert_eq!(records.len(), parts, "{payload} bytes");
        assert!(records.iter().all(|(_, record)| record.len() <= RECORD_MAX));
        assert_eq!(decode_event_block(3, join(&records).unwrap()).unwrap(), block);
    };
    check(0, 0, 1);
    check(PART_MAX - 40, 1, 1);
    check(PART_MAX, 1, 2);
    check(256 << 10, 1, 16);
    check(600, 16_000, 2);
}

#[test]
fn a_full_block_leaves_the_event_to_the_next_one() {
    let mut builder = EventBlockBuilder::new(head(1), 0);
    let taken = (0..100).take_while(|_| builder.push(&event(600, &[(1, true)])).is_some()).count();
    assert_eq!(taken, 27);
    let (mut records, before) = (Vec::new(), builder.len());
    assert!(builder.push(&event(20_000, &[])).is_none(), "a large event gets its own block");
    assert_eq!(builder.len(), before, "what did not fit leaves nothing behind");
    let block = builder.finish(keep(&mut records));
    assert_eq!((block.events.len(), records.len()), (27, 1));
    assert_eq!(decode_event_block(1, join(&records).unwrap()).unwrap(), block);
}

#[test]
fn a_plain_success_takes_about_forty_bytes() {
    let entries = vec![entry(Some(attempt())); 100];
    let records = write_entries(&entries);
    let size: usize = records.iter().map(|(_, record)| record.len()).sum();
    assert!(size / 100 <= 50, "{} bytes", size / 100);
    assert_eq!(decode_entries(5, join(&records).unwrap()).unwrap(), entries);
}

#[test]
fn what_an_attempt_says_at_length_is_cut() {
    let line = Bytes::from(b"x-long: 0123456789\r\n".repeat(500));
    let response = KeptResponse {
        headers: line.clone(),
        body: Bytes::from(vec![b'b'; 100_000]),
        truncated: false,
    };
    let error = Some(AttemptError { code: ErrorCode::Status, detail: "é".repeat(10_000) });
    let long = entry(Some(Attempt { response, error, ..attempt() }));
    let records = write_entries(&[long]);
    let read = decode_entries(5, join(&records).unwrap()).unwrap().remove(0).attempt.unwrap();
    assert_eq!(read.response.headers, line[..2040], "whole lines of at most 2 KiB");
    assert_eq!(read.response.body.len(), 4096);
    assert!(read.response.truncated);
    assert_eq!(read.error.unwrap().detail, "é".repeat(256));
}

#[test]
fn keys_come_back_with_their_events() {
    let rows: Vec<KeyRow> = (0..1000u32)
        .map(|n| KeyRow {
            key: IdempotencyKey([n as u8; 16]),
            payload: u64::from(n) << 40,
            place: Place::new(Place::MAX_BLOCK - u64::from(n), n as u16),
            deliveries: n,
        })
        .collect();
    let mut records = Vec::new();
    let counts = encode_keys(9, 1_795_407_600_000, &rows, keep(&mut records));
    assert_eq!(counts.iter().sum::<usize>(), 1000);
    assert_eq!(counts.len(), records.len(), "each block is one part");
    let mut read = Vec::new();
    for (number, (key, record)) in (9..).zip(&records) {
        assert_eq!(parse_key(key), Some((number, 0)));
        let (accepted_at, rows) = decode_keys(open(key, record).unwrap().1).unwrap();
        assert_eq!(accepted_at, 1_795_407_600_000);
        read.extend(rows);
    }
    assert_eq!(read, rows);
}

#[test]
fn every_flipped_bit_and_every_truncation_is_detected() {
    let many: Vec<_> = (0..9).map(|n| event(500 + n, &[(1, true), (2, true)])).collect();
    for records in [build(1, &many).1, build(2, &[event(20_000, &[(1, true)])]).1] {
        for part in 0..records.len() {
            for at in (0..records[part].1.len()).step_by(16) {
                for bit in [0, 7] {
                    let mut damaged = records.clone();
                    damaged[part].1[at] ^= 1 << bit;
                    assert!(join(&damaged).is_err(), "bit {bit} of byte {at} of part {part}");
                }
                let mut cut = records.clone();
                cut[part].1.truncate(at);
                assert!(join(&cut).is_err(), "part {part} cut at {at}");
                let mut zeroed = records.clone();
                let end = (at + 512).min(zeroed[part].1.len());
                zeroed[part].1[at..end].fill(0);
                assert!(join(&zeroed).is_err(), "sector at {at} of part {part} zeroed");
            }
        }
    }
}

#[test]
fn a_record_in_the_wrong_place_is_detected() {
    let (_, records) = build(7, &[event(20_000, &[(1, true)])]);
    let record = &records[1].1;
    assert!(open(&Log::Events.key(7, 1), record).is_ok());
    assert_eq!(open(&Log::Events.key(8, 1), record), Err(Damage::Checksum), "another block's");
    assert_eq!(open(&Log::Events.key(7, 2), record), Err(Damage::Checksum), "another part's");
    assert_eq!(open(&Log::Entries.key(7, 1), record), Err(Damage::WrongLog));
    let mut newer = record.clone();
    newer[0] = 9;
    assert_eq!(open(&Log::Events.key(7, 1), &newer), Err(Damage::Version(9)));
    assert_eq!(open(&Log::Events.key(7, 1), &record[..7]), Err(Damage::Short));
}

#[test]
fn a_missing_or_repeated_part_is_detected() {
    let (_, records) = build(7, &[event(20_000, &[(1, true)])]);
    for part in 0..records.len() {
        let mut missing = records.clone();
        missing.remove(part);
        assert!(join(&missing).is_err());
    }
    let mut swapped = records.clone();
    swapped.swap(0, 1);
    assert!(join(&swapped).is_err());
}

fn any_bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    let failed = (1..=4u8).prop_map(|n| Verdict::Failed(FailReason::from_u8(n).unwrap()));
    let canceled = (1..=4u8).prop_map(|n| Verdict::Canceled(CancelReason::from_u8(n).unwrap()));
    prop_oneof![
        Just(Verdict::Delivered),
        any::<u64>().prop_map(Verdict::RetryAt),
        failed,
        canceled,
        Just(Verdict::Reopened),
    ]
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    let error = (1..=9u8, ".{0,80}").prop_map(|(code, detail)| AttemptError {
        code: ErrorCode::from_u8(code).unwrap(),
        detail,
    });
    let phases = any::<[u32; 6]>().prop_map(|[queue, dns, connect, tls, first_byte, body]| {
        Phases { queue, dns, connect, tls, first_byte, body }
    });
    let response = (any_bytes(300), any_bytes(900), any::<bool>())
        .prop_map(|(headers, body, truncated)| KeptResponse { headers, body, truncated });
    let connection = (prop::option::of(any::<std::net::SocketAddr>()), any::<[bool; 2]>());
    (
        any::<(u16, u64, u32)>(),
        prop::option::of(any::<u16>()),
        prop::option::of(error),
        phases,
        response,
        connection,
    )
        .prop_map(|((number, at, latency), status, error, phases, response, connection)| {
            let (peer, [is_http2, reused_connection]) = connection;
            let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
            Attempt {
                number,
                at,
                status,
                error,
                latency,
                phases,
                response,
                peer,
                protocol,
                reused_connection,
            }
        })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let key = (0..=Place::MAX_BLOCK, any::<u16>(), any::<u32>()).prop_map(|(block, index, no)| {
        DeliveryKey { place: Place::new(block, index), webhook: WebhookNo(no) }
    });
    (key, any::<u64>(), any_verdict(), prop::option::of(any_attempt()))
        .prop_map(|(key, at, verdict, attempt)| Entry { key, at, verdict, attempt })
}

fn facts_of(entries: &[Entry]) -> Vec<EntryFacts> {
    entries.iter().map(Entry::facts).collect()
}

proptest! {
    #[test]
    fn any_entry_survives(entry in any_entry()) {
        let bytes = join(&write_entries(std::slice::from_ref(&entry))).unwrap();
        prop_assert_eq!(decode_entry_facts(5, &bytes), Ok(vec![entry.facts()]));
        prop_assert_eq!(decode_entries(5, bytes), Ok(vec![entry]));
    }

    #[test]
    fn any_events_survive(
        shapes in prop::collection::vec(
            (
                any::<u32>(),
                0..6u8,
                any_bytes(300),
                prop::collection::vec(any::<(u32, bool)>(), 0..9),
                prop::option::of("[!-~]{0,40}"),
            ),
            1..12,
        ),
    ) {
        let events: Vec<_> = shapes
            .iter()
            .map(|(tenant, event_type, payload, routes, state)| NewEvent {
                tenant: TenantNo(*tenant),
                event_type: EventType::from_u8(*event_type).unwrap(),
                payload: payload.clone(),
                trace: state.as_ref().map(|state| Box::new(trace(state))),
                ..event(0, routes)
            })
            .collect();
        let (block, records) = build(8, &events);
        let read = decode_event_block(8, join(&records).unwrap()).unwrap();
        prop_assert_eq!(&read, &block);
        for (index, event) in events.iter().enumerate() {
            prop_assert_eq!(&read.payload(index as u16).unwrap(), &event.payload);
            prop_assert_eq!(read.routes_of(index as u16), &event.routes[..]);
            prop_assert_eq!(read.trace(index as u16), event.trace.as_deref().cloned());
            prop_assert_eq!(read.events[index].tenant, event.tenant);
            prop_assert_eq!(read.events[index].event_type, event.event_type);
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in any_bytes(400)) {
        let _ = decode_event_block(1, bytes.clone());
        let whole = decode_entries(1, bytes.clone());
        assert_eq!(decode_entry_facts(1, &bytes), whole.map(|entries| facts_of(&entries)));
        let _ = decode_keys(&bytes);
        let _ = open(&Log::Events.key(1, 0), &bytes);
    }

    /// Damage that a checksum would catch, with the checksum out of the way.
    #[test]
    fn no_damaged_block_makes_a_decoder_panic(at in any::<usize>(), value in any::<u8>()) {
        let traced = NewEvent { trace: Some(Box::new(trace("k=v"))), ..event(9, &[]) };
        let (block, _) = build(1, &[event(50, &[(1, true), (9, false)]), traced]);
        let mut bytes = block.bytes.to_vec();
        let len = bytes.len();
        bytes[at % len] = value;
        if let Ok(block) = decode_event_block(1, bytes.into()) {
            for index in 0..block.events.len() {
                block.payload(index as u16);
                block.routes_of(index as u16);
            }
        }
        let mut bytes = join(&write_entries(&[entry(Some(attempt()))])).unwrap().to_vec();
        let len = bytes.len();
        bytes[at % len] = value;
        let bytes = Bytes::from(bytes);
        let facts = decode_entries(1, bytes.clone()).map(|entries| facts_of(&entries));
        assert_eq!(decode_entry_facts(1, &bytes), facts);
    }
}
