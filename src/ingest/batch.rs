//! Batches: newline-delimited JSON, a line per event, all or nothing.
//!
//! `{"tenant":"acme","idempotency_key":"optional","payload":{…}}`, in any order. A line may also say
//! which trace it belongs to: `traceparent`, and with it `tracestate`, as the headers of these names
//! would; a line that says nothing belongs to the request's. There are no other members.
//!
//! What is delivered is the payload value's own bytes as they stand in the line, from `{` to `}`:
//! whitespace inside it is kept, whitespace around it is not part of it. Each payload is a slice of
//! the request's body; nothing is copied.
//!
//! Lines end with LF or CRLF. Blank lines are allowed at the very end only: one in the middle is
//! more often a lost event than a habit. Every line is judged, so that a producer learns of all bad
//! lines at once; the first [`MAX_NAMED_LINES`] are named.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    event::{EventType, PayloadLimits, parse_payload_str},
    id::TenantNo,
    idempotency,
    ingest::{problem::FieldError, request},
    problem::nearest,
    store::{NewEvent, Route},
    trace::{BadTraceparent, TraceContext},
};

/// How many bad lines an answer names.
pub const MAX_NAMED_LINES: usize = 20;

const SHAPE: &str = r#"send {"tenant":"…","idempotency_key":"optional","payload":{…}} on one line"#;

/// How large a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    pub max_lines: usize,
    /// Characters of an idempotency key.
    pub max_key: usize,
    pub payload: PayloadLimits,
}

/// Why a batch was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBatch {
    #[error("the batch has no lines; {SHAPE}")]
    Empty,
    #[error(
        "the batch has {lines} lines; one request takes at most {max} (ingest.max_batch_lines)"
    )]
    TooManyLines { lines: usize, max: usize },
    #[error("{bad} of {lines} lines are bad{}; nothing was accepted", first_named(*bad))]
    BadLines {
        /// All problems of the first [`MAX_NAMED_LINES`] bad lines.
        errors: Vec<FieldError>,
        bad: usize,
        lines: usize,
    },
}

fn first_named(bad: usize) -> Cow<'static, str> {
    if bad <= MAX_NAMED_LINES {
        Cow::Borrowed("")
    } else {
        Cow::Owned(format!(" (the first {MAX_NAMED_LINES} are named)"))
    }
}

/// Finds a tenant by its name, if the caller may send for it, and where its events of a type go.
pub trait FindRoutes: FnMut(&str, EventType) -> Option<(TenantNo, Arc<[Route]>)> {}

impl<F: FnMut(&str, EventType) -> Option<(TenantNo, Arc<[Route]>)>> FindRoutes for F {}

/// Parses a whole batch. For large ones see [`BatchParser`], which can pause.
pub fn parse_batch(
    body: &Bytes,
    limits: &BatchLimits,
    mut find: impl FindRoutes,
) -> Result<Vec<NewEvent>, BadBatch> {
    let mut parser = BatchParser::new(body, limits)?;
    while !parser.advance(usize::MAX, &mut find) {}
    parser.finish()
}

/// A batch being parsed, in stretches: the caller lets others run in between.
#[derive(Debug)]
pub struct BatchParser<'b> {
    body: &'b Bytes,
    limits: &'b BatchLimits,
    /// What is not parsed yet, without blank lines at the end.
    rest: &'b [u8],
    lines: usize,
    events: Vec<NewEvent>,
    bad: usize,
    errors: Vec<FieldError>,
}

impl<'b> BatchParser<'b> {
    pub fn new(body: &'b Bytes, limits: &'b BatchLimits) -> Result<Self, BadBatch> {
        let rest = body.trim_ascii_end();
        if rest.is_empty() {
            return Err(BadBatch::Empty);
        }
        let lines = memchr::memchr_iter(b'\n', rest).count() + 1;
        if lines > limits.max_lines {
            return Err(BadBatch::TooManyLines { lines, max: limits.max_lines });
        }
        let events = Vec::with_capacity(lines);
        Ok(Self { body, limits, rest, lines: 0, events, bad: 0, errors: Vec::new() })
    }

    /// Parses up to `lines` lines; true once all are parsed.
    pub fn advance(&mut self, lines: usize, find: &mut impl FindRoutes) -> bool {
        for _ in 0..lines {
            if self.rest.is_empty() {
                break;
            }
            let end = memchr::memchr(b'\n', self.rest);
            let (line, rest) = match end {
                Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
                None => (self.rest, &[][..]),
            };
            self.rest = rest;
            self.lines += 1;
            match self.event(line, find) {
                Ok(event) => self.events.push(event),
                Err(problems) => self.refuse(problems),
            }
        }
        self.rest.is_empty()
    }

    pub fn finish(self) -> Result<Vec<NewEvent>, BadBatch> {
        if self.bad == 0 {
            return Ok(self.events);
        }
        Err(BadBatch::BadLines { errors: self.errors, bad: self.bad, lines: self.lines })
    }

    fn event(&self, line: &[u8], find: &mut impl FindRoutes) -> Result<NewEvent, Vec<Wrong>> {
        let line = Line::parse(line)?;
        let payload = line.payload.get();
        let event_type = parse_payload_str(payload, &self.limits.payload).map_err(|e| {
            let wrong = |p: crate::event::FieldProblem| Wrong {
                pointer: if p.pointer.is_empty() {
                    "/payload".into()
                } else {
                    format!("/payload{}", p.pointer).into()
                },
                detail: p.detail,
            };
            e.problems.into_iter().map(wrong).collect::<Vec<_>>()
        })?;
        let (tenant, routes) = find(&line.tenant, event_type)
            .ok_or_else(|| Wrong::one("/tenant", "there is no such tenant"))?;
        let key = match line.idempotency_key {
            None => None,
            Some(key) if idempotency::is_usable(key.as_bytes(), self.limits.max_key) => {
                Some(request::idempotency_key(tenant, &key))
            }
            Some(_) => {
                let rule = idempotency::rule(self.limits.max_key);
                return Err(Wrong::one("/idempotency_key", rule));
            }
        };
        let payload = self.body.slice_ref(payload.as_bytes());
        let trace = line.trace;
        Ok(NewEvent { tenant, event_type, payload, key, trace, routes })
    }

    fn refuse(&mut self, problems: Vec<Wrong>) {
        self.bad += 1;
        // No event of a batch with a bad line is accepted: let go of the others.
        self.events = Vec::new();
        if self.bad > MAX_NAMED_LINES {
            return;
        }
        let line = self.lines;
        self.errors.extend(problems.into_iter().map(|wrong| {
            let pointer = format!("/lines/{line}{}", wrong.pointer);
            FieldError { line: Some(line), ..FieldError::new(pointer, wrong.detail) }
        }));
    }
}

/// One thing that is wrong with a line.
#[derive(Debug)]
struct Wrong {
    pointer: Cow<'static, str>,
    detail: Cow<'static, str>,
}

impl Wrong {
    fn one(pointer: &'static str, detail: impl Into<Cow<'static, str>>) -> Vec<Self> {
        vec![Self { pointer: pointer.into(), detail: detail.into() }]
    }
}

/// A line's members, borrowed from it.
struct Line<'l> {
    tenant: Cow<'l, str>,
    idempotency_key: Option<Cow<'l, str>>,
    trace: Option<Box<TraceContext>>,
    payload: &'l RawValue,
}

impl<'l> Line<'l> {
    fn parse(line: &'l [u8]) -> Result<Self, Vec<Wrong>> {
        let whole = |detail: String| Wrong::one("", detail);
        let text = std::str::from_utf8(line).map_err(|e| {
            whole(format!("byte {} of the line is not UTF-8; send UTF-8", e.valid_up_to()))
        })?;
        if text.trim_ascii().is_empty() {
            return Err(whole(format!("a blank line; {SHAPE}")));
        }
        if text.starts_with('\u{FEFF}') {
            return Err(whole("starts with a byte order mark; send UTF-8 without one".into()));
        }
        let mut members = Members::default();
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_map(&mut members)
            .and_then(|()| json.end())
            .map_err(|e| whole(describe(&e)))?;
        members.into_line()
    }
}

/// What to say of a line that is not an object. An error of category `data` says what kind of
/// value was found, and may quote it: that one is replaced.
fn describe(e: &serde_json::Error) -> String {
    match e.classify() {
        serde_json::error::Category::Data => format!("not a JSON object; {SHAPE}"),
        _ => format!("not valid JSON at column {}; {SHAPE}", e.column()),
    }
}

enum Member {
    Tenant,
    IdempotencyKey,
    Traceparent,
    Tracestate,
    Payload,
    /// As much of its name as is told.
    Unknown(String),
}

const MEMBERS: [&str; 5] = ["tenant", "idempotency_key", "traceparent", "tracestate", "payload"];
/// What is kept of a name that nobody knows, characters: one more than a mistyped one may have.
const LONGEST_NAME: usize = 41;

/// A line's members as they come.
#[derive(Default)]
struct Members<'l> {
    tenant: Option<&'l RawValue>,
    idempotency_key: Option<&'l RawValue>,
    traceparent: Option<&'l RawValue>,
    tracestate: Option<&'l RawValue>,
    payload: Option<&'l RawValue>,
    unknown: Option<String>,
    repeated: bool,
}

impl<'l> Members<'l> {
    fn into_line(self) -> Result<Line<'l>, Vec<Wrong>> {
        if let Some(name) = self.unknown {
            return Err(Wrong::one("", unknown(&name)));
        }
        if self.repeated {
            return Err(Wrong::one("", format!("has a member twice; {SHAPE}")));
        }
        let tenant = self.tenant.and_then(text).ok_or_else(|| {
            Wrong::one("/tenant", "missing or not a string; send the tenant's id")
        })?;
        let idempotency_key = optional(self.idempotency_key, "/idempotency_key")?;
        let trace = self.trace()?;
        let payload = self
            .payload
            .ok_or_else(|| Wrong::one("/payload", "missing; send the event's JSON object"))?;
        Ok(Line { tenant, idempotency_key, trace, payload })
    }

    /// What a producer writes into its own line it means: unlike a header, which may be anybody's
    /// on the way here, it is refused where it is wrong.
    fn trace(&self) -> Result<Option<Box<TraceContext>>, Vec<Wrong>> {
        let state = optional(self.tracestate, "/tracestate")?;
        let Some(parent) = optional(self.traceparent, "/traceparent")? else { return Ok(None) };
        let parent: TraceContext = parent
            .parse()
            .map_err(|e: BadTraceparent| Wrong::one("/traceparent", e.to_string()))?;
        Ok(Some(Box::new(parent.with_state(state.as_deref().unwrap_or_default()))))
    }
}

/// A name is told where it is one of ours, mistyped. Any other is the producer's, and nothing of
/// that is in a refusal.
fn unknown(name: &str) -> String {
    match nearest(name, &MEMBERS) {
        Some(near) => format!("{name:?} is no member of a line; did you mean `{near}`?"),
        None => format!("has an unknown member; {SHAPE}"),
    }
}

/// A member that may be missing, or null.
fn optional<'l>(
    raw: Option<&'l RawValue>,
    pointer: &'static str,
) -> Result<Option<Cow<'l, str>>, Vec<Wrong>> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    let not_text = || Wrong::one(pointer, "not a string; send a string or leave it out");
    text(raw).map(Some).ok_or_else(not_text)
}

/// The text of a JSON string; none for any other value.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

impl<'de> Visitor<'de> for &mut Members<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(member) = members.next_key()? {
            let slot = match member {
                Member::Tenant => &mut self.tenant,
                Member::IdempotencyKey => &mut self.idempotency_key,
                Member::Traceparent => &mut self.traceparent,
                Member::Tracestate => &mut self.tracestate,
                Member::Payload => &mut self.payload,
                Member::Unknown(name) => {
                    members.next_value::<IgnoredAny>()?;
                    self.unknown.get_or_insert(name);
                    continue;
                }
            };
            self.repeated |= slot.replace(members.next_value()?).is_some();
        }
        Ok(())
    }
}

impl<'de> serde::Deserialize<'de> for Member {
    fn deserialize<D: serde::Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_str(MemberName)
    }
}

struct MemberName;

impl Visitor<'_> for MemberName {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Member, E> {
        Ok(match name {
            "tenant" => Member::Tenant,
            "idempotency_key" => Member::IdempotencyKey,
            "traceparent" => Member::Traceparent,
            "tracestate" => Member::Tracestate,
            "payload" => Member::Payload,
            name => Member::Unknown(name.chars().take(LONGEST_NAME).collect()),
        })
    }
}
