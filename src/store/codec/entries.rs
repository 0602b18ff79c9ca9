//! Blocks of the attempt log.
//!
//! ```text
//! body     entries (4, little endian) · base time · bytes-before · entry …
//! entry    place's block · place's index · webhook · time, from the base · flags (1)
//!          · verdict's number, if it has one · the attempt, if there is one
//! attempt  flags (1) · number · start, from the entry's time · latency · phases present (1)
//!          · phase … · status? · error code (1) and detail? · peer? · headers? · body?
//! ```
//!
//! All numbers without a width are varints, times are zigzag differences. A plain success with an
//! empty response takes about 40 bytes.
//!
//! What an attempt says at length is bounded here once more, whoever made it: headers are cut at a
//! line's end, the body is cut and marked, the detail is cut at a character.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    ops::Range,
};

use bytes::Bytes;

use super::{
    Damage, Log, PART_MAX, RECORD_HEAD, cut,
    wire::{Reader, put_signed, put_varint},
};
use crate::{
    clock::Millis,
    delivery::{
        Attempt, AttemptError, AttemptFacts, CancelReason, Entry, EntryFacts, ErrorCode,
        FailReason, KeptResponse, Phases, Protocol, Verdict,
    },
    id::{DeliveryKey, Place, WebhookNo},
    store::erasure::redact,
};

const HEADERS_MAX: usize = 2 << 10;
const BODY_MAX: usize = 4 << 10;
const DETAIL_MAX: usize = 512;

/// Block, index, webhook, time, flags, and a reason or a due time or an attempt.
const ENTRY_MIN: usize = 5;

/// The verdict stands in the low four bits of an entry's flags.
const VERDICT: u8 = 0x0f;
const HAS_ATTEMPT: u8 = 0x10;

const HAS_STATUS: u8 = 0x01;
const HAS_ERROR: u8 = 0x02;
const HAS_PEER: u8 = 0x04;
const HAS_HEADERS: u8 = 0x08;
const HAS_BODY: u8 = 0x10;
const IS_TRUNCATED: u8 = 0x20;
const IS_HTTP2: u8 = 0x40;
const IS_REUSED: u8 = 0x80;

/// What a block says of itself before its first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHead {
    pub number: u64,
    /// The time that the entries' times are counted from.
    pub base: Millis,
    pub bytes_before: u64,
}

/// A block of the attempt log in the making.
#[derive(Debug)]
pub struct EntryBlockBuilder {
    head: EntryHead,
    /// A record's head, then the body.
    buffer: Vec<u8>,
    count: u32,
}

impl EntryBlockBuilder {
    pub fn new(head: EntryHead) -> Self {
        let mut buffer = Vec::with_capacity(RECORD_HEAD + PART_MAX);
        buffer.resize(RECORD_HEAD + 4, 0);
        put_varint(&mut buffer, head.base);
        put_varint(&mut buffer, head.bytes_before);
        Self { head, buffer, count: 0 }
    }

    /// Adds an entry; false where the block is full and the entry belongs into the next one. An
    /// empty block takes any entry: what an attempt says at length is cut to 7 KiB in all.
    #[must_use]
    pub fn push(&mut self, entry: &Entry) -> bool {
        let start = self.buffer.len();
        put_entry(&mut self.buffer, self.head.base, entry);
        if self.len() > PART_MAX {
            self.buffer.truncate(start);
            return false;
        }
        self.count += 1;
        true
    }

    /// Bytes of the body so far.
    pub fn len(&self) -> usize {
        self.buffer.len() - RECORD_HEAD
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Seals the block: its records go to `put`.
    pub fn finish(mut self, put: impl FnMut(&[u8], &[u8])) {
        self.buffer[RECORD_HEAD..RECORD_HEAD + 4].copy_from_slice(&self.count.to_le_bytes());
        cut(Log::Entries, self.head.number, &mut self.buffer, put);
    }
}

/// Decodes the body of entry block `number`. Total: never panics.
pub fn decode_entries(number: u64, bytes: Bytes) -> Result<Vec<Entry>, Damage> {
    decode(number, &bytes, |entry| entry.whole(&bytes))
}

/// Decodes only what the entries of block `number` change: nothing is copied out of it, and it is
/// damaged where [`decode_entries`] says so.
pub fn decode_entry_facts(number: u64, bytes: &[u8]) -> Result<Vec<EntryFacts>, Damage> {
    decode(number, bytes, |entry| entry.facts())
}

fn decode<'b, T>(
    number: u64,
    bytes: &'b [u8],
    as_wanted: impl Fn(StoredEntry<'b>) -> T,
) -> Result<Vec<T>, Damage> {
    let mut reader = Reader::new(bytes);
    let (head, count) = read_head(number, &mut reader)?;
    if count > reader.left() / ENTRY_MIN {
        return Err(Damage::Value("number of entries"));
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(as_wanted(read_entry(&mut reader, head.base)?));
    }
    reader.end()?;
    Ok(entries)
}

/// Writes entry block `number` again without what receivers wrote to the events at `places`: its
/// records go to `put`. None where there is nothing of it.
pub fn redact_entries(
    number: u64,
    bytes: Bytes,
    places: &HashSet<Place>,
    put: impl FnMut(&[u8], &[u8]),
) -> Result<Option<Vec<Entry>>, Damage> {
    let head = decode_entry_head(number, &bytes)?;
    let mut entries = decode_entries(number, bytes)?;
    let mut changed = false;
    for entry in entries.iter_mut().filter(|entry| places.contains(&entry.key.place)) {
        changed |= redact(entry);
    }
    if !changed {
        return Ok(None);
    }
    let mut builder = EntryBlockBuilder::new(head);
    for entry in &entries {
        let fits = builder.push(entry);
        assert!(fits, "a block does not grow by what is taken out of it");
    }
    builder.finish(put);
    Ok(Some(entries))
}

/// Only what stands before the first entry; the rest is not looked at.
pub fn decode_entry_head(number: u64, bytes: &[u8]) -> Result<EntryHead, Damage> {
    Ok(read_head(number, &mut Reader::new(bytes))?.0)
}

fn read_head(number: u64, reader: &mut Reader<'_>) -> Result<(EntryHead, usize), Damage> {
    let count = u32::from_le_bytes(reader.array()?) as usize;
    let base = reader.varint()?;
    let bytes_before = reader.varint()?;
    Ok((EntryHead { number, base, bytes_before }, count))
}

fn put_entry(out: &mut Vec<u8>, base: Millis, entry: &Entry) {
    put_varint(out, entry.key.place.block());
    put_varint(out, u64::from(entry.key.place.index()));
    put_varint(out, u64::from(entry.key.webhook.0));
    put_signed(out, entry.at.wrapping_sub(base) as i64);
    let (verdict, detail) = match entry.verdict {
        Verdict::Delivered => (1, None),
        Verdict::RetryAt(due) => (2, Some(due)),
        Verdict::Failed(reason) => (3, Some(reason as u64)),
        Verdict::Canceled(reason) => (4, Some(reason as u64)),
        Verdict::Reopened => (5, None),
    };
    out.push(verdict | if entry.attempt.is_some() { HAS_ATTEMPT } else { 0 });
    if let Some(detail) = detail {
        put_varint(out, detail);
    }
    if let Some(attempt) = &entry.attempt {
        put_attempt(out, entry.at, attempt);
    }
}

/// An entry as it lies in its block.
struct StoredEntry<'b> {
    key: DeliveryKey,
    at: Millis,
    verdict: Verdict,
    attempt: Option<StoredAttempt<'b>>,
}

struct StoredAttempt<'b> {
    flags: u8,
    number: u16,
    started: Millis,
    latency: u32,
    phases: Phases,
    status: Option<u16>,
    error: Option<(ErrorCode, &'b str)>,
    peer: Option<SocketAddr>,
    headers: Range<usize>,
    body: Range<usize>,
}

impl StoredEntry<'_> {
    fn facts(&self) -> EntryFacts {
        let Self { key, at, verdict, ref attempt } = *self;
        let attempt = attempt.as_ref().map(|attempt| AttemptFacts {
            number: attempt.number,
            status: attempt.status,
            error: attempt.error.map(|(code, _)| code),
        });
        EntryFacts { key, at, verdict, attempt }
    }

    /// `all` is the block's body.
    fn whole(self, all: &Bytes) -> Entry {
        let Self { key, at, verdict, attempt } = self;
        Entry { key, at, verdict, attempt: attempt.map(|attempt| attempt.whole(all)) }
    }
}

impl StoredAttempt<'_> {
    fn whole(self, all: &Bytes) -> Attempt {
        let has = |flag| self.flags & flag != 0;
        let error =
            self.error.map(|(code, detail)| AttemptError { code, detail: detail.to_owned() });
        // Slices of the block, not copies.
        let slice = |range: Range<usize>| match range.is_empty() {
            true => Bytes::new(),
            false => all.slice(range),
        };
        Attempt {
            number: self.number,
            at: self.started,
            status: self.status,
            error,
            latency: self.latency,
            phases: self.phases,
            response: KeptResponse {
                headers: slice(self.headers),
                body: slice(self.body),
                truncated: has(IS_TRUNCATED),
            },
            peer: self.peer,
            protocol: if has(IS_HTTP2) { Protocol::Http2 } else { Protocol::Http1 },
            reused_connection: has(IS_REUSED),
        }
    }
}

fn read_entry<'b>(reader: &mut Reader<'b>, base: Millis) -> Result<StoredEntry<'b>, Damage> {
    let block = reader.varint()?;
    if block > Place::MAX_BLOCK {
        return Err(Damage::Value("place"));
    }
    let place = Place::new(block, reader.number("index")?);
    let webhook = WebhookNo(reader.number("webhook")?);
    let at = base.wrapping_add(reader.signed()? as u64);
    let flags = reader.u8()?;
    let verdict = match flags & VERDICT {
        1 => Verdict::Delivered,
        2 => Verdict::RetryAt(reader.varint()?),
        3 => {
            let reason = reader.number("reason")?;
            Verdict::Failed(FailReason::from_u8(reason).ok_or(Damage::Value("reason"))?)
        }
        4 => {
            let reason = reader.number("reason")?;
            Verdict::Canceled(CancelReason::from_u8(reason).ok_or(Damage::Value("reason"))?)
        }
        5 => Verdict::Reopened,
        _ => return Err(Damage::Value("verdict")),
    };
    let attempt = match flags & !VERDICT {
        0 => None,
        HAS_ATTEMPT => Some(read_attempt(reader, at)?),
        _ => return Err(Damage::Value("flags")),
    };
    Ok(StoredEntry { key: DeliveryKey { place, webhook }, at, verdict, attempt })
}

fn put_attempt(out: &mut Vec<u8>, entry_at: Millis, attempt: &Attempt) {
    let headers = cut_headers(&attempt.response.headers);
    let body = &attempt.response.body[..attempt.response.body.len().min(BODY_MAX)];
    let is_cut = body.len() < attempt.response.body.len();
    let mut flags = 0;
    for (flag, set) in [
        (HAS_STATUS, attempt.status.is_some()),
        (HAS_ERROR, attempt.error.is_some()),
        (HAS_PEER, attempt.peer.is_some()),
        (HAS_HEADERS, !headers.is_empty()),
        (HAS_BODY, !body.is_empty()),
        (IS_TRUNCATED, attempt.response.truncated || is_cut),
        (IS_HTTP2, attempt.protocol == Protocol::Http2),
        (IS_REUSED, attempt.reused_connection),
    ] {
        flags |= if set { flag } else { 0 };
    }
    out.push(flags);
    put_varint(out, u64::from(attempt.number));
    put_signed(out, attempt.at.wrapping_sub(entry_at) as i64);
    put_varint(out, u64::from(attempt.latency));
    put_phases(out, &attempt.phases);
    if let Some(status) = attempt.status {
        put_varint(out, u64::from(status));
    }
    if let Some(error) = &attempt.error {
        out.push(error.code as u8);
        put_bytes(out, cut_detail(&error.detail).as_bytes());
    }
    if let Some(peer) = attempt.peer {
        put_peer(out, peer);
    }
    if !headers.is_empty() {
        put_bytes(out, headers);
    }
    if !body.is_empty() {
        put_bytes(out, body);
    }
}

fn read_attempt<'b>(reader: &mut Reader<'b>, at: Millis) -> Result<StoredAttempt<'b>, Damage> {
    let flags = reader.u8()?;
    let has = |flag| flags & flag != 0;
    let number = reader.number("attempt number")?;
    let started = at.wrapping_add(reader.signed()? as u64);
    let latency = reader.number("latency")?;
    let phases = read_phases(reader)?;
    let status = if has(HAS_STATUS) { Some(reader.number("status")?) } else { None };
    let error = if has(HAS_ERROR) { Some(read_error(reader)?) } else { None };
    let peer = if has(HAS_PEER) { Some(read_peer(reader)?) } else { None };
    let headers = if has(HAS_HEADERS) { read_bytes(reader)? } else { 0..0 };
    let body = if has(HAS_BODY) { read_bytes(reader)? } else { 0..0 };
    Ok(StoredAttempt {
        flags,
        number,
        started,
        latency,
        phases,
        status,
        error,
        peer,
        headers,
        body,
    })
}

/// A bit for each phase that took time, then only those: a reused connection has three.
fn put_phases(out: &mut Vec<u8>, phases: &Phases) {
    let Phases { queue, dns, connect, tls, first_byte, body } = *phases;
    let all = [queue, dns, connect, tls, first_byte, body];
    let present = all.iter().enumerate().fold(0, |bits, (at, &us)| bits | u8::from(us > 0) << at);
    out.push(present);
    for us in all.into_iter().filter(|&us| us > 0) {
        put_varint(out, u64::from(us));
    }
}

fn read_phases(reader: &mut Reader<'_>) -> Result<Phases, Damage> {
    let present = reader.u8()?;
    let mut all = [0; 6];
    if present >> all.len() != 0 {
        return Err(Damage::Value("phases"));
    }
    for (at, us) in all.iter_mut().enumerate() {
        if present >> at & 1 == 1 {
            *us = reader.number("phase")?;
        }
    }
    let [queue, dns, connect, tls, first_byte, body] = all;
    Ok(Phases { queue, dns, connect, tls, first_byte, body })
}

fn read_error<'b>(reader: &mut Reader<'b>) -> Result<(ErrorCode, &'b str), Damage> {
    let code = ErrorCode::from_u8(reader.u8()?).ok_or(Damage::Value("error code"))?;
    let len = reader.count(1)?;
    let detail = std::str::from_utf8(reader.take(len)?).map_err(|_| Damage::Value("text"))?;
    Ok((code, detail))
}

fn put_peer(out: &mut Vec<u8>, peer: SocketAddr) {
    match peer {
        SocketAddr::V4(v4) => {
            out.push(4);
            out.extend_from_slice(&v4.ip().octets());
        }
        SocketAddr::V6(v6) => {
            out.push(6);
            out.extend_from_slice(&v6.ip().octets());
            put_varint(out, u64::from(v6.flowinfo()));
            put_varint(out, u64::from(v6.scope_id()));
        }
    }
    put_varint(out, u64::from(peer.port()));
}

fn read_peer(reader: &mut Reader<'_>) -> Result<SocketAddr, Damage> {
    match reader.u8()? {
        4 => {
            let ip = Ipv4Addr::from(reader.array::<4>()?);
            Ok(SocketAddr::new(IpAddr::V4(ip), reader.number("port")?))
        }
        6 => {
            let ip = Ipv6Addr::from(reader.array::<16>()?);
            let (flow, scope) = (reader.number("flow")?, reader.number("scope")?);
            Ok(SocketAddr::V6(SocketAddrV6::new(ip, reader.number("port")?, flow, scope)))
        }
        _ => Err(Damage::Value("address")),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Where they stand in the block.
fn read_bytes(reader: &mut Reader<'_>) -> Result<Range<usize>, Damage> {
    let len = reader.count(1)?;
    let from = reader.position();
    reader.take(len)?;
    Ok(from..from + len)
}

fn cut_headers(headers: &[u8]) -> &[u8] {
    if headers.len() <= HEADERS_MAX {
        return headers;
    }
    let kept = &headers[..HEADERS_MAX];
    let lines = kept.windows(2).rposition(|pair| pair == b"\r\n").map_or(0, |at| at + 2);
    &kept[..lines]
}

fn cut_detail(detail: &str) -> &str {
    let end = (0..=detail.len().min(DETAIL_MAX)).rev().find(|&at| detail.is_char_boundary(at));
    &detail[..end.unwrap_or(0)]
}
