//! Every key that the directory persists: its layout, how many there are, and what its absence
//! means.
//!
//! | key | value | how many | absent means |
//! |---|---|---|---|
//! | `m` | the counters | one | a new directory: numbers start at 1 |
//! | `t` tenant:u32 | a tenant with its secrets | `limits.tenants` | never made, or deleted |
//! | `w` webhook:u32 | a webhook | `limits.webhooks_per_tenant` each tenant | never made, or deleted |
//! | `f` webhook:u32 | since when every attempt to it has failed | as many as webhooks | its last attempt succeeded, or nobody wants to know |
//! | `d` tenant:u32 webhook:u32 | a deleted webhook's public id | as many as webhooks | never deleted, or deleted so long ago that its id is forgotten |
//! | `k` key:u128 | an API key's hash | `limits.keys_per_tenant` each tenant, and [`MAX_GATEWAY_KEYS`](super::MAX_GATEWAY_KEYS) | never made, or revoked |
//!
//! Numbers are big-endian. Values are framed and versioned by [`super::wire`]; the secrets in those
//! of tenants and webhooks are sealed.

use crate::id::{KeyId, TenantNo, WebhookNo};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowKey {
    Counters,
    Tenant(TenantNo),
    Webhook(WebhookNo),
    Failing(WebhookNo),
    DeletedWebhook(TenantNo, WebhookNo),
    ApiKey(KeyId),
}

impl RowKey {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            RowKey::Counters => b"m".to_vec(),
            RowKey::Tenant(no) => [b"t".as_slice(), &no.0.to_be_bytes()].concat(),
            RowKey::Webhook(no) => [b"w".as_slice(), &no.0.to_be_bytes()].concat(),
            RowKey::Failing(no) => [b"f".as_slice(), &no.0.to_be_bytes()].concat(),
            RowKey::DeletedWebhook(tenant, no) => {
                [b"d".as_slice(), &tenant.0.to_be_bytes(), &no.0.to_be_bytes()].concat()
            }
            RowKey::ApiKey(id) => [b"k".as_slice(), &id.0.to_be_bytes()].concat(),
        }
    }

    /// None where no layout has this shape.
    pub(super) fn decode(key: &[u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        let number = |bytes: &[u8]| Some(u32::from_be_bytes(bytes.try_into().ok()?));
        match kind {
            b'm' if rest.is_empty() => Some(RowKey::Counters),
            b't' => Some(RowKey::Tenant(TenantNo(number(rest)?))),
            b'w' => Some(RowKey::Webhook(WebhookNo(number(rest)?))),
            b'f' => Some(RowKey::Failing(WebhookNo(number(rest)?))),
            b'd' => {
                let (tenant, webhook) = rest.split_at_checked(4)?;
                Some(RowKey::DeletedWebhook(TenantNo(number(tenant)?), WebhookNo(number(webhook)?)))
            }
            b'k' => Some(RowKey::ApiKey(KeyId(u128::from_be_bytes(rest.try_into().ok()?)))),
            _ => None,
        }
    }
}
