//! What the API sees of a shard: it answers questions at once and keeps what it is told.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::pin,
    task::{Context, Poll},
};

use senderz_gateway::{
    clock::Millis,
    command::{Check, Checked, Command, Subject},
    delivery::Outcome,
    engine::Gauges,
    id::DeliveryKey,
    stats::{Standing, Stats},
    webhook::SuccessRule,
};
use tokio::sync::mpsc;

use crate::support::attempt;

/// When it is asked for statistics: 2026-11-23T04:20:00.123Z.
pub(crate) const NOW: Millis = 1_795_407_600_123;

/// What the shard is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Replay { key: DeliveryKey, attempts: u16 },
    Later { key: DeliveryKey, attempts: u16 },
    Cancel { key: DeliveryKey },
}

/// It has no task of its own, so that nothing happens behind a test's back: it is driven by
/// whoever waits for the API, or looks.
pub(crate) struct Shard {
    commands: RefCell<mpsc::Receiver<Command>>,
    told: RefCell<VecDeque<Told>>,
    pub(crate) has_room: Cell<bool>,
    /// The webhooks that it was to try. One that takes any 2xx is a success.
    pub(crate) checked: RefCell<Vec<Check>>,
    pub(crate) later_room: Cell<usize>,
    pub(crate) stats: RefCell<Stats>,
    /// What it says waits, whoever is asked about.
    pub(crate) gauges: Cell<Gauges>,
}

impl Shard {
    pub(crate) fn new(commands: mpsc::Receiver<Command>) -> Self {
        Self {
            commands: RefCell::new(commands),
            told: RefCell::default(),
            has_room: Cell::new(true),
            checked: RefCell::default(),
            later_room: Cell::new(100),
            stats: RefCell::new(Stats::new(0, 1 << 20)),
            gauges: Cell::default(),
        }
    }

    /// Drives `future`, and the shard until that is done.
    pub(crate) async fn beside<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            let output = future.as_mut().poll(context);
            if output.is_pending() {
                self.take(context);
            }
            output
        })
        .await
    }

    fn take(&self, context: &mut Context<'_>) {
        while let Poll::Ready(Some(command)) = self.commands.borrow_mut().poll_recv(context) {
            self.hear(command);
        }
    }

    fn hear(&self, command: Command) {
        let told = match command {
            Command::AskRoom { reply, .. } => {
                // Whoever asked may have gone away.
                let _ = reply.send(self.has_room.get());
                return;
            }
            Command::Check { check, reply } => {
                let checked = Checked {
                    attempt: attempt(1),
                    outcome: match check.webhook.success {
                        Some(SuccessRule::Any2xx) => Outcome::Delivered,
                        _ => Outcome::Retry { not_before: None },
                    },
                };
                self.checked.borrow_mut().push(*check);
                let _ = reply.send(checked);
                return;
            }
            Command::AskLaterRoom { reply, .. } => {
                let _ = reply.send(self.later_room.get());
                return;
            }
            Command::AskStanding { of, period, reply } => {
                let (stats, now) = (self.stats.borrow(), NOW);
                let report = match of {
                    Subject::Webhook(webhook) => stats.of_webhook(webhook, period, now),
                    Subject::Tenant(tenant, _) => stats.of_tenant(tenant, period, now),
                    Subject::All => stats.of_all(period, now),
                };
                let _ = reply.send(Standing { report, now: self.gauges.get() });
                return;
            }
            Command::ReplayLater { key, attempts } => Told::Later { key, attempts },
            Command::Replay { key, attempts } => Told::Replay { key, attempts },
            Command::Cancel { key } => Told::Cancel { key },
        };
        self.told.borrow_mut().push_back(told);
    }

    /// How much it was told and nobody has looked at.
    pub(crate) fn len(&self) -> usize {
        while let Ok(command) = self.commands.borrow_mut().try_recv() {
            self.hear(command);
        }
        self.told.borrow().len()
    }

    /// What it was told next, if anything.
    pub(crate) fn told(&self) -> Option<Told> {
        self.len();
        self.told.borrow_mut().pop_front()
    }

    /// Waits for what it is told next.
    pub(crate) async fn tell(&self) -> Told {
        std::future::poll_fn(|context| {
            self.take(context);
            self.told.borrow_mut().pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    pub(crate) fn stop(&self) {
        self.commands.borrow_mut().close();
    }
}
