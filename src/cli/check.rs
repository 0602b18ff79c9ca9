//! `check`: would this configuration serve?
//!
//! All that can be said without starting: the values, whether the files they name can be read, and
//! whether the data directory can be used, in the words of `serve` and with its exit codes. It
//! makes nothing, opens no store and binds no port. Beside a gateway that runs on the same
//! directory it says that this is in use (69), and everything else that it finds (78).

use std::{fs::File, path::Path};

use super::{Exit, Global, output::line, serve::exit_of};
use crate::{
    config::{Config, Listen},
    store,
};

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    // Returned as it is: the caller prints all of its problems and exits 78.
    let config = global.load()?;
    let problems = unusable_files(&config);
    let data_dir = store::sled::check(&config.data_dir);
    if problems.is_empty() && data_dir.is_ok() {
        let listen = match &config.server.listen {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        };
        line(&format!("ok: {} would serve on {listen}", config.data_dir.display()))?;
        return Ok(Exit::Ok);
    }
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    let mut exit = Exit::BadConfig;
    if let Err(error) = data_dir {
        eprintln!("error: {error}");
        if problems.is_empty() {
            exit = exit_of(&error.into());
        }
    }
    Ok(exit)
}

fn unusable_files(config: &Config) -> Vec<String> {
    let (certificate, key) = config.server.tls.clone().unzip();
    let files = [
        ("server.tls_certificate", certificate),
        ("server.tls_key", key),
        ("tls.ca_file", config.tls.ca_file.clone()),
    ];
    let mut problems: Vec<_> =
        files.into_iter().filter_map(|(key, path)| unreadable(key, &path?)).collect();
    if let Listen::Unix(path) = &config.server.listen
        && !path.parent().is_some_and(Path::is_dir)
    {
        problems.push(format!(
            "server.listen = unix:{}: the directory of the socket does not exist",
            path.display()
        ));
    }
    problems
}

fn unreadable(key: &str, path: &Path) -> Option<String> {
    let reason = match File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => return None,
        Ok(_) => "it is not a file".to_owned(),
        Err(error) => error.to_string(),
    };
    Some(format!("{key} = {}: {reason}", path.display()))
}
