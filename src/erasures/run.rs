//! The jobs at work, one after the other.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use serde::Deserialize;

use super::{Erasures, Job, State, wire};
use crate::{
    clock::wall_ms,
    command::Command,
    delivery::{CancelReason, Entry, State as DeliveryState},
    event::EventTypes,
    id::{DeliveryKey, Place, TenantNo},
    store::{Erasure, EventQuery, EventRow, Route, StoreError},
};

/// Events looked at in one stretch: a bound on what is held in memory and written at once.
const STRETCH: usize = 100;
/// Blocks of the attempt log written anew at once.
const ENTRIES_AT_ONCE: usize = 64;
/// After a failed read or write.
const PAUSE: Duration = Duration::from_secs(1);

impl Erasures {
    /// Until the signal.
    pub(super) async fn work(&self) {
        let mut stop = self.inner.stop.clone();
        for job in self.all(State::Done) {
            if self.inner.directory.tenant_by_no(job.tenant).is_none() {
                // Nobody can ask for it any more.
                if let Some(own) = self.jobs().get_mut(&job.tenant) {
                    own.retain(|kept| kept.id != job.id);
                }
                let _ = self.inner.store.put_rows(vec![wire::removed(job.id)]).await;
            }
        }
        for job in self.all(State::Erasing) {
            // With the key that encrypts now: an older one may be taken away after this start.
            let _ = self.save(job).await;
        }
        loop {
            let went = tokio::select! {
                biased;
                // What is left undone, the next start goes on with.
                () = stop.fired() => return,
                went = self.turn() => went,
            };
            let wait = async {
                match went {
                    Ok(true) => {}
                    Ok(false) => self.inner.wake.notified().await,
                    Err(error) => {
                        tracing::warn!(%error, "an erasure could not go on; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            };
            tokio::select! {
                () = stop.fired() => return,
                () = wait => {}
            }
        }
    }

    /// Goes on with what is to be done next; false where there is nothing.
    async fn turn(&self) -> Result<bool, StoreError> {
        if let Some(job) = self.oldest(State::Erasing) {
            let job = self.stretch(job).await?;
            self.save(job).await?;
            return Ok(true);
        }
        // One scrub for all: it is the whole store that is gone over.
        let scrubbing = self.all(State::Scrubbing);
        if scrubbing.is_empty() {
            return Ok(false);
        }
        self.inner.store.scrub().await?;
        for mut job in scrubbing {
            (job.state, job.completed_at) = (State::Done, Some(wall_ms()));
            let (id, events, canceled) = (job.id, job.events, job.canceled);
            tracing::info!(erasure = %id, events, canceled, "erasure done");
            self.save(job).await?;
        }
        Ok(true)
    }

    fn oldest(&self, state: State) -> Option<Job> {
        self.all(state).into_iter().min_by_key(|job| job.created_at)
    }

    fn all(&self, state: State) -> Vec<Job> {
        let jobs = self.jobs();
        jobs.values().flatten().filter(|job| job.state == state).cloned().collect()
    }

    /// Durable first, then visible.
    async fn save(&self, job: Job) -> Result<(), StoreError> {
        self.inner.store.put_rows(vec![wire::encode(&job, &self.inner.directory)]).await?;
        if let Some(own) = self.jobs().get_mut(&job.tenant)
            && let Some(kept) = own.iter_mut().find(|kept| kept.id == job.id)
        {
            *kept = job;
        }
        Ok(())
    }

    /// Looks at the next few events: what the job is when they are erased.
    async fn stretch(&self, mut job: Job) -> Result<Job, StoreError> {
        let query = all_of(job.tenant, STRETCH);
        let Some(found) = self.inner.store.following(job.next, query).await? else {
            // Retention has passed the place: what stood there is gone.
            job.next = None;
            return Ok(job);
        };
        let recipient = job.recipient.take().unwrap_or_default();
        let until = job.created_at;
        let rows: Vec<&EventRow> =
            found.events.iter().take_while(|row| row.id.accepted_at <= until).collect();
        // What was erased by this very job, before a crash, counts again.
        let wanted = rows.iter().copied().filter(|row| match row.erased_at {
            Some(at) => at == until,
            None => recipient_of(&row.payload).as_deref() == Some(recipient.as_str()),
        });
        let wanted: Vec<&EventRow> = wanted.collect();
        job.canceled += self.erase(&wanted, until).await?;
        job.events += wanted.len() as u64;
        job.incomplete |= found.incomplete;
        job.at = rows.last().map(|row| row.id.accepted_at).or(job.at);
        job.next = Some(found.next);
        if found.more && rows.len() == found.events.len() {
            job.recipient = Some(recipient);
            return Ok(job);
        }
        // Damaged records are kept for a person to look at: nobody else can tell what is in them.
        let text = Some(Bytes::copy_from_slice(recipient.as_bytes()));
        let damaged = Erasure { places: Vec::new(), entries: Vec::new(), at: until, text };
        self.inner.store.erase(damaged).await?;
        job.state = State::Scrubbing;
        Ok(job)
    }

    /// Erases these events, ends what waits of them, and takes out what was answered to them. Gives
    /// how many deliveries had not ended.
    async fn erase(&self, rows: &[&EventRow], at: u64) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        let store = &self.inner.store;
        let places: Vec<Place> = rows.iter().map(|row| row.id.place).collect();
        store
            .erase(Erasure { places: places.clone(), entries: Vec::new(), at, text: None })
            .await?;
        let mut canceled = 0;
        for row in rows {
            let entries = store.entries(row.id.place, None).await?;
            for route in row.routes.iter().filter(|route| is_open(route, &entries)) {
                let key = DeliveryKey { place: row.id.place, webhook: route.webhook };
                let command = Command::Cancel { key, reason: CancelReason::EventErased };
                // The shards have stopped: after the next start it finds nothing to send.
                let _ = self.inner.commands.send(command).await;
                canceled += 1;
            }
        }
        let responses = store.responses(places.clone()).await?;
        for entries in responses.chunks(ENTRIES_AT_ONCE) {
            let (places, entries) = (places.clone(), entries.to_vec());
            store.erase(Erasure { places, entries, at, text: None }).await?;
        }
        Ok(canceled)
    }
}

/// Any of a tenant's events.
pub(super) fn all_of(tenant: TenantNo, limit: usize) -> EventQuery {
    EventQuery {
        tenant,
        event_types: EventTypes::NONE,
        webhook: None,
        found_disabled: false,
        since: None,
        until: None,
        before: None,
        limit,
    }
}

/// Whether a delivery has not ended.
fn is_open(route: &Route, entries: &[Entry]) -> bool {
    let own = entries.iter().filter(|entry| entry.key.webhook == route.webhook);
    let mut own = own.peekable();
    let is_delivery = route.enabled || own.peek().is_some();
    let state = own.fold(DeliveryState::Pending, |state, entry| state.after(entry.verdict));
    is_delivery && !state.is_ended()
}

/// Whom an event is about, as ingest has read it.
fn recipient_of(payload: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Payload<'a> {
        #[serde(borrow)]
        data: Data<'a>,
    }
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        recipient: Cow<'a, str>,
    }
    serde_json::from_slice::<Payload<'_>>(payload).ok().map(|payload| payload.data.recipient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_compared_as_it_is_meant_not_as_it_is_written() {
        let check = |payload: &str, expected: Option<&str>| {
            assert_eq!(recipient_of(payload.as_bytes()).as_deref(), expected, "{payload}");
        };
        check(r#"{"type":"x","data":{"id":1,"recipient":"+1555"}}"#, Some("+1555"));
        check(r#"{"data":{"recipient":"\u002b1555","more":[{}]},"z":0}"#, Some("+1555"));
        check(r#"{"data":{"text":"+1555"}}"#, None);
        check(r#"{"recipient":"+1555"}"#, None);
        check("", None);
    }
}
