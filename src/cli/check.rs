//! `check`: would this configuration serve?
//!
//! All that can be said without starting: the values, whether the files they name, the operator's
//! key, the encryption keys and the data directory can be used, in the words of `serve` and with
//! its exit codes. It makes nothing, opens no store and binds no port. Beside a gateway that runs
//! on the same directory it says that this is in use (69), and everything else that it finds (78).

use super::{
    Exit, Global,
    output::{note, tell},
    serve::exit_of,
};
use crate::{
    app::{self, GivenKeys},
    config::Listen,
};

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    // Returned as it is: the caller prints all of its problems and exits 78.
    let config = global.load()?;
    let found = app::check(&config, &GivenKeys::of_process());
    for error in &found {
        note(format_args!("error: {error}"));
    }
    let exits: Vec<_> = found.iter().map(exit_of).collect();
    let Some(first) = exits.first() else {
        let listen = match &config.server.listen {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        };
        tell(format_args!("ok: {} would serve on {listen}", config.data_dir.display()));
        return Ok(Exit::Ok);
    };
    // What no restart mends comes first.
    Ok(if exits.contains(&Exit::BadConfig) { Exit::BadConfig } else { *first })
}
