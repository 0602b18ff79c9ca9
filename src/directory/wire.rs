//! What the directory's rows look like on disk, apart from the domain's types, so that a renamed
//! field in the program is never a change of format.
//!
//! A value is `version (1 byte) · CRC-32 of version and body (4 bytes, little-endian) · body`, the
//! body in JSON: rows are few and small, and a person can read them when it matters. Unknown
//! fields are refused: they were written by a version that knows more.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Principal,
    key::{ApiKey, KeyHash},
    layout::RowKey,
    state::{Counters, Edit},
};
use crate::{
    clock::Millis,
    event::{EventType, EventTypes},
    guard::WebhookUrl,
    id::{KeyId, TenantNo, WebhookId, WebhookNo},
    store::Row,
    tenant::{SigningSecrets, Tenant},
    webhook::{CustomHeaders, HeaderLimits, SuccessRule, Webhook},
};

const VERSION: u8 = 1;
const FRAME: usize = 5;

/// Why a row could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRow {
    #[error("its key has no known shape")]
    Key,
    #[error("its checksum does not match")]
    Checksum,
    #[error("it has version {0}, this program writes {VERSION}")]
    Newer(u8),
    #[error("it does not parse: {0}")]
    Body(#[from] serde_json::Error),
    #[error("its {0} is not valid")]
    Value(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CountersRow {
    next_tenant: u32,
    next_webhook: u32,
    next_key: u32,
    next_deletion: u64,
}

/// Not `Debug`: it holds secrets.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantRow<'a> {
    id: &'a str,
    #[serde(borrow)]
    name: std::borrow::Cow<'a, str>,
    created_at: Millis,
    secret: &'a str,
    /// The newest of the rotated secrets …
    #[serde(borrow)]
    previous: Option<PreviousRow<'a>>,
    /// … and those before it. (The first rows knew only one.)
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<PreviousRow<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviousRow<'a> {
    secret: &'a str,
    valid_until: Millis,
}

/// Not `Debug`: custom headers hold credentials.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookRow {
    id: String,
    tenant: u32,
    /// Read back without judging it: a policy that became stricter must not keep the gateway from
    /// starting, and every connection is judged anyway.
    url: String,
    events: Vec<String>,
    description: String,
    headers: Vec<(String, String)>,
    enabled: bool,
    success: Option<String>,
    timeout_ms: Option<u64>,
    max_in_flight: Option<u32>,
    rate_limit: Option<u32>,
    created_at: Millis,
    updated_at: Millis,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeletedRow {
    id: String,
    order: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRow {
    no: u32,
    kind: KindRow,
    tenant: Option<u32>,
    sha256: [u8; 32],
    created_at: Millis,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindRow {
    Operator,
    Producer,
    Tenant,
}

/// The row that makes an edit durable.
pub(super) fn encode(edit: &Edit) -> Row {
    let (key, value) = match edit {
        Edit::Counters(counters) => (
            RowKey::Counters,
            Some(frame(&CountersRow {
                next_tenant: counters.next_tenant,
                next_webhook: counters.next_webhook,
                next_key: counters.next_key,
                next_deletion: counters.next_deletion,
            })),
        ),
        Edit::TenantSet(tenant) => (RowKey::Tenant(tenant.no), Some(tenant_value(tenant))),
        Edit::TenantRemoved(no) => (RowKey::Tenant(*no), None),
        Edit::WebhookSet(webhook) => (RowKey::Webhook(webhook.no), Some(webhook_value(webhook))),
        Edit::WebhookRemoved(no) => (RowKey::Webhook(*no), None),
        Edit::DeletedSet { tenant, no, id, order } => (
            RowKey::DeletedWebhook(*tenant, *no),
            Some(frame(&DeletedRow { id: id.to_string(), order: *order })),
        ),
        Edit::DeletedForgotten { tenant, no } => (RowKey::DeletedWebhook(*tenant, *no), None),
        Edit::KeySet(key) => (RowKey::ApiKey(key.id), Some(key_value(key))),
        Edit::KeyRemoved(id) => (RowKey::ApiKey(*id), None),
    };
    Row { key: key.encode(), value }
}

/// The edit that a stored row stands for; the inverse of [`encode`] for rows with a value.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Edit, BadRow> {
    let key = RowKey::decode(key).ok_or(BadRow::Key)?;
    let body = unframe(value)?;
    Ok(match key {
        RowKey::Counters => {
            let row: CountersRow = serde_json::from_slice(body)?;
            Edit::Counters(Counters {
                next_tenant: row.next_tenant,
                next_webhook: row.next_webhook,
                next_key: row.next_key,
                next_deletion: row.next_deletion,
            })
        }
        RowKey::Tenant(no) => Edit::TenantSet(tenant(no, serde_json::from_slice(body)?)?.into()),
        RowKey::Webhook(no) => Edit::WebhookSet(webhook(no, serde_json::from_slice(body)?)?.into()),
        RowKey::DeletedWebhook(tenant, no) => {
            let row: DeletedRow = serde_json::from_slice(body)?;
            let id = row.id.parse().map_err(|_| BadRow::Value("id"))?;
            Edit::DeletedSet { tenant, no, id, order: row.order }
        }
        RowKey::ApiKey(id) => Edit::KeySet(api_key(id, serde_json::from_slice(body)?)?.into()),
    })
}

fn tenant_value(tenant: &Tenant) -> Vec<u8> {
    let mut rotated = tenant.secrets.previous.iter().map(|(secret, valid_until)| PreviousRow {
        secret: secret.expose(),
        valid_until: *valid_until,
    });
    frame(&TenantRow {
        id: tenant.id.as_str(),
        name: tenant.name.as_str().into(),
        created_at: tenant.created_at,
        secret: tenant.secrets.current.expose(),
        previous: rotated.next(),
        earlier: rotated.collect(),
    })
}

fn tenant(no: TenantNo, row: TenantRow<'_>) -> Result<Tenant, BadRow> {
    let secret = |text: &str| text.parse().map_err(|_| BadRow::Value("secret"));
    let rotated = row.previous.into_iter().chain(row.earlier);
    let previous = rotated.map(|p| Ok::<_, BadRow>((secret(p.secret)?, p.valid_until)));
    Ok(Tenant {
        no,
        id: row.id.parse().map_err(|_| BadRow::Value("id"))?,
        name: row.name.into_owned(),
        created_at: row.created_at,
        secrets: SigningSecrets {
            current: secret(row.secret)?,
            previous: previous.collect::<Result<_, _>>()?,
        },
    })
}

fn webhook_value(webhook: &Webhook) -> Vec<u8> {
    let text = |value: &http::HeaderValue| {
        let text = std::str::from_utf8(value.as_bytes()).expect("custom headers are made of text");
        text.to_owned()
    };
    frame(&WebhookRow {
        id: webhook.id.to_string(),
        tenant: webhook.tenant.0,
        url: webhook.url.to_string(),
        events: webhook.events.iter().map(|t| t.as_str().to_owned()).collect(),
        description: webhook.description.clone(),
        headers: webhook.headers.iter().map(|(n, v)| (n.as_str().to_owned(), text(v))).collect(),
        enabled: webhook.enabled,
        success: webhook.success.map(|rule| rule.as_str().to_owned()),
        timeout_ms: webhook.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        max_in_flight: webhook.max_in_flight,
        rate_limit: webhook.rate_limit,
        created_at: webhook.created_at,
        updated_at: webhook.updated_at,
    })
}

fn webhook(no: WebhookNo, row: WebhookRow) -> Result<Webhook, BadRow> {
    let id: WebhookId = row.id.parse().map_err(|_| BadRow::Value("id"))?;
    let events = row.events.iter().try_fold(EventTypes::NONE, |events, name| {
        let event_type: EventType = name.parse().map_err(|_| BadRow::Value("events"))?;
        Ok::<_, BadRow>(events.with(event_type))
    })?;
    let any_number = HeaderLimits { max_count: usize::MAX, max_bytes: usize::MAX };
    let headers =
        CustomHeaders::parse(row.headers, any_number).map_err(|_| BadRow::Value("headers"))?;
    let success = match row.success {
        Some(text) => Some(SuccessRule::parse(&text).ok_or(BadRow::Value("success"))?),
        None => None,
    };
    Ok(Webhook {
        no,
        id,
        tenant: TenantNo(row.tenant),
        url: WebhookUrl::from_stored(&row.url).map_err(|_| BadRow::Value("url"))?,
        events,
        description: row.description,
        headers,
        enabled: row.enabled,
        success,
        timeout: row.timeout_ms.map(Duration::from_millis),
        max_in_flight: row.max_in_flight,
        rate_limit: row.rate_limit,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

fn key_value(key: &ApiKey) -> Vec<u8> {
    let (kind, tenant) = match key.principal {
        Principal::Operator => (KindRow::Operator, None),
        Principal::Producer => (KindRow::Producer, None),
        Principal::Tenant(no) => (KindRow::Tenant, Some(no.0)),
    };
    frame(&KeyRow { no: key.no, kind, tenant, sha256: key.hash.0, created_at: key.created_at })
}

fn api_key(id: KeyId, row: KeyRow) -> Result<ApiKey, BadRow> {
    let principal = match (row.kind, row.tenant) {
        (KindRow::Operator, None) => Principal::Operator,
        (KindRow::Producer, None) => Principal::Producer,
        (KindRow::Tenant, Some(no)) => Principal::Tenant(TenantNo(no)),
        _ => return Err(BadRow::Value("tenant")),
    };
    Ok(ApiKey { id, no: row.no, principal, created_at: row.created_at, hash: KeyHash(row.sha256) })
}

pub(crate) fn frame(row: &impl Serialize) -> Vec<u8> {
    // The buffer that grows may hold a secret: it is wiped, the exact copy goes to the store.
    let body = Zeroizing::new(
        serde_json::to_vec(row).expect("rows are plain structs with string keys and no maps"),
    );
    let mut value = Vec::with_capacity(FRAME + body.len());
    value.push(VERSION);
    value.extend_from_slice(&checksum(VERSION, &body).to_le_bytes());
    value.extend_from_slice(&body);
    value
}

pub(crate) fn unframe(value: &[u8]) -> Result<&[u8], BadRow> {
    let (head, body) = value.split_at_checked(FRAME).ok_or(BadRow::Checksum)?;
    let stored = u32::from_le_bytes(head[1..].try_into().expect("four bytes after the version"));
    if checksum(head[0], body) != stored {
        return Err(BadRow::Checksum);
    }
    if head[0] != VERSION {
        return Err(BadRow::Newer(head[0]));
    }
    Ok(body)
}

fn checksum(version: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher.update(body);
    hasher.finalize()
}
