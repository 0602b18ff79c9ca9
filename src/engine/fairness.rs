//! Who goes next: round robin over tenants, then over each tenant's lanes.
//!
//! A ring holds only those who could go now, so a turn costs the same however many wait. A tenant
//! at its share of the slots leaves the ring until one of its attempts ends. Lanes and tenants are
//! small indices of the engine's tables.
//!
//! Slots are not all that tenants share: attempts cost the thread's time, and some a hundred times as
//! much as others (a connection that is made for each, a response without end). Who has a thousand
//! of those under way takes the thread from all others, whoever's turn it is. So the share shrinks
//! while the thread is behind and more than one tenant is at it, and grows again when it is not:
//! those with the most under way give way first, and whoever has few notices nothing.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::id::TenantNo;

/// A lane's index in the engine's table.
pub(super) type LaneNo = u32;
/// A tenant's index in [`Fairness`].
pub(super) type TenantIndex = u32;

/// How long an attempt may wait for the thread, for all that was ready before it, until shares shrink.
const BEHIND: Duration = Duration::from_millis(3);
/// Attempts of one tenant that one step begins. What an attempt costs at its start, the connection
/// above all, is work of the shard's one thread: if a step began a thousand of them (an event that
/// goes to a thousand webhooks, or the retries of such a one), whoever comes next would wait for all
/// of that, fair as his turn may be.
pub(super) const TENANT_SENDS: u32 = 32;
/// What the share never shrinks below.
const LEAST_SHARE: u32 = 16;

#[derive(Debug, Default)]
pub(super) struct Fairness {
    index: HashMap<TenantNo, TenantIndex>,
    tenants: Vec<Turns>,
    /// Tenants that have a lane in their ring and a free share; each stands here once.
    ring: VecDeque<TenantIndex>,
    /// Attempts that one tenant may have under way by the settings …
    whole_share: u32,
    /// … and as far as the thread keeps up.
    share: u32,
    /// Tenants that may have been kept out of the ring by a share that is not whole.
    kept_out: Vec<TenantIndex>,
    /// Tenants with attempts under way.
    active: u32,
    /// The step that is being made, and who has begun as much in it as one tenant may.
    step: u64,
    postponed: Vec<TenantIndex>,
}

/// One tenant's turns.
#[derive(Debug, Default)]
struct Turns {
    /// Lanes that could go now; the lane knows whether it stands here.
    lanes: VecDeque<LaneNo>,
    in_flight: u32,
    in_ring: bool,
    is_kept_out: bool,
    /// The last step in which it began attempts, and how many.
    begun: (u64, u32),
}

impl Fairness {
    pub(super) fn new(share: u32) -> Self {
        let share = share.max(1);
        Self { whole_share: share, share, ..Self::default() }
    }

    pub(super) fn set_share(&mut self, share: u32) {
        self.whole_share = share.max(1);
        self.share = self.whole_share;
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

    /// A new step: everybody may begin attempts again.
    pub(super) fn begin_step(&mut self) {
        self.step += 1;
        self.ring.extend(self.postponed.drain(..));
    }

    /// Whose turn it is. The lane has left the ring; the caller lets it go at most once, and enters
    /// it again if it still could.
    pub(super) fn next(&mut self) -> Option<LaneNo> {
        loop {
            let tenant = self.ring.pop_front()?;
            let turns = &mut self.tenants[tenant as usize];
            if turns.begun == (self.step, TENANT_SENDS) {
                // It counts as standing in the ring.
                self.postponed.push(tenant);
                continue;
            }
            turns.in_ring = false;
            if turns.in_flight >= self.share {
                self.keep_out(tenant);
                continue;
            }
            let lane = turns.lanes.pop_front();
            self.enter_ring(tenant);
            if lane.is_some() {
                return lane;
            }
        }
    }

    /// Whether there may be someone, now or in the next step: a tenant in the ring may have reached
    /// its share meanwhile.
    pub(super) fn has_next(&self) -> bool {
        !self.ring.is_empty() || !self.postponed.is_empty()
    }

    pub(super) fn started(&mut self, tenant: TenantIndex) {
        let turns = &mut self.tenants[tenant as usize];
        turns.in_flight += 1;
        let before = if turns.begun.0 == self.step { turns.begun.1 } else { 0 };
        turns.begun = (self.step, before + 1);
        self.active += u32::from(turns.in_flight == 1);
    }

    pub(super) fn finished(&mut self, tenant: TenantIndex) {
        let turns = &mut self.tenants[tenant as usize];
        turns.in_flight -= 1;
        self.active -= u32::from(turns.in_flight == 0);
        self.enter_ring(tenant);
    }

    /// How long an attempt has waited for the thread, with this many under way.
    pub(super) fn waited(&mut self, wait: Duration, under_way: u32) {
        if wait > BEHIND && self.active > 1 {
            let least = LEAST_SHARE.min(self.whole_share);
            self.share = (self.share.min(under_way) / 2).max(least);
        } else if self.share < self.whole_share {
            self.share = (self.share + self.share / 64 + 1).min(self.whole_share);
            for tenant in std::mem::take(&mut self.kept_out) {
                self.tenants[tenant as usize].is_kept_out = false;
                self.enter_ring(tenant);
            }
        }
    }

    fn enter_ring(&mut self, tenant: TenantIndex) {
        let turns = &mut self.tenants[tenant as usize];
        if turns.in_ring || turns.lanes.is_empty() {
            return;
        }
        if turns.in_flight < self.share {
            turns.in_ring = true;
            self.ring.push_back(tenant);
        } else {
            self.keep_out(tenant);
        }
    }

    /// Remembers who must be asked again when the share grows; at a whole share only an attempt that
    /// ends lets him in.
    fn keep_out(&mut self, tenant: TenantIndex) {
        let turns = &mut self.tenants[tenant as usize];
        if turns.in_flight < self.whole_share && !turns.is_kept_out {
            turns.is_kept_out = true;
            self.kept_out.push(tenant);
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
            let lane = fairness.next().or_else(|| {
                fairness.begin_step();
                fairness.next()
            });
            let Some(lane) = lane else { break };
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

    const LATE: Duration = Duration::from_millis(10);

    #[test]
    fn while_the_thread_is_behind_the_largest_give_way_and_come_back() {
        let mut fairness = Fairness::new(1000);
        let (big, small) = (fairness.tenant(TenantNo(1)), fairness.tenant(TenantNo(2)));
        let owners = HashMap::from([(7, big), (8, small)]);
        fairness.enter(big, 7);
        assert_eq!(go(&mut fairness, &owners, 400).len(), 400);
        // Alone, it is in nobody's way.
        fairness.waited(LATE, 400);
        assert_eq!(go(&mut fairness, &owners, 1), [7]);
        fairness.enter(small, 8);
        assert!(go(&mut fairness, &owners, 2).contains(&8));
        let under_way = fairness.tenants[big as usize].in_flight;
        fairness.waited(LATE, under_way);
        assert_eq!(go(&mut fairness, &owners, 3), [8, 8, 8], "only the small one goes on");
        // Further down while it does not help, but never to nothing.
        for _ in 0..100 {
            fairness.waited(LATE, under_way);
        }
        for _ in 0..under_way {
            fairness.finished(big);
        }
        let went = go(&mut fairness, &owners, 100);
        assert_eq!(went.iter().filter(|lane| **lane == 7).count(), LEAST_SHARE as usize);
        // In time again: it is let in without any of its attempts ending.
        for _ in 0..200 {
            fairness.waited(Duration::ZERO, 0);
        }
        assert_eq!(fairness.share, 1000);
        let went = go(&mut fairness, &owners, 1000);
        assert!(went.iter().filter(|lane| **lane == 7).count() > 400);
    }
}
