//! The rows that hold secrets as format 1 wrote them, in the clear. They are read, and written
//! anew as format 2.

use std::borrow::Cow;

use serde::Deserialize;

use super::{TenantOpen, WebhookOpen};
use crate::clock::Millis;

/// Not `Debug`: it holds secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantRow<'a> {
    id: &'a str,
    #[serde(borrow)]
    name: Cow<'a, str>,
    created_at: Millis,
    secret: &'a str,
    /// The newest of the rotated secrets …
    #[serde(borrow)]
    previous: Option<PreviousRow<'a>>,
    /// … and those before it. (The first rows knew only one.)
    #[serde(borrow, default)]
    earlier: Vec<PreviousRow<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviousRow<'a> {
    secret: &'a str,
    valid_until: Millis,
}

/// Not `Debug`: custom headers hold credentials.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookRow<'a> {
    id: &'a str,
    tenant: u32,
    #[serde(borrow)]
    url: Cow<'a, str>,
    events: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    description: Cow<'a, str>,
    #[serde(borrow)]
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    enabled: bool,
    #[serde(borrow)]
    success: Option<Cow<'a, str>>,
    timeout_ms: Option<u64>,
    max_in_flight: Option<u32>,
    rate_limit: Option<u32>,
    created_at: Millis,
    updated_at: Millis,
}

impl<'a> TenantRow<'a> {
    pub(super) fn split(self) -> (TenantOpen<'a>, Vec<&'a str>) {
        let rotated: Vec<_> = self.previous.into_iter().chain(self.earlier).collect();
        let open = TenantOpen {
            id: self.id,
            name: self.name,
            created_at: self.created_at,
            previous_until: rotated.iter().map(|previous| previous.valid_until).collect(),
        };
        let secrets = std::iter::once(self.secret).chain(rotated.iter().map(|p| p.secret));
        (open, secrets.collect())
    }
}

/// The parts of a webhook's row that format 2 seals.
pub(super) type WebhookSecrets<'a> = (Cow<'a, str>, Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> WebhookRow<'a> {
    pub(super) fn split(self) -> (WebhookOpen<'a>, WebhookSecrets<'a>) {
        let open = WebhookOpen {
            id: Cow::Borrowed(self.id),
            tenant: self.tenant,
            events: self.events,
            description: self.description,
            enabled: self.enabled,
            success: self.success,
            timeout_ms: self.timeout_ms,
            max_in_flight: self.max_in_flight,
            rate_limit: self.rate_limit,
            created_at: self.created_at,
            updated_at: self.updated_at,
            disabled: None,
        };
        (open, (self.url, self.headers))
    }
}
