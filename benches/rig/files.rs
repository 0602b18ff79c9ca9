//! Data directories.

use std::{fs, path::Path};

pub(crate) const MIB: f64 = 1_048_576.0;

/// As durable as what it copies: nothing of it is left for whoever syncs next.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
            fs::File::open(target)?.sync_all()?;
        }
    }
    Ok(())
}

/// MiB of all files in it.
pub(crate) fn size(dir: &Path) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_dir = entry.file_type()?.is_dir();
        sum += if is_dir { size(&entry.path())? } else { entry.metadata()?.len() as f64 / MIB };
    }
    Ok(sum)
}
