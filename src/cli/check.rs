//! `check`: would this configuration serve?
//!
//! All that can be said without starting: the values, and whether the files they name can be read.
//! It opens no store and binds no port, so it may run beside a gateway that uses both.

use std::{fs::File, path::Path};

use super::{Exit, Global, output::line};
use crate::config::{Config, Listen};

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    // Returned as it is: the caller prints all of its problems and exits 78.
    let config = global.load()?;
    let problems = unusable_files(&config);
    if problems.is_empty() {
        let listen = match &config.server.listen {
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => format!("unix:{}", path.display()),
        };
        line(&format!("ok: {} would serve on {listen}", config.data_dir.display()))?;
        return Ok(Exit::Ok);
    }
    for problem in problems {
        eprintln!("error: {problem}");
    }
    Ok(Exit::BadConfig)
}

fn unusable_files(config: &Config) -> Vec<String> {
    let (certificate, key) = config.server.tls.clone().unzip();
    let files = [
        ("server.tls_certificate", certificate),
        ("server.tls_key", key),
        ("tls.ca_file", config.tls.ca_file.clone()),
    ];
    let mut problems: Vec<_> = files
        .into_iter()
        .filter_map(|(key, path)| unreadable(key, &path?))
        .chain(unusable_data_dir(&config.data_dir))
        .collect();
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

/// A data directory that is missing is made at the first start; then its parent must allow that.
fn unusable_data_dir(path: &Path) -> Option<String> {
    let told = |reason: String| Some(format!("data_dir = {}: {reason}", path.display()));
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    let existing = existing.unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return told(format!("{} is not a directory", existing.display()));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match rustix::fs::access(existing, access) {
        Ok(()) => None,
        Err(error) => told(format!("{} cannot be written to: {error}", existing.display())),
    }
}
