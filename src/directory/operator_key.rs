//! The operator's first key: from the environment, from the data directory, or made at first
//! start.
//!
//! It is kept outside the store so that whoever can read the data directory's owner-only files can
//! always get in, even where every other key was lost.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    Principal,
    key::{KeyText, MAX_KEY_TEXT, OPERATOR_PREFIX},
    key_file::{self, Access},
};
use crate::id::{KeyId, random_u128};

/// The file's name in the data directory.
pub(super) const FILE: &str = "operator.key";

/// The shortest operator key that is accepted, characters.
const MIN_LEN: usize = 32;

/// Where the operator's key came from.
#[derive(Clone, Debug)]
pub enum OperatorKey {
    /// Made just now and written to the file: print it once.
    Made(KeyText),
    /// Read from the file.
    File,
    /// Given by `SENDERZ_OPERATOR_KEY`; the file, if any, is not used.
    Environment,
}

/// Why there is no operator key. Each says what to do; none shows the key.
#[derive(Debug, thiserror::Error)]
pub enum OperatorKeyError {
    #[error(
        "SENDERZ_OPERATOR_KEY must start with `szk_operator_` and have 32 to 256 visible ASCII characters"
    )]
    BadEnvironment,
    #[error(
        "{0} does not hold an operator key; restore it, or delete it and a new key is made at the next start"
    )]
    BadFile(PathBuf),
    #[error("{0} can be read by other users; run `chmod 600` on it")]
    Exposed(PathBuf),
    #[error("{path} could not be used: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

pub(super) fn obtain(
    environment: Option<&str>,
    data_dir: &Path,
) -> Result<(KeyText, OperatorKey), OperatorKeyError> {
    judge(environment)?;
    if let Some(text) = environment {
        let key = KeyText::from_text(Zeroizing::new(text.to_owned()));
        return Ok((key, OperatorKey::Environment));
    }
    let path = data_dir.join(FILE);
    match read(&path)? {
        Some(key) => Ok((key, OperatorKey::File)),
        None => {
            let key = KeyText::generate(Principal::Operator, KeyId(random_u128()));
            let line = Zeroizing::new(format!("{}\n", key.expose()));
            key_file::write(data_dir, FILE, &line)
                .map_err(|source| OperatorKeyError::Io { path, source })?;
            Ok((key.clone(), OperatorKey::Made(key)))
        }
    }
}

/// Judges a key that is given by the environment. It needs nothing but itself, so a start asks
/// before it makes anything.
pub fn judge(environment: Option<&str>) -> Result<(), OperatorKeyError> {
    match environment {
        Some(text) if !is_acceptable(text) => Err(OperatorKeyError::BadEnvironment),
        _ => Ok(()),
    }
}

/// Whether a start would find a key that it accepts, or make one. Makes none.
pub fn check(environment: Option<&str>, data_dir: &Path) -> Result<(), OperatorKeyError> {
    match environment {
        Some(_) => judge(environment),
        None => read(&data_dir.join(FILE)).map(drop),
    }
}

fn is_acceptable(text: &str) -> bool {
    text.starts_with(OPERATOR_PREFIX)
        && (MIN_LEN..=MAX_KEY_TEXT).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn read(path: &Path) -> Result<Option<KeyText>, OperatorKeyError> {
    let read = key_file::read(path, MAX_KEY_TEXT + 2);
    let content = read.map_err(|source| OperatorKeyError::Io { path: path.to_owned(), source })?;
    let Some(content) = content else { return Ok(None) };
    if content.access != Access::OwnerOnly {
        return Err(OperatorKeyError::Exposed(path.to_owned()));
    }
    let key = content.text.as_ref().map(|text| text.trim_end());
    match key.filter(|key| is_acceptable(key)) {
        Some(key) => Ok(Some(KeyText::from_text(Zeroizing::new(key.to_owned())))),
        None => Err(OperatorKeyError::BadFile(path.to_owned())),
    }
}
