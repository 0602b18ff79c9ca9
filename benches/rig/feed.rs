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
    /// Deliveries of one batch, and how many of them may be ahead of those that have arrived; none
    /// where nobody tells what has.
    ahead: Option<(u64, u64)>,
    offered: AtomicU64,
    arrived: AtomicU64,
    deadline: Instant,
}

impl Offer {
    pub(crate) fn new(
        requests: Arc<[Vec<u8>]>,
        batches: u64,
        ahead: Option<(u64, u64)>,
        limit: Duration,
    ) -> Arc<Self> {
        let (offered, arrived) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { requests, batches, ahead, offered, arrived, deadline: now() + limit })
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
            while self.is_too_far(nth) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let request = &self.requests[nth as usize % self.requests.len()];
            let (status, answer) = feeder.send(request).await?;
            let answer = String::from_utf8_lossy(answer);
            ensure!(status == 202, "ingest answered {status}: {answer}");
        }
    }

    fn is_too_far(&self, nth: u64) -> bool {
        let arrived = || self.arrived.load(Ordering::Relaxed);
        self.ahead.is_some_and(|(each, ahead)| nth * each > arrived() + ahead)
    }
}
