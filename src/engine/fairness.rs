//! Who goes next: round robin over tenants, then over each tenant's lanes.
//!
//! A ring holds only those who could go now, so a turn costs the same however many wait. A tenant
//! at its share of the slots leaves the ring until one of its attempts ends. Lanes and tenants are
//! small indices of the engine's tables.

use std::collections::{HashMap, VecDeque};

use crate::id::TenantNo;

/// A lane's index in the engine's table.
pub(super) type LaneNo = u32;
/// A tenant's index in [`Fairness`].
pub(super) type TenantIndex = u32;

#[derive(Debug, Default)]
pub(super) struct Fairness {
    index: HashMap<TenantNo, TenantIndex>,
    tenants: Vec<Turns>,
    /// Tenants that have a lane in their ring and a free share; each stands here once.
    ring: VecDeque<TenantIndex>,
    /// Attempts that one tenant may have under way.
    share: u32,
}

/// One tenant's turns.
#[derive(Debug, Default)]
struct Turns {
    /// Lanes that could go now; the lane knows whether it stands here.
    lanes: VecDeque<LaneNo>,
    in_flight: u32,
    in_ring: bool,
}

impl Fairness {
    pub(super) fn new(share: u32) -> Self {
        Self { share: share.max(1), ..Self::default() }
    }

    pub(super) fn set_share(&mut self, share: u32) {
        self.share = share.max(1);
        for tenant in 0..self.tenants.len() {
            self.enter_ring(tenant as TenantIndex);
        }
    }

    pub(super) fn tenant(&mut self, tenant: TenantNo) -> TenantIndex {
        *self.index.entry(tenant).or_insert_with(|| {
            self.tenants.push(Turns::default());
            (self.tenants.len() - 1) as TenantIndex
        })
    }

    /// A lane has become able to go. The caller marks it as standing in the ring.
    pub(super) fn enter(&mut self, tenant: TenantIndex, lane: LaneNo) {
        self.tenants[tenant as usize].lanes.push_back(lane);
        self.enter_ring(tenant);
    }

    /// Whose turn it is. The lane has left the ring; the caller lets it go at most once, and enters
    /// it again if it still could.
    pub(super) fn next(&mut self) -> Option<LaneNo> {
        loop {
            let tenant = self.ring.pop_front()?;
            let turns = &mut self.tenants[tenant as usize];
            turns.in_ring = false;
            if turns.in_flight >= self.share {
                continue;
            }
            let lane = turns.lanes.pop_front();
            self.enter_ring(tenant);
            if lane.is_some() {
                return lane;
            }
        }
    }

    /// Whether there may be someone: a tenant in the ring may have reached its share meanwhile.
    pub(super) fn has_next(&self) -> bool {
        !self.ring.is_empty()
    }

    pub(super) fn started(&mut self, tenant: TenantIndex) {
        self.tenants[tenant as usize].in_flight += 1;
    }

    pub(super) fn finished(&mut self, tenant: TenantIndex) {
        self.tenants[tenant as usize].in_flight -= 1;
        self.enter_ring(tenant);
    }

    fn enter_ring(&mut self, tenant: TenantIndex) {
        let turns = &mut self.tenants[tenant as usize];
        if !turns.in_ring && !turns.lanes.is_empty() && turns.in_flight < self.share {
            turns.in_ring = true;
            self.ring.push_back(tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets everyone go for `turns` turns, each lane staying able; who went.
    fn go(
        fairness: &mut Fairness,
        owners: &HashMap<LaneNo, TenantIndex>,
        turns: usize,
    ) -> Vec<u32> {
        let mut went = Vec::new();
        for _ in 0..turns {
            let Some(lane) = fairness.next() else { break };
            fairness.started(owners[&lane]);
            fairness.enter(owners[&lane], lane);
            went.push(lane);
        }
        went
    }

    #[test]
    fn tenants_take_turns_however_many_lanes_each_has() {
        let mut fairness = Fairness::new(1000);
        let (big, small) = (fairness.tenant(TenantNo(1)), fairness.tenant(TenantNo(2)));
        let mut owners = HashMap::new();
        for lane in 0..100 {
            owners.insert(lane, big);
            fairness.enter(big, lane);
        }
        owners.insert(100, small);
        fairness.enter(small, 100);
        let went = go(&mut fairness, &owners, 100);
        assert_eq!(went.iter().filter(|lane| **lane == 100).count(), 50);
    }

    #[test]
    fn the_lanes_of_a_tenant_take_turns() {
        let mut fairness = Fairness::new(1000);
        let tenant = fairness.tenant(TenantNo(1));
        let owners = HashMap::from([(3, tenant), (4, tenant), (5, tenant)]);
        for lane in [3, 4, 5] {
            fairness.enter(tenant, lane);
        }
        assert_eq!(go(&mut fairness, &owners, 7), [3, 4, 5, 3, 4, 5, 3]);
    }

    #[test]
    fn a_tenant_at_its_share_waits_until_one_of_its_attempts_ends() {
        let mut fairness = Fairness::new(3);
        let tenant = fairness.tenant(TenantNo(1));
        let owners = HashMap::from([(7, tenant)]);
        fairness.enter(tenant, 7);
        assert_eq!(go(&mut fairness, &owners, 10), [7, 7, 7]);
        fairness.finished(tenant);
        assert_eq!(go(&mut fairness, &owners, 10), [7]);
        fairness.set_share(5);
        assert_eq!(go(&mut fairness, &owners, 10), [7, 7]);
    }
}
