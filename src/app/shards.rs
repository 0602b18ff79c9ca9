//! The shards: their threads, and the channels that lead to them.

use std::{sync::Arc, thread::JoinHandle};

use tokio::sync::{mpsc, oneshot};

use super::{StartError, settings};
use crate::{
    clock::Clock,
    config::Config,
    directory::Directory,
    guard::Policy,
    shard::{self, Report},
    shutdown::{Alarm, Signal},
    spans::Tracer,
    store::{self, Store},
};

/// Messages between the store and a shard, each a block of about 16 KiB: a bound on what a shard
/// that lags holds.
const FEED_CAPACITY: usize = 256;
/// Webhook changes on their way to a shard.
const CHANGES_CAPACITY: usize = 256;
/// Replays and cancels on their way to a shard.
const COMMANDS_CAPACITY: usize = 1024;

/// What the rest needs of the started shards, in their order.
pub(super) struct StartedShards {
    pub(super) threads: Vec<JoinHandle<Report>>,
    pub(super) feeds: Vec<mpsc::Sender<store::Feed>>,
    pub(super) commands: Vec<mpsc::Sender<crate::command::Command>>,
    pub(super) reloads: Vec<mpsc::Sender<Box<shard::Settings>>>,
    pub(super) recovered: Vec<oneshot::Receiver<()>>,
}

/// What all shards are started with.
pub(super) struct Common<'a> {
    pub(super) config: &'a Config,
    pub(super) policy: &'a Arc<Policy>,
    pub(super) store: &'a Store,
    pub(super) directory: &'a Directory,
    pub(super) clock: Clock,
    pub(super) drain: &'a Signal,
    pub(super) alarm: &'a Alarm,
    pub(super) tracer: Option<Tracer>,
}

impl Common<'_> {
    pub(super) async fn start(self) -> Result<StartedShards, StartError> {
        let mut started = StartedShards {
            threads: Vec::new(),
            feeds: Vec::new(),
            commands: Vec::new(),
            reloads: Vec::new(),
            recovered: Vec::new(),
        };
        for index in 0..self.config.runtime.shards {
            let (feed_in, feed) = mpsc::channel(FEED_CAPACITY);
            let (changes_in, changes) = mpsc::channel(CHANGES_CAPACITY);
            let (commands_in, commands) = mpsc::channel(COMMANDS_CAPACITY);
            let (reload_in, reload) = mpsc::channel(1);
            let (recovered_in, recovered) = oneshot::channel();
            let inlets = shard::Inlets {
                feed,
                changes,
                commands,
                reload,
                drain: self.drain.clone(),
                recovered: recovered_in,
                tracer: self.tracer.clone(),
            };
            let settings = settings::shard(self.config, self.policy, index, self.clock);
            let (store, directory) = (self.store.clone(), self.directory.clone());
            let vigil = self.alarm.watch_over("a delivery thread");
            let thread = shard::start(settings, inlets, store, directory, self.clock, vigil)?;
            started.threads.push(thread);
            started.feeds.push(feed_in);
            started.commands.push(commands_in);
            started.reloads.push(reload_in);
            started.recovered.push(recovered);
            // The shard runs already, so it takes these however many there are; recovery comes
            // after.
            self.directory.subscribe(changes_in).await;
        }
        Ok(started)
    }
}

pub(super) async fn all_recovered(
    shards: Vec<oneshot::Receiver<()>>,
) -> Result<(), oneshot::error::RecvError> {
    for shard in shards {
        shard.await?;
    }
    Ok(())
}
