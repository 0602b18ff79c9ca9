//! What a job's row looks like on disk, apart from the job itself.
//!
//! Key: `e` and the id, 16 bytes, big-endian. Value: as the directory's rows are framed (version,
//! checksum, JSON). Absent: never made, or forgotten. How many: [`OPEN_MAX`](super::OPEN_MAX) and
//! [`KEPT`](super::KEPT) for each tenant.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Job, State};
use crate::{
    clock::Millis,
    directory::{BadRow, Directory, open_plain, plain},
    id::{ErasureId, Place, TenantNo},
    store::Row,
};

const KIND: u8 = b'e';

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobRow {
    tenant: u32,
    /// Sealed, and bound to the row's key; in base64.
    recipient: Option<String>,
    created_at: Millis,
    completed_at: Option<Millis>,
    state: String,
    events: u64,
    canceled: u64,
    incomplete: bool,
    next: Option<u64>,
    at: Option<Millis>,
}

pub(super) fn is_job(key: &[u8]) -> bool {
    key.first() == Some(&KIND)
}

fn key(id: ErasureId) -> Vec<u8> {
    [[KIND].as_slice(), &id.0.to_be_bytes()].concat()
}

/// To what the recipient in a row is bound.
fn bound_to(key: &[u8]) -> Vec<u8> {
    [b"senderz-gateway erasure".as_slice(), key].concat()
}

pub(super) fn removed(id: ErasureId) -> Row {
    Row { key: key(id), value: None }
}

pub(super) fn encode(job: &Job, directory: &Directory) -> Row {
    let key = key(job.id);
    let recipient = job
        .recipient
        .as_ref()
        .map(|recipient| STANDARD.encode(directory.seal(&bound_to(&key), recipient.as_bytes())));
    let row = JobRow {
        tenant: job.tenant.0,
        recipient,
        created_at: job.created_at,
        completed_at: job.completed_at,
        state: job.state.as_str().to_owned(),
        events: job.events,
        canceled: job.canceled,
        incomplete: job.incomplete,
        next: job.next.map(Place::as_u64),
        at: job.at,
    };
    Row { key, value: Some(plain(&row)) }
}

pub(super) fn decode(key: &[u8], value: &[u8], directory: &Directory) -> Result<Job, BadRow> {
    let id = key.get(1..).and_then(|id| id.try_into().ok()).ok_or(BadRow::Key)?;
    let row: JobRow = serde_json::from_slice(open_plain(value)?)?;
    let recipient = row.recipient.map(|sealed| {
        let sealed = STANDARD.decode(sealed).map_err(|_| BadRow::Value("recipient"))?;
        let text = directory.open(&bound_to(key), &sealed)?;
        let text = std::str::from_utf8(&text).map_err(|_| BadRow::Value("recipient"))?;
        Ok::<_, BadRow>(Zeroizing::new(text.to_owned()))
    });
    let state = State::ALL.into_iter().find(|state| state.as_str() == row.state);
    let state = state.ok_or(BadRow::Value("state"))?;
    let recipient = recipient.transpose()?;
    if recipient.is_some() != (state == State::Erasing) {
        return Err(BadRow::Value("recipient"));
    }
    Ok(Job {
        id: ErasureId(u128::from_be_bytes(id)),
        tenant: TenantNo(row.tenant),
        recipient,
        created_at: row.created_at,
        completed_at: row.completed_at,
        state,
        events: row.events,
        canceled: row.canceled,
        incomplete: row.incomplete,
        next: row.next.map(Place::from_u64),
        at: row.at,
    })
}
