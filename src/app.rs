//! The composition root: configuration in, running gateway out.

use crate::{
    config::{Config, Sources},
    store::OpenError,
};

/// How a gateway that was started ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Drained: all attempts under way ended, or were left to the next start.
    Drained,
    /// A second signal cut the drain short.
    Forced,
    /// The store failed; what was acknowledged is safe.
    Failed,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address is taken or not ours.
    #[error("{0}")]
    Bind(String),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("{0}")]
    Other(String),
}

/// Runs the gateway until it is told to stop. The sources are read again on SIGHUP.
pub async fn serve(_config: Config, _sources: Sources) -> Result<Exit, StartError> {
    Err(StartError::Other("the gateway is not composed yet".to_owned()))
}
