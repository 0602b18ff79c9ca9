//! What would keep a gateway from starting, found without starting one.

use super::StartError;
use crate::{
    config::Config,
    directory::operator_key,
    sender, server,
    shard::ShardError,
    store::{self, OpenError},
};

/// Every error that [`Gateway::start`](super::Gateway::start) would give one of, as far as can be
/// said without making, opening or binding anything.
pub fn check(config: &Config, given_key: Option<&str>) -> Vec<StartError> {
    let mut found: Vec<StartError> =
        server::check(&config.server).into_iter().map(StartError::from).collect();
    if let Some(file) = &config.tls.ca_file {
        let unusable = sender::check_ca_file(file).err();
        found.extend(unusable.map(|error| StartError::Shard(ShardError::Sender(error))));
    }
    let data_dir = store::sled::check(&config.data_dir);
    // In a directory that cannot be used no file can be looked at either.
    let key = match &data_dir {
        Ok(()) | Err(OpenError::InUse(_)) => operator_key::check(given_key, &config.data_dir),
        Err(_) => operator_key::judge(given_key),
    };
    found.extend(data_dir.err().map(StartError::Store));
    found.extend(key.err().map(StartError::OperatorKey));
    found
}
