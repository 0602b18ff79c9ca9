//! Producers at work: several connections that send prepared requests, one after the other on each.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{task::JoinSet, time::timeout_at};

use super::{client::Feeder, now};

/// What the producers share.
pub(crate) struct Offer {
    /// Sent in turns.
    requests: Arc<[Vec<u8>]>,
    batches: u64,
    pace: Pace,
    offered: AtomicU64,
    arrived: AtomicU64,
    started: Instant,
    deadline: Instant,
}

/// When the next batch is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as the one before it has been answered.
    AtOnce,
    /// Once no more than `ahead` deliveries are ahead of those that have arrived; a batch makes
    /// `each`.
    Behind { each: u64, ahead: u64 },
    /// So long after the one before it, however long the answers take.
    Every(Duration),
}

impl Offer {
    pub(crate) fn new(
        requests: Arc<[Vec<u8>]>,
        batches: u64,
        pace: Pace,
        limit: Duration,
    ) -> Arc<Self> {
        let (offered, arrived) = (AtomicU64::new(0), AtomicU64::new(0));
        let started = now();
        let deadline = started + limit;
        Arc::new(Self { requests, batches, pace, offered, arrived, started, deadline })
    }

    /// They share one thread: waking one for each answer would be charged to the gateway, who
    /// wakes it.
    pub(crate) fn start(
        self: &Arc<Self>,
        api: SocketAddr,
        producers: usize,
    ) -> JoinHandle<anyhow::Result<()>> {
        let offer = Arc::clone(self);
        std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build()?.block_on(async {
                let mut tasks = JoinSet::new();
                (0..producers).for_each(|_| _ = tasks.spawn(Arc::clone(&offer).produce(api)));
                let ended = async {
                    while let Some(ended) = tasks.join_next().await {
                        ended??;
                    }
                    Ok(())
                };
                let limit = timeout_at(offer.deadline.into(), ended).await;
                limit.context("the events were not taken in time")?
            })
        })
    }

    pub(crate) fn is_offered(&self) -> bool {
        self.offered.load(Ordering::Relaxed) >= self.batches
    }

    pub(crate) fn is_late(&self) -> bool {
        now() >= self.deadline
    }

    pub(crate) fn tell_arrived(&self, deliveries: u64) {
        self.arrived.store(deliveries, Ordering::Relaxed);
    }

    async fn produce(self: Arc<Self>, api: SocketAddr) -> anyhow::Result<()> {
        let mut feeder = Feeder::open(api).await?;
        loop {
            let nth = self.offered.fetch_add(1, Ordering::Relaxed);
            if nth >= self.batches {
                return Ok(());
            }
            self.wait_for_turn(nth).await;
            let request = &self.requests[nth as usize % self.requests.len()];
            let (status, answer) = feeder.send(request).await?;
            let answer = String::from_utf8_lossy(answer);
            ensure!(status == 202, "ingest answered {status}: {answer}");
        }
    }

    async fn wait_for_turn(&self, nth: u64) {
        match self.pace {
            Pace::AtOnce => {}
            Pace::Every(interval) => {
                let turn = self.started + interval.mul_f64(nth as f64);
                tokio::time::sleep_until(turn.into()).await;
            }
            Pace::Behind { each, ahead } => {
                while nth * each > self.arrived.load(Ordering::Relaxed) + ahead {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    }
}
