//! The keys that seal the directory's secrets: from the environment, from the file that the
//! configuration names, or from the data directory, where one is made at the first start.
//!
//! A key in the data directory keeps secrets from whoever gets hold of the database alone (a
//! support case, a disk image of the store, a snapshot without the file). Against the loss of the
//! whole directory it takes a key that is kept elsewhere.
//!
//! The file `encryption.ids` names the keys that rows may be sealed with: it is written before the
//! first row is sealed with a key, and a key leaves it after the last row was sealed anew. So
//! `check` knows which keys it takes without opening the store, and no start makes a new key where
//! one is missing.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{
    key_file::{self, Access},
    keyring::{EncryptionKeyId, KeyRing, MAX_KEYS},
};
use crate::{config::environment, seal::KEY_LEN};

/// The files' names in the data directory.
pub(super) const FILE: &str = "encryption.key";
const IDS: &str = "encryption.ids";

/// More than the longest ring has in base64.
const MAX_FILE: usize = MAX_KEYS * 2 * KEY_LEN;
/// Ids are shorter than keys, and those in use are few.
const MAX_IDS_FILE: usize = MAX_FILE;

/// What the operator gave.
#[derive(Clone, Default)]
pub struct Given {
    /// `SENDERZ_ENCRYPTION_KEY`.
    pub environment: Option<Zeroizing<String>>,
    /// `security.encryption_key_file`.
    pub file: Option<PathBuf>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given(hidden)")
    }
}

/// Where the keys came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Environment,
    Configured(PathBuf),
    /// The data directory's own file.
    DataDir(PathBuf),
    /// The same, made just now.
    Made(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str(environment::ENCRYPTION_KEY),
            Self::Configured(path) | Self::DataDir(path) | Self::Made(path) => {
                write!(f, "{}", path.display())
            }
        }
    }
}

/// Why there are no encryption keys. Each says what to do; none shows a key.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionKeyError {
    #[error("SENDERZ_ENCRYPTION_KEY and security.encryption_key_file are both set; set one")]
    Both,
    #[error(
        "{0} must hold 1 to {MAX_KEYS} encryption keys, the one in use first, each of 32 random \
         bytes in base64; `openssl rand -base64 32` makes one"
    )]
    Malformed(Origin),
    #[error("{0} can be read by other users; run `chmod 600` on it")]
    Exposed(PathBuf),
    #[error("{path} could not be used: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "the secrets in {data_dir} are sealed with the encryption key {id}, which {origin} does \
         not hold; put it back there, behind the new one where it was replaced"
    )]
    Missing { data_dir: PathBuf, id: EncryptionKeyId, origin: Origin },
    #[error("{0} does not name encryption keys; restore it")]
    BadIds(PathBuf),
}

/// Judges keys that are given from outside the data directory, before anything is made.
pub fn judge(given: &Given) -> Result<(), EncryptionKeyError> {
    from_outside(given).map(drop)
}

/// Whether a start would find the keys that it needs, or make the first. Makes none.
pub fn check(given: &Given, data_dir: &Path) -> Result<(), EncryptionKeyError> {
    let ids = ids(data_dir)?;
    match standing(given, data_dir)? {
        Some((ring, origin)) => holds_all(&ring, &ids, data_dir, &origin),
        None => none_is_needed(&ids, data_dir),
    }
}

/// The keys, and where they came from.
pub fn obtain(given: &Given, data_dir: &Path) -> Result<(KeyRing, Origin), EncryptionKeyError> {
    let ids = ids(data_dir)?;
    let (ring, origin) = match standing(given, data_dir)? {
        Some(standing) => standing,
        None => {
            none_is_needed(&ids, data_dir)?;
            make(data_dir)?
        }
    };
    holds_all(&ring, &ids, data_dir, &origin)?;
    Ok((ring, origin))
}

/// From now on rows may be sealed with the ring's first key. Not before the rows that are there
/// have opened: a key given by mistake must not be asked for ever after.
pub fn announce(ring: &KeyRing, data_dir: &Path) -> Result<(), EncryptionKeyError> {
    let mut ids = ids(data_dir)?;
    if ids.insert(ring.current()) { write_ids(data_dir, &ids) } else { Ok(()) }
}

/// Every row is sealed with the ring's first key: the others are needed no longer.
pub fn settle(ring: &KeyRing, data_dir: &Path) -> Result<(), EncryptionKeyError> {
    let only = BTreeSet::from([ring.current()]);
    if ids(data_dir)? == only { Ok(()) } else { write_ids(data_dir, &only) }
}

fn standing(
    given: &Given,
    data_dir: &Path,
) -> Result<Option<(KeyRing, Origin)>, EncryptionKeyError> {
    if let Some(outside) = from_outside(given)? {
        return Ok(Some(outside));
    }
    let path = data_dir.join(FILE);
    let Some(content) = key_file::read(&path, MAX_FILE).map_err(io(&path))? else {
        return Ok(None);
    };
    if content.access != Access::OwnerOnly {
        return Err(EncryptionKeyError::Exposed(path));
    }
    parse(content.text, Origin::DataDir(path)).map(Some)
}

fn from_outside(given: &Given) -> Result<Option<(KeyRing, Origin)>, EncryptionKeyError> {
    match (&given.environment, &given.file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(EncryptionKeyError::Both),
        (Some(text), None) => parse(Some(text.clone()), Origin::Environment).map(Some),
        (None, Some(path)) => {
            let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
            let content = key_file::read(path, MAX_FILE)
                .and_then(|content| content.ok_or_else(missing))
                .map_err(io(path))?;
            // Files that orchestrators mount are often readable by a group or by all.
            if content.access != Access::OwnerOnly {
                tracing::warn!(path = %path.display(), "the file of encryption keys can be read by other users");
            }
            parse(content.text, Origin::Configured(path.clone())).map(Some)
        }
    }
}

fn parse(
    text: Option<Zeroizing<String>>,
    origin: Origin,
) -> Result<(KeyRing, Origin), EncryptionKeyError> {
    match text.map(|text| KeyRing::parse(&text)) {
        Some(Ok(ring)) => Ok((ring, origin)),
        _ => Err(EncryptionKeyError::Malformed(origin)),
    }
}

fn make(data_dir: &Path) -> Result<(KeyRing, Origin), EncryptionKeyError> {
    let path = data_dir.join(FILE);
    let ring = KeyRing::generate();
    key_file::write(data_dir, FILE, &ring.to_text()).map_err(io(&path))?;
    Ok((ring, Origin::Made(path)))
}

fn holds_all(
    ring: &KeyRing,
    ids: &BTreeSet<EncryptionKeyId>,
    data_dir: &Path,
    origin: &Origin,
) -> Result<(), EncryptionKeyError> {
    let missing = ids.iter().find(|id| ring.ids().all(|held| held != **id));
    missing.map_or(Ok(()), |id| Err(missing_key(*id, data_dir, origin.clone())))
}

fn none_is_needed(
    ids: &BTreeSet<EncryptionKeyId>,
    data_dir: &Path,
) -> Result<(), EncryptionKeyError> {
    let origin = || Origin::DataDir(data_dir.join(FILE));
    ids.first().map_or(Ok(()), |id| Err(missing_key(*id, data_dir, origin())))
}

fn missing_key(id: EncryptionKeyId, data_dir: &Path, origin: Origin) -> EncryptionKeyError {
    EncryptionKeyError::Missing { data_dir: data_dir.to_owned(), id, origin }
}

/// Empty where the file is missing: nothing was sealed yet.
fn ids(data_dir: &Path) -> Result<BTreeSet<EncryptionKeyId>, EncryptionKeyError> {
    let path = data_dir.join(IDS);
    let Some(content) = key_file::read(&path, MAX_IDS_FILE).map_err(io(&path))? else {
        return Ok(BTreeSet::new());
    };
    let text = content.text.unwrap_or_default();
    let ids: Option<BTreeSet<_>> = text.lines().map(EncryptionKeyId::parse).collect();
    ids.filter(|ids| !ids.is_empty()).ok_or(EncryptionKeyError::BadIds(path))
}

fn write_ids(data_dir: &Path, ids: &BTreeSet<EncryptionKeyId>) -> Result<(), EncryptionKeyError> {
    let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
    key_file::write(data_dir, IDS, &lines).map_err(io(&data_dir.join(IDS)))
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> EncryptionKeyError {
    move |source| EncryptionKeyError::Io { path: path.to_owned(), source }
}
