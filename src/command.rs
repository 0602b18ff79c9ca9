//! Commands from the API to the shards.
//!
//! The API decides nothing about a delivery's schedule: it records what was asked for and tells
//! the one shard that owns the webhook. Drivers never import each other; this is the word between
//! them. Each shard's channel is bounded, and the sender waits for room.

use std::{slice, sync::Arc};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{
    delivery::{Attempt, Outcome},
    event::EventType,
    id::{DeliveryKey, TenantNo, WebhookNo},
    stats::{Period, Standing},
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
    /// End a waiting or retrying delivery. The shard records it.
    Cancel { key: DeliveryKey },
    /// What came of attempts lately, and what waits; of a tenant and of all, this shard's part.
    AskStanding { of: Subject, period: Period, reply: oneshot::Sender<Standing> },
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

/// About whom somebody wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Webhook(WebhookNo),
    /// With the webhooks that it has now: what waits is looked up for each of them.
    Tenant(TenantNo, Arc<[WebhookNo]>),
    All,
}

impl Command {
    /// Which one it is about; none where it is about several.
    pub fn webhook(&self) -> Option<WebhookNo> {
        match self {
            Command::AskRoom { webhook, .. }
            | Command::AskLaterRoom { webhook, .. }
            | Command::AskStanding { of: Subject::Webhook(webhook), .. } => Some(*webhook),
            Command::AskStanding { .. } => None,
            Command::Replay { key, .. }
            | Command::ReplayLater { key, .. }
            | Command::Cancel { key } => Some(key.webhook),
            Command::Check { check, .. } => Some(check.webhook.no),
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

    /// Hands the command to the webhook's shard, or to the first; waits while its channel is full.
    pub async fn send(&self, command: Command) -> Result<(), Stopped> {
        let shard = command.webhook().map_or(0, |webhook| self.shard_of(webhook));
        self.senders[shard].send(command).await.map_err(|_| Stopped)
    }

    /// What came of attempts over the period, and what waits now. All shards are asked at once, each
    /// for its part.
    pub async fn standing(&self, of: Subject, period: Period) -> Result<Standing, Stopped> {
        let asked = match of {
            Subject::Webhook(webhook) => slice::from_ref(&self.senders[self.shard_of(webhook)]),
            Subject::Tenant(..) | Subject::All => &self.senders,
        };
        let mut answers = Vec::with_capacity(asked.len());
        for shard in asked {
            let (reply, answer) = oneshot::channel();
            let command = Command::AskStanding { of: of.clone(), period, reply };
            shard.send(command).await.map_err(|_| Stopped)?;
            answers.push(answer);
        }
        let mut whole: Option<Standing> = None;
        for answer in answers {
            let part = answer.await.map_err(|_| Stopped)?;
            match &mut whole {
                Some(whole) => whole.merge(part),
                None => whole = Some(part),
            }
        }
        whole.ok_or(Stopped)
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
