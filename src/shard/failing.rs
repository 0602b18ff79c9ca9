//! Failing: the webhooks whose attempts have all failed lately, since when, and what follows.
//!
//! A streak begins with a failed attempt and ends with one that succeeds, with another URL, and when
//! the webhook is disabled. One that has lasted for a while is written down in the directory, so that
//! it goes on after a restart; young ones are not, lest a webhook that now fails and now does not
//! cost writes all the time. A start may therefore make a streak look shorter, never longer: the
//! success that ends one which is written down is recorded only once that is undone. (A crash
//! between the two makes the attempt again, as any crash before an attempt's record does.)

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    rc::Rc,
    time::Duration,
};

use tokio::sync::Mutex;

use super::{mailbox::Owed, turn::Shard};
use crate::{
    clock::Millis,
    delivery::Entry,
    directory::{ChangeError, Directory},
    id::{ByNumber, WebhookNo},
    metrics::WEBHOOKS_DISABLED,
    webhook::DisabledReason,
};

/// A streak is written down once it has lasted a tenth of `delivery.disable_after`, or this long.
const YOUNG: Duration = Duration::from_secs(60);
/// Streaks written down in one commit.
const TOLD_AT_ONCE: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Streak {
    since: Millis,
    written: Written,
    /// The webhook is being disabled.
    is_ending: bool,
}

/// Whether a streak stands in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    No,
    /// It does, or is on its way there.
    Yes,
    /// A success came, and it is on its way out. What fails meanwhile does not count.
    Undoing,
}

#[derive(Debug, Default)]
pub(super) struct Failing {
    streaks: RefCell<HashMap<WebhookNo, Streak, ByNumber>>,
    /// Disabled webhooks: what is still under way to them does not count.
    disabled: RefCell<HashSet<WebhookNo, ByNumber>>,
    /// Held while the directory is told, so that what is told last stays.
    telling: Mutex<()>,
    /// Entries that wait for the directory.
    held: Cell<usize>,
}

impl Failing {
    pub(super) fn len(&self) -> usize {
        self.streaks.borrow().len()
    }

    pub(super) fn since(&self, webhook: WebhookNo) -> Option<Millis> {
        self.streaks.borrow().get(&webhook).map(|streak| streak.since)
    }

    /// How many successes wait to be recorded.
    pub(super) fn held(&self) -> usize {
        self.held.get()
    }

    /// An earlier process wrote it down.
    fn found(&self, webhook: WebhookNo, since: Millis) {
        let streak = Streak { since, written: Written::Yes, is_ending: false };
        self.streaks.borrow_mut().insert(webhook, streak);
    }

    /// Says since when it has been failing; none where this does not count.
    fn failed(&self, webhook: WebhookNo, now: Millis) -> Option<Millis> {
        if self.disabled.borrow().contains(&webhook) {
            return None;
        }
        let new = Streak { since: now, written: Written::No, is_ending: false };
        let mut streaks = self.streaks.borrow_mut();
        let streak = streaks.entry(webhook).or_insert(new);
        (streak.written != Written::Undoing).then_some(streak.since)
    }

    /// Ends the streak; whether the directory has to hear of it before the success is recorded.
    fn succeeded(&self, webhook: WebhookNo) -> bool {
        let mut streaks = self.streaks.borrow_mut();
        let Some(streak) = streaks.get_mut(&webhook) else { return false };
        if streak.written == Written::No {
            streaks.remove(&webhook);
            return false;
        }
        streak.written = Written::Undoing;
        true
    }

    /// What happened before does not count any more; whether the directory has to hear of it.
    pub(super) fn forget(&self, webhook: WebhookNo) -> bool {
        let streak = self.streaks.borrow_mut().remove(&webhook);
        streak.is_some_and(|streak| streak.written != Written::No)
    }

    /// The webhook was deleted, and with it what the directory knew of it.
    pub(super) fn removed(&self, webhook: WebhookNo) {
        self.forget(webhook);
        self.disabled.borrow_mut().remove(&webhook);
    }

    fn set_enabled(&self, webhook: WebhookNo, is_enabled: bool) {
        let mut disabled = self.disabled.borrow_mut();
        if is_enabled {
            disabled.remove(&webhook);
        } else {
            disabled.insert(webhook);
        }
    }

    /// Whether the webhook is to be disabled now: nobody is at it already.
    fn begin_end(&self, webhook: WebhookNo) -> bool {
        let mut streaks = self.streaks.borrow_mut();
        streaks
            .get_mut(&webhook)
            .is_some_and(|streak| !std::mem::replace(&mut streak.is_ending, true))
    }

    /// It was not disabled; the next attempt that fails asks again.
    fn abandon_end(&self, webhook: WebhookNo) {
        if let Some(streak) = self.streaks.borrow_mut().get_mut(&webhook) {
            streak.is_ending = false;
        }
    }

    /// The streaks that are old enough to be written down and are not; they count as written.
    fn take_due(&self, now: Millis, young: Duration) -> Vec<(WebhookNo, Option<Millis>)> {
        let young = young.as_millis() as Millis;
        let mut streaks = self.streaks.borrow_mut();
        let is_due = |streak: &Streak| {
            streak.written == Written::No && now.saturating_sub(streak.since) >= young
        };
        let due = streaks.iter_mut().filter(|(_, streak)| is_due(streak)).take(TOLD_AT_ONCE);
        let take = |(webhook, streak): (&WebhookNo, &mut Streak)| {
            streak.written = Written::Yes;
            (*webhook, Some(streak.since))
        };
        due.map(take).collect()
    }

    /// They could not be written down, and are due again.
    fn put_back(&self, notes: &[(WebhookNo, Option<Millis>)]) {
        let mut streaks = self.streaks.borrow_mut();
        for (webhook, since) in notes {
            if let Some(streak) = streaks.get_mut(webhook)
                && Some(streak.since) == *since
                && streak.written == Written::Yes
            {
                streak.written = Written::No;
            }
        }
    }

    async fn write_down(&self, directory: &Directory, notes: Vec<(WebhookNo, Option<Millis>)>) {
        let _telling = self.telling.lock().await;
        if let Err(error) = directory.note_failing(notes.clone()).await {
            tracing::warn!(%error, "it could not be written down which webhooks fail");
            self.put_back(&notes);
        }
    }

    /// Takes a streak out of the directory again.
    async fn undo(&self, directory: &Directory, webhook: WebhookNo) {
        let _telling = self.telling.lock().await;
        if let Err(error) = directory.note_failing(vec![(webhook, None)]).await {
            tracing::warn!(%error, "it could not be written down that a webhook works again");
        }
        let mut streaks = self.streaks.borrow_mut();
        if streaks.get(&webhook).is_some_and(|streak| streak.written == Written::Undoing) {
            streaks.remove(&webhook);
        }
    }
}

impl Shard {
    /// A webhook is new, or was changed; `is_elsewhere` where it has another URL now.
    pub(super) fn watch(
        &self,
        webhook: WebhookNo,
        is_enabled: bool,
        is_new: bool,
        is_elsewhere: bool,
    ) {
        self.failing.set_enabled(webhook, is_enabled);
        if is_new && is_enabled {
            if let Some(since) = self.directory.failing_since(webhook) {
                self.failing.found(webhook, since);
            }
        } else if (is_elsewhere || !is_enabled) && self.failing.forget(webhook) {
            let (failing, directory) = (Rc::clone(&self.failing), self.directory.clone());
            tokio::task::spawn_local(async move { failing.undo(&directory, webhook).await });
        }
    }

    /// An attempt failed, and not by our fault.
    pub(super) fn failed(&self, webhook: WebhookNo, now: Millis) {
        if !self.targets.contains_key(&webhook) {
            // Deleted meanwhile.
            return;
        }
        let Some(since) = self.failing.failed(webhook, now) else { return };
        let Some(span) = self.settings.disable_after else { return };
        let is_over = now.saturating_sub(since) >= span.as_millis() as Millis;
        if is_over && self.failing.begin_end(webhook) {
            self.disable(webhook, DisabledReason::Failing, Some(since));
        }
    }

    /// Takes an entry to be recorded; keeps it where it ends a streak that is written down, until
    /// that is undone.
    pub(super) fn take_success(&self, entry: Entry) -> Option<Entry> {
        let webhook = entry.key.webhook;
        if !self.failing.succeeded(webhook) {
            return Some(entry);
        }
        self.failing.held.set(self.failing.held.get() + 1);
        let (failing, directory) = (Rc::clone(&self.failing), self.directory.clone());
        let owed = Owed::new(&self.mailbox, "a success that ends a streak of failures");
        tokio::task::spawn_local(async move {
            failing.undo(&directory, webhook).await;
            owed.give_entry(entry);
        });
        None
    }

    /// Takes the successes that may be recorded now.
    pub(super) fn take_held_entries(&mut self) {
        let mut entries = self.mailbox.entries.borrow_mut();
        if entries.is_empty() {
            return;
        }
        self.failing.held.set(self.failing.held.get() - entries.len());
        self.entries.append(&mut entries);
        drop(entries);
        self.record_soon(self.clock.now());
    }

    /// Writes down the streaks that have lasted for a while.
    pub(super) fn write_streaks_down(&self, now: Millis) {
        let Some(span) = self.settings.disable_after else { return };
        if self.failing.telling.try_lock().is_err() {
            return;
        }
        let due = self.failing.take_due(now, (span / 10).min(YOUNG));
        if due.is_empty() {
            return;
        }
        let (failing, directory) = (Rc::clone(&self.failing), self.directory.clone());
        tokio::task::spawn_local(async move { failing.write_down(&directory, due).await });
    }

    /// Disables a webhook for what came of its attempts.
    pub(super) fn disable(
        &self,
        webhook: WebhookNo,
        reason: DisabledReason,
        failing_since: Option<Millis>,
    ) {
        let (failing, directory) = (Rc::clone(&self.failing), self.directory.clone());
        tokio::task::spawn_local(async move {
            let id = directory.webhook_id(webhook).map(|id| id.to_string());
            let (id, why) = (id.unwrap_or_default(), reason.as_str());
            match directory.disable_webhook(webhook, reason, failing_since).await {
                Ok(true) => {
                    tracing::warn!(webhook = id, reason = why, "webhook disabled");
                    ::metrics::counter!(WEBHOOKS_DISABLED, "reason" => why).increment(1);
                }
                // Somebody else did it, or it was deleted.
                Ok(false) | Err(ChangeError::NoSuchWebhook) => {}
                Err(error) => {
                    tracing::warn!(webhook = id, reason = why, %error, "webhook not disabled");
                    failing.abandon_end(webhook);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: WebhookNo = WebhookNo(1);
    const TWO: WebhookNo = WebhookNo(2);
    const MINUTE: Millis = 60_000;

    #[test]
    fn a_streak_begins_with_a_failure_and_ends_with_a_success() {
        let failing = Failing::default();
        assert_eq!(failing.failed(ONE, 1_000), Some(1_000));
        assert_eq!(failing.failed(ONE, 2_000), Some(1_000));
        assert_eq!(failing.failed(TWO, 3_000), Some(3_000));
        assert!(!failing.succeeded(ONE), "it was not written down");
        assert!(!failing.succeeded(ONE));
        assert_eq!((failing.since(ONE), failing.since(TWO)), (None, Some(3_000)));
        assert_eq!(failing.failed(ONE, 4_000), Some(4_000));
    }

    #[test]
    fn streaks_are_written_down_once_when_they_have_lasted() {
        let failing = Failing::default();
        failing.failed(ONE, 1_000);
        failing.failed(TWO, 1_000 + MINUTE);
        assert_eq!(failing.take_due(999 + MINUTE, YOUNG), []);
        let due = failing.take_due(1_000 + MINUTE, YOUNG);
        assert_eq!(due, [(ONE, Some(1_000))]);
        assert_eq!(failing.take_due(1_000 + MINUTE, YOUNG), []);
        failing.put_back(&due);
        assert_eq!(failing.take_due(1_000 + MINUTE, YOUNG), due);
    }

    #[test]
    fn while_the_end_of_a_streak_is_written_down_nothing_counts() {
        let failing = Failing::default();
        failing.found(ONE, 1_000);
        assert!(failing.succeeded(ONE), "the directory has to hear of it");
        assert_eq!(failing.failed(ONE, 2_000), None);
        assert!(failing.succeeded(ONE), "this one has to wait as well");
        assert_eq!(failing.take_due(MINUTE * 9, YOUNG), []);
        assert!(failing.forget(ONE));
        assert_eq!(failing.failed(ONE, 3_000), Some(3_000));
    }

    #[test]
    fn nothing_counts_of_a_disabled_webhook_and_it_is_disabled_once() {
        let failing = Failing::default();
        failing.failed(ONE, 1_000);
        assert!(failing.begin_end(ONE));
        assert!(!failing.begin_end(ONE), "it is under way");
        failing.abandon_end(ONE);
        assert!(failing.begin_end(ONE));
        failing.set_enabled(ONE, false);
        failing.forget(ONE);
        assert_eq!(failing.failed(ONE, 2_000), None);
        assert!(!failing.begin_end(ONE));
        failing.set_enabled(ONE, true);
        assert_eq!(failing.failed(ONE, 3_000), Some(3_000));
    }
}
