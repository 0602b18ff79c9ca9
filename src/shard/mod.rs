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
mod payloads;

use std::{
    cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, thread::JoinHandle, time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::LocalSet,
    time::Sleep,
};

use self::{
    attempt::{Ended, Finished},
    payloads::Payloads,
};
use crate::{
    clock::{self, Clock, Millis},
    command::{Command, shard_of},
    delivery::{Entry, FailReason, Verdict},
    directory::{Change, Directory, WebhookPatch},
    engine::{self, Effect, Engine, Input, LaneSettings, Ticket},
    id::{ByNumber, DeliveryKey, Place, WebhookNo},
    metrics::ShardMetrics,
    sender::{self, Sender, target::Target},
    shutdown::Signal,
    store::{EventBlock, Feed, Recovered, RecoveredState, Store, Write},
};

/// How many feed messages are taken before a step: bounds the time between two steps.
const FEED_BATCH: usize = 64;
/// Entries go to the store when this many wait …
const ENTRIES_BATCH: usize = 256;
/// … or when the first has waited this long. A part of the commit interval that bounds duplicates
/// after a crash, so it stays well below `store.entries_max_wait`.
const ENTRIES_WAIT: Duration = Duration::from_millis(4);
/// With this many entries waiting for room in the store, no step is made.
const ENTRIES_LIMIT: usize = 16 * 1024;
/// How long a failed read-back waits before it is asked again.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// How often gauges and counters go out.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// One shard's numbers.
#[derive(Clone, Debug)]
pub struct Settings {
    pub index: usize,
    pub shards: usize,
    pub engine: engine::Settings,
    pub sender: sender::Settings,
    /// Bytes of event blocks kept in memory.
    pub payload_memory: usize,
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
                Shard::new(settings, inlets, store, directory, clock, sender).run().await
            })
        })?;
    match made.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ShardError::Thread(std::io::Error::other("the shard's thread died"))),
    }
}

/// What ended a wait and must be taken along.
enum Woke {
    Feed { closed: bool },
    Change(Change),
    Command(Command),
    Reload(Box<Settings>),
    Drain,
    Other,
}

struct Shard {
    settings: Settings,
    store: Rc<Store>,
    directory: Directory,
    clock: Clock,
    sender: Rc<Sender>,
    engine: Engine,
    inlets: Inlets,
    /// None after it was told.
    recovered: Option<oneshot::Sender<()>>,
    targets: HashMap<WebhookNo, Arc<Target>, ByNumber>,
    payloads: Payloads,
    metrics: ShardMetrics,

    inputs: Vec<Input>,
    effects: Vec<Effect>,
    feed: Vec<Feed>,
    /// False once the store has ended.
    feed_open: bool,
    mailbox: Rc<Mailbox>,
    /// Results between `Finished` and the `Record` that follows it in the same step, by ticket.
    ended: Vec<Option<Ended>>,
    entries: Vec<Entry>,
    /// When the waiting entries must go to the store, whether many or few.
    entries_due: Option<Millis>,
    wake: Option<Millis>,
    report_at: Millis,
    draining: bool,
    report: Report,
}

/// Where tasks of this thread leave what the loop must hear.
#[derive(Default)]
struct Mailbox {
    finished: RefCell<Vec<Finished>>,
    inputs: RefCell<Vec<Input>>,
    notify: Notify,
}

impl Mailbox {
    fn finish(&self, finished: Finished) {
        self.finished.borrow_mut().push(finished);
        self.notify.notify_one();
    }

    fn input(&self, input: Input) {
        self.inputs.borrow_mut().push(input);
        self.notify.notify_one();
    }
}

impl Shard {
    fn new(
        settings: Settings,
        mut inlets: Inlets,
        store: Store,
        directory: Directory,
        clock: Clock,
        sender: Rc<Sender>,
    ) -> Self {
        let now = clock.now();
        let recovered = Some(std::mem::replace(&mut inlets.recovered, oneshot::channel().0));
        Self {
            engine: Engine::new(settings.engine.clone(), now ^ settings.index as u64),
            payloads: Payloads::new(settings.payload_memory),
            metrics: ShardMetrics::new(),
            settings,
            store: Rc::new(store),
            directory,
            clock,
            sender,
            inlets,
            recovered,
            targets: HashMap::default(),
            inputs: Vec::new(),
            effects: Vec::new(),
            feed: Vec::with_capacity(FEED_BATCH),
            feed_open: true,
            mailbox: Rc::default(),
            ended: Vec::new(),
            entries: Vec::new(),
            entries_due: None,
            wake: None,
            report_at: now,
            draining: false,
            report: Report::default(),
        }
    }

    /// Runs until it is drained and its entries are with the store.
    async fn run(mut self) -> Report {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut drain_deadline: Option<Millis> = None;
        loop {
            self.wait(timer.as_mut(), drain_deadline).await;
            self.take_changes();
            self.take_feed();
            self.take_mail();
            let now = self.clock.now();
            if self.entries.len() < ENTRIES_LIMIT {
                self.wake = self.engine.step(now, &mut self.inputs, &mut self.effects);
                self.carry_out(now);
            }
            self.offer_entries(now);
            if now >= self.report_at {
                self.publish(now);
            }
            if self.draining {
                let deadline = *drain_deadline
                    .get_or_insert(now + self.settings.drain_timeout.as_millis() as u64);
                let under_way = self.engine.in_flight();
                if under_way == 0 || now >= deadline {
                    self.report.abandoned = under_way;
                    break;
                }
            }
        }
        self.hand_over_entries().await;
        self.publish(self.clock.now());
        self.report
    }

    /// Returns as soon as there is anything to do.
    async fn wait(&mut self, mut timer: std::pin::Pin<&mut Sleep>, deadline: Option<Millis>) {
        let stuck = self.entries.len() >= ENTRIES_LIMIT;
        let wake = if stuck { None } else { self.wake };
        let until = [wake, self.entries_due, deadline, Some(self.report_at)]
            .into_iter()
            .flatten()
            .min()
            .expect("the report is always due some time");
        let until = tokio::time::Instant::from_std(self.clock.instant_at(until));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        let offering = self.entries.len() >= ENTRIES_BATCH;
        let inlets = &mut self.inlets;
        let woke = tokio::select! {
            biased;
            taken = inlets.feed.recv_many(&mut self.feed, FEED_BATCH), if self.feed_open => {
                Woke::Feed { closed: taken == 0 }
            }
            Some(change) = inlets.changes.recv() => Woke::Change(change),
            Some(command) = inlets.commands.recv() => Woke::Command(command),
            Some(settings) = inlets.reload.recv() => Woke::Reload(settings),
            () = self.mailbox.notify.notified() => Woke::Other,
            () = inlets.drain.fired(), if !self.draining => Woke::Drain,
            Ok(permit) = self.store.writes.reserve(), if offering => {
                let entries = std::mem::take(&mut self.entries);
                permit.send(Write::Entries { entries, reply: None });
                self.entries_due = None;
                Woke::Other
            }
            () = timer => Woke::Other,
        };
        match woke {
            Woke::Feed { closed } => self.feed_open = !closed,
            Woke::Change(change) => self.change(change),
            Woke::Command(command) => self.command(command),
            Woke::Reload(settings) => self.reload(*settings),
            Woke::Drain => {
                self.draining = true;
                self.inputs.push(Input::Drain);
            }
            Woke::Other => {}
        }
    }

    /// Changes before the feed: a webhook is announced before any event is routed to it.
    fn take_changes(&mut self) {
        while let Ok(change) = self.inlets.changes.try_recv() {
            self.change(change);
        }
        while let Ok(command) = self.inlets.commands.try_recv() {
            self.command(command);
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::WebhookSet { webhook, tenant } => {
                if !self.owns(webhook.no) {
                    return;
                }
                let target = Target::new(&webhook, &tenant, &self.settings.sender);
                self.targets.insert(webhook.no, Arc::new(target));
                let settings = LaneSettings {
                    tenant: webhook.tenant,
                    enabled: webhook.enabled,
                    max_in_flight: webhook.max_in_flight,
                    rate_limit: webhook.rate_limit,
                };
                self.inputs.push(Input::WebhookSet { webhook: webhook.no, settings });
            }
            Change::WebhookRemoved { webhook } => {
                if self.targets.remove(&webhook).is_some() {
                    self.inputs.push(Input::WebhookRemoved { webhook });
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        self.inputs.push(match command {
            Command::Replay { key, attempts } => Input::Replay { key, attempts },
            Command::Cancel { key } => Input::Cancel { key },
        });
    }

    fn reload(&mut self, settings: Settings) {
        self.inputs.push(Input::SettingsChanged(Box::new(settings.engine.clone())));
        self.sender.set_policy(Arc::clone(&settings.sender.policy));
        self.settings = settings;
    }

    fn owns(&self, webhook: WebhookNo) -> bool {
        shard_of(webhook, self.settings.shards) == self.settings.index
    }

    fn take_feed(&mut self) {
        while self.feed.len() < FEED_BATCH {
            let Ok(next) = self.inlets.feed.try_recv() else { break };
            self.feed.push(next);
        }
        let mut feed = std::mem::take(&mut self.feed);
        for message in feed.drain(..) {
            match message {
                Feed::Block(block) => self.block(block),
                Feed::Recovered(stretch) => self.recover(&stretch),
                Feed::RecoveryDone => {
                    if let Some(recovered) = self.recovered.take() {
                        // The composition root may have given up waiting.
                        let _ = recovered.send(());
                    }
                }
            }
        }
        self.feed = feed;
    }

    fn block(&mut self, block: Arc<EventBlock>) {
        let before = self.inputs.len();
        for (index, event) in block.events.iter().enumerate() {
            let place = Place::new(block.number, index as u16);
            let routes = &block.routes[event.routes.0 as usize..event.routes.1 as usize];
            for route in routes {
                if route.enabled && self.owns(route.webhook) {
                    self.meet(route.webhook);
                    let key = DeliveryKey { place, webhook: route.webhook };
                    self.inputs.push(Input::Accepted { key, accepted_at: block.accepted_at });
                }
            }
        }
        let created = self.inputs.len() - before;
        if created > 0 {
            self.metrics.created(created as u64);
            self.payloads.insert(block);
        }
    }

    /// A webhook becomes visible to ingest a moment before its change arrives here, so an event may
    /// be routed to one that this shard has not heard of. Then the directory is asked.
    fn meet(&mut self, webhook: WebhookNo) {
        if self.targets.contains_key(&webhook) {
            return;
        }
        let known = self.directory.webhook_by_no(webhook);
        let tenant = known.as_ref().and_then(|w| self.directory.tenant_by_no(w.tenant));
        if let (Some(webhook), Some(entry)) = (known, tenant) {
            self.change(Change::WebhookSet { webhook, tenant: Arc::clone(&entry.tenant) });
        }
    }

    fn recover(&mut self, stretch: &[Recovered]) {
        let latest = self.clock.now() + self.longest_delay().as_millis() as u64;
        for recovered in stretch {
            let Recovered { key, accepted_at, state } = *recovered;
            if !self.owns(key.webhook) {
                continue;
            }
            self.inputs.push(match state {
                RecoveredState::Fresh => Input::Accepted { key, accepted_at },
                // The wall clock may have gone back since it was written.
                RecoveredState::Resumed { attempts, round_attempts, due } => Input::Resumed {
                    key,
                    began: accepted_at,
                    attempts,
                    round_attempts,
                    due: due.min(latest),
                },
                RecoveredState::Settled => Input::AlreadySettled { key },
            });
        }
    }

    fn longest_delay(&self) -> Duration {
        let engine = &self.settings.engine;
        engine.retry_schedule.iter().copied().max().unwrap_or_default().max(engine.max_retry_after)
    }

    fn take_mail(&mut self) {
        self.inputs.append(&mut self.mailbox.inputs.borrow_mut());
        let mut finished = self.mailbox.finished.take();
        for Finished { ticket, ended } in finished.drain(..) {
            let (outcome, blame) = ended.meaning();
            self.inputs.push(Input::Finished { ticket, outcome, blame });
            let at = ticket.0 as usize;
            if self.ended.len() <= at {
                self.ended.resize_with(at + 1, || None);
            }
            self.ended[at] = Some(ended);
        }
        // Give the allocation back, unless something came meanwhile.
        let mut slot = self.mailbox.finished.borrow_mut();
        if slot.is_empty() {
            *slot = finished;
        }
    }

    fn carry_out(&mut self, now: Millis) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { ticket, key, number, due } => {
                    self.send(ticket, key, number, now.saturating_sub(due));
                }
                Effect::Record { ticket, key, number, verdict } => {
                    self.record(ticket, key, number, verdict, now);
                }
                Effect::Forget { ticket } => {
                    self.take_ended(ticket);
                }
                Effect::Refill { webhook, from, until, limit } => {
                    self.refill(webhook, from, until, limit);
                }
                Effect::Breaker { webhook, to } => {
                    self.metrics.breaker(to);
                    tracing::info!(webhook = webhook.0, to = ?to, "breaker changed");
                }
            }
        }
        self.effects = effects;
    }

    fn send(&mut self, ticket: Ticket, key: DeliveryKey, number: u16, lag: Millis) {
        if number > 1 {
            self.metrics.retry_lag(lag);
        }
        let Some(target) = self.targets.get(&key.webhook) else {
            // Removed in this very step; the engine hears of it and cancels.
            self.mailbox.finish(Finished { ticket, ended: Ended::Own });
            return;
        };
        self.report.attempts += 1;
        let making = attempt::Making {
            ticket,
            key,
            number,
            queued: Duration::from_millis(lag),
            target: Arc::clone(target),
            block: self.payloads.get(key.place.block()).cloned(),
        };
        tokio::task::spawn_local(attempt::make(
            making,
            Rc::clone(&self.sender),
            Rc::clone(&self.store),
            Rc::clone(&self.mailbox),
        ));
    }

    fn record(
        &mut self,
        ticket: Option<Ticket>,
        key: DeliveryKey,
        number: u16,
        verdict: Verdict,
        now: Millis,
    ) {
        let ended = ticket.and_then(|ticket| self.take_ended(ticket));
        let mut age = 0;
        let (verdict, attempt) = match ended {
            None | Some(Ended::Own) => (verdict, None),
            Some(Ended::Unreadable) => (Verdict::Failed(FailReason::Unreadable), None),
            Some(Ended::Attempted { attempted, accepted_at }) => {
                self.metrics.attempt(attempted.outcome, &attempted.attempt);
                age = now.saturating_sub(accepted_at);
                if attempted.gone && self.settings.disable_on_gone {
                    self.disable(key.webhook);
                }
                (verdict, Some(attempted.attempt))
            }
        };
        debug_assert!(attempt.as_ref().is_none_or(|a| a.number == number), "the ticket's attempt");
        self.metrics.ended(verdict, age);
        self.entries.push(Entry { key, at: clock::wall_ms(), verdict, attempt });
        self.entries_due.get_or_insert(now + ENTRIES_WAIT.as_millis() as u64);
    }

    fn take_ended(&mut self, ticket: Ticket) -> Option<Ended> {
        self.ended.get_mut(ticket.0 as usize)?.take()
    }

    /// The receiver said 410 and the operator wants that to disable the webhook.
    fn disable(&self, webhook: WebhookNo) {
        let directory = self.directory.clone();
        tokio::task::spawn_local(async move {
            let Some(known) = directory.webhook_by_no(webhook) else { return };
            let patch = WebhookPatch { enabled: Some(false), ..WebhookPatch::default() };
            match directory.update_webhook(known.tenant, webhook, patch).await {
                Ok(_) => tracing::info!(webhook = webhook.0, "webhook disabled: answered 410"),
                Err(error) => {
                    tracing::warn!(webhook = webhook.0, %error, "webhook not disabled");
                }
            }
        });
    }

    fn refill(&self, webhook: WebhookNo, from: Place, until: Place, limit: usize) {
        let store = Rc::clone(&self.store);
        let mailbox = Rc::clone(&self.mailbox);
        tokio::task::spawn_local(async move {
            let found = loop {
                match store.places(webhook, from, until, limit).await {
                    Ok(found) => break found,
                    Err(error) => {
                        tracing::warn!(%error, "reading the log back failed; asking again");
                        tokio::time::sleep(READ_PAUSE).await;
                    }
                }
            };
            mailbox.input(Input::Refilled { webhook, places: found.places, next: found.next });
        });
    }

    /// Hands waiting entries to the store if they are due and it has room now.
    fn offer_entries(&mut self, now: Millis) {
        let due = self.entries_due.is_some_and(|due| now >= due);
        if self.entries.is_empty() || !(due || self.entries.len() >= ENTRIES_BATCH) {
            return;
        }
        match self.store.writes.try_reserve() {
            Ok(permit) => {
                let entries = std::mem::take(&mut self.entries);
                permit.send(Write::Entries { entries, reply: None });
                self.entries_due = None;
            }
            // Full: asked again shortly. Closed: the store is poisoned and the process is ending.
            Err(_) => self.entries_due = Some(now + ENTRIES_WAIT.as_millis() as u64),
        }
    }

    /// At the end: waits for room, and goes on taking from the feed so that the store can make it.
    async fn hand_over_entries(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let entries = std::mem::take(&mut self.entries);
        let writes = self.store.writes.clone();
        let send = writes.send(Write::Entries { entries, reply: None });
        tokio::pin!(send);
        loop {
            tokio::select! {
                _ = &mut send => return,
                Some(_) = self.inlets.feed.recv() => {}
            }
        }
    }

    fn publish(&mut self, now: Millis) {
        self.report_at = now + REPORT_EVERY.as_millis() as u64;
        self.metrics.gauges(self.engine.gauges(now));
        self.metrics.flush();
    }
}
