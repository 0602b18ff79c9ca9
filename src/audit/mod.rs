//! The audit log: what was changed, by whom, and when.
//!
//! A record is written in the commit that makes the change, so that neither is there without the
//! other; where nothing is written but the record (a login), it is durable before the answer. It
//! names the change, its object and who asked for it, and never has a secret, a URL or a payload.
//!
//! Each tenant has a chain of records of its own, and the gateway one for what belongs to no
//! tenant. Records of a chain are numbered without a gap, and only ever removed from its old end: a
//! number that is missing between two others shows that somebody was at the disk.
//!
//! Records are few, so they are in memory whole. Numbers are given under a lock in which the write
//! is handed to the store as well, which takes writes in order and writes nothing after a write that
//! failed. A record is shown once it is durable, and with it all before it.
//!
//! Bounded: `limits.audit_records` in all. Beyond it the longest chain loses its oldest record, so
//! that nobody can push another tenant's past out of the log by doing much.
//!
//! Not recorded: what was refused, what producers send, and sessions that end by themselves.

mod record;
mod state;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use self::state::State;
pub use self::{
    record::{Action, Actor, ActorKind, By, Done, Record},
    state::{Page, Query, WantedActor},
    wire::BadRecord,
};
use crate::store::{Bundle, Row, Store, StoreError, Write};

/// The log. Copies share it.
#[derive(Clone, Debug)]
pub struct Audit {
    state: Arc<Mutex<State>>,
}

impl Audit {
    /// Takes the rows that are records out of all rows.
    pub fn take_rows(rows: &mut Vec<Row>) -> Vec<Row> {
        rows.extract_if(.., |row| wire::is_record(&row.key)).collect()
    }

    /// As the store's rows tell it. Gaps are said in the log.
    pub fn load(rows: &[Row], limit: usize) -> Result<Self, BadRecord> {
        let records = rows.iter().map(wire::decode).collect::<Result<Vec<_>, _>>()?;
        let state = State::of(records, limit);
        for (tenant, gap) in state.gaps() {
            let tenant = tenant.map_or(0, |no| no.0);
            let (after, before) = gap;
            tracing::error!(tenant, after, before, "records of the audit log are missing");
        }
        Ok(Self { state: Arc::new(Mutex::new(state)) })
    }

    /// Another bound, for what is recorded from now on.
    pub fn set_limit(&self, limit: usize) {
        self.lock().limit = limit;
    }

    /// Writes a change together with the records of it. It is carried through to the end, whether
    /// its asker still waits or not.
    pub async fn commit(
        &self,
        store: &Store,
        by: &By,
        done: Vec<Done>,
        mut bundle: Bundle,
    ) -> Result<(), StoreError> {
        let room = store.writes.clone().reserve_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let orders = {
            let mut state = self.lock();
            let added = state.add(by, done);
            bundle.rows.extend(added.rows);
            // In the lock: the store gets the numbers in their order.
            room.send(Write::Rows { bundle, reply });
            added.orders
        };
        let audit = self.clone();
        let settle = async move {
            let written = answer.await.unwrap_or(Err(StoreError::Closed));
            audit.lock().settle(&orders, written.is_ok());
            written
        };
        tokio::spawn(settle).await.unwrap_or(Err(StoreError::Closed))
    }

    /// Records what changed nothing on the disk.
    pub async fn note(&self, store: &Store, by: &By, done: Done) -> Result<(), StoreError> {
        self.commit(store, by, vec![done], Bundle::default()).await
    }

    pub fn page(&self, query: &Query<'_>) -> Page {
        self.lock().page(query)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two of its methods.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
