//! The loop: wait for one thing, drain the rest, make one step.

use std::{collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Sleep};

use super::{
    Inlets, Report, Settings,
    attempt::{Ended, Finished, Held, Means},
    effects::message,
    mailbox::Mailbox,
    payloads::Payloads,
    workers::Workers,
};
use crate::{
    clock::{Clock, Millis},
    command::{Command, Subject, shard_of},
    delivery::Entry,
    directory::{Change, Directory},
    engine::{Effect, Engine, Gauges, Input, LaneSettings},
    id::{ByNumber, DeliveryKey, Place, WebhookNo},
    metrics::ShardMetrics,
    sender::{Sender, target::Target},
    stats::{Period, Standing, Stats},
    store::{EventBlock, Feed, Recovered, RecoveredState, Store},
};

/// How many feed messages are taken before a step: bounds the time between two steps.
const FEED_BATCH: usize = 64;
/// Entries go to the store when this many wait …
pub(super) const ENTRIES_BATCH: usize = 256;
/// … or when the first has waited this long. A part of the commit interval that bounds duplicates
/// after a crash; `store.entries_max_wait` and the commit itself are the others.
pub(super) const ENTRIES_WAIT: Duration = Duration::from_millis(4);
/// With this many entries waiting for room in the store, no step is made.
const ENTRIES_LIMIT: usize = 16 * 1024;

/// What ended a wait and must be taken along.
enum Woke {
    Feed { closed: bool },
    Change(Change),
    Command(Command),
    Reload(Box<Settings>),
    Drain,
    Other,
}

pub(super) struct Shard {
    pub(super) settings: Settings,
    pub(super) store: Rc<Store>,
    pub(super) directory: Directory,
    pub(super) clock: Clock,
    pub(super) engine: Engine,
    pub(super) inlets: Inlets,
    /// None after it was told.
    pub(super) recovered: Option<oneshot::Sender<()>>,
    pub(super) targets: HashMap<WebhookNo, Arc<Target>, ByNumber>,
    pub(super) payloads: Payloads,
    pub(super) workers: Workers,
    pub(super) metrics: ShardMetrics,
    pub(super) stats: Stats,
    /// As last published.
    pub(super) gauges: Gauges,

    pub(super) inputs: Vec<Input>,
    pub(super) effects: Vec<Effect>,
    pub(super) feed: Vec<Feed>,
    pub(super) commands: Vec<Command>,
    /// False once the store has ended.
    pub(super) feed_open: bool,
    pub(super) mailbox: Rc<Mailbox>,
    /// Results between `Finished` and the `Record` that follows it in the same step, by ticket.
    pub(super) ended: Vec<Option<Ended>>,
    /// Why attempts were put off lately; told once a second.
    pub(super) own_fault: Option<String>,
    /// Whether the log says that too many deliveries wait for a retry.
    pub(super) crowded: bool,
    pub(super) entries: Vec<Entry>,
    /// When the waiting entries must go to the store, whether many or few.
    pub(super) entries_due: Option<Millis>,
    pub(super) wake: Option<Millis>,
    pub(super) report_at: Millis,
    pub(super) draining: bool,
    pub(super) report: Report,
}

impl Shard {
    pub(super) fn new(
        settings: Settings,
        mut inlets: Inlets,
        store: Store,
        directory: Directory,
        clock: Clock,
        sender: Rc<Sender>,
    ) -> Self {
        let now = clock.now();
        let recovered = Some(std::mem::replace(&mut inlets.recovered, oneshot::channel().0));
        let (store, mailbox) = (Rc::new(store), Rc::new(Mailbox::default()));
        Self {
            engine: Engine::new(settings.engine.clone(), now ^ settings.index as u64),
            payloads: Payloads::new(settings.payload_memory),
            workers: Workers::new(Means {
                sender,
                store: Rc::clone(&store),
                held: Held::new(settings.payload_in_flight),
                mailbox: Rc::clone(&mailbox),
            }),
            metrics: ShardMetrics::new(),
            stats: Stats::new(now, settings.stats_memory),
            gauges: Gauges::default(),
            settings,
            store,
            directory,
            clock,
            inlets,
            recovered,
            targets: HashMap::default(),
            inputs: Vec::new(),
            effects: Vec::new(),
            feed: Vec::with_capacity(FEED_BATCH),
            commands: Vec::new(),
            feed_open: true,
            mailbox,
            ended: Vec::new(),
            own_fault: None,
            crowded: false,
            entries: Vec::new(),
            entries_due: None,
            wake: None,
            report_at: now,
            draining: false,
            report: Report::default(),
        }
    }

    /// Runs until it is drained and its entries are with the store.
    pub(super) async fn run(mut self) -> Report {
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut drain_deadline: Option<Millis> = None;
        loop {
            self.wait(timer.as_mut(), drain_deadline).await;
            self.take_changes();
            self.take_feed();
            self.take_commands();
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
            if self.wake == Some(now) {
                // A step does a bounded amount so that others have their turn: the attempts that it
                // began, and what the system has for those under way.
                tokio::task::yield_now().await;
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
                permit.send(message(&mut self.entries));
                self.entries_due = None;
                Woke::Other
            }
            () = timer => Woke::Other,
        };
        match woke {
            Woke::Feed { closed } => self.feed_open = !closed,
            Woke::Change(change) => self.change(change),
            Woke::Command(command) => self.commands.push(command),
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
    }

    /// After the feed: whoever asks about a delivery has seen its event accepted, so its block is
    /// in the feed by then.
    fn take_commands(&mut self) {
        let waiting = std::iter::from_fn(|| self.inlets.commands.try_recv().ok());
        self.commands.extend(waiting.take(FEED_BATCH));
        for command in std::mem::take(&mut self.commands) {
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
                self.stats.forget(webhook);
                if self.targets.remove(&webhook).is_some() {
                    self.inputs.push(Input::WebhookRemoved { webhook });
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        self.inputs.push(match command {
            Command::AskRoom { webhook, reply } => {
                // Whoever asked may have gone away.
                let _ = reply.send(self.engine.has_room(webhook));
                return;
            }
            Command::AskLaterRoom { webhook, reply } => {
                let _ = reply.send(self.engine.later_room(webhook));
                return;
            }
            Command::Replay { key, attempts } => Input::Replay { key, attempts },
            Command::ReplayLater { key, attempts } => Input::ReplayLater { key, attempts },
            Command::Cancel { key } => Input::Cancel { key },
            Command::AskStanding { of, period, reply } => {
                let _ = reply.send(self.standing(&of, period));
                return;
            }
            Command::Check { check, reply } => return self.check(*check, reply),
        });
    }

    fn standing(&self, of: &Subject, period: Period) -> Standing {
        let now = self.clock.now();
        match of {
            Subject::Webhook(webhook) => Standing {
                report: self.stats.of_webhook(*webhook, period, now),
                now: self.engine.standing(*webhook),
            },
            Subject::Tenant(tenant, webhooks) => {
                let mut gauges = Gauges::default();
                for webhook in webhooks.iter().filter(|webhook| self.owns(**webhook)) {
                    gauges.add(self.engine.standing(*webhook));
                }
                Standing { report: self.stats.of_tenant(*tenant, period, now), now: gauges }
            }
            // To count afresh would cost a look at every lane.
            Subject::All => Standing { report: self.stats.of_all(period, now), now: self.gauges },
        }
    }

    fn reload(&mut self, settings: Settings) {
        self.inputs.push(Input::SettingsChanged(Box::new(settings.engine.clone())));
        self.workers.sender().set_policy(Arc::clone(&settings.sender.policy));
        self.stats.set_bound(settings.stats_memory);
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
        let mut created = 0;
        for (index, event) in block.events.iter().enumerate() {
            let place = Place::new(block.number, index as u16);
            let routes = &block.routes[event.routes.0 as usize..event.routes.1 as usize];
            for route in routes {
                if route.enabled && self.owns(route.webhook) {
                    self.meet(route.webhook);
                    let key = DeliveryKey { place, webhook: route.webhook };
                    self.inputs.push(Input::Accepted { key, accepted_at: block.accepted_at });
                    created += 1;
                }
            }
        }
        if created > 0 {
            self.metrics.created(created);
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
        self.mailbox.check();
        self.inputs.append(&mut self.mailbox.inputs.borrow_mut());
        self.inputs.extend(self.mailbox.probe.waited().map(Input::Waited));
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
}
