//! Commands from the API to the shards.
//!
//! The API decides nothing about a delivery's schedule: it records what was asked for and tells
//! the one shard that owns the webhook. Drivers never import each other; this is the word between
//! them. Each shard's channel is bounded, and the sender waits for room.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{
    delivery::{Attempt, CancelReason, Outcome},
    event::EventType,
    id::{DeliveryKey, WebhookNo},
    tenant::Tenant,
    webhook::Webhook,
};

/// What a shard is asked to do, or to say.
#[derive(Debug)]
pub enum Command {
    /// Whether there is room for another replay to this webhook; asked before one is recorded.
    AskRoom { webhook: WebhookNo, reply: oneshot::Sender<bool> },
    /// How many more replays of a job the webhook takes now; asked before they are recorded.
    AskLaterRoom { webhook: WebhookNo, reply: oneshot::Sender<usize> },
    /// As `Replay`, behind everything else that waits for the webhook.
    ReplayLater { key: DeliveryKey, attempts: u16 },
    /// An ended delivery is due again; the attempt log already says `Reopened`, durably.
    /// `attempts` were made before: numbers go on from there.
    Replay { key: DeliveryKey, attempts: u16 },
    /// End a waiting or retrying delivery. The shard records it, with the reason.
    Cancel { key: DeliveryKey, reason: CancelReason },
    /// Make one attempt that belongs to no delivery and is recorded nowhere.
    Check { check: Box<Check>, reply: oneshot::Sender<Checked> },
}

/// A webhook to be tried as it would be if it were saved, and what it is sent.
#[derive(Debug)]
pub struct Check {
    pub webhook: Arc<Webhook>,
    pub tenant: Arc<Tenant>,
    pub event_type: EventType,
    pub payload: Bytes,
}

/// What came of it.
#[derive(Debug)]
pub struct Checked {
    pub attempt: Attempt,
    pub outcome: Outcome,
}

impl Command {
    pub fn webhook(&self) -> WebhookNo {
        match self {
            Command::AskRoom { webhook, .. } | Command::AskLaterRoom { webhook, .. } => *webhook,
            Command::Replay { key, .. }
            | Command::ReplayLater { key, .. }
            | Command::Cancel { key, .. } => key.webhook,
            Command::Check { check, .. } => check.webhook.no,
        }
    }
}

/// The shard that has gone no longer takes commands: the process is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the delivery threads have stopped")]
pub struct Stopped;

/// Reaches every shard. Copies share the channels.
#[derive(Clone, Debug)]
pub struct Shards {
    senders: Arc<[mpsc::Sender<Command>]>,
}

impl Shards {
    /// One sender for each shard, in the order of the shards' numbers.
    pub fn new(senders: Vec<mpsc::Sender<Command>>) -> Self {
        assert!(!senders.is_empty(), "there is at least one shard");
        Self { senders: senders.into() }
    }

    pub fn shard_of(&self, webhook: WebhookNo) -> usize {
        shard_of(webhook, self.senders.len())
    }

    /// Hands the command to the webhook's shard; waits while its channel is full.
    pub async fn send(&self, command: Command) -> Result<(), Stopped> {
        let shard = self.shard_of(command.webhook());
        self.senders[shard].send(command).await.map_err(|_| Stopped)
    }

    /// Whether the webhook's shard has room for another replay to it.
    pub async fn has_room(&self, webhook: WebhookNo) -> Result<bool, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::AskRoom { webhook, reply }).await?;
        answer.await.map_err(|_| Stopped)
    }

    /// How many more replays of a job the webhook takes now.
    pub async fn later_room(&self, webhook: WebhookNo) -> Result<usize, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::AskLaterRoom { webhook, reply }).await?;
        answer.await.map_err(|_| Stopped)
    }
}

/// Which of `shards` owns a webhook: all its deliveries, its lane and its connections.
pub fn shard_of(webhook: WebhookNo, shards: usize) -> usize {
    webhook.0 as usize % shards
}
