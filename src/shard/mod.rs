//! A shard: the async shell around one engine.
//!
//! One OS thread, one current-thread runtime, its own engine, connection pools and timer. Webhooks
//! belong to shards by number ([`crate::command::shard_of`]); nothing on the delivery path is
//! shared or locked between shards.
//!
//! The loop waits for one thing, drains whatever else is there, makes one engine step, and carries
//! its effects out. It is the only place that awaits on behalf of the engine.
//!
//! What it must keep: it takes from its feed whatever else it waits for, because the store's thread
//! blocks on a full feed. So it never waits for room in the store's write channel except as one
//! branch among the others, and it makes no new engine step while too many entries wait for room.

mod attempt;
mod effects;
mod mailbox;
mod payloads;
mod turn;
mod workers;

use std::{rc::Rc, thread::JoinHandle, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::LocalSet,
};

use self::turn::Shard;
use crate::{
    clock::Clock,
    command::Command,
    directory::{Change, Directory},
    engine,
    sender::{self, Sender},
    shutdown::{Signal, Vigil},
    store::{Feed, Store},
};

/// One shard's numbers.
#[derive(Clone, Debug)]
pub struct Settings {
    pub index: usize,
    pub shards: usize,
    pub engine: engine::Settings,
    pub sender: sender::Settings,
    /// Bytes of event blocks kept in memory.
    pub payload_memory: usize,
    /// Bytes of payloads that attempts under way may hold beside that.
    pub payload_in_flight: usize,
    /// Bytes of statistics.
    pub stats_memory: usize,
    pub drain_timeout: Duration,
    pub disable_on_gone: bool,
}

/// What a shard is connected to.
#[derive(Debug)]
pub struct Inlets {
    pub feed: mpsc::Receiver<Feed>,
    pub changes: mpsc::Receiver<Change>,
    pub commands: mpsc::Receiver<Command>,
    pub reload: mpsc::Receiver<Box<Settings>>,
    pub drain: Signal,
    /// Answered once when the feed has said that recovery is done.
    pub recovered: oneshot::Sender<()>,
}

/// What a shard did until it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub attempts: u64,
    /// Attempts that were still under way when the drain deadline passed; they are made again
    /// after the next start.
    pub abandoned: u64,
}

/// Why a shard could not start.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    #[error("the operating system refused a thread or an event queue: {0}")]
    Thread(#[from] std::io::Error),
    #[error(transparent)]
    Sender(#[from] sender::SenderError),
}

/// Starts the shard's thread. The sender is made on it; its error comes back before this returns.
pub fn start(
    settings: Settings,
    inlets: Inlets,
    store: Store,
    directory: Directory,
    clock: Clock,
    vigil: Vigil,
) -> Result<JoinHandle<Report>, ShardError> {
    let (ready, made) = std::sync::mpsc::sync_channel(1);
    let thread =
        std::thread::Builder::new().name(format!("shard-{}", settings.index)).spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(ShardError::Thread(error)));
                    return Report::default();
                }
            };
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let sender = match Sender::new(settings.sender.clone()) {
                    Ok(sender) => Rc::new(sender),
                    Err(error) => {
                        let _ = ready.send(Err(error.into()));
                        return Report::default();
                    }
                };
                let _ = ready.send(Ok(()));
                let report =
                    Shard::new(settings, inlets, store, directory, clock, sender).run().await;
                vigil.stand_down();
                report
            })
        })?;
    match made.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ShardError::Thread(std::io::Error::other("the shard's thread died"))),
    }
}
