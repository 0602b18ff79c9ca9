//! W3C Trace Context: which trace an event belongs to, as its producer said it.
//!
//! The rules are those of the recommendation (<https://www.w3.org/TR/trace-context/>). A
//! `traceparent` that breaks one is nobody's: what cannot be read whole is not used in part, and a
//! `tracestate` without one means nothing. A later version than `00` is read as far as `00` goes.
//!
//! Tracing never costs an event: headers that are wrong are left out, and the request is taken.

use std::{fmt, str::FromStr};

use http::{HeaderMap, HeaderName};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `version-trace_id-parent_id-flags`, all in lower-case hex.
pub const TRACEPARENT_LEN: usize = 55;

/// What is kept of a `tracestate`; the recommendation asks for no less.
pub const TRACESTATE_MAX: usize = 512;

/// A longer member goes first where not all of them fit.
const LONG_MEMBER: usize = 128;
const MEMBERS_MAX: usize = 32;

const SAMPLED: u8 = 0x01;
/// The flags that have a meaning: sampled, and that the trace id is random (level 2).
const KNOWN_FLAGS: u8 = 0x03;

/// The trace that an event belongs to, and the span in it that the event came from.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub flags: u8,
    /// The producer's tracing systems' own words; empty where there are none.
    pub state: Box<str>,
}

/// Why a text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in lower case, neither id \
     all zeros"
)]
pub struct BadTraceparent;

impl TraceContext {
    /// Of the headers of a request; none where they do not hold exactly one usable `traceparent`.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let parent: Self = value.to_str().ok()?.trim_matches([' ', '\t']).parse().ok()?;
        let states = headers.get_all(TRACESTATE).iter();
        let states: Vec<&str> = states.map(|value| value.to_str().unwrap_or("=")).collect();
        Some(parent.with_state(&states.join(",")))
    }

    /// With a `tracestate` as it came; one that is malformed is left out.
    #[must_use]
    pub fn with_state(self, state: &str) -> Self {
        Self { state: read_state(state).unwrap_or_default(), ..self }
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The value of `traceparent`, without allocation.
    pub fn traceparent(&self) -> [u8; TRACEPARENT_LEN] {
        let mut out = *b"00-................................-................-..";
        put_hex(&mut out[3..35], &self.trace_id);
        put_hex(&mut out[36..52], &self.span_id);
        put_hex(&mut out[53..], &[self.flags]);
        out
    }

    /// The same, as a text.
    pub fn to_text(&self) -> String {
        self.traceparent().map(char::from).iter().collect()
    }
}

impl FromStr for TraceContext {
    type Err = BadTraceparent;

    fn from_str(text: &str) -> Result<Self, BadTraceparent> {
        read_parent(text.as_bytes()).ok_or(BadTraceparent)
    }
}

/// The state may be long, and is nobody's business in a log.
impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

fn read_parent(text: &[u8]) -> Option<TraceContext> {
    let (head, rest) = text.split_at_checked(TRACEPARENT_LEN)?;
    let [version] = hex(&head[..2])?;
    match (version, rest) {
        (0xff, _) => return None,
        (0, []) | (1.., [] | [b'-', ..]) => {}
        _ => return None,
    }
    if [head[2], head[35], head[52]] != *b"---" {
        return None;
    }
    let (trace_id, span_id) = (hex::<16>(&head[3..35])?, hex::<8>(&head[36..52])?);
    let [flags] = hex(&head[53..])?;
    if trace_id == [0; 16] || span_id == [0; 8] {
        return None;
    }
    Some(TraceContext { trace_id, span_id, flags: flags & KNOWN_FLAGS, state: Box::default() })
}

/// `N` bytes out of twice as many lower-case hex digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

fn put_hex(out: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// The members in their order, without the empty ones; none where one is malformed or there are
/// too many. Where they are too long together, long members go first, then the last ones.
fn read_state(text: &str) -> Option<Box<str>> {
    let members = text.split(',').map(|member| member.trim_matches([' ', '\t']));
    let mut members: Vec<&str> = members.filter(|member| !member.is_empty()).collect();
    if members.len() > MEMBERS_MAX || !members.iter().all(|member| is_member(member)) {
        return None;
    }
    let length = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    if length(&members) > TRACESTATE_MAX + 1 {
        members.retain(|member| member.len() <= LONG_MEMBER);
    }
    while length(&members) > TRACESTATE_MAX + 1 {
        members.pop();
    }
    Some(members.join(",").into())
}

/// `key=value`: the key of the recommendation's characters, the value of visible ASCII and spaces
/// without a comma or another `=`.
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let is_key_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-*/@".contains(&b);
    let starts = key.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    starts
        && key.len() <= 256
        && key.bytes().all(is_key_byte)
        && (1..=256).contains(&value.len())
        && value.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=')
}

#[cfg(test)]
mod tests;
