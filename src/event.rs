//! Events: what a producer handed us, and the parse that makes it valid.
//!
//! Parsing is validation, and it borrows: the payload is checked where it lies and is never
//! rebuilt, so the delivered body is byte for byte what came in.

mod payload;

use std::{fmt, str::FromStr};

pub use payload::{
    FieldProblem, MAX_CHANNEL, MAX_ID, MAX_RECIPIENT, MAX_STATUS_REASON, PayloadError,
    PayloadLimits, parse_payload, parse_payload_str,
};

/// The six event types of the published contract, which producers send, and what the gateway itself
/// tells its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EventType {
    Sent = 0,
    Delivered = 1,
    Failed = 2,
    Inbound = 3,
    Read = 4,
    Blocked = 5,
    /// The gateway disabled a webhook. Only webhooks of the operator's own tenant get it.
    WebhookDisabled = 6,
}

impl EventType {
    /// The six of the published contract.
    pub const ALL: [EventType; 6] =
        [Self::Sent, Self::Delivered, Self::Failed, Self::Inbound, Self::Read, Self::Blocked];

    /// These, and what the gateway tells its operator; each at its number.
    pub const EVERY: [EventType; 7] = [
        Self::Sent,
        Self::Delivered,
        Self::Failed,
        Self::Inbound,
        Self::Read,
        Self::Blocked,
        Self::WebhookDisabled,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "message.sent",
            Self::Delivered => "message.delivered",
            Self::Failed => "message.failed",
            Self::Inbound => "message.inbound",
            Self::Read => "message.read",
            Self::Blocked => "message.blocked",
            Self::WebhookDisabled => "webhook.disabled",
        }
    }

    /// Whether an event of this type has to say why (`data.status_reason`).
    pub const fn needs_status_reason(self) -> bool {
        matches!(self, Self::Failed | Self::Blocked)
    }

    /// A name of any type, those that no producer may send included.
    pub fn named(text: &str) -> Result<Self, UnknownEventType> {
        let mut every = Self::EVERY.into_iter();
        every.find(|one| one.as_str() == text).ok_or(UnknownEventType::OfEvery)
    }

    /// A name that a tenant may ask for: what the gateway tells, only where that is the operator's.
    pub fn known_to(is_operators: bool, text: &str) -> Result<Self, UnknownEventType> {
        if is_operators { Self::named(text) } else { text.parse() }
    }

    /// The inverse of `self as u8`, for reading the log.
    pub fn from_u8(raw: u8) -> Option<Self> {
        Self::EVERY.get(usize::from(raw)).copied()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is none of the event types that may be named where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownEventType {
    /// Where producers and tenants name what producers send.
    #[error(
        "unknown event type; the six are message.sent, message.delivered, message.failed, message.inbound, message.read, message.blocked"
    )]
    OfSix,
    /// Where what the gateway tells may be named too.
    #[error(
        "unknown event type; there are message.sent, message.delivered, message.failed, message.inbound, message.read, message.blocked, and webhook.disabled, which the gateway sends"
    )]
    OfEvery,
}

/// Of the six: what the gateway tells is not for others to send, or to ask for.
impl FromStr for EventType {
    type Err = UnknownEventType;

    fn from_str(text: &str) -> Result<Self, UnknownEventType> {
        Self::ALL.into_iter().find(|t| t.as_str() == text).ok_or(UnknownEventType::OfSix)
    }
}

/// A set of event types as a bit mask, one bit per type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct EventTypes(u8);

impl EventTypes {
    pub const NONE: Self = Self(0);
    /// The six of the published contract.
    pub const ALL: Self = Self(0b11_1111);
    pub const EVERY: Self = Self(0b111_1111);

    pub const fn contains(self, event_type: EventType) -> bool {
        self.0 & (1 << event_type as u8) != 0
    }

    pub const fn with(self, event_type: EventType) -> Self {
        Self(self.0 | 1 << event_type as u8)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = EventType> {
        EventType::EVERY.into_iter().filter(move |t| self.contains(*t))
    }
}
