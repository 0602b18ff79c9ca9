//! The parse that makes a payload an event: one pass over the bytes where they lie.
//!
//! A `serde_json` visitor walks the document and looks at seven members; everything else is only
//! checked to be JSON. Nothing is built and, unless a string holds an escape, nothing is allocated.
//! The walk visits every string and number instead of skipping it, so that what a receiver's parser
//! would choke on is refused here, wherever it stands: lone surrogates, numbers beyond a double,
//! raw control characters, invalid UTF-8, a byte order mark, anything after the object.
//!
//! A member that the gateway reads (`type`, `timestamp`, `data`, `data.id`, …) may appear only
//! once: two parsers could take different ones. Other members may repeat; they pass through.
//!
//! Deliberately not done: no normalisation, no schema for members that the gateway does not read.

#[cfg(test)]
mod tests;
mod timestamp;

use std::{borrow::Cow, fmt};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::event::EventType;

/// The longest `data.id`, in bytes of its unescaped text.
pub const MAX_ID: usize = 256;
/// The longest `data.channel`, likewise.
pub const MAX_CHANNEL: usize = 64;
/// The longest `data.recipient`, likewise.
pub const MAX_RECIPIENT: usize = 512;
/// The longest `data.status_reason`, likewise.
pub const MAX_STATUS_REASON: usize = 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How large and how deep a payload may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadLimits {
    pub max_bytes: usize,
    /// Nested objects and arrays, the payload itself included. The JSON parser's own limit of 127
    /// applies as well.
    pub max_depth: usize,
}

/// Why bytes are not an event's payload: every field that is wrong, each with what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadError {
    /// At least one, at most one per field the gateway reads.
    pub problems: Vec<FieldProblem>,
}

/// One thing that is wrong with a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901) into the payload; empty where it is about the whole.
    pub pointer: &'static str,
    /// What is wrong and what to send instead. Holds nothing of the payload.
    pub detail: Cow<'static, str>,
}

impl std::error::Error for PayloadError {}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            let colon = if problem.pointer.is_empty() { "" } else { ": " };
            write!(f, "{separator}{}{colon}{}", problem.pointer, problem.detail)?;
        }
        Ok(())
    }
}

impl PayloadError {
    fn whole(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { problems: vec![FieldProblem { pointer: "", detail: detail.into() }] }
    }
}

/// Checks that `bytes` are one event's payload and tells its type.
pub fn parse_payload(bytes: &[u8], limits: &PayloadLimits) -> Result<EventType, PayloadError> {
    check_size(bytes.len(), limits)?;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        return Err(PayloadError::whole("starts with a byte order mark; send UTF-8 without one"));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| {
        PayloadError::whole(format!("byte {} is not UTF-8; send UTF-8", e.valid_up_to()))
    })?;
    parse_payload_str(text, limits)
}

/// As [`parse_payload`], for text that is known to be UTF-8.
pub fn parse_payload_str(text: &str, limits: &PayloadLimits) -> Result<EventType, PayloadError> {
    check_size(text.len(), limits)?;
    let mut facts = Facts::new(limits.max_depth);
    let mut json = serde_json::Deserializer::from_str(text);
    let walked = Walk { facts: &mut facts, spot: Spot::Payload, depth: 0 }
        .deserialize(&mut json)
        .and_then(|()| json.end());
    match walked {
        Ok(()) => facts.judge(),
        Err(_) if facts.too_deep => Err(PayloadError::whole(format!(
            "nested deeper than {} levels; flatten it",
            limits.max_depth
        ))),
        // Such an error names a grammar rule and a position, never what the payload holds.
        Err(e) => Err(PayloadError::whole(format!("not valid JSON: {e}; send one JSON object"))),
    }
}

fn check_size(len: usize, limits: &PayloadLimits) -> Result<(), PayloadError> {
    if len <= limits.max_bytes {
        return Ok(());
    }
    Err(PayloadError::whole(format!(
        "{len} bytes; a payload has at most {} bytes (ingest.max_payload)",
        limits.max_bytes
    )))
}

/// The members that the gateway reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Type,
    Timestamp,
    Data,
    Id,
    Channel,
    Recipient,
    StatusReason,
}

impl Field {
    const REQUIRED: [Field; 6] =
        [Self::Type, Self::Timestamp, Self::Data, Self::Id, Self::Channel, Self::Recipient];

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    const fn pointer(self) -> &'static str {
        match self {
            Self::Type => "/type",
            Self::Timestamp => "/timestamp",
            Self::Data => "/data",
            Self::Id => "/data/id",
            Self::Channel => "/data/channel",
            Self::Recipient => "/data/recipient",
            Self::StatusReason => "/data/status_reason",
        }
    }

    const fn what_to_send(self) -> &'static str {
        match self {
            Self::Type => {
                "send one of message.sent, message.delivered, message.failed, message.inbound, message.read, message.blocked"
            }
            Self::Timestamp => "send an RFC 3339 date and time such as 2026-11-23T04:20:00.123Z",
            Self::Data => "send an object with id, channel and recipient",
            Self::Id => "send a string of 1 to 256 bytes",
            Self::Channel => "send a string of 1 to 64 bytes",
            Self::Recipient => "send a string of 1 to 512 bytes",
            Self::StatusReason => {
                "send a string of 1 to 1024 bytes; only message.failed and message.blocked need it"
            }
        }
    }

    fn problem(self, what: &str) -> FieldProblem {
        FieldProblem {
            pointer: self.pointer(),
            detail: format!("{what}; {}", self.what_to_send()).into(),
        }
    }
}

/// Where in the document the walk stands.
#[derive(Clone, Copy)]
enum Spot {
    /// The document itself.
    Payload,
    Field(Field),
    /// Anything that passes through unread.
    Other,
}

impl Spot {
    /// The spot of the member `key` of the object at this spot.
    fn member(self, key: &str) -> Spot {
        let field = match (self, key) {
            (Spot::Payload, "type") => Field::Type,
            (Spot::Payload, "timestamp") => Field::Timestamp,
            (Spot::Payload, "data") => Field::Data,
            (Spot::Field(Field::Data), "id") => Field::Id,
            (Spot::Field(Field::Data), "channel") => Field::Channel,
            (Spot::Field(Field::Data), "recipient") => Field::Recipient,
            (Spot::Field(Field::Data), "status_reason") => Field::StatusReason,
            _ => return Spot::Other,
        };
        Spot::Field(field)
    }
}

/// What the walk has found.
struct Facts {
    max_depth: usize,
    too_deep: bool,
    /// Bits of the fields that were seen, good or bad.
    seen: u8,
    event_type: Option<EventType>,
    has_status_reason: bool,
    problems: Vec<FieldProblem>,
}

impl Facts {
    fn new(max_depth: usize) -> Self {
        Self {
            max_depth,
            too_deep: false,
            seen: 0,
            event_type: None,
            has_status_reason: false,
            problems: Vec::new(),
        }
    }

    fn saw(&mut self, field: Field) {
        if self.seen & field.bit() != 0 {
            self.report(field, "appears twice");
        }
        self.seen |= field.bit();
    }

    /// Reports one problem per field: the first one is the one to mend.
    fn report(&mut self, field: Field, what: &str) {
        if self.problems.iter().all(|p| p.pointer != field.pointer()) {
            self.problems.push(field.problem(what));
        }
    }

    fn string(&mut self, field: Field, text: &str) {
        let longest = match field {
            Field::Type => {
                match text.parse() {
                    Ok(event_type) => self.event_type = Some(event_type),
                    Err(_) => self.report(field, "unknown event type"),
                }
                return;
            }
            Field::Timestamp => {
                if !timestamp::is_rfc3339(text) {
                    self.report(field, "not an RFC 3339 date and time with an offset");
                }
                return;
            }
            Field::Data => return self.report(field, "not an object"),
            Field::StatusReason => {
                // An empty one is wrong only where one is needed: `judge` knows.
                self.has_status_reason = !text.is_empty();
                if text.len() > MAX_STATUS_REASON {
                    self.report(field, "too long");
                }
                return;
            }
            Field::Id => MAX_ID,
            Field::Channel => MAX_CHANNEL,
            Field::Recipient => MAX_RECIPIENT,
        };
        if text.is_empty() {
            self.report(field, "empty");
        } else if text.len() > longest {
            self.report(field, "too long");
        }
    }

    /// A value that is neither string nor object at a field.
    fn other_kind(&mut self, field: Field, is_null: bool) {
        match field {
            Field::StatusReason if is_null => {}
            Field::Data => self.report(field, "not an object"),
            _ => self.report(field, "not a string"),
        }
    }

    fn judge(mut self) -> Result<EventType, PayloadError> {
        if self.problems.iter().any(|p| p.pointer.is_empty()) {
            return Err(PayloadError { problems: self.problems });
        }
        let has_data = self.seen & Field::Data.bit() != 0
            && self.problems.iter().all(|p| p.pointer != Field::Data.pointer());
        for field in Field::REQUIRED {
            let in_data = matches!(field, Field::Id | Field::Channel | Field::Recipient);
            if self.seen & field.bit() == 0 && (has_data || !in_data) {
                self.report(field, "missing");
            }
        }
        let needs_reason = self.event_type.is_some_and(EventType::needs_status_reason);
        if needs_reason && has_data && !self.has_status_reason {
            self.report(Field::StatusReason, "missing or empty");
        }
        match self.event_type {
            Some(event_type) if self.problems.is_empty() => Ok(event_type),
            _ => Err(PayloadError { problems: self.problems }),
        }
    }
}

/// Visits one value at one spot.
struct Walk<'f> {
    facts: &'f mut Facts,
    spot: Spot,
    /// How many objects and arrays stand around the value.
    depth: usize,
}

impl Walk<'_> {
    /// Notes a value that has no members.
    fn scalar(self, is_null: bool) {
        match self.spot {
            Spot::Payload => self.not_an_object(),
            Spot::Field(field) => self.facts.other_kind(field, is_null),
            Spot::Other => {}
        }
    }

    fn not_an_object(self) {
        let detail = "not a JSON object; send an object with type, timestamp and data".into();
        self.facts.problems.push(FieldProblem { pointer: "", detail });
    }

    fn enter<E: serde::de::Error>(&mut self) -> Result<usize, E> {
        let depth = self.depth + 1;
        if depth > self.facts.max_depth {
            self.facts.too_deep = true;
            return Err(E::custom("too deep"));
        }
        Ok(depth)
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.scalar(true);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.scalar(false);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.scalar(false);
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.scalar(false);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.scalar(false);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        match self.spot {
            Spot::Payload => self.not_an_object(),
            Spot::Field(field) => self.facts.string(field, text),
            Spot::Other => {}
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let depth = self.enter::<A::Error>()?;
        while items
            .next_element_seed(Walk { facts: self.facts, spot: Spot::Other, depth })?
            .is_some()
        {}
        self.scalar(false);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let depth = self.enter::<A::Error>()?;
        if let Spot::Field(field) = self.spot
            && field != Field::Data
        {
            self.facts.report(field, "not a string");
        }
        while let Some(spot) = members.next_key_seed(Key(self.spot))? {
            if let Spot::Field(field) = spot {
                self.facts.saw(field);
            }
            members.next_value_seed(Walk { facts: self.facts, spot, depth })?;
        }
        Ok(())
    }
}

/// Reads a member's name in the object at a spot.
struct Key(Spot);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Spot;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Spot, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Spot;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Spot, E> {
        Ok(self.0.member(name))
    }
}
