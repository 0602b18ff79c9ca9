//! The answers of the window, in memory and in the store.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    row::{self, BadAnswer},
    seal::{KeyName, Request},
};
use crate::{
    api::{Code, Problem},
    clock::{Millis, wall_ms},
    id::TenantNo,
    store::{Row, Store},
};

/// What an entry takes in memory besides its answer.
const ENTRY: usize = 256;

/// The most rows of the past that one new one removes.
const REMOVED_AT_ONCE: usize = 100;

/// How long and how much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `ingest.idempotency_window`.
    pub window: Duration,
    /// `limits.kept_answers`, bytes.
    pub all: usize,
    /// `limits.tenant_kept_answers`, bytes.
    pub tenant: usize,
}

/// A request with a key, and its answer where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) at: Millis,
    /// The tenant whose API key it was; none for the operator's.
    pub(super) owner: Option<TenantNo>,
    pub(super) request: Request,
    /// Sealed; none while it is under way, and for ever where nobody knows how it ended.
    pub(super) answer: Option<Arc<[u8]>>,
    pub(super) is_under_way: bool,
}

impl Kept {
    fn size(&self) -> usize {
        ENTRY + self.answer.as_ref().map_or(0, |answer| answer.len())
    }
}

/// What a request with a key meets.
#[derive(Debug)]
pub(super) enum Begun {
    /// It may go on, and says how it ended.
    First(Under),
    Done {
        sealed: Arc<[u8]>,
        at: Millis,
    },
    UnderWay,
    /// The gateway stopped while it was under way.
    Unknown,
    OtherRequest,
}

/// All kept answers. Copies share them.
#[derive(Clone, Debug)]
pub struct Answers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<[u8; 16], Kept>,
    /// In the order of their beginnings; may name what is gone.
    order: VecDeque<(Millis, [u8; 16])>,
    bytes: usize,
    by_tenant: HashMap<TenantNo, usize>,
}

impl Answers {
    /// Takes the rows that are kept answers out of all rows.
    pub fn take_rows(rows: &mut Vec<Row>) -> Vec<Row> {
        rows.extract_if(.., |row| row::is_answer(row)).collect()
    }

    /// With what the store's rows tell.
    pub fn load(store: Store, rows: &[Row], bounds: Bounds) -> Result<Self, BadAnswer> {
        let mut state = State::default();
        let mut rows = rows.iter().map(row::decode).collect::<Result<Vec<_>, _>>()?;
        rows.sort_by_key(|(_, kept)| kept.at);
        for (hash, kept) in rows {
            state.insert(hash, kept);
        }
        Ok(Self { shared: Arc::new(Shared { store, bounds, state: Mutex::new(state) }) })
    }

    /// Claims the key for this request, durably, or says what became of the first one.
    pub(super) async fn begin(
        &self,
        name: &KeyName,
        request: &Request,
        owner: Option<TenantNo>,
    ) -> Result<Begun, Problem> {
        let at = wall_ms();
        let (under, rows) = {
            let mut state = self.shared.lock();
            let mut rows = state.forget(at, self.shared.bounds.window);
            if let Some(kept) = state.kept.get(&name.hash) {
                return Ok(kept.met_by(request));
            }
            self.shared.bounds.admit(&state, owner, at)?;
            let kept = Kept { at, owner, request: *request, answer: None, is_under_way: true };
            rows.push(row::encode(name.hash, &kept));
            state.insert(name.hash, kept);
            (Under { shared: Arc::clone(&self.shared), hash: name.hash, at, is_over: false }, rows)
        };
        match self.shared.store.put_rows(rows).await {
            Ok(()) => Ok(Begun::First(under)),
            Err(error) => {
                under.forget();
                Err(error.into())
            }
        }
    }
}

impl Kept {
    fn met_by(&self, request: &Request) -> Begun {
        match &self.answer {
            _ if self.request != *request => Begun::OtherRequest,
            Some(sealed) => Begun::Done { sealed: Arc::clone(sealed), at: self.at },
            None if self.is_under_way => Begun::UnderWay,
            None => Begun::Unknown,
        }
    }
}

impl Bounds {
    fn admit(&self, state: &State, owner: Option<TenantNo>, now: Millis) -> Result<(), Problem> {
        let wait = || {
            let window = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
            let oldest = state.order.front().map_or(now, |(at, _)| *at);
            Duration::from_millis(oldest.saturating_add(window).saturating_sub(now))
        };
        let of_tenant = owner.and_then(|no| state.by_tenant.get(&no)).copied().unwrap_or(0);
        if of_tenant >= self.tenant {
            let detail = "the tenant's kept answers take all their room \
                          (limits.tenant_kept_answers); go on without Idempotency-Key";
            return Err(Problem::new(Code::RateLimited, detail).retry_after(wait()));
        }
        if state.bytes >= self.all {
            let detail = "the kept answers take all their room (limits.kept_answers); go on \
                          without Idempotency-Key";
            return Err(Problem::new(Code::Unavailable, detail).retry_after(wait()));
        }
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two of its methods.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, hash: [u8; 16], kept: Kept) {
        self.remove(hash);
        self.bytes += kept.size();
        if let Some(no) = kept.owner {
            *self.by_tenant.entry(no).or_default() += kept.size();
        }
        self.order.push_back((kept.at, hash));
        self.kept.insert(hash, kept);
    }

    fn remove(&mut self, hash: [u8; 16]) {
        let Some(kept) = self.kept.remove(&hash) else { return };
        self.bytes -= kept.size();
        if let Some(no) = kept.owner
            && let Some(bytes) = self.by_tenant.get_mut(&no)
        {
            *bytes -= kept.size();
            if *bytes == 0 {
                self.by_tenant.remove(&no);
            }
        }
    }

    /// Takes out what is older than the window, a bounded number at a time, and gives the rows that
    /// remove it.
    fn forget(&mut self, now: Millis, window: Duration) -> Vec<Row> {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        let mut rows = Vec::new();
        while rows.len() < REMOVED_AT_ONCE
            && let Some((at, hash)) = self.order.front().copied()
        {
            let kept = self.kept.get(&hash).filter(|kept| kept.at == at);
            match kept {
                None => {}
                Some(_) if at.saturating_add(window) > now => break,
                // It ends when it ends.
                Some(kept) if kept.is_under_way => break,
                Some(_) => {
                    self.remove(hash);
                    rows.push(row::removed(hash));
                }
            }
            self.order.pop_front();
        }
        rows
    }
}

/// A request under way whose key is claimed. One that is dropped has failed half-way.
#[derive(Debug)]
pub(super) struct Under {
    shared: Arc<Shared>,
    hash: [u8; 16],
    at: Millis,
    is_over: bool,
}

impl Under {
    /// It was done, and this is the answer. Where that cannot be written any more, it is known until
    /// the restart, and from then on as one that nobody knows the end of.
    pub(super) async fn done(mut self, seal: impl FnOnce(Millis) -> Vec<u8>) {
        self.is_over = true;
        let answer: Arc<[u8]> = seal(self.at).into();
        let row = {
            let mut state = self.shared.lock();
            let Some(kept) = state.kept.get(&self.hash).cloned() else { return };
            let kept = Kept { answer: Some(answer), is_under_way: false, ..kept };
            let row = row::encode(self.hash, &kept);
            state.replace(self.hash, kept);
            row
        };
        if let Err(error) = self.shared.store.put_rows(vec![row]).await {
            tracing::warn!(%error, "the answer to an idempotency key could not be kept");
        }
    }

    /// Nothing was done: the key is free again.
    pub(super) async fn refused(self) {
        // On disk first: a repetition that came in between would write its row before this removal.
        match self.shared.store.put_rows(vec![row::removed(self.hash)]).await {
            Ok(()) => self.forget(),
            Err(error) => tracing::warn!(%error, "an idempotency key could not be freed"),
        }
    }

    /// Whether it was done is not known.
    pub(super) fn unknown(self) {}

    fn forget(mut self) {
        self.is_over = true;
        self.shared.lock().remove(self.hash);
    }
}

impl State {
    /// Changes what stands, which keeps its place in the order.
    fn replace(&mut self, hash: [u8; 16], kept: Kept) {
        let order = self.order.len();
        self.insert(hash, kept);
        self.order.truncate(order);
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(kept) = self.shared.lock().kept.get_mut(&self.hash) {
            kept.is_under_way = false;
        }
    }
}
