//! The keys that a gateway is given, and the directory whose secrets they seal.

use std::fmt;

use zeroize::Zeroizing;

use super::StartError;
use crate::{
    config::{Config, environment},
    directory::{Directory, encryption_key, operator_key},
    store::{Row, Store},
};

/// The keys that come from outside the data directory; one that is missing is looked for there.
#[derive(Clone, Default)]
pub struct GivenKeys {
    pub operator: Option<Zeroizing<String>>,
    pub encryption: Option<Zeroizing<String>>,
    /// For the collector of spans.
    pub tracing_headers: Option<Zeroizing<String>>,
}

impl fmt::Debug for GivenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GivenKeys(hidden)")
    }
}

impl GivenKeys {
    /// Those in this process's environment.
    pub fn of_process() -> Self {
        Self {
            operator: environment::secret(environment::OPERATOR_KEY),
            encryption: environment::secret(environment::ENCRYPTION_KEY),
            tracing_headers: environment::secret(environment::TRACING_HEADERS),
        }
    }

    pub(super) fn operator(&self) -> Option<&str> {
        self.operator.as_ref().map(|key| key.as_str())
    }

    pub(super) fn encryption(&self, config: &Config) -> encryption_key::Given {
        encryption_key::Given {
            environment: self.encryption.clone(),
            file: config.security.encryption_key_file.clone(),
        }
    }

    /// What can be said of them before anything is made.
    pub(super) fn judge(&self, config: &Config) -> Result<(), StartError> {
        operator_key::judge(self.operator())?;
        Ok(encryption_key::judge(&self.encryption(config))?)
    }
}

/// Loads the directory, and seals anew what the key in use has not sealed.
pub(super) async fn directory(
    config: &Config,
    given: &GivenKeys,
    store: &Store,
    rows: Vec<Row>,
) -> Result<(Directory, encryption_key::Origin), StartError> {
    let data_dir = &config.data_dir;
    let (ring, origin) = encryption_key::obtain(&given.encryption(config), data_dir)?;
    let directory = Directory::load(store.clone(), rows, config.limits.clone(), ring.clone())?;
    encryption_key::announce(&ring, data_dir)?;
    let rows = directory.seal_anew().await;
    let rows = rows.map_err(|error| StartError::Recovery(error.to_string()))?;
    encryption_key::settle(&ring, data_dir)?;
    if rows > 0 {
        let key = ring.current().to_string();
        tracing::info!(
            rows,
            key,
            "secrets sealed with the encryption key in use; older keys are needed no longer"
        );
    }
    Ok((directory, origin))
}
