//! A receiver, a data directory, and gateways over it with the webhooks of several tenants.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::{
    options::Options,
    rig::{
        Protocol,
        events::{self, TYPES, payload},
        feed::{Offer, Pace},
        gateway::Gateway,
        now,
        receiver::Receiver,
        set_up, tls,
    },
};

/// Each with a webhook for each type of event.
const TENANTS: usize = 6;
/// Attempts under way at once for each webhook: few, because connections are not what is measured.
const IN_FLIGHT: u32 = 8;
/// Events in a request.
pub(crate) const BATCH: usize = 100;
const PRODUCERS: usize = 16;
/// Bytes of a payload: about the mean of the example events.
const BODY: usize = 300;

pub(crate) struct World {
    pub(crate) receiver: Receiver,
    dir: tempfile::TempDir,
    requests: Arc<[Vec<u8>]>,
}

impl World {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(&options.dir)?;
        tls::make(dir.path())?;
        let receiver = Receiver::start(Protocol::Http1, dir.path())?;
        let event = |n: usize| {
            (format!("t{}", n % TENANTS), payload(n, TYPES[n / TENANTS % TYPES.len()], BODY))
        };
        let requests = (0..TENANTS * TYPES.len())
            .map(|nth| events::batch((nth * BATCH..(nth + 1) * BATCH).map(event)));
        Ok(Self { receiver, requests: requests.collect(), dir })
    }

    /// On a processor of its own.
    pub(crate) fn start(&self, options: &Options) -> anyhow::Result<Gateway> {
        let (binary, dir) = (options.gateway.as_deref(), self.dir.path());
        Gateway::start(binary, &self.data(), dir, &settings())
    }

    /// On all of them, over this data directory.
    pub(crate) fn start_as_installed(
        &self,
        options: &Options,
        data: &Path,
    ) -> anyhow::Result<Gateway> {
        let (binary, dir) = (options.gateway.as_deref(), self.dir.path());
        Gateway::start_as_installed(binary, data, dir, &settings())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn set_up(&self, gateway: &Gateway) -> anyhow::Result<()> {
        set_up::tenants(gateway.api, TENANTS, |tenant| {
            let url = |kind| format!("http://{}/t{tenant}/{kind}", self.receiver.addr);
            let webhook =
                |kind| json!({"url": url(kind), "events": [kind], "max_in_flight": IN_FLIGHT});
            TYPES.into_iter().map(webhook).collect()
        })
    }

    /// Sends events for so many deliveries, as fast as they are accepted; gives the seconds.
    pub(crate) fn feed(&self, gateway: &Gateway, deliveries: u64) -> anyhow::Result<f64> {
        self.send(gateway, deliveries, Pace::AtOnce)
    }

    /// The same, so many in a second.
    pub(crate) fn feed_at(
        &self,
        gateway: &Gateway,
        deliveries: u64,
        rate: f64,
    ) -> anyhow::Result<f64> {
        self.send(gateway, deliveries, Pace::Every(Duration::from_secs_f64(BATCH as f64 / rate)))
    }

    fn send(&self, gateway: &Gateway, deliveries: u64, pace: Pace) -> anyhow::Result<f64> {
        let clock = now();
        let batches = deliveries / BATCH as u64;
        let limit = Duration::from_secs(60 + deliveries / 2_000);
        let offer = Offer::new(self.requests.clone(), batches, pace, limit);
        offer.start(gateway.api, PRODUCERS).join().expect("producers do not panic")?;
        Ok(clock.elapsed().as_secs_f64())
    }

    /// Waits until `/metrics` counts so many in the series that begin so; gives the seconds.
    pub(crate) fn wait_for(
        &self,
        gateway: &Gateway,
        series: &'static str,
        deliveries: u64,
    ) -> anyhow::Result<f64> {
        wait(deliveries, || Ok(gateway.metric(series)? as u64)).context(series)
    }

    /// Waits until the receiver has answered so many; gives the seconds.
    pub(crate) fn wait_until_received(&mut self, deliveries: u64) -> anyhow::Result<f64> {
        wait(deliveries, || self.receiver.count())
    }
}

fn wait(deliveries: u64, mut count: impl FnMut() -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    let clock = now();
    let limit = Duration::from_secs(60 + deliveries / 2_000);
    loop {
        let counted = count()?;
        if counted >= deliveries {
            return Ok(clock.elapsed().as_secs_f64());
        }
        ensure!(clock.elapsed() < limit, "{counted} instead of {deliveries}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) const DELIVERED: &str = "senderz_deliveries_ended_total{outcome=\"delivered\"}";
pub(crate) const RETRYING: &str = "senderz_deliveries{state=\"retrying\"}";
/// Everything that has not ended.
pub(crate) const OPEN: &str = "senderz_deliveries{";

fn settings() -> Vec<(&'static str, String)> {
    vec![
        // What hangs shall not end while it is measured.
        ("SENDERZ_DELIVERY__TIMEOUT", "60s".to_owned()),
        // On a slow machine, retries are asked to come late.
        ("SENDERZ_RETRY__MAX_RETRY_AFTER", "1h".to_owned()),
    ]
}
