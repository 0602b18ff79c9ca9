//! The list of a backup's files with their checksums: what is in it, and whether it still is.
//!
//! It stands in the copy as `backup.json`. A start on the copy removes it, because from then on it is
//! a data directory in use and no backup any more.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{FORMAT, data_dir};
use crate::clock::Millis;

/// Its name in the copy.
pub(super) const FILE: &str = "backup.json";

#[derive(Serialize, Deserialize)]
struct Manifest {
    /// Of the data directory.
    format: u32,
    /// The cut: what was accepted before is in it.
    made_at: Millis,
    /// By their path in the copy.
    files: BTreeMap<String, Listed>,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    bytes: u64,
    sha256: String,
}

/// What is wrong with a backup, in words, or how large it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub made_at: Millis,
    pub files: usize,
    pub bytes: u64,
}

/// Why a directory is not the backup that was made.
#[derive(Debug, thiserror::Error)]
pub enum NotVerified {
    #[error("it holds no `backup.json`: it is no backup, or a gateway was started on it")]
    NoManifest,
    #[error("its `backup.json` cannot be read: {0}")]
    Manifest(String),
    #[error("it is of format {found}, and this version reads up to {FORMAT}")]
    Newer { found: u32 },
    #[error("its file {0} is missing")]
    Missing(String),
    #[error("its file {0} is not what was written")]
    Changed(String),
    #[error("its file {0} was not part of it")]
    Added(String),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Lists all files of a copy and makes everything in it durable. Gives how large it is.
pub(super) fn write(copy: &Path, made_at: Millis) -> io::Result<u64> {
    let mut files = BTreeMap::new();
    for path in walk(copy)? {
        let name = name_of(copy, &path);
        let listed = list(&path)?;
        files.insert(name, listed);
        data_dir::sync(&path)?;
    }
    let bytes = files.values().map(|listed| listed.bytes).sum();
    let manifest = Manifest { format: FORMAT, made_at, files };
    let text = serde_json::to_vec_pretty(&manifest).expect("a map of texts and numbers");
    data_dir::write_whole(copy, FILE, &text)?;
    for dir in [copy.join(data_dir::STORE).join("blobs"), copy.join(data_dir::STORE)] {
        data_dir::sync(dir)?;
    }
    data_dir::sync(copy)?;
    Ok(bytes)
}

/// When a backup was made, by its own word; none where it has none.
pub(super) fn made_at(copy: &Path) -> Option<Millis> {
    let manifest: Manifest = serde_json::from_slice(&fs::read(copy.join(FILE)).ok()?).ok()?;
    Some(manifest.made_at)
}

/// Whether a directory is, file for file, the backup that was made. Opens no store.
pub fn verify_backup(dir: &Path) -> Result<Verified, NotVerified> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| NotVerified::Io { path, source }
    };
    let path = dir.join(FILE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A directory that cannot be looked at says so instead.
            fs::read_dir(dir).map_err(io(dir))?;
            return Err(NotVerified::NoManifest);
        }
        read => read.map_err(io(&path))?,
    };
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| NotVerified::Manifest(error.to_string()))?;
    if manifest.format > FORMAT {
        return Err(NotVerified::Newer { found: manifest.format });
    }
    let mut found = BTreeMap::new();
    for path in walk(dir).map_err(io(dir))?.into_iter().filter(|found| *found != path) {
        found.insert(name_of(dir, &path), path);
    }
    for (name, listed) in &manifest.files {
        let path = found.remove(name).ok_or_else(|| NotVerified::Missing(name.clone()))?;
        let now = list(&path).map_err(io(&path))?;
        if now.bytes != listed.bytes || now.sha256 != listed.sha256 {
            return Err(NotVerified::Changed(name.clone()));
        }
    }
    if let Some((name, _)) = found.pop_first() {
        return Err(NotVerified::Added(name));
    }
    let bytes = manifest.files.values().map(|listed| listed.bytes).sum();
    Ok(Verified { made_at: manifest.made_at, files: manifest.files.len(), bytes })
}

fn list(path: &Path) -> io::Result<Listed> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let bytes = io::copy(&mut file, &mut Hashing(&mut hash))?;
    let digest: [u8; 32] = hash.finalize().into();
    Ok(Listed { bytes, sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect() })
}

struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All files below a directory.
fn walk(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

fn name_of(dir: &Path, path: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned()
}
