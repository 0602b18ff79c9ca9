//! Deliveries and attempts: the words for what happened, and the one place where a delivery's
//! state changes.
//!
//! An unsuccessful delivery is data, never an `Err`.

pub mod cause;

use std::net::SocketAddr;

use bytes::Bytes;

use crate::{clock::Millis, id::DeliveryKey};

/// What an attempt means for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The receiver took it.
    Delivered,
    /// It may be tried again, not before the receiver's own wish (`Retry-After`), if it had one.
    Retry { not_before: Option<Millis> },
    /// Trying again cannot help (the target is forbidden).
    Failed,
}

/// The closed list of error codes a failed attempt carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ErrorCode {
    Dns = 1,
    Connect = 2,
    Tls = 3,
    Timeout = 4,
    Reset = 5,
    BadResponse = 6,
    BlockedTarget = 7,
    Status = 8,
    Canceled = 9,
}

impl ErrorCode {
    pub const ALL: [ErrorCode; 9] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::BadResponse,
        Self::BlockedTarget,
        Self::Status,
        Self::Canceled,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::BadResponse => "bad_response",
            Self::BlockedTarget => "blocked_target",
            Self::Status => "status",
            Self::Canceled => "canceled",
        }
    }

    pub fn from_u8(raw: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u8 == raw)
    }
}

/// What an attempt spent its time on, in microseconds; 0 where a phase did not happen (a reused
/// connection has no `dns`, `connect` or `tls`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// From due to started.
    pub queue: u32,
    pub dns: u32,
    pub connect: u32,
    pub tls: u32,
    /// From the request's first byte written to the response's head.
    pub first_byte: u32,
    pub body: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Protocol {
    #[default]
    Http1 = 1,
    Http2 = 2,
}

impl Protocol {
    pub const ALL: [Protocol; 2] = [Self::Http1, Self::Http2];

    /// The name that the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
        }
    }
}

/// What was kept of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptResponse {
    /// `name: value\r\n` lines as received, up to 2 KiB; cut at a line's end.
    pub headers: Bytes,
    /// The first bytes of the body (`delivery.keep_response`, at most 4 KiB).
    pub body: Bytes,
    /// Whether the body went on beyond what was kept.
    pub truncated: bool,
}

/// Why an attempt did not deliver: the code for machines, the detail for people. The detail says
/// nothing about our inside (no resolved private address, no path).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptError {
    pub code: ErrorCode,
    pub detail: String,
}

/// One HTTP request made for a delivery, with its result. Immutable once written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// 1 to 6, and on after a replay.
    pub number: u16,
    /// Wall time at which it started.
    pub at: Millis,
    pub status: Option<u16>,
    pub error: Option<AttemptError>,
    /// From start to the last byte read, microseconds.
    pub latency: u32,
    pub phases: Phases,
    pub response: KeptResponse,
    pub peer: Option<SocketAddr>,
    pub protocol: Protocol,
    pub reused_connection: bool,
}

/// What follows from an attempt or a decision: the delivery's next state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Delivered,
    RetryAt(Millis),
    Failed(FailReason),
    Canceled(CancelReason),
    /// A replay: due now, with attempt numbers going on.
    Reopened,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FailReason {
    /// All attempts of the schedule were made.
    AttemptsExhausted = 1,
    /// It waited longer than `delivery.max_age`.
    Expired = 2,
    /// The webhook's address is one that the guard refuses.
    BlockedTarget = 3,
    /// The log block that held the event is damaged; it was quarantined.
    Unreadable = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CancelReason {
    /// Canceled through the API.
    Requested = 1,
    /// The webhook was deleted.
    WebhookDeleted = 2,
    /// The webhook was disabled when the event came.
    WebhookDisabled = 3,
    /// Its event was erased: there is nothing left to send.
    EventErased = 4,
}

/// An entry of the attempt log. The record of the attempt is the acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: DeliveryKey,
    /// When it was written (wall).
    pub at: Millis,
    pub verdict: Verdict,
    /// The attempt that led to the verdict; none where the verdict was a decision (expired,
    /// canceled, reopened).
    pub attempt: Option<Attempt>,
}

impl Entry {
    pub fn facts(&self) -> EntryFacts {
        let Self { key, at, verdict, ref attempt } = *self;
        let attempt = attempt.as_ref().map(|attempt| AttemptFacts {
            number: attempt.number,
            status: attempt.status,
            error: attempt.error.as_ref().map(|error| error.code),
        });
        EntryFacts { key, at, verdict, attempt }
    }
}

/// What an entry changes about its delivery, without what its attempt says at length: all that
/// those who read the whole log need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryFacts {
    pub key: DeliveryKey,
    pub at: Millis,
    pub verdict: Verdict,
    pub attempt: Option<AttemptFacts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptFacts {
    pub number: u16,
    pub status: Option<u16>,
    pub error: Option<ErrorCode>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum State {
    #[default]
    Pending,
    Retrying {
        due: Millis,
    },
    Delivered,
    Failed(FailReason),
    Canceled(CancelReason),
}

impl State {
    /// The one transition function: what a verdict makes of any state.
    #[must_use]
    pub fn after(self, verdict: Verdict) -> State {
        match verdict {
            Verdict::Delivered => State::Delivered,
            Verdict::RetryAt(due) => State::Retrying { due },
            Verdict::Failed(reason) => State::Failed(reason),
            Verdict::Canceled(reason) => State::Canceled(reason),
            Verdict::Reopened => State::Pending,
        }
    }

    /// Whether nothing more will happen by itself.
    pub fn is_ended(self) -> bool {
        !matches!(self, State::Pending | State::Retrying { .. })
    }

    /// Why it ended, where it did so without success.
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            State::Failed(reason) => Some(reason.as_str()),
            State::Canceled(reason) => Some(reason.as_str()),
            State::Pending | State::Retrying { .. } | State::Delivered => None,
        }
    }

    /// The name that the API, the portal and the filters use.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Retrying { .. } => "retrying",
            State::Delivered => "delivered",
            State::Failed(_) => "failed",
            State::Canceled(_) => "canceled",
        }
    }
}

impl FailReason {
    pub const ALL: [FailReason; 4] =
        [Self::AttemptsExhausted, Self::Expired, Self::BlockedTarget, Self::Unreadable];

    pub fn from_u8(raw: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == raw)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::Expired => "expired",
            Self::BlockedTarget => "blocked_target",
            Self::Unreadable => "unreadable",
        }
    }
}

impl CancelReason {
    pub const ALL: [CancelReason; 4] =
        [Self::Requested, Self::WebhookDeleted, Self::WebhookDisabled, Self::EventErased];

    pub fn from_u8(raw: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u8 == raw)
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::WebhookDeleted => "webhook_deleted",
            Self::WebhookDisabled => "webhook_disabled",
            Self::EventErased => "event_erased",
        }
    }
}
