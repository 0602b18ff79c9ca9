//! The world around one engine, in virtual time: a queue of what happens when, the store's logs,
//! the receivers. It calls the engine exactly when something happens or when the engine asked to be
//! called, so a wake-up that the engine forgets to ask for shows as work left undone.

use std::{collections::BTreeMap, time::Duration};

use senderz_gateway::{
    clock::Millis,
    delivery::{CancelReason, Verdict},
    engine::{Effect, Engine, Gauges, Input, LaneSettings, Settings},
    id::{DeliveryKey, Place, WebhookNo},
};

use crate::{
    logs::Logs,
    oracle::Oracle,
    plan::{self, Action, Length, Plan, START},
    receiver::Receiver,
    rng::Rng,
    tally::Tally,
    trace::Trace,
};

/// Steps within one millisecond after which an engine counts as running in circles.
const STEPS_AT_ONCE: usize = 50;
/// As long as anything is under way or comes within this time, a run goes on.
const QUIET: Millis = 600_000;
/// Replays that one action asks for.
pub(crate) const REPLAYS_AT_ONCE: usize = 4;
/// Steps after which a run counts as endless.
const STEPS: usize = 100_000;

pub(crate) struct World {
    rng: Rng,
    now: Millis,
    /// What the wall clock is ahead of the engine's.
    skew: i64,
    queue: BTreeMap<(Millis, u64), Happening>,
    queued: u64,
    settings: Settings,
    webhooks: BTreeMap<WebhookNo, Webhook>,
    lateness: Millis,
    logs: Logs,
    engine: Engine,
    oracle: Oracle,
    /// Counts restarts: what was under way before one never comes back.
    life: u32,
    draining: bool,
    wake: Option<Millis>,
    /// At the last rest.
    spilled: u64,
    effects: Vec<Effect>,
    pub(crate) tally: Tally,
    /// Every effect so far, with its time.
    pub(crate) trace: Trace,
    pub(crate) is_shown: bool,
}

struct Webhook {
    settings: LaneSettings,
    removed: bool,
    receiver: Receiver,
}

#[derive(Debug)]
enum Happening {
    Act(Action),
    Told { life: u32, input: Input },
    Read { life: u32, webhook: WebhookNo, stretch: (Place, Place), limit: usize },
}

impl World {
    /// Runs a seed from its first burst until everything has ended.
    pub(crate) fn run(seed: u64, length: Length, is_shown: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::new(&mut rng, length);
        if is_shown {
            println!("{plan:#?}");
        }
        let calm = plan.calm;
        let mut world = Self::new(plan, rng);
        world.is_shown = is_shown;
        world.start();
        world.live_until(|world, next| next > calm.max(world.now));
        world.calm_down();
        world.live_until(|world, next| world.queue.is_empty() && next > world.now + QUIET);
        world.only_disabled_wait();
        // What is left belongs to disabled webhooks; in the end it is too old.
        world.live_until(|_, _| false);
        world.nothing_is_left();
        world
    }

    fn new(plan: Plan, rng: Rng) -> Self {
        let webhooks = plan
            .webhooks
            .into_iter()
            .map(|(no, settings, receiver)| (no, Webhook { settings, removed: false, receiver }));
        let mut world = Self {
            rng,
            now: START,
            skew: 0,
            queue: BTreeMap::new(),
            queued: 0,
            webhooks: webhooks.collect(),
            lateness: plan.lateness,
            logs: Logs::default(),
            engine: Engine::new(plan.settings.clone(), 0),
            oracle: Oracle::new(plan.settings.clone()),
            settings: plan.settings,
            life: 0,
            draining: false,
            wake: None,
            spilled: 0,
            effects: Vec::new(),
            tally: Tally::default(),
            trace: Trace::default(),
            is_shown: false,
        };
        for (at, action) in plan.actions {
            world.later(at, Happening::Act(action));
        }
        world
    }

    fn later(&mut self, at: Millis, happening: Happening) {
        self.queued += 1;
        self.queue.insert((at, self.queued), happening);
    }

    /// Goes on until nothing comes any more, or until it is enough: asked with the time of what
    /// comes next.
    fn live_until(&mut self, is_enough: impl Fn(&Self, Millis) -> bool) {
        for _ in 0..STEPS {
            let first = self.queue.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = [first, self.wake].into_iter().flatten().min() else { return };
            if is_enough(self, next) {
                return;
            }
            self.now = self.now.max(next + self.rng.between(0..=self.lateness));
            let mut inputs = Vec::new();
            while let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                match entry.remove() {
                    Happening::Act(Action::Restart) => {
                        self.step(std::mem::take(&mut inputs));
                        self.restart();
                    }
                    happening => self.happen(happening, &mut inputs),
                }
            }
            self.step(inputs);
        }
        panic!("no end after {STEPS} steps");
    }

    fn happen(&mut self, happening: Happening, inputs: &mut Vec<Input>) {
        match happening {
            Happening::Act(action) => self.act(action, inputs),
            Happening::Told { life, input } if life == self.life => inputs.push(input),
            Happening::Read { life, webhook, stretch, limit } if life == self.life => {
                let scan = self.rng.between(1..=8);
                let (places, next) = self.logs.places(webhook, stretch, limit, scan);
                if places.is_empty() && next.is_some() {
                    self.tally.note("empty refill");
                }
                inputs.push(Input::Refilled { webhook, places, next });
            }
            Happening::Told { .. } | Happening::Read { .. } => {}
        }
    }

    fn act(&mut self, action: Action, inputs: &mut Vec<Input>) {
        match action {
            Action::Burst => self.burst(inputs),
            Action::Edit => self.edit(inputs),
            Action::Remove => {
                let webhook = self.some_webhook();
                self.webhooks.get_mut(&webhook).expect("it exists").removed = true;
                inputs.push(Input::WebhookRemoved { webhook });
            }
            Action::Cancel => {
                for _ in 0..self.rng.between(1..=4) {
                    // Mostly what still waits; what has ended is unknown to the engine.
                    let ended = self.rng.percent(15);
                    let keys = self.logs.keys(ended);
                    if !keys.is_empty() {
                        let key = self.rng.pick(&keys);
                        // Both reasons, without a draw that would change every seed's story.
                        let reasons = [CancelReason::Requested, CancelReason::EventErased];
                        let reason = reasons[usize::from(key.place.index() % 2)];
                        inputs.push(Input::Cancel { key, reason });
                    }
                }
            }
            Action::Replay => {
                let keys = self.logs.keys(true);
                for _ in 0..self.rng.between(1..=REPLAYS_AT_ONCE as u64).min(keys.len() as u64) {
                    let key = self.rng.pick(&keys);
                    self.replay(key, inputs);
                }
            }
            Action::Tune => {
                self.settings = plan::settings(&mut self.rng);
                inputs.push(Input::SettingsChanged(Box::new(self.settings.clone())));
            }
            Action::Jump => self.now += self.rng.between(1_000..=400_000),
            Action::Skew => self.skew = self.rng.between(0..=7_200_000) as i64 - 3_600_000,
            Action::Drain => {
                inputs.push(Input::Drain);
                self.draining = true;
                let at = self.now + self.rng.between(0..=20_000);
                self.later(at, Happening::Act(Action::Restart));
            }
            Action::Restart => unreachable!("a restart is not an input"),
        }
    }

    /// A few blocks of events, each for some webhooks. Acceptance and changes race: now and then an
    /// event is still for a webhook that has just been disabled or removed.
    fn burst(&mut self, inputs: &mut Vec<Input>) {
        let wanted = self.rng.between(5..=95);
        for _ in 0..self.rng.between(1..=5) {
            let mut events = Vec::new();
            for _ in 0..self.rng.between(1..=6) {
                let mut to = Vec::new();
                for (no, webhook) in &self.webhooks {
                    let is_on = webhook.settings.enabled && !webhook.removed;
                    if self.rng.percent(if is_on { wanted } else { 5 }) {
                        to.push(*no);
                    }
                }
                events.push(to);
            }
            inputs.extend(self.logs.append(self.now.saturating_add_signed(self.skew), events));
        }
    }

    fn edit(&mut self, inputs: &mut Vec<Input>) {
        let no = self.some_webhook();
        let webhook = self.webhooks.get_mut(&no).expect("it exists");
        webhook.settings = plan::lane_settings(&mut self.rng, webhook.settings.tenant);
        if !webhook.removed {
            inputs.push(Input::WebhookSet { webhook: no, settings: webhook.settings });
        }
    }

    fn replay(&mut self, key: DeliveryKey, inputs: &mut Vec<Input>) {
        if self.rng.percent(50) {
            return self.replay_later(key, inputs);
        }
        let has_room = self.engine.has_room(key.webhook);
        assert_eq!(has_room, self.oracle.has_room(key.webhook), "room for {key:?}");
        if !has_room {
            self.tally.note("replay refused");
        } else if self.logs.story(key).state.is_ended() {
            self.logs.record(key, 0, Verdict::Reopened, self.now);
            let attempts = self.logs.story(key).attempts;
            inputs.push(Input::Replay { key, attempts });
            self.tally.note("replay");
        }
    }

    /// As a job does.
    fn replay_later(&mut self, key: DeliveryKey, inputs: &mut Vec<Input>) {
        let room = self.engine.later_room(key.webhook);
        assert_eq!(room, self.oracle.later_room(key.webhook), "room for {key:?}");
        if room == 0 {
            self.tally.note("later replay refused");
        } else if self.logs.story(key).state.is_ended() {
            self.logs.record(key, 0, Verdict::Reopened, self.now);
            let attempts = self.logs.story(key).attempts;
            inputs.push(Input::ReplayLater { key, attempts });
            self.tally.note("later replay");
        }
    }

    fn some_webhook(&mut self) -> WebhookNo {
        let all: Vec<_> = self.webhooks.keys().copied().collect();
        self.rng.pick(&all)
    }

    /// The process ends here and now, and a new one starts from the two logs.
    fn restart(&mut self) {
        assert_eq!(self.oracle.unsettled(), self.logs.keys(false), "the logs know what waits");
        self.life += 1;
        self.tally.note("restart");
        self.now += self.rng.between(0..=30_000);
        self.start();
    }

    fn start(&mut self) {
        self.draining = false;
        self.engine = Engine::new(self.settings.clone(), 0);
        self.oracle = Oracle::new(self.settings.clone());
        let existing = self.webhooks.iter().filter(|(_, webhook)| !webhook.removed);
        let mut inputs: Vec<_> = existing
            .map(|(no, webhook)| Input::WebhookSet { webhook: *no, settings: webhook.settings })
            .collect();
        inputs.extend(self.logs.recovered());
        // The store tells it in stretches.
        let stretch = self.rng.between(5..=100) as usize;
        while inputs.len() > stretch {
            let rest = inputs.split_off(stretch);
            self.step(inputs);
            inputs = rest;
        }
        self.step(inputs);
        if self.spilled > 0 && self.logs.has_settled_blocks_between() {
            self.tally.note("restart over settled blocks while spilled");
        }
    }

    fn step(&mut self, mut inputs: Vec<Input>) {
        // No tenant here has as many slots as a thread that is behind leaves to each.
        inputs.push(Input::Waited(Duration::from_millis(self.rng.between(0..=20))));
        for _ in 0..STEPS_AT_ONCE {
            for input in &inputs {
                if self.is_shown {
                    println!("{} {input:?}", self.now - START);
                }
                self.oracle.told(self.now, input);
            }
            let mut effects = std::mem::take(&mut self.effects);
            let wake = self.engine.step(self.now, &mut inputs, &mut effects);
            for effect in effects.drain(..) {
                if self.is_shown {
                    println!("{}   {effect:?}", self.now - START);
                }
                self.oracle.saw(self.now, &effect);
                self.tally.effect(&effect);
                self.carry_out(&effect);
                self.trace.add(self.now, &effect);
            }
            self.effects = effects;
            self.oracle.step_is_over();
            self.wake = wake;
            if wake.is_none_or(|wake| wake > self.now) {
                self.oracle.rests(self.now, wake);
                let gauges = self.engine.gauges(self.now);
                self.oracle.counts(self.now, &gauges);
                self.spilled = gauges.spilled;
                self.tally.crowd(&gauges);
                return;
            }
        }
        panic!("no rest after {STEPS_AT_ONCE} steps in one millisecond");
    }

    fn carry_out(&mut self, effect: &Effect) {
        let life = self.life;
        match *effect {
            Effect::Send { ticket, key, .. } => {
                let webhook = self.webhooks.get(&key.webhook).expect("it was announced");
                let answer = webhook.receiver.answer(&mut self.rng, self.now);
                let (outcome, blame) = (answer.outcome, answer.blame);
                let input = Input::Finished { ticket, outcome, blame };
                self.later(self.now + answer.after, Happening::Told { life, input });
            }
            Effect::Record { key, number, verdict, .. } => {
                self.logs.record(key, number, verdict, self.now);
            }
            Effect::Refill { webhook, from, until, limit } => {
                let slowness = self.rng.pick(&[0, 3, 2_000]);
                let at = self.now + self.rng.between(0..=slowness);
                let stretch = (from, until);
                self.later(at, Happening::Read { life, webhook, stretch, limit });
            }
            Effect::Breaker { .. } | Effect::Forget { .. } => {}
        }
    }

    /// Faults are over; whoever drains is restarted.
    fn calm_down(&mut self) {
        self.queue.retain(|_, happening| !matches!(happening, Happening::Act(_)));
        if self.draining {
            self.restart();
        }
    }

    fn only_disabled_wait(&self) {
        let left = self.logs.keys(false);
        assert_eq!(self.oracle.unsettled(), left);
        for key in left {
            let webhook = &self.webhooks[&key.webhook];
            assert!(!webhook.settings.enabled, "{key:?} is left waiting");
        }
    }

    fn nothing_is_left(&mut self) {
        assert_eq!(self.logs.keys(false), [], "left waiting");
        let gauges = self.engine.gauges(self.now);
        let nothing = Gauges {
            breakers_open: gauges.breakers_open,
            breakers_half_open: gauges.breakers_half_open,
            ..Gauges::default()
        };
        assert_eq!(gauges, nothing);
    }
}
