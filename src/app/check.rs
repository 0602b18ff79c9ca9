//! What would keep a gateway from starting, found without starting one.

use std::path::Path;

use super::{GivenKeys, StartError, tracer};
use crate::{
    config::Config,
    directory::{encryption_key, operator_key},
    server,
    store::{self, NotVerified, OpenError, Verified},
    trust,
};

/// Every error that [`Gateway::start`](super::Gateway::start) would give one of, as far as can be
/// said without making, opening or binding anything.
pub fn check(config: &Config, given: &GivenKeys) -> Vec<StartError> {
    let mut found: Vec<StartError> =
        server::check(&config.server).into_iter().map(StartError::from).collect();
    if let Some(file) = &config.tls.ca_file {
        found.extend(trust::check_ca_file(file).err().map(StartError::Trust));
    }
    found.extend(tracer::settings(config, given).err().map(StartError::Headers));
    let data_dir = store::sled::check(&config.data_dir);
    let encryption = given.encryption(config);
    // In a directory that cannot be used no file can be looked at either.
    let can_be_read = matches!(data_dir, Ok(()) | Err(OpenError::InUse(_)));
    let (operator, encryption) = if can_be_read {
        (
            operator_key::check(given.operator(), &config.data_dir),
            encryption_key::check(&encryption, &config.data_dir),
        )
    } else {
        (operator_key::judge(given.operator()), encryption_key::judge(&encryption))
    };
    found.extend(data_dir.err().map(StartError::Store));
    found.extend(encryption.err().map(StartError::EncryptionKey));
    found.extend(operator.err().map(StartError::OperatorKey));
    found
}

/// Whether a directory is, file for file, the backup that was made. Opens nothing.
pub fn verify_backup(dir: &Path) -> Result<Verified, NotVerified> {
    store::sled::verify_backup(dir)
}
