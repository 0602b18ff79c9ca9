//! Any bytes as what the logs hold: records, blocks of events, blocks of entries. Every decoder is
//! total, and what it takes for a block is written the same again.

use bytes::Bytes;
use senderz_gateway::{
    delivery::Entry,
    id::Place,
    store::{
        NewEvent,
        codec::{
            EntryBlockBuilder, EventBlockBuilder, RECORD_HEAD, RECORD_MAX, decode_entries,
            decode_entry_facts, decode_entry_head, decode_event_block, decode_event_head, open,
            parse_key, seal,
        },
    },
};

const NUMBER: u64 = 77;

pub(crate) fn check(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    events(&bytes);
    entries(&bytes);
    records(data);
}

fn events(bytes: &Bytes) {
    let Ok(block) = decode_event_block(NUMBER, bytes.clone()) else { return };
    let head = decode_event_head(NUMBER, bytes).expect("its head is a part of it");
    let mut builder = EventBlockBuilder::new(head, bytes.len());
    for (at, event) in block.events.iter().enumerate() {
        let index = u16::try_from(at).expect("a block has fewer");
        let payload = block.payload(index).expect("it has this event");
        let routes = block.routes_of(index).into();
        let (tenant, event_type) = (event.tenant, event.event_type);
        let trace = block.trace(index).map(Box::new);
        let event = NewEvent { tenant, event_type, payload, key: None, trace, routes };
        // Of the largest blocks not every one is one that would be written.
        let Some(place) = builder.push(&event) else { return };
        assert_eq!(place, Place::new(NUMBER, index));
    }
    if builder.is_empty() {
        return;
    }
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let again = builder.finish(|key, record| {
        let (_, part) = open(key, record).expect("just sealed");
        parts.push(part.to_vec());
    });
    assert_eq!(decode_event_block(NUMBER, parts.concat().into()), Ok(again.clone()));
    assert_eq!((again.events.len(), &again.routes), (block.events.len(), &block.routes));
    for index in 0..block.events.len() as u16 {
        assert_eq!(again.payload(index), block.payload(index));
        assert_eq!(again.trace(index), block.trace(index));
    }
}

fn entries(bytes: &Bytes) {
    let facts = decode_entry_facts(NUMBER, bytes);
    let Ok(entries) = decode_entries(NUMBER, bytes.clone()) else {
        assert!(facts.is_err(), "what is damaged is damaged for all");
        return;
    };
    assert_eq!(facts, Ok(entries.iter().map(Entry::facts).collect()));
    let head = decode_entry_head(NUMBER, bytes).expect("its head is a part of it");
    let mut builder = EntryBlockBuilder::new(head);
    if !entries.iter().all(|entry| builder.push(entry)) || builder.is_empty() {
        return;
    }
    let mut parts: Vec<Vec<u8>> = Vec::new();
    builder.finish(|key, record| {
        let (_, part) = open(key, record).expect("just sealed");
        parts.push(part.to_vec());
    });
    assert_eq!(decode_entries(NUMBER, parts.concat().into()), Ok(entries));
}

/// A record opens under its own key only, and not with a bit changed.
fn records(data: &[u8]) {
    let Some((key, rest)) = data.split_first_chunk::<11>() else { return };
    let _ = open(key, rest);
    if let Some((_, part)) = parse_key(key) {
        let mut record = vec![0; RECORD_HEAD];
        record.extend(&rest[..rest.len().min(RECORD_MAX - RECORD_HEAD)]);
        seal(key, part.saturating_add(1), &mut record);
        let opened = open(key, &record).map(|(parts, bytes)| (parts, bytes.to_vec()));
        let Ok((_, bytes)) = opened else { return };
        assert_eq!(bytes, record[RECORD_HEAD..]);
        let at = usize::from(part) % record.len();
        record[at] ^= 1;
        assert!(open(key, &record).is_err(), "byte {at}");
    }
}
