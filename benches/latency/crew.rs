//! The producers: many connections in one thread, each with one request at a time. What is due
//! while all are busy waits, and that counts as latency like everything after its instant.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use anyhow::ensure;
use tokio::{sync::Notify, task::yield_now};

use crate::{
    rig::{
        client::{Feeder, request},
        events::payload,
    },
    tape::{Course, Nanos, Tape},
};

/// Requests under way at once.
const CONNECTIONS: usize = 1024;

/// In a closed loop, which measures what the gateway can do: requests under way, and how far they
/// may be ahead of the receiver.
const CLOSED: usize = 64;
const AHEAD: usize = 2_000;

/// Bytes of a payload.
const BODY: usize = 512;
const KIND: &str = "message.delivered";
/// What stands before an event's number, and how long that is.
const BEFORE: &[u8] = b"msg_";
const DIGITS: usize = 20;

/// How long the last events of a phase may take.
const LIMIT: Duration = Duration::from_secs(15);

pub(crate) struct Crew {
    /// One request for each tenant that events go to in turns.
    requests: Vec<Vec<u8>>,
    tape: Rc<Tape>,
    /// Numbers of events that are due and wait for a connection.
    waiting: RefCell<VecDeque<usize>>,
    idle: RefCell<Vec<Rc<Notify>>>,
    /// Answers in this phase, and those other than 202.
    answered: Cell<usize>,
    refused: Cell<usize>,
    fault: RefCell<Option<anyhow::Error>>,
}

impl Crew {
    /// Must be called inside of a `LocalSet`.
    pub(crate) fn start(api: SocketAddr, tenants: usize, tape: Rc<Tape>) -> Rc<Self> {
        let crew = Rc::new(Self {
            requests: (0..tenants).map(event_of).collect(),
            tape,
            waiting: RefCell::default(),
            idle: RefCell::default(),
            answered: Cell::default(),
            refused: Cell::default(),
            fault: RefCell::default(),
        });
        for _ in 0..CONNECTIONS {
            let member = Rc::clone(&crew);
            tokio::task::spawn_local(async move {
                let Err(fault) = member.produce(api).await else { return };
                member.fault.borrow_mut().get_or_insert(fault);
            });
        }
        crew
    }

    async fn produce(&self, api: SocketAddr) -> anyhow::Result<()> {
        let mut feeder = Feeder::open(api).await?;
        let due = Rc::new(Notify::new());
        let mut request = Vec::new();
        loop {
            let next = self.waiting.borrow_mut().pop_front();
            let Some(number) = next else {
                self.idle.borrow_mut().push(Rc::clone(&due));
                due.notified().await;
                continue;
            };
            request.clone_from(&self.requests[number % self.requests.len()]);
            let at = number_at(&request).expect("every event of ours has one");
            request[at..at + DIGITS].copy_from_slice(format!("{number:020}").as_bytes());
            self.tape.sent(number);
            let (status, _) = feeder.send(&request).await?;
            self.answered.set(self.answered.get() + 1);
            match status {
                202 => self.tape.accepted(number),
                _ => self.refused.set(self.refused.get() + 1),
            }
        }
    }

    fn offer(&self, at: Nanos) {
        self.waiting.borrow_mut().push_back(self.tape.notice(at));
        if let Some(idle) = self.idle.borrow_mut().pop() {
            idle.notify_one();
        }
    }

    /// Sends events at these instants, whatever becomes of them, and waits for all.
    pub(crate) async fn open_loop(&self, arrivals: &[Nanos]) -> anyhow::Result<Vec<Course>> {
        self.begin();
        for at in arrivals {
            while self.tape.elapsed() < *at {
                yield_now().await;
            }
            self.offer(*at);
        }
        self.end().await
    }

    /// Sends as fast as the gateway answers and delivers; gives how many a second arrived.
    pub(crate) async fn closed_loop(&self, seconds: f64) -> anyhow::Result<f64> {
        self.begin();
        let until = (seconds * 1e9) as Nanos;
        while self.tape.elapsed() < until {
            let busy = CONNECTIONS - self.idle.borrow().len().min(CONNECTIONS);
            let (mut room, ahead) = (CLOSED.saturating_sub(busy), self.ahead());
            room = room.min(AHEAD.saturating_sub(ahead));
            (0..room).for_each(|_| self.offer(self.tape.elapsed()));
            yield_now().await;
        }
        let rate = self.tape.received_count() as f64 / (self.tape.elapsed() as f64 / 1e9);
        self.end().await?;
        Ok(rate)
    }

    fn begin(&self) {
        self.answered.set(0);
        self.refused.set(0);
        self.tape.begin();
    }

    /// Events that have not arrived.
    fn ahead(&self) -> usize {
        self.tape.noticed_count() - self.tape.received_count() - self.refused.get()
    }

    async fn end(&self) -> anyhow::Result<Vec<Course>> {
        let limit = self.tape.elapsed() + LIMIT.as_nanos() as Nanos;
        let is_over = || self.ahead() == 0 && self.answered.get() == self.tape.noticed_count();
        while !is_over() && self.tape.elapsed() < limit {
            yield_now().await;
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let courses = self.tape.begin();
        ensure!(!courses.is_empty(), "no event was due");
        Ok(courses)
    }
}

/// A request with an event for this tenant, whose number can be filled in.
pub(crate) fn event_of(tenant: usize) -> Vec<u8> {
    let path = format!("/v1/tenants/t{tenant}/events");
    request(&path, "application/json", payload(0, KIND, BODY).as_bytes())
}

/// The number in a request with a payload of ours.
pub(crate) fn number_in(request: &[u8]) -> Option<usize> {
    let digits = request.get(number_at(request)?..)?.get(..DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn number_at(request: &[u8]) -> Option<usize> {
    memchr::memmem::find(request, BEFORE).map(|at| at + BEFORE.len())
}
