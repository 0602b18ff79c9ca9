//! What the portal's pages for operators show of this process.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{metrics, ops::Readiness, portal};

/// Copies share what they were told.
#[derive(Clone, Debug)]
pub(super) struct About {
    readiness: Readiness,
    metrics: metrics::Handle,
    configuration: Arc<Mutex<Option<String>>>,
}

impl About {
    pub(super) fn new(readiness: Readiness, metrics: metrics::Handle) -> Self {
        Self { readiness, metrics, configuration: Arc::default() }
    }

    /// The configuration in force, where the starter knows where its values come from.
    pub(super) fn explain(&self, configuration: String) {
        *self.lock() = Some(configuration);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.configuration.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl portal::About for About {
    fn not_ready(&self) -> Vec<&'static str> {
        self.readiness.reasons()
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn configuration(&self) -> Option<String> {
        self.lock().clone()
    }
}
