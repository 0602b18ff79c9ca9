//! The tasks that make a shard's attempts.
//!
//! The state of an attempt is a few kilobytes. A task for each would allocate, copy and free them
//! every time; a worker makes one attempt after the other in the same memory. There are as many
//! as attempts were ever under way at once, but no more than [`KEPT`] stay when they have nothing
//! to do. One that panics ends; its attempt is reported by what it was promised with, and the next
//! attempt that finds nobody idle gets a new worker.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use super::attempt::{self, Making, Means};
use crate::sender::Sender;

/// Workers that stay while they have nothing to do: about two megabytes.
const KEPT: usize = 512;

pub(super) struct Workers(Rc<Crew>);

struct Crew {
    means: Means,
    /// Who became idle last is the first to work again: its memory is still in the cache.
    idle: RefCell<Vec<Rc<Desk>>>,
}

/// Where a worker finds its next attempt.
struct Desk {
    making: Cell<Option<Making>>,
    worker: RefCell<Waker>,
}

impl Workers {
    pub(super) fn new(means: Means) -> Self {
        Self(Rc::new(Crew { means, idle: RefCell::default() }))
    }

    pub(super) fn sender(&self) -> &Sender {
        &self.0.means.sender
    }

    pub(super) fn sender_handle(&self) -> Rc<Sender> {
        Rc::clone(&self.0.means.sender)
    }

    /// Has an attempt made. Must be called inside the shard's `LocalSet`.
    pub(super) fn start(&self, making: Making) {
        let idle = self.0.idle.borrow_mut().pop();
        if let Some(desk) = idle {
            desk.making.set(Some(making));
            desk.worker.borrow().wake_by_ref();
            return;
        }
        let making = Cell::new(Some(making));
        let desk = Rc::new(Desk { making, worker: RefCell::new(Waker::noop().clone()) });
        tokio::task::spawn_local(work(desk, Rc::clone(&self.0)));
    }
}

async fn work(desk: Rc<Desk>, crew: Rc<Crew>) {
    loop {
        let making = desk.next().await;
        attempt::make(making, &crew.means).await;
        let mut idle = crew.idle.borrow_mut();
        if idle.len() >= KEPT {
            return;
        }
        idle.push(Rc::clone(&desk));
    }
}

impl Desk {
    async fn next(&self) -> Making {
        poll_fn(|cx| match self.making.take() {
            Some(making) => Poll::Ready(making),
            None => {
                self.worker.borrow_mut().clone_from(cx.waker());
                Poll::Pending
            }
        })
        .await
    }
}
