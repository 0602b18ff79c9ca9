//! How many streams are open, and what ends them all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::super::{Code, Problem};
use crate::{
    config,
    id::TenantNo,
    problem::{Again, Quota},
    shutdown::{self, Signal, Trigger},
};

/// When a stream that was refused may be let in: when another one has ended, whenever that is.
const FULL_FOR: Duration = Duration::from_secs(10);

/// All open streams of the gateway.
#[derive(Debug)]
pub(in crate::api) struct Streams {
    open: Mutex<Open>,
    drain: Trigger,
    draining: Signal,
}

#[derive(Debug, Default)]
struct Open {
    /// Of all tenants together.
    of_tenants: usize,
    /// None is the operator, who sees all; bounded like a tenant, and not by what tenants have open.
    by: HashMap<Option<TenantNo>, usize>,
}

impl Streams {
    pub(in crate::api) fn new() -> Self {
        let (drain, draining) = shutdown::channel();
        Self { open: Mutex::default(), drain, draining }
    }

    /// Takes a place until the slot is dropped.
    pub(super) fn enter(
        self: &Arc<Self>,
        tenant: Option<TenantNo>,
        limits: &config::Stream,
    ) -> Result<Slot, Problem> {
        if self.draining.is_fired() {
            return Err(Problem::new(Code::Unavailable, "the gateway is stopping"));
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.by.get(&tenant).copied().unwrap_or_default();
        if own >= limits.max_per_tenant {
            let detail = format!("{own} streams are open already; close one first");
            let of = limits.max_per_tenant as u64;
            let quota = Quota { name: "stream.max_per_tenant", of, period: None };
            let again = Again { after: FULL_FOR, quota: Some(Box::new(quota)) };
            return Err(Problem::new(Code::RateLimited, detail).retry_after(again));
        }
        if tenant.is_some() {
            if open.of_tenants >= limits.max_streams {
                let detail = "the gateway has as many streams open as it may";
                return Err(Problem::new(Code::Unavailable, detail).retry_after(FULL_FOR));
            }
            open.of_tenants += 1;
        }
        open.by.insert(tenant, own + 1);
        Ok(Slot { tenant, streams: Arc::clone(self) })
    }

    /// Ends every stream, and lets none in.
    pub(in crate::api) fn end(&self) {
        self.drain.fire();
    }

    pub(super) fn draining(&self) -> Signal {
        self.draining.clone()
    }

    fn leave(&self, tenant: Option<TenantNo>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.of_tenants -= usize::from(tenant.is_some());
        if let Some(own) = open.by.get_mut(&tenant) {
            *own -= 1;
            if *own == 0 {
                open.by.remove(&tenant);
            }
        }
    }
}

/// An open stream's place.
#[derive(Debug)]
pub(super) struct Slot {
    tenant: Option<TenantNo>,
    streams: Arc<Streams>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.streams.leave(self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_tenant_and_for_all_and_come_back() {
        let streams = Arc::new(Streams::new());
        let limits = config::Stream {
            max_streams: 3,
            max_per_tenant: 2,
            max_lag: Duration::ZERO,
            keep_alive: Duration::from_secs(1),
        };
        let enter = |tenant: Option<u32>| {
            streams.enter(tenant.map(TenantNo), &limits).map_err(|problem| problem.code)
        };
        let first = enter(Some(1)).unwrap();
        let _second = enter(Some(1)).unwrap();
        assert_eq!(enter(Some(1)).unwrap_err(), Code::RateLimited);
        let _third = enter(Some(2)).unwrap();
        assert_eq!(enter(Some(3)).unwrap_err(), Code::Unavailable);
        let _operators = (enter(None).unwrap(), enter(None).unwrap());
        assert_eq!(enter(None).unwrap_err(), Code::RateLimited);
        drop(first);
        let fourth = enter(Some(3)).unwrap();
        drop(fourth);
        assert!(!streams.open.lock().unwrap().by.contains_key(&Some(TenantNo(3))));
        streams.end();
        assert_eq!(enter(Some(3)).unwrap_err(), Code::Unavailable);
    }
}
