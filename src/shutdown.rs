//! The drain signal, and the alarm that a thread raises when it ends although nobody asked.

use tokio::sync::watch;

/// Asks everything to stop; kept by the composition root.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Hears the ask. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Signal(watch::Receiver<bool>);

pub fn channel() -> (Trigger, Signal) {
    let (tx, rx) = watch::channel(false);
    (Trigger(tx), Signal(rx))
}

impl Trigger {
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Signal {
    pub fn is_fired(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the trigger has fired, or was dropped. Cancel-safe.
    pub async fn fired(&mut self) {
        // An error means that the trigger is gone: that is an ask to stop as well.
        let _ = self.0.wait_for(|fired| *fired).await;
    }
}

/// Hears of threads and tasks that ended without being asked to. Copies share one alarm.
#[derive(Clone, Debug)]
pub struct Alarm(watch::Sender<Option<&'static str>>);

/// Watches over one thread or task: its drop raises the alarm, on a panic too.
#[derive(Debug)]
#[must_use = "dropping it raises the alarm"]
pub struct Vigil {
    alarm: Alarm,
    over: &'static str,
    stands: bool,
}

impl Alarm {
    pub fn new() -> Self {
        Self(watch::channel(None).0)
    }

    pub fn watch_over(&self, over: &'static str) -> Vigil {
        Vigil { alarm: self.clone(), over, stands: true }
    }

    /// What ended first; returns once anything has. Cancel-safe.
    pub async fn raised(&self) -> &'static str {
        let mut alarm = self.0.subscribe();
        match alarm.wait_for(Option::is_some).await {
            Ok(what) => what.expect("waited for"),
            Err(_) => unreachable!("the sender is held by self"),
        }
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

impl Vigil {
    /// The end was asked for.
    pub fn stand_down(mut self) {
        self.stands = false;
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        if self.stands {
            self.alarm.0.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(self.over);
                is_first
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_raises_the_alarm_and_an_asked_end_does_not() {
        let alarm = Alarm::new();
        alarm.watch_over("asked").stand_down();
        let vigil = alarm.watch_over("panicked");
        let thread = std::thread::spawn(move || {
            let _vigil = vigil;
            panic!("on purpose");
        });
        let raised = tokio::time::timeout(std::time::Duration::from_secs(5), alarm.raised());
        assert_eq!(raised.await, Ok("panicked"));
        assert!(thread.join().is_err());
    }

    #[tokio::test]
    async fn a_task_that_panics_or_is_dropped_raises_it_too() {
        for panics in [true, false] {
            let alarm = Alarm::new();
            let vigil = alarm.watch_over("a task");
            let task = tokio::spawn(async move {
                let _vigil = vigil;
                assert!(!panics, "on purpose");
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            task.abort();
            let raised = tokio::time::timeout(std::time::Duration::from_secs(5), alarm.raised());
            assert_eq!(raised.await, Ok("a task"));
        }
    }
}
