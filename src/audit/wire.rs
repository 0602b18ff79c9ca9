//! What a record looks like on disk, apart from the record itself.
//!
//! ```text
//! key    'a' · place among all records (8, big-endian)
//! value  version (1) · CRC-32 of version and body (4, little-endian) · JSON
//! ```
//!
//! Unknown fields are refused: they were written by a version that knows more. How many: `limits.audit_records`. Absent: never was, or too long ago.

use serde::{Deserialize, Serialize};

use super::record::{Action, Actor, ActorKind, By, Record};
use crate::{
    clock::Millis,
    id::{KeyId, SessionId, TenantNo},
    request_id::RequestId,
    store::Row,
};

const TAG: u8 = b'a';
const VERSION: u8 = 1;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    #[error("its key has no known shape")]
    Key,
    #[error("its checksum does not match")]
    Checksum,
    #[error("it has version {0}, which this program does not know")]
    Newer(u8),
    #[error("it does not parse: {0}")]
    Body(#[from] serde_json::Error),
    #[error("its {0} is not valid")]
    Value(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordRow {
    sequence: u64,
    at: Millis,
    action: String,
    /// Its number and its name; the name may be given again.
    tenant: Option<(u32, String)>,
    object: Option<String>,
    changed: Vec<String>,
    actor: String,
    key: Option<String>,
    session: Option<String>,
    request: Option<String>,
}

pub(super) fn is_record(key: &[u8]) -> bool {
    key.first() == Some(&TAG)
}

fn key(order: u64) -> Vec<u8> {
    [[TAG].as_slice(), &order.to_be_bytes()].concat()
}

pub(super) fn removed(order: u64) -> Row {
    Row { key: key(order), value: None }
}

pub(super) fn encode(record: &Record) -> Row {
    let By { actor, ref request } = record.by;
    let row = RecordRow {
        sequence: record.sequence,
        at: record.at,
        action: record.action.as_str().to_owned(),
        tenant: record.tenant.as_ref().map(|(no, id)| (no.0, id.to_string())),
        object: record.object.clone(),
        changed: record.changed.clone(),
        actor: actor.kind.as_str().to_owned(),
        key: actor.key.map(|id| id.to_string()),
        session: actor.session.map(|id| id.to_string()),
        request: request.as_ref().map(RequestId::to_string),
    };
    let body = serde_json::to_vec(&row).expect("numbers and strings always serialize");
    let value = [&[VERSION], checksum(VERSION, &body).as_slice(), &body].concat();
    Row { key: key(record.order), value: Some(value) }
}

pub(super) fn checksum(version: u8, body: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

pub(super) fn decode(row: &Row) -> Result<Record, BadRecord> {
    let order = row.key.get(1..).and_then(|order| order.try_into().ok()).ok_or(BadRecord::Key)?;
    let value = row.value.as_deref().unwrap_or_default();
    let (version, rest) = value.split_first().ok_or(BadRecord::Checksum)?;
    let (sum, body) = rest.split_first_chunk::<4>().ok_or(BadRecord::Checksum)?;
    if *sum != checksum(*version, body) {
        return Err(BadRecord::Checksum);
    }
    if *version != VERSION {
        return Err(BadRecord::Newer(*version));
    }
    let row: RecordRow = serde_json::from_slice(body)?;
    let tenant = match row.tenant {
        Some((no, id)) => Some((TenantNo(no), id.parse().map_err(|_| BadRecord::Value("tenant"))?)),
        None => None,
    };
    let key = row.key.map(|id| id.parse::<KeyId>()).transpose();
    let session = row.session.map(|id| id.parse::<SessionId>()).transpose();
    let unnamed = BadRecord::Value("request");
    let named = |name: String| RequestId::of(name.as_bytes()).ok_or(unnamed);
    let actor = Actor {
        kind: ActorKind::named(&row.actor).ok_or(BadRecord::Value("actor"))?,
        key: key.map_err(|_| BadRecord::Value("key"))?,
        session: session.map_err(|_| BadRecord::Value("session"))?,
    };
    Ok(Record {
        order: u64::from_be_bytes(order),
        sequence: row.sequence,
        at: row.at,
        action: Action::named(&row.action).ok_or(BadRecord::Value("action"))?,
        by: By { actor, request: row.request.map(named).transpose()? },
        tenant,
        object: row.object,
        changed: row.changed,
    })
}
