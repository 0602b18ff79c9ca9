//! What a job's row looks like on disk, apart from the job itself.
//!
//! Key: `r` and the id, 16 bytes, big-endian. Value: as the directory's rows are framed
//! (version, checksum, JSON). Absent: never made, or forgotten. How many: `replays.jobs` and
//! `replays.kept` for each tenant.

use serde::{Deserialize, Serialize};

use super::job::{Filter, Job, Progress, Reason, STATUSES, State};
use crate::{
    clock::Millis,
    directory::{BadRow, open_plain, plain},
    event::{EventType, EventTypes},
    id::{DeliveryKey, Place, ReplayId, TenantNo, WebhookNo},
    store::Row,
};

const KIND: u8 = b'r';

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobRow {
    tenant: u32,
    webhook: Option<u32>,
    statuses: Vec<String>,
    event_types: Vec<String>,
    since: Option<Millis>,
    until: Option<Millis>,
    dry_run: bool,
    rate: u32,
    created_at: Millis,
    turn_at: Millis,
    state: String,
    reason: Option<String>,
    matched: u64,
    replayed: u64,
    skipped: u64,
    /// Place and webhook.
    after: Option<(u64, u32)>,
    at: Option<Millis>,
    blocks: Option<(u64, u64)>,
}

pub(super) fn is_job(key: &[u8]) -> bool {
    key.first() == Some(&KIND)
}

fn key(id: ReplayId) -> Vec<u8> {
    [[KIND].as_slice(), &id.0.to_be_bytes()].concat()
}

pub(super) fn removed(id: ReplayId) -> Row {
    Row { key: key(id), value: None }
}

pub(super) fn encode(job: &Job) -> Row {
    let Job { filter, progress, .. } = job;
    let row = JobRow {
        tenant: job.tenant.0,
        webhook: filter.webhook.map(|webhook| webhook.0),
        statuses: filter.statuses.iter().map(|&status| status.to_owned()).collect(),
        event_types: filter.event_types.iter().map(|one| one.as_str().to_owned()).collect(),
        since: filter.since,
        until: filter.until,
        dry_run: job.dry_run,
        rate: job.rate,
        created_at: job.created_at,
        turn_at: job.turn_at,
        state: job.state.as_str().to_owned(),
        reason: job.reason.map(|reason| reason.as_str().to_owned()),
        matched: progress.matched,
        replayed: progress.replayed,
        skipped: progress.skipped,
        after: progress.after.map(|after| (after.place.as_u64(), after.webhook.0)),
        at: progress.at,
        blocks: progress.blocks,
    };
    Row { key: key(job.id), value: Some(plain(&row)) }
}

pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Job, BadRow> {
    let id = key.get(1..).and_then(|id| id.try_into().ok()).ok_or(BadRow::Key)?;
    let row: JobRow = serde_json::from_slice(open_plain(value)?)?;
    let statuses = row.statuses.iter().map(|name| {
        let known = STATUSES.into_iter().find(|status| status == name);
        known.ok_or(BadRow::Value("statuses"))
    });
    let event_types = row.event_types.iter().try_fold(EventTypes::NONE, |types, name| {
        let one = EventType::named(name).map_err(|_| BadRow::Value("event_types"))?;
        Ok::<_, BadRow>(types.with(one))
    })?;
    let state = State::ALL.into_iter().find(|state| state.as_str() == row.state);
    let reason = row.reason.map(|name| {
        let known = Reason::ALL.into_iter().find(|reason| reason.as_str() == name);
        known.ok_or(BadRow::Value("reason"))
    });
    Ok(Job {
        id: ReplayId(u128::from_be_bytes(id)),
        tenant: TenantNo(row.tenant),
        filter: Filter {
            webhook: row.webhook.map(WebhookNo),
            statuses: statuses.collect::<Result<_, _>>()?,
            event_types,
            since: row.since,
            until: row.until,
        },
        dry_run: row.dry_run,
        rate: row.rate.max(1),
        created_at: row.created_at,
        turn_at: row.turn_at,
        state: state.ok_or(BadRow::Value("state"))?,
        reason: reason.transpose()?,
        progress: Progress {
            matched: row.matched,
            replayed: row.replayed,
            skipped: row.skipped,
            after: row.after.map(|(place, webhook)| DeliveryKey {
                place: Place::from_u64(place),
                webhook: WebhookNo(webhook),
            }),
            at: row.at,
            blocks: row.blocks,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_the_way_out_and_back() {
        let filter = Filter {
            webhook: Some(WebhookNo(7)),
            statuses: STATUSES.to_vec(),
            event_types: EventTypes::NONE.with(EventType::Failed),
            since: Some(1),
            until: None,
        };
        let mut job = Job::new(ReplayId(9), TenantNo(3), filter, false, 50, 1_000);
        job.progress.after = Some(DeliveryKey { place: Place::new(4, 2), webhook: WebhookNo(7) });
        job.progress.blocks = Some((1, 9));
        for (state, reason) in State::ALL.into_iter().zip([None, Some(Reason::WebhookDisabled)]) {
            (job.state, job.reason) = (state, reason);
            let Row { key, value } = encode(&job);
            assert!(is_job(&key));
            assert_eq!(decode(&key, &value.unwrap()).unwrap(), job);
        }
        let value = encode(&job).value.unwrap();
        let mut torn = value.clone();
        torn[20] ^= 1;
        assert!(matches!(decode(&key(job.id), &torn), Err(BadRow::Checksum)));
        assert!(matches!(decode(b"r12", &value), Err(BadRow::Key)));
    }
}
