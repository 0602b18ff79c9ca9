//! Random histories.

use proptest::prelude::*;

use super::{super::work::Work, *};
use crate::delivery::{CancelReason, FailReason};

#[derive(Clone, Debug)]
enum Action {
    /// A block of events, accepted so much later than the one before.
    Accept(u64, Vec<Made>),
    /// A block of entries: what happens to the deliveries chosen by the numbers, counted from the
    /// newest.
    Record(Vec<(usize, Happening)>),
    /// Retention takes the oldest so many blocks.
    Retire(u64),
    /// One of the event blocks can no longer be read.
    Damage(usize),
    Advance(usize),
    /// The index's thread begins to write a file, …
    Begin,
    /// … and is done with it.
    Finish,
    Ask(Box<Question>),
    Close,
    Kill,
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Attempt(u16, Verdict),
    Decide(Verdict),
}

/// Filters for all kinds of pages.
#[derive(Clone, Debug)]
struct Question {
    tenant: u32,
    webhook: Option<u32>,
    states: Vec<&'static str>,
    event_types: EventTypes,
    status: Option<(u16, u16)>,
    error: Option<ErrorCode>,
    since: Option<u64>,
    until: Option<u64>,
    found_disabled: bool,
    limit: usize,
}

fn happening() -> impl Strategy<Value = Happening> {
    use Happening::{Attempt, Decide};
    prop_oneof![
        6 => Just(Attempt(200, Verdict::Delivered)),
        3 => (500..504u16).prop_map(|status| Attempt(status, Verdict::RetryAt(99))),
        1 => Just(Attempt(0, Verdict::RetryAt(7))),
        2 => Just(Attempt(503, Verdict::Failed(FailReason::AttemptsExhausted))),
        1 => Just(Decide(Verdict::Failed(FailReason::Expired))),
        1 => Just(Decide(Verdict::Canceled(CancelReason::Requested))),
        1 => Just(Decide(Verdict::Reopened)),
    ]
}

fn question() -> impl Strategy<Value = Question> {
    let types = prop_oneof![
        2 => Just(EventTypes::NONE),
        1 => Just(EventTypes::NONE.with(EventType::Read)),
        1 => Just(EventTypes::NONE.with(EventType::Sent).with(EventType::Failed)),
    ];
    let states = prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec!["failed"]),
        1 => Just(vec!["pending", "retrying"]),
        1 => Just(vec!["canceled"]),
        1 => Just(vec!["delivered"]),
    ];
    let status = prop_oneof![
        4 => Just(None),
        1 => Just(Some((500, 599))),
        1 => Just(Some((503, 503))),
        1 => Just(Some((404, 404))),
    ];
    let error = prop_oneof![
        4 => Just(None),
        1 => Just(Some(ErrorCode::Timeout)),
        1 => Just(Some(ErrorCode::Status)),
    ];
    let maybe_time = || prop::option::weighted(0.3, 0..200u64);
    let who = (1..4u32, prop::option::weighted(0.5, 0..5u32), states, types);
    (who, (status, error), (maybe_time(), maybe_time()), any::<bool>(), 1..9usize).prop_map(
        |(who, (status, error), (since, until), found_disabled, limit)| {
            let (tenant, webhook, states, event_types) = who;
            let webhook = webhook.map(|webhook| tenant * 10 + webhook);
            Question {
                tenant,
                webhook,
                states,
                event_types,
                status,
                error,
                since,
                until,
                found_disabled,
                limit,
            }
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    // A webhook has one tenant, for good.
    let made = (1..4u32, 0..6usize, prop::collection::btree_map(0..5u32, any::<bool>(), 0..4))
        .prop_map(|(tenant, event_type, to)| {
            let to = to.into_iter().map(|(webhook, enabled)| (tenant * 10 + webhook, enabled));
            (tenant, EventType::ALL[event_type], to.collect())
        });
    let chosen = prop_oneof![4 => 0..12usize, 1 => 0..400usize];
    prop_oneof![
        8 => (0..4u64, prop::collection::vec(made, 1..6))
            .prop_map(|(later, made)| Action::Accept(later, made)),
        8 => prop::collection::vec((chosen, happening()), 1..6).prop_map(Action::Record),
        1 => (1..6u64).prop_map(Action::Retire),
        1 => any::<usize>().prop_map(Action::Damage),
        4 => (1..9usize).prop_map(Action::Advance),
        4 => Just(Action::Begin),
        4 => Just(Action::Finish),
        4 => question().prop_map(|question| Action::Ask(Box::new(question))),
        1 => Just(Action::Close),
        1 => Just(Action::Kill),
    ]
}

struct World {
    dir: TempDir,
    logs: Logs,
    index: Index,
    now: u64,
    attempts: BTreeMap<DeliveryKey, u16>,
    damaged: bool,
    /// Pages told by the index.
    by_index: usize,
    /// The file that its thread is writing.
    work: Option<Work>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::default();
        let index = open(dir.path(), &logs);
        let attempts = BTreeMap::new();
        Self { dir, logs, index, now: 1, attempts, damaged: false, by_index: 0, work: None }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Accept(later, made) => {
                self.now += later;
                self.logs.accept(self.now, made);
            }
            Action::Record(happened) => self.record(happened),
            Action::Retire(blocks) => self.logs.retire(self.logs.events_range.start + blocks),
            Action::Damage(which) => {
                // Retention knows where entries begin from the oldest block.
                let others: Vec<_> = self.logs.events.keys().skip(1).copied().collect();
                if let Some(number) = others.get(which % others.len().max(1)) {
                    self.logs.events.remove(number);
                    self.damaged = true;
                }
            }
            Action::Advance(blocks) => {
                self.index.advance(&mut self.logs, *blocks);
            }
            Action::Ask(question) => self.ask(question),
            Action::Begin => {
                // A thread has one piece of work in hand.
                if self.work.is_none() {
                    self.work = self.index.begin();
                }
            }
            Action::Finish => self.finish(),
            Action::Close => {
                self.finish();
                self.index.close();
                self.index = open(self.dir.path(), &self.logs);
            }
            Action::Kill => {
                self.work = None;
                self.index = open(self.dir.path(), &self.logs);
            }
        }
    }

    fn finish(&mut self) {
        if let Some(work) = self.work.take() {
            self.index.finish(work.write(), &self.logs);
        }
    }

    fn record(&mut self, happened: &[(usize, Happening)]) {
        let keys = self.logs.keys();
        let mut entries = Vec::new();
        for (which, what) in happened {
            let Some(at) = keys.len().checked_sub(1 + which % keys.len().max(1)) else { continue };
            let key = keys[at];
            entries.push(match *what {
                Happening::Attempt(status, verdict) => {
                    let number = self.attempts.entry(key).or_default();
                    *number += 1;
                    attempt(key, *number, status, verdict)
                }
                Happening::Decide(verdict) => decision(key, verdict),
            });
        }
        self.logs.record(entries);
    }

    fn ask(&mut self, question: &Question) {
        let deliveries = DeliveryQuery {
            webhook: question.webhook.map(WebhookNo),
            states: question.states.clone(),
            event_types: question.event_types,
            status: question.status,
            error: question.error,
            since: question.since,
            until: question.until,
            limit: question.limit,
            ..deliveries_of(question.tenant)
        };
        let events = EventQuery {
            webhook: question.webhook.map(WebhookNo),
            event_types: question.event_types,
            found_disabled: question.found_disabled,
            since: question.since,
            until: question.until,
            limit: question.limit,
            ..events_of(question.tenant)
        };
        let Self { index, logs, damaged, .. } = &mut *self;
        let (told, pages) = all_deliveries(Some(index), logs, &deliveries);
        // A block that broke after it was taken in is known of all the same.
        let is_readable = |place: Place| logs.events.contains_key(&place.block());
        let told: Vec<_> = told.into_iter().filter(|row| is_readable(row.key.place)).collect();
        assert_eq!(told, all_deliveries(None, logs, &deliveries).0, "{deliveries:?}");
        assert_eq!(
            all_events(Some(index), logs, &events).0,
            all_events(None, logs, &events).0,
            "{events:?}"
        );
        let start = Place::new(logs.events_range.start, 0);
        let middle = u64::midpoint(logs.events_range.start, logs.events_range.end);
        for from in [start, Place::new(middle, 1)] {
            let (told, next) = all_following(Some(index), logs, from, &events);
            let (scanned, scanned_next) = all_following(None, logs, from, &events);
            assert_eq!(told, scanned, "from {from:?}: {events:?}");
            // When a broken block was accepted only the index may know.
            assert!(*damaged || next == scanned_next, "{next:?}, not {scanned_next:?}");
        }
        self.by_index += pages;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, ..Default::default() })]

    #[test]
    fn every_page_is_what_a_scan_of_the_logs_gives(
        actions in prop::collection::vec(action(), 1..160),
        question in question(),
    ) {
        let mut world = World::new();
        actions.iter().for_each(|action| world.act(action));
        world.ask(&question);
        world.finish();
        advance_to_the_end(&mut world.index, &mut world.logs);
        world.ask(&question);
        prop_assert!(world.by_index > 0, "the index was asked");
    }
}
