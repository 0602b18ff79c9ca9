//! What the directory's rows look like on disk, apart from the domain's types, so that a renamed
//! field in the program is never a change of format.
//!
//! A value is `version (1 byte) · CRC-32 of version and body (4 bytes, little-endian) · body`. The
//! body is JSON: rows are few and small, and a person can read them when it matters. Unknown
//! fields are refused: they were written by a version that knows more. Rows with secrets are of
//! version 2, whose body is JSON and a sealed part ([`sealed`]); in version 1 they stood in the
//! clear ([`first`]).

mod first;
mod sealed;

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Principal,
    key::{ApiKey, KeyHash},
    keyring::{EncryptionKeyId, KeyRing},
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
    webhook::{CustomHeaders, Disabled, DisabledReason, HeaderLimits, SuccessRule, Webhook},
};

/// Without secrets; rows of the first version have them here.
const PLAIN: u8 = 1;
/// With a sealed part.
const SEALED: u8 = 2;
const FRAME: usize = 5;

/// Why a row could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadRow {
    #[error("its key has no known shape")]
    Key,
    #[error("its checksum does not match")]
    Checksum,
    #[error("it has version {0}, which this program does not know")]
    Newer(u8),
    #[error("its sealed part is cut off")]
    Truncated,
    #[error("its sealed part was changed, or belongs to another row")]
    NotAuthentic,
    #[error("it is sealed with the encryption key {0}, which is not among those given")]
    MissingKey(EncryptionKeyId),
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

/// What is not secret of a tenant. Sealed: the current secret, then those before it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantOpen<'a> {
    id: &'a str,
    #[serde(borrow)]
    name: Cow<'a, str>,
    created_at: Millis,
    /// For each rotated secret, the newest first, until when it signs.
    previous_until: Vec<Millis>,
}

/// What is not secret of a webhook. Sealed: the URL (whose path is often a credential), then name
/// and value of each custom header in turn.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookOpen<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    tenant: u32,
    #[serde(borrow)]
    events: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    description: Cow<'a, str>,
    enabled: bool,
    #[serde(borrow)]
    success: Option<Cow<'a, str>>,
    timeout_ms: Option<u64>,
    max_in_flight: Option<u32>,
    rate_limit: Option<u32>,
    created_at: Millis,
    updated_at: Millis,
    /// Left out where there is none, and in older rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled: Option<DisabledRow<'a>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DisabledRow<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
    at: Millis,
    failing_since: Option<Millis>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailingRow {
    since: Millis,
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
pub(super) fn encode(edit: &Edit, ring: &KeyRing) -> Row {
    let (key, value) = match edit {
        Edit::Counters(counters) => (
            RowKey::Counters,
            Some(plain(&CountersRow {
                next_tenant: counters.next_tenant,
                next_webhook: counters.next_webhook,
                next_key: counters.next_key,
                next_deletion: counters.next_deletion,
            })),
        ),
        Edit::TenantSet(tenant) => (RowKey::Tenant(tenant.no), Some(tenant_value(tenant, ring))),
        Edit::TenantRemoved(no) => (RowKey::Tenant(*no), None),
        Edit::WebhookSet(webhook) => {
            (RowKey::Webhook(webhook.no), Some(webhook_value(webhook, ring)))
        }
        Edit::WebhookRemoved(no) => (RowKey::Webhook(*no), None),
        Edit::FailingSet { no, since } => {
            (RowKey::Failing(*no), Some(plain(&FailingRow { since: *since })))
        }
        Edit::FailingForgotten(no) => (RowKey::Failing(*no), None),
        Edit::DeletedSet { tenant, no, id, order } => (
            RowKey::DeletedWebhook(*tenant, *no),
            Some(plain(&DeletedRow { id: id.to_string(), order: *order })),
        ),
        Edit::DeletedForgotten { tenant, no } => (RowKey::DeletedWebhook(*tenant, *no), None),
        Edit::KeySet(key) => (RowKey::ApiKey(key.id), Some(key_value(key))),
        Edit::KeyRemoved(id) => (RowKey::ApiKey(*id), None),
    };
    Row { key: key.encode(), value }
}

/// A row, read.
pub(super) struct Decoded {
    /// What it stands for; [`encode`] makes the row of it.
    pub(super) edit: Edit,
    /// It has secrets that the key in use has not sealed.
    pub(super) is_stale: bool,
}

/// Reads a row; the inverse of [`encode`] for rows with a value.
pub(super) fn decode(key: &[u8], value: &[u8], ring: &KeyRing) -> Result<Decoded, BadRow> {
    let key = RowKey::decode(key).ok_or(BadRow::Key)?;
    let (version, body) = unframe(value)?;
    let (edit, is_stale) = match (key, version) {
        (RowKey::Tenant(no), PLAIN) => {
            let (open, secrets) = serde_json::from_slice::<first::TenantRow<'_>>(body)?.split();
            (Edit::TenantSet(tenant(no, open, &secrets)?.into()), true)
        }
        (RowKey::Tenant(no), SEALED) => {
            let parts = sealed::Parts::of(key, body, ring)?;
            let tenant = tenant(no, serde_json::from_slice(parts.open)?, &parts.texts()?)?;
            (Edit::TenantSet(tenant.into()), !parts.is_current)
        }
        (RowKey::Webhook(no), PLAIN) => {
            let (open, (url, headers)) =
                serde_json::from_slice::<first::WebhookRow<'_>>(body)?.split();
            (Edit::WebhookSet(webhook(no, open, &url, headers)?.into()), true)
        }
        (RowKey::Webhook(no), SEALED) => {
            let parts = sealed::Parts::of(key, body, ring)?;
            let texts = parts.texts()?;
            let (url, headers) = texts.split_first().ok_or(BadRow::Value("url"))?;
            let (headers, []) = headers.as_chunks::<2>() else {
                return Err(BadRow::Value("headers"));
            };
            let headers = headers.iter().map(|[name, value]| (*name, *value));
            let webhook = webhook(no, serde_json::from_slice(parts.open)?, url, headers)?;
            (Edit::WebhookSet(webhook.into()), !parts.is_current)
        }
        (_, PLAIN) => (without_secrets(key, body)?, false),
        (_, newer) => return Err(BadRow::Newer(newer)),
    };
    Ok(Decoded { edit, is_stale })
}

fn without_secrets(key: RowKey, body: &[u8]) -> Result<Edit, BadRow> {
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
        RowKey::DeletedWebhook(tenant, no) => {
            let row: DeletedRow = serde_json::from_slice(body)?;
            let id = row.id.parse().map_err(|_| BadRow::Value("id"))?;
            Edit::DeletedSet { tenant, no, id, order: row.order }
        }
        RowKey::Failing(no) => {
            let row: FailingRow = serde_json::from_slice(body)?;
            Edit::FailingSet { no, since: row.since }
        }
        RowKey::ApiKey(id) => Edit::KeySet(api_key(id, serde_json::from_slice(body)?)?.into()),
        RowKey::Tenant(_) | RowKey::Webhook(_) => return Err(BadRow::Key),
    })
}

fn tenant_value(tenant: &Tenant, ring: &KeyRing) -> Vec<u8> {
    let SigningSecrets { current, previous } = &tenant.secrets;
    let open = TenantOpen {
        id: tenant.id.as_str(),
        name: tenant.name.as_str().into(),
        created_at: tenant.created_at,
        previous_until: previous.iter().map(|(_, until)| *until).collect(),
    };
    let secrets = std::iter::once(current).chain(previous.iter().map(|(secret, _)| secret));
    let secrets = secrets.map(|secret| secret.expose());
    frame(SEALED, &sealed::seal(RowKey::Tenant(tenant.no), &open, secrets, ring))
}

fn tenant(no: TenantNo, open: TenantOpen<'_>, secrets: &[&str]) -> Result<Tenant, BadRow> {
    let secret = |text: &str| text.parse().map_err(|_| BadRow::Value("secret"));
    let (current, previous) = secrets.split_first().ok_or(BadRow::Value("secret"))?;
    if previous.len() != open.previous_until.len() {
        return Err(BadRow::Value("secret"));
    }
    let previous = previous.iter().zip(open.previous_until);
    let previous = previous.map(|(text, until)| Ok::<_, BadRow>((secret(text)?, until)));
    Ok(Tenant {
        no,
        id: open.id.parse().map_err(|_| BadRow::Value("id"))?,
        name: open.name.into_owned(),
        created_at: open.created_at,
        secrets: SigningSecrets {
            current: secret(current)?,
            previous: previous.collect::<Result<_, _>>()?,
        },
    })
}

fn webhook_value(webhook: &Webhook, ring: &KeyRing) -> Vec<u8> {
    let open = WebhookOpen {
        id: webhook.id.to_string().into(),
        tenant: webhook.tenant.0,
        events: webhook.events.iter().map(|t| t.as_str().into()).collect(),
        description: webhook.description.as_str().into(),
        enabled: webhook.enabled,
        success: webhook.success.map(|rule| rule.as_str().into()),
        timeout_ms: webhook.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        max_in_flight: webhook.max_in_flight,
        rate_limit: webhook.rate_limit,
        created_at: webhook.created_at,
        updated_at: webhook.updated_at,
        disabled: webhook.disabled.map(|disabled| DisabledRow {
            reason: disabled.reason.as_str().into(),
            at: disabled.at,
            failing_since: disabled.failing_since,
        }),
    };
    let url = webhook.url.to_string();
    let headers = webhook.headers.iter().flat_map(|(name, value)| [name.as_str(), text(value)]);
    let secrets = std::iter::once(url.as_str()).chain(headers);
    frame(SEALED, &sealed::seal(RowKey::Webhook(webhook.no), &open, secrets, ring))
}

fn text(value: &http::HeaderValue) -> &str {
    std::str::from_utf8(value.as_bytes()).expect("custom headers are made of text")
}

/// The URL is read back without judging it: a policy that became stricter must not keep the
/// gateway from starting, and every connection is judged anyway.
fn webhook<N: AsRef<str>, V: AsRef<str>>(
    no: WebhookNo,
    open: WebhookOpen<'_>,
    url: &str,
    headers: impl IntoIterator<Item = (N, V)>,
) -> Result<Webhook, BadRow> {
    let id: WebhookId = open.id.parse().map_err(|_| BadRow::Value("id"))?;
    let events = open.events.iter().try_fold(EventTypes::NONE, |events, name| {
        let event_type = EventType::named(name).map_err(|_| BadRow::Value("events"))?;
        Ok::<_, BadRow>(events.with(event_type))
    })?;
    let any_number = HeaderLimits { max_count: usize::MAX, max_bytes: usize::MAX };
    let headers =
        CustomHeaders::parse(headers, any_number).map_err(|_| BadRow::Value("headers"))?;
    let success = match open.success {
        Some(text) => Some(SuccessRule::parse(&text).ok_or(BadRow::Value("success"))?),
        None => None,
    };
    let disabled = match open.disabled {
        Some(DisabledRow { reason, at, failing_since }) => {
            let reason = DisabledReason::parse(&reason).ok_or(BadRow::Value("disabled"))?;
            Some(Disabled { reason, at, failing_since })
        }
        None => None,
    };
    Ok(Webhook {
        no,
        id,
        tenant: TenantNo(open.tenant),
        url: WebhookUrl::from_stored(url).map_err(|_| BadRow::Value("url"))?,
        events,
        description: open.description.into_owned(),
        headers,
        enabled: open.enabled,
        disabled,
        success,
        timeout: open.timeout_ms.map(Duration::from_millis),
        max_in_flight: open.max_in_flight,
        rate_limit: open.rate_limit,
        created_at: open.created_at,
        updated_at: open.updated_at,
    })
}

fn key_value(key: &ApiKey) -> Vec<u8> {
    let (kind, tenant) = match key.principal {
        Principal::Operator => (KindRow::Operator, None),
        Principal::Producer => (KindRow::Producer, None),
        Principal::Tenant(no) => (KindRow::Tenant, Some(no.0)),
    };
    plain(&KeyRow { no: key.no, kind, tenant, sha256: key.hash.0, created_at: key.created_at })
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

/// A row that holds no secret.
pub(crate) fn plain(row: &impl Serialize) -> Vec<u8> {
    frame(PLAIN, &serde_json::to_vec(row).expect("rows are plain structs without maps"))
}

/// The body of a row that [`plain`] made.
pub(crate) fn open_plain(value: &[u8]) -> Result<&[u8], BadRow> {
    match unframe(value)? {
        (PLAIN, body) => Ok(body),
        (newer, _) => Err(BadRow::Newer(newer)),
    }
}

fn frame(version: u8, body: &[u8]) -> Vec<u8> {
    let checksum = checksum(version, body).to_le_bytes();
    [[version].as_slice(), &checksum, body].concat()
}

fn unframe(value: &[u8]) -> Result<(u8, &[u8]), BadRow> {
    let (head, body) = value.split_at_checked(FRAME).ok_or(BadRow::Checksum)?;
    let stored = u32::from_le_bytes(head[1..].try_into().expect("four bytes after the version"));
    if checksum(head[0], body) == stored { Ok((head[0], body)) } else { Err(BadRow::Checksum) }
}

fn checksum(version: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher.update(body);
    hasher.finalize()
}
