//! Erasing what events said: the words for it, and how it is asked for.
//!
//! In three steps, each of which may be repeated:
//!
//! 1. [`Store::erase`] with the events. From its answer on nobody is given their payloads any more,
//!    and what attempts that are still under way record of their responses is left out.
//! 2. [`Store::responses`] tells where the attempt log keeps responses to them, and `erase` with these
//!    blocks takes them out: a receiver may have sent back what it was sent.
//! 3. [`Store::scrub`], once for many, until nothing of it is left in the backend's files.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Read, Store, StoreError, Write, history::Logs};
use crate::{
    clock::Millis,
    delivery::{Attempt, Entry, ErrorCode, KeptResponse},
    id::Place,
};

/// What is to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    pub places: Vec<Place>,
    /// Blocks of the attempt log that keep responses to these events.
    pub entries: Vec<u64>,
    /// When it was asked for, wall: what is shown as the time of the erasure.
    pub at: Millis,
    /// Damaged blocks that were moved aside and hold this text are emptied: nobody can tell any more
    /// whose events they held.
    pub text: Option<Bytes>,
}

impl Store {
    /// Erases the payloads of events, and the responses to them in blocks of the attempt log.
    /// Durable when it answers. What is erased already stays as it is.
    pub async fn erase(&self, erasure: Erasure) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writes.send(Write::Erase { erasure, reply }).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// The blocks of the attempt log that keep responses to these events.
    pub async fn responses(&self, places: Vec<Place>) -> Result<Vec<u64>, StoreError> {
        self.read(|reply| Read::Responses { places, reply }).await
    }

    /// Answers when the backend's files hold nothing any more of what was erased before.
    pub async fn scrub(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.writes.send(Write::Scrub { reply }).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// See [`Store::responses`].
pub(super) fn responses(logs: &mut impl Logs, places: &[Place]) -> Result<Vec<u64>, StoreError> {
    let wanted: HashSet<Place> = places.iter().copied().collect();
    let blocks: BTreeSet<u64> = places.iter().map(|place| place.block()).collect();
    let mut candidates = BTreeSet::new();
    for number in blocks {
        let Some(block) = logs.event_block(number)? else { continue };
        candidates.extend(logs.entry_blocks(block.entries_from, &(number..number + 1), None));
    }
    let mut found = Vec::new();
    for number in candidates {
        let Some(entries) = logs.entry_block(number)? else { continue };
        let mut about = entries.iter().filter(|entry| wanted.contains(&entry.key.place));
        if about.any(tells_of_response) {
            found.push(number);
        }
    }
    Ok(found)
}

/// Takes out of an entry what the receiver wrote. True where there was something.
pub(super) fn redact(entry: &mut Entry) -> bool {
    let Some(attempt) = &mut entry.attempt else { return false };
    let response = std::mem::take(&mut attempt.response);
    redact_detail(attempt) | (response != KeptResponse::default())
}

/// Whether [`redact`] would change the entry.
pub(super) fn tells_of_response(entry: &Entry) -> bool {
    redact(&mut entry.clone())
}

/// A redirect's target stands in the detail, and it may be made of what was sent.
fn redact_detail(attempt: &mut Attempt) -> bool {
    let Some(error) = attempt.error.as_mut().filter(|error| error.code == ErrorCode::Status) else {
        return false;
    };
    let Some(at) = error.detail.find(" (to ") else { return false };
    error.detail.truncate(at);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::{AttemptError, Phases, Protocol, Verdict},
        id::{DeliveryKey, WebhookNo},
    };

    fn entry(detail: &str, body: &'static str) -> Entry {
        let error = AttemptError { code: ErrorCode::Status, detail: detail.to_owned() };
        let response =
            KeptResponse { body: Bytes::from_static(body.as_bytes()), ..Default::default() };
        let attempt = Attempt {
            number: 3,
            at: 7,
            status: Some(302),
            error: Some(error),
            latency: 9,
            phases: Phases::default(),
            response,
            peer: None,
            protocol: Protocol::Http1,
            reused_connection: true,
        };
        let key = DeliveryKey { place: Place::new(1, 2), webhook: WebhookNo(3) };
        Entry { key, at: 8, verdict: Verdict::RetryAt(9), attempt: Some(attempt) }
    }

    #[test]
    fn nothing_that_the_receiver_wrote_is_left_and_everything_else_is() {
        let check = |mut entry: Entry, changes: bool, detail: &str| {
            assert_eq!(tells_of_response(&entry), changes);
            assert_eq!(redact(&mut entry), changes);
            assert!(!tells_of_response(&entry), "once is enough");
            let attempt = entry.attempt.unwrap();
            assert_eq!(attempt.response, KeptResponse::default());
            assert_eq!(attempt.error.unwrap().detail, detail);
            assert_eq!((attempt.number, attempt.status, attempt.latency), (3, Some(302), 9));
        };
        let plain = "answered 302: redirects are not followed";
        check(entry(plain, ""), false, plain);
        check(entry(plain, "echo"), true, plain);
        check(entry(&format!("{plain} (to /?q=+15555550100)"), ""), true, plain);
        let decision = Entry { attempt: None, ..entry("", "") };
        assert!(!tells_of_response(&decision));
    }
}
