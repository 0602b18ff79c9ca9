//! What the service manager is told, by systemd's notification protocol (sd_notify(3)): that the
//! gateway serves, reloads, stops. Without `NOTIFY_SOCKET` in the environment nothing is said.
//!
//! A datagram each at a few moments of the process's life, never blocking anything that matters. A
//! supervisor that does not listen is no reason not to run.

use sd_notify::NotifyState;

pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// To be followed by [`ready`], however the reload went.
pub(super) fn reloading() {
    // systemd tells by the time which reload it was that is over.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager was not told of a reload"),
    }
}

pub(super) fn stopping(why: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(why)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
