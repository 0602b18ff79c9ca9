//! TLS towards receivers: what is offered to them. One configuration serves a whole shard; whom it
//! trusts is [`trust`](crate::trust)'s.

use std::sync::Arc;

use rustls::ClientConfig;

use super::{SenderError, Settings};
use crate::trust;

/// What HTTP/2 is called in ALPN.
pub(super) const H2: &[u8] = b"h2";

pub(super) fn client_config(settings: &Settings) -> Result<Arc<ClientConfig>, SenderError> {
    Ok(Arc::new(trust::client_config(settings.ca_file.as_deref(), &[H2, b"http/1.1"])?))
}
