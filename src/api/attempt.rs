//! An attempt as the API shows it.

use std::{borrow::Cow, net::SocketAddr};

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::{
    clock::rfc3339,
    delivery::{Attempt, Entry, KeptResponse, Phases, Verdict},
    guard::Policy,
    id::{AttemptId, DeliveryId},
    openapi::words,
};

/// One HTTP request made for a delivery, with its result.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(super) struct AttemptView<'a> {
    #[schema(value_type = words::AttemptId)]
    id: String,
    /// 1 to 6, and on after a replay.
    number: u16,
    #[schema(value_type = words::Time)]
    at: String,
    /// Null where no answer came.
    #[schema(required)]
    status: Option<u16>,
    /// From its start to the last byte read.
    #[schema(value_type = words::Milliseconds)]
    latency_ms: Millis,
    phases: PhasesView,
    #[schema(required)]
    error: Option<ErrorView>,
    /// What was kept of the answer.
    #[schema(required)]
    response: Option<ResponseView<'a>>,
    /// Null where there was no connection, and, for tenants, where the address is not public: what
    /// stands behind the gateway is not theirs to see.
    #[schema(value_type = Option<String>, required)]
    peer: Option<SocketAddr>,
    #[schema(value_type = words::HttpVersion)]
    protocol: &'static str,
    reused_connection: bool,
    #[schema(value_type = Option<words::Time>, required)]
    next_attempt_at: Option<String>,
}

impl<'a> AttemptView<'a> {
    /// None for an entry that records a decision and no attempt.
    pub(super) fn of(node: DeliveryId, entry: &'a Entry, to_operator: bool) -> Option<Self> {
        let attempt = entry.attempt.as_ref()?;
        Some(Self {
            id: AttemptId { delivery: node, number: attempt.number }.to_string(),
            number: attempt.number,
            at: rfc3339(attempt.at),
            status: attempt.status,
            latency_ms: Millis(attempt.latency),
            phases: PhasesView::of(attempt.phases),
            error: ErrorView::of(attempt),
            response: attempt.status.map(|_| ResponseView::of(&attempt.response)),
            peer: attempt.peer.filter(|peer| to_operator || is_public(*peer)),
            protocol: attempt.protocol.as_str(),
            reused_connection: attempt.reused_connection,
            next_attempt_at: match entry.verdict {
                Verdict::RetryAt(due) => Some(rfc3339(due)),
                _ => None,
            },
        })
    }
}

/// The strictest reading of the guard, whatever the operator allows besides.
pub(super) fn is_public(peer: SocketAddr) -> bool {
    Policy::default().judge_ip(peer.ip()).is_ok()
}

/// The last attempt in short, for lists.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LastAttempt)]
pub(super) struct LastAttemptView {
    number: u16,
    #[schema(value_type = words::Time)]
    at: String,
    #[schema(required)]
    status: Option<u16>,
    #[schema(value_type = words::Milliseconds)]
    latency_ms: Millis,
    #[schema(required)]
    error: Option<ErrorView>,
}

impl LastAttemptView {
    pub(super) fn of(attempt: &Attempt) -> Self {
        Self {
            number: attempt.number,
            at: rfc3339(attempt.at),
            status: attempt.status,
            latency_ms: Millis(attempt.latency),
            error: ErrorView::of(attempt),
        }
    }
}

/// Microseconds, written as milliseconds with three decimals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Millis(pub(super) u32);

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        // Exact: a double holds every multiple of 0.001 of this size to far more digits than are
        // written.
        to.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

/// What an attempt spent its time on; 0 where a phase did not happen.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Phases)]
pub(super) struct PhasesView {
    #[schema(value_type = words::Milliseconds)]
    queue: Millis,
    #[schema(value_type = words::Milliseconds)]
    dns: Millis,
    #[schema(value_type = words::Milliseconds)]
    connect: Millis,
    #[schema(value_type = words::Milliseconds)]
    tls: Millis,
    #[schema(value_type = words::Milliseconds)]
    first_byte: Millis,
    #[schema(value_type = words::Milliseconds)]
    body: Millis,
}

impl PhasesView {
    pub(super) fn of(phases: Phases) -> Self {
        Self {
            queue: Millis(phases.queue),
            dns: Millis(phases.dns),
            connect: Millis(phases.connect),
            tls: Millis(phases.tls),
            first_byte: Millis(phases.first_byte),
            body: Millis(phases.body),
        }
    }
}

/// Why an attempt did not deliver: the code for machines, the detail for people.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AttemptError)]
pub(super) struct ErrorView {
    #[schema(value_type = words::AttemptErrorCode)]
    code: &'static str,
    detail: String,
    /// What happened, in plain words.
    cause: String,
    /// What mends it.
    hint: &'static str,
}

impl ErrorView {
    pub(super) fn of(attempt: &Attempt) -> Option<Self> {
        let (error, cause) = (attempt.error.as_ref()?, attempt.cause()?);
        Some(Self {
            code: error.code.as_str(),
            detail: error.detail.clone(),
            cause: cause.words,
            hint: cause.hint,
        })
    }
}

/// The first bytes of a receiver's answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeptResponse)]
pub(super) struct ResponseView<'a> {
    #[schema(value_type = words::HeaderMap)]
    #[serde(serialize_with = "as_map")]
    headers: Vec<(String, String)>,
    /// As text; what is not UTF-8 is replaced.
    #[schema(value_type = String)]
    body: Cow<'a, str>,
    /// Whether the body went on beyond what was kept.
    truncated: bool,
}

impl<'a> ResponseView<'a> {
    pub(super) fn of(response: &'a KeptResponse) -> Self {
        Self {
            headers: headers(&response.headers),
            body: String::from_utf8_lossy(&response.body),
            truncated: response.truncated,
        }
    }
}

/// The kept lines, names in lower case, in order; a header that came more than once has its values
/// joined as HTTP would.
fn headers(lines: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(lines);
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in text.split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match headers.iter_mut().find(|(other, _)| *other == name) {
            Some((_, joined)) => {
                joined.push_str(", ");
                joined.push_str(value);
            }
            None => headers.push((name, value.to_owned())),
        }
    }
    headers
}

fn as_map<S: Serializer>(pairs: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}
