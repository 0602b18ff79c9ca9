//! A gateway with the tenants and webhooks of a cell, and the producers that feed it.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::ensure;
use serde_json::json;

use crate::{
    cell::Cell,
    rig::{
        LOAD_CPU,
        client::request,
        events::{self, TYPES, payload},
        feed::{Offer, Pace},
        files,
        gateway::Gateway,
        pin,
        receiver::Receiver,
        set_up,
    },
};

/// The producers stay this many deliveries ahead of the receiver, so that the gateway is never idle
/// and its backlog never outgrows its memory.
const AHEAD: u64 = 20_000;

/// Requests whose bodies are made before the clock runs; they are sent in turns.
const BODIES: usize = 1_000;

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    requests: Arc<[Vec<u8>]>,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn start(
        cell: &Cell,
        receiver: &Receiver,
        certificates: &Path,
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let data = dir.path().join("data");
        let settings = settings(cell);
        let binary = cell.gateway.as_deref();
        if cell.is_spread() {
            // A change of the directory is a commit of its own: a hundred thousand are made where
            // a sync costs nothing, and copied from there.
            let fast = tempfile::tempdir_in("/dev/shm")?;
            let made = fast.path().join("data");
            let gateway = Gateway::start(binary, &made, certificates, &settings)?;
            set_up(cell, receiver, &gateway)?;
            gateway.stop()?;
            files::copy(&made, &data)?;
        }
        let gateway = Gateway::start(binary, &data, certificates, &settings)?;
        pin(LOAD_CPU)?;
        if !cell.is_spread() {
            set_up(cell, receiver, &gateway)?;
        }
        Ok(Self { gateway, requests: requests(cell).into(), _dir: dir })
    }

    /// Ends the gateway in order: only so does an instrumented build write its profile.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.gateway.stop()
    }

    /// Offers events for `count` deliveries from several producers, together at most [`AHEAD`]
    /// before the receiver, and waits for all of them. Gives how many there were; without
    /// webhooks, how many events.
    pub(crate) fn feed(
        &self,
        cell: &Cell,
        receiver: &mut Receiver,
        count: u64,
    ) -> anyhow::Result<u64> {
        let from = receiver.count()?;
        let each = cell.batch as u64 * cell.fan_out().max(1);
        let batches = count.div_ceil(each);
        let pace = if cell.deliver { Pace::Behind { each, ahead: AHEAD } } else { Pace::AtOnce };
        let limit = Duration::from_secs(20 + count / 2000);
        let offer = Offer::new(Arc::clone(&self.requests), batches, pace, limit);
        let load = offer.start(self.gateway.api, cell.producers);
        let goal = batches * cell.batch as u64 * cell.fan_out();
        loop {
            let arrived = receiver.count()? - from;
            offer.tell_arrived(arrived);
            let failed = load.is_finished() && !offer.is_offered();
            if failed || (load.is_finished() && arrived >= goal) {
                break;
            }
            ensure!(!offer.is_late(), "the deliveries did not arrive");
            std::thread::sleep(Duration::from_millis(2));
        }
        load.join().expect("producers do not panic").map(|()| batches * each)
    }
}

fn settings(cell: &Cell) -> Vec<(&'static str, String)> {
    let number = |n: usize| n.to_string();
    let mut settings = vec![
        ("SENDERZ_POOL__MAX_IDLE_PER_ORIGIN", number(cell.connections)),
        // One webhook's own cap does it for one webhook.
        ("SENDERZ_DELIVERY__MAX_IN_FLIGHT", number(cell.connections.max(64))),
    ];
    if cell.is_spread() {
        // A connection belongs to one tenant: each keeps its own.
        settings.extend([
            ("SENDERZ_LIMITS__TENANTS", number(cell.webhooks)),
            ("SENDERZ_POOL__MAX_CONNECTIONS", number(tenants(cell) + cell.connections)),
            ("SENDERZ_POOL__IDLE_TIMEOUT", "5m".to_owned()),
        ]);
    }
    settings
}

fn tenants(cell: &Cell) -> usize {
    if cell.is_spread() { cell.webhooks.div_ceil(TYPES.len()) } else { 1 }
}

fn set_up(cell: &Cell, receiver: &Receiver, gateway: &Gateway) -> anyhow::Result<()> {
    set_up::tenants(gateway.api, tenants(cell), |tenant| {
        let webhooks = webhooks(cell, receiver, tenant).into_iter();
        let webhook = |(url, events)| json!({"url": url, "events": [events], "max_in_flight": cell.connections});
        webhooks.map(webhook).collect()
    })
}

/// The webhooks of one tenant: URL and type of event.
fn webhooks(cell: &Cell, receiver: &Receiver, tenant: usize) -> Vec<(String, &'static str)> {
    let address = set_up::address(tenant % cell.hosts);
    let url = |n: usize| {
        format!("{}://{address}:{}/hook/{n}", cell.protocol.scheme(), receiver.addr.port())
    };
    if !cell.deliver {
        Vec::new()
    } else if cell.is_spread() {
        TYPES.iter().enumerate().map(|(n, events)| (url(n), *events)).collect()
    } else {
        (0..cell.webhooks).map(|n| (url(n), "*")).collect()
    }
}

/// Requests whose payloads have exactly the cell's body size.
fn requests(cell: &Cell) -> Vec<Vec<u8>> {
    let bodies = if cell.is_spread() { BODIES } else { 1 };
    let mut all = (0..).map(|n| event(cell, n));
    (0..bodies)
        .map(|_| {
            if cell.batch == 1 {
                let (tenant, payload) = all.next().expect("endless");
                let path = format!("/v1/tenants/{tenant}/events");
                return request(&path, "application/json", payload.as_bytes());
            }
            events::batch(all.by_ref().take(cell.batch))
        })
        .collect()
}

/// The nth event's tenant and payload.
fn event(cell: &Cell, n: usize) -> (String, String) {
    let (tenant, kind) = if cell.is_spread() {
        // One after the other over all webhooks.
        (n % tenants(cell), TYPES[n / tenants(cell) % TYPES.len()])
    } else {
        (0, "message.delivered")
    };
    (format!("t{tenant}"), payload(n, kind, cell.body))
}
