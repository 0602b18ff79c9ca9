//! Where the tasks of a shard's thread leave what its loop must hear.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::attempt::Finished;
use crate::{clock, delivery::Entry, engine::Input};

#[derive(Default)]
pub(super) struct Mailbox {
    pub(super) finished: RefCell<Vec<Finished>>,
    pub(super) probe: Probe,
    pub(super) inputs: RefCell<Vec<Input>>,
    /// What is to be recorded and had to wait.
    pub(super) entries: RefCell<Vec<Entry>>,
    pub(super) notify: Notify,
    /// A task that panicked and owed an answer.
    broken: Cell<Option<&'static str>>,
}

/// Measures how long an attempt that was handed out waits for the thread: for everything that was
/// ready before it. Of those under way at once, one is measured.
#[derive(Default)]
pub(super) struct Probe {
    is_out: Cell<bool>,
    waited: Cell<Option<Duration>>,
}

impl Probe {
    /// When this attempt was handed out, if it is the one that is measured.
    pub(super) fn hand_out(&self) -> Option<Instant> {
        (!self.is_out.replace(true)).then(clock::instant)
    }

    pub(super) fn begins(&self, handed_out: Instant) {
        self.is_out.set(false);
        self.waited.set(Some(clock::instant().saturating_duration_since(handed_out)));
    }

    /// What was measured since it was last asked for.
    pub(super) fn waited(&self) -> Option<Duration> {
        self.waited.take()
    }
}

impl Mailbox {
    pub(super) fn finish(&self, finished: Finished) {
        self.finished.borrow_mut().push(finished);
        self.notify.notify_one();
    }

    /// The runtime forgets a task that panics. Whoever waits for what the task owes would wait for
    /// ever, so the shard ends with it, and that is heard.
    pub(super) fn check(&self) {
        let broken = self.broken.get();
        assert!(broken.is_none(), "a task of the shard panicked: {}", broken.unwrap_or_default());
    }
}

/// Held by a task that owes the loop an input, or an entry.
pub(super) struct Owed {
    mailbox: Rc<Mailbox>,
    what: &'static str,
}

impl Owed {
    pub(super) fn new(mailbox: &Rc<Mailbox>, what: &'static str) -> Self {
        Self { mailbox: Rc::clone(mailbox), what }
    }

    pub(super) fn give(self, input: Input) {
        self.mailbox.inputs.borrow_mut().push(input);
        self.mailbox.notify.notify_one();
    }

    pub(super) fn give_entry(self, entry: Entry) {
        self.mailbox.entries.borrow_mut().push(entry);
        self.mailbox.notify.notify_one();
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.mailbox.broken.set(Some(self.what));
            self.mailbox.notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    #[test]
    fn of_the_attempts_under_way_one_is_measured() {
        let probe = Probe::default();
        let handed_out = probe.hand_out().expect("none is out");
        assert_eq!((probe.hand_out(), probe.waited()), (None, None), "one is");
        probe.begins(handed_out);
        assert!(probe.waited().is_some_and(|wait| wait <= handed_out.elapsed()));
        assert_eq!(probe.waited(), None, "it was told");
        assert!(probe.hand_out().is_some());
    }

    #[tokio::test]
    async fn a_task_that_panics_is_heard_and_one_that_gives_or_is_dropped_is_not() {
        let mailbox = Rc::new(Mailbox::default());
        LocalSet::new()
            .run_until(async {
                drop(Owed::new(&mailbox, "dropped"));
                Owed::new(&mailbox, "given").give(Input::Drain);
                mailbox.notify.notified().await;
                mailbox.check();
                assert_eq!(mailbox.inputs.take(), [Input::Drain]);
                let owed = Owed::new(&mailbox, "refill");
                let task = spawn_local(async move {
                    let _owed = owed;
                    panic!("on purpose");
                });
                mailbox.notify.notified().await;
                assert!(task.await.is_err());
            })
            .await;
        assert_eq!(mailbox.broken.get(), Some("refill"));
    }
}
