//! The drain signal.

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
