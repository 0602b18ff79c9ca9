//! Random histories: the sled store, killed and opened again at random, must tell the same story
//! as the reference store.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{delivery::FailReason, store::RecoveredState};

#[derive(Clone, Debug)]
enum Action {
    Append(Vec<Made>),
    /// Something happens to the delivery chosen by the number.
    Happen(usize, Happening),
    Kill,
    Close,
}

#[derive(Clone, Debug)]
struct Made {
    size: usize,
    webhooks: Vec<u32>,
    key: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Deliver,
    Retry,
    Fail,
}

fn action() -> impl Strategy<Value = Action> {
    let size = prop_oneof![8 => 0..1500usize, 1 => 6_400..6_600usize, 1 => 20_000..40_000usize];
    let webhooks = prop::collection::vec(1..6u32, 0..4).prop_map(|mut webhooks| {
        webhooks.sort_unstable();
        webhooks.dedup();
        webhooks
    });
    let made = (size, webhooks, prop::option::weighted(0.3, 0..6u8))
        .prop_map(|(size, webhooks, key)| Made { size, webhooks, key });
    let what = prop_oneof![Just(Happening::Deliver), Just(Happening::Retry), Just(Happening::Fail)];
    prop_oneof![
        6 => prop::collection::vec(made, 1..12).prop_map(Action::Append),
        10 => (any::<usize>(), what).prop_map(|(n, what)| Action::Happen(n, what)),
        1 => Just(Action::Kill),
        1 => Just(Action::Close),
    ]
}

/// A delivery by the number of its event, as both stores know it.
type Name = (usize, u32);

/// One of the two stores, with its own ids for the same events.
struct Side {
    backend: Backend,
    running: Option<Running>,
    places: BTreeMap<usize, crate::id::Place>,
}

impl Side {
    fn new(backend: Backend) -> Self {
        let running = Some(backend.start());
        Self { backend, running, places: BTreeMap::new() }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("between actions the store runs")
    }

    fn key(&self, (event, webhook): Name) -> DeliveryKey {
        DeliveryKey { place: self.places[&event], webhook: WebhookNo(webhook) }
    }

    fn name(&self, key: DeliveryKey) -> Name {
        let event = self.places.iter().find(|(_, place)| **place == key.place);
        (*event.expect("only accepted events are told").0, key.webhook.0)
    }

    fn reopen(&mut self, kill: bool) {
        let running = self.running.take().expect("between actions the store runs");
        if kill {
            self.backend = {
                let killed = self.backend.killed();
                running.abandon();
                killed
            };
        } else {
            running.close();
        }
        self.running = Some(self.backend.start());
    }

    fn open_deliveries(&self) -> Vec<(Name, RecoveredState)> {
        let told = self.running().recovered.iter();
        let mut open: Vec<_> = told
            .filter(|recovered| recovered.state != RecoveredState::Settled)
            .map(|recovered| (self.name(recovered.key), recovered.state))
            .collect();
        open.sort_by_key(|(name, _)| *name);
        open
    }

    /// Everything the API could show, without ids.
    fn pages(&self) -> Vec<(Name, &'static str, u16)> {
        let query = DeliveryQuery { limit: usize::MAX, ..delivery_query() };
        let rows = self.running().deliveries(&query).rows;
        let mut rows: Vec<_> =
            rows.iter().map(|row| (self.name(row.key), row.state.as_str(), row.attempts)).collect();
        rows.sort_unstable();
        rows
    }
}

/// What the engine would know: it settles only what is open, and reopens only what is settled.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    attempts: u16,
    is_settled: bool,
}

fn entry(key: DeliveryKey, known: &mut Known, what: Happening) -> Entry {
    if known.is_settled {
        known.is_settled = false;
        return decision(key, 50, Verdict::Reopened);
    }
    known.attempts += 1;
    let (status, verdict) = match what {
        Happening::Deliver => (200, Verdict::Delivered),
        Happening::Retry => (500, Verdict::RetryAt(u64::from(known.attempts) * 10)),
        Happening::Fail => (404, Verdict::Failed(FailReason::AttemptsExhausted)),
    };
    known.is_settled = !matches!(what, Happening::Retry);
    answered(key, known.attempts, status, verdict)
}

fn append(sides: &mut [Side; 2], made: &[Made], known: &mut BTreeMap<Name, Known>, next: usize) {
    let events: Vec<NewEvent> = made
        .iter()
        .map(|made| NewEvent {
            key: made.key.map(|key| IdempotencyKey([key; 16])),
            ..event(&"p".repeat(made.size), &made.webhooks)
        })
        .collect();
    let answers = sides.each_ref().map(|side| side.running().append(events.clone()));
    let shape = |answer: &Result<Vec<Appended>, AppendError>| {
        let shapes = answer.as_ref().map_err(Clone::clone);
        shapes.map(|all| all.iter().map(|a| (a.deliveries, a.replayed)).collect::<Vec<_>>())
    };
    assert_eq!(shape(&answers[0]), shape(&answers[1]));
    for (side, answer) in sides.iter_mut().zip(answers) {
        for (at, appended) in answer.unwrap_or_default().iter().enumerate() {
            if !appended.replayed {
                side.places.insert(next + at, appended.id.place);
                let webhooks = made[at].webhooks.iter();
                known.extend(webhooks.map(|webhook| ((next + at, *webhook), Known::default())));
            }
        }
    }
}

fn run(actions: &[Action]) {
    let mut sides = [Side::new(Backend::memory()), Side::new(Backend::sled())];
    let mut known: BTreeMap<Name, Known> = BTreeMap::new();
    let mut next = 0;
    for action in actions {
        match action {
            Action::Append(made) => {
                append(&mut sides, made, &mut known, next);
                next += made.len();
            }
            Action::Happen(number, what) => {
                let count = known.len().max(1);
                let Some((name, known)) = known.iter_mut().nth(number % count) else { continue };
                let after = sides.each_ref().map(|side| {
                    let mut after = *known;
                    side.running().record(vec![entry(side.key(*name), &mut after, *what)]);
                    after
                });
                *known = after[0];
            }
            Action::Kill | Action::Close => {
                let kill = matches!(action, Action::Kill);
                sides.iter_mut().for_each(|side| side.reopen(kill));
                assert_eq!(sides[0].open_deliveries(), sides[1].open_deliveries());
                let open = known.values().filter(|known| !known.is_settled).count();
                assert_eq!(sides[1].open_deliveries().len(), open, "and both are right");
            }
        }
    }
    assert_eq!(sides[0].pages(), sides[1].pages());
    sides.iter_mut().for_each(|side| side.reopen(true));
    assert_eq!(sides[0].open_deliveries(), sides[1].open_deliveries());
    assert_eq!(sides[0].pages(), sides[1].pages());
    sides.into_iter().for_each(|side| side.running.expect("just opened").close());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..Default::default() })]

    #[test]
    fn sled_tells_the_same_story_as_the_reference(
        actions in prop::collection::vec(action(), 1..40),
    ) {
        run(&actions);
    }
}
