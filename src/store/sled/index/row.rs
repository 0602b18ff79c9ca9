//! What the index knows of one delivery: enough for every filter, and where its last entry stands.
//!
//! ```text
//! row   tenant (4) · webhook (4) · place (8) · last (8) · status (2) · attempts (2) · state (1)
//!       · error (1) · flags (1) · 0 (1)          little endian, 32 bytes
//! ```
//!
//! An event without any route has a row too, with no webhook, so that lists of events find it.

use crate::{
    delivery::{CancelReason, Entry, EntryFacts, FailReason, State, Verdict},
    event::EventType,
    id::{DeliveryKey, Place, TenantNo, WebhookNo},
    store::EntryPlace,
};

/// Bytes of a row on disk.
pub(super) const ROW: usize = 32;

/// In place of a webhook, where an event has no route. The directory counts from below.
const NO_WEBHOOK: WebhookNo = WebhookNo(u32::MAX);

/// Where no entry was written yet.
const NO_ENTRY: u64 = u64::MAX;

const HAS_ATTEMPT: u8 = 0x01;
const IS_ENABLED: u8 = 0x02;
/// The event type stands in the bits from here on.
const TYPE_AT: u32 = 4;

/// The kind of a state in the low four bits, its reason in the high ones.
const PENDING: u8 = 0;
const RETRYING: u8 = 1;
const DELIVERED: u8 = 2;
const FAILED: u8 = 3;
const CANCELED: u8 = 4;
const KIND: u8 = 0x0f;

/// What the entries about a delivery add up to, as [`super::super::super::fold`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The last entry with an attempt, or else the last one.
    last: u64,
    status: u16,
    attempts: u16,
    state: u8,
    error: u8,
    has_attempt: bool,
}

impl Told {
    pub(super) const NOTHING: Self = Self {
        last: NO_ENTRY,
        status: 0,
        attempts: 0,
        state: PENDING,
        error: 0,
        has_attempt: false,
    };

    /// Takes in an entry, which stands at `at`. Entries come in the order of the log.
    pub(super) fn apply(&mut self, at: EntryPlace, entry: &EntryFacts) {
        self.state = match entry.verdict {
            Verdict::Delivered => DELIVERED,
            Verdict::RetryAt(_) => RETRYING,
            Verdict::Failed(reason) => FAILED | (reason as u8) << 4,
            Verdict::Canceled(reason) => CANCELED | (reason as u8) << 4,
            Verdict::Reopened => PENDING,
        };
        if let Some(attempt) = &entry.attempt {
            self.attempts = self.attempts.max(attempt.number);
            self.status = attempt.status.unwrap_or(0);
            self.error = attempt.error.map_or(0, |code| code as u8);
            self.has_attempt = true;
        }
        if entry.attempt.is_some() || !self.has_attempt {
            self.last = at.0.as_u64();
        }
    }

    /// Takes in what later entries add up to.
    pub(super) fn add(&mut self, later: &Self) {
        self.state = later.state;
        self.attempts = self.attempts.max(later.attempts);
        if later.has_attempt {
            (self.status, self.error, self.has_attempt) = (later.status, later.error, true);
        }
        if later.has_attempt || !self.has_attempt {
            self.last = later.last;
        }
    }

    /// What it adds to the mask of the rows around it.
    pub(super) fn mask(&self) -> Mask {
        let mut mask = Mask::state(self.state & KIND);
        if self.error != 0 {
            mask = mask.or(Mask::error(self.error));
        }
        if self.status != 0 {
            mask = mask.or(Mask::status(self.status)).or(Mask::class(self.status));
        }
        mask
    }

    pub(super) fn put(&self, out: &mut Vec<u8>, flags: u8) {
        out.extend_from_slice(&self.last.to_le_bytes());
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&self.attempts.to_le_bytes());
        let flags = flags | if self.has_attempt { HAS_ATTEMPT } else { 0 };
        out.extend_from_slice(&[self.state, self.error, flags, 0]);
    }

    pub(super) fn read(bytes: &[u8; 16]) -> Self {
        Self {
            last: u64_at(bytes, 0),
            status: u16_at(bytes, 8),
            attempts: u16_at(bytes, 10),
            state: bytes[12],
            error: bytes[13],
            has_attempt: bytes[14] & HAS_ATTEMPT != 0,
        }
    }
}

/// One delivery, or an event without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) tenant: TenantNo,
    pub(super) key: DeliveryKey,
    pub(super) event_type: EventType,
    /// False also of an event without routes.
    enabled: bool,
    pub(super) told: Told,
}

impl Row {
    pub(super) fn new(
        tenant: TenantNo,
        event_type: EventType,
        place: Place,
        route: Option<crate::store::Route>,
    ) -> Self {
        let webhook = route.map_or(NO_WEBHOOK, |route| route.webhook);
        let enabled = route.is_some_and(|route| route.enabled);
        let key = DeliveryKey { place, webhook };
        Self { tenant, key, event_type, enabled, told: Told::NOTHING }
    }

    /// The order of the rows of a segment.
    pub(super) fn order(&self) -> Order {
        Order { tenant: self.tenant, webhook: self.key.webhook, place: self.key.place }
    }

    /// A disabled route is no delivery, unless a replay made it one.
    pub(super) fn is_delivery(&self) -> bool {
        self.key.webhook != NO_WEBHOOK && (self.enabled || self.told.last != NO_ENTRY)
    }

    pub(super) fn found_disabled(&self) -> bool {
        self.key.webhook != NO_WEBHOOK && !self.enabled
    }

    /// A retry's due time is told by the entry that asked for it.
    pub(super) fn state(&self, last: Option<&Entry>) -> State {
        let reason = self.told.state >> 4;
        match self.told.state & KIND {
            RETRYING => State::Retrying {
                due: match last.map(|entry| entry.verdict) {
                    Some(Verdict::RetryAt(due)) => due,
                    _ => 0,
                },
            },
            DELIVERED => State::Delivered,
            FAILED => State::Failed(FailReason::from_u8(reason).unwrap_or(FailReason::Unreadable)),
            CANCELED => {
                State::Canceled(CancelReason::from_u8(reason).unwrap_or(CancelReason::Requested))
            }
            _ => State::Pending,
        }
    }

    pub(super) fn attempts(&self) -> u16 {
        self.told.attempts
    }

    pub(super) fn status(&self) -> Option<u16> {
        (self.told.status != 0).then_some(self.told.status)
    }

    pub(super) fn last(&self) -> Option<EntryPlace> {
        (self.told.last != NO_ENTRY).then(|| EntryPlace(Place::from_u64(self.told.last)))
    }

    pub(super) fn mask(&self) -> Mask {
        let mut mask = Mask::event_type(self.event_type).or(self.told.mask());
        if self.found_disabled() {
            mask = mask.or(Mask::FOUND_DISABLED);
        }
        mask
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tenant.0.to_le_bytes());
        out.extend_from_slice(&self.key.webhook.0.to_le_bytes());
        out.extend_from_slice(&self.key.place.as_u64().to_le_bytes());
        let enabled = if self.enabled { IS_ENABLED } else { 0 };
        self.told.put(out, enabled | (self.event_type as u8) << TYPE_AT);
    }

    /// None where no row looks like this.
    pub(super) fn read(bytes: &[u8; ROW]) -> Option<Self> {
        let told: &[u8; 16] = bytes[16..].try_into().expect("half of the row");
        let flags = told[14];
        Some(Self {
            tenant: TenantNo(u32_at(bytes, 0)),
            key: DeliveryKey {
                webhook: WebhookNo(u32_at(bytes, 4)),
                place: Place::from_u64(u64_at(bytes, 8)),
            },
            event_type: EventType::from_u8(flags >> TYPE_AT)?,
            enabled: flags & IS_ENABLED != 0,
            told: Told::read(told),
        })
    }
}

/// By tenant, then by webhook, then as the events were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    pub(super) tenant: TenantNo,
    pub(super) webhook: WebhookNo,
    pub(super) place: Place,
}

impl Order {
    /// A number of the same order, which sorts faster.
    pub(super) fn as_u128(self) -> u128 {
        u128::from(self.tenant.0) << 96
            | u128::from(self.webhook.0) << 64
            | u128::from(self.place.as_u64())
    }
}

/// What some rows are, together: a bit for each state, type, error and class of status, and 34 for
/// the statuses themselves. Rows whose mask lacks a bit that is asked for need not be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Mask(pub(super) u64);

impl Mask {
    const FOUND_DISABLED: Self = Self(1 << 5);

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn found_disabled() -> Self {
        Self::FOUND_DISABLED
    }

    fn state(kind: u8) -> Self {
        Self(1 << kind)
    }

    pub(super) fn event_type(event_type: EventType) -> Self {
        Self(1 << (6 + event_type as u8))
    }

    pub(super) fn error(code: u8) -> Self {
        Self(1 << (13 + code.min(10)))
    }

    /// 1xx to 5xx; what is no such status has a bit of its own.
    pub(super) fn class(status: u16) -> Self {
        let class = status / 100;
        Self(1 << (24 + if class <= 5 { class } else { 0 }))
    }

    pub(super) fn status(status: u16) -> Self {
        Self(1 << (30 + status % 34))
    }

    pub(super) fn state_named(name: &str) -> Self {
        let kinds = ["pending", "retrying", "delivered", "failed", "canceled"];
        let kind = kinds.iter().position(|kind| *kind == name);
        kind.map_or(Self(0), |kind| Self::state(kind as u8))
    }
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}
