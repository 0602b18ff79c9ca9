//! Directory rows on disk: each is cut into sealed parts like a block, under its own key.
//!
//! ```text
//! key     20 · the row's key · part (2, big endian)
//! ```

use std::collections::{BTreeMap, HashMap};

use super::{
    disk::{ROW_TAG, View, is_written, read_failed},
    writes::Writes,
};
use crate::store::{
    Row, StoreError,
    codec::{self, Damage, PART_MAX, RECORD_HEAD},
};

/// The rows as they were read, and what is needed to overwrite them.
#[derive(Debug, Default)]
pub(super) struct Directory {
    rows: Vec<Row>,
    /// Of how many parts each row is: one that becomes shorter must lose its last parts.
    parts: HashMap<Vec<u8>, u16>,
}

impl Directory {
    /// Reads all rows. A directory with a hole cannot be trusted with tenants' secrets: damage is
    /// an error.
    pub(super) fn read(view: &View) -> Result<Self, StoreError> {
        let mut found: BTreeMap<Vec<u8>, Vec<(u16, sled::IVec)>> = BTreeMap::new();
        for row in view.tagged(ROW_TAG) {
            let (key, record) = row.map_err(read_failed)?;
            if !is_written(&record) {
                continue;
            }
            let Some((row_key, part)) = key[1..].split_last_chunk::<2>() else {
                return Err(StoreError::Damaged);
            };
            let parts = found.entry(row_key.to_vec()).or_default();
            parts.push((u16::from_be_bytes(*part), record));
        }
        let mut directory = Self::default();
        for (key, parts) in found {
            let value = join(&key, &parts).map_err(|_| StoreError::Damaged)?;
            directory.parts.insert(key.clone(), parts.len() as u16);
            directory.rows.push(Row { key, value: Some(value) });
        }
        Ok(directory)
    }

    /// The rows read at the start; they are handed out once.
    pub(super) fn rows(&self) -> Vec<Row> {
        self.rows.clone()
    }

    /// Frees what [`Directory::rows`] has copied.
    pub(super) fn forget_rows(&mut self) {
        self.rows = Vec::new();
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> u64 {
        self.parts.len() as u64
    }

    /// Adds a row's change to a commit.
    pub(super) fn put(&mut self, row: Row, writes: &mut Writes) {
        writes.must_be_whole();
        let before = self.parts.remove(&row.key).unwrap_or(0);
        let mut parts = 0;
        if let Some(value) = &row.value {
            let pieces = value.len().div_ceil(PART_MAX).max(1);
            parts = u16::try_from(pieces).expect("the directory bounds what is in a row");
            for part in 0..parts {
                let from = usize::from(part) * PART_MAX;
                let piece = &value[from..value.len().min(from + PART_MAX)];
                let key = row_key(&row.key, part);
                let mut record = Vec::with_capacity(RECORD_HEAD + piece.len());
                record.resize(RECORD_HEAD, 0);
                record.extend_from_slice(piece);
                codec::seal(&key, parts, &mut record);
                writes.insert(&key, &record);
            }
        }
        for part in parts..before {
            writes.remove(&row_key(&row.key, part));
        }
        if parts > 0 {
            self.parts.insert(row.key, parts);
        }
    }
}

fn row_key(key: &[u8], part: u16) -> Vec<u8> {
    [&[ROW_TAG], key, &part.to_be_bytes()].concat()
}

fn join(key: &[u8], parts: &[(u16, sled::IVec)]) -> Result<Vec<u8>, Damage> {
    let mut value = Vec::new();
    for (at, (part, record)) in parts.iter().enumerate() {
        let (count, piece) = codec::open(&row_key(key, *part), record)?;
        if usize::from(*part) != at || usize::from(count) != parts.len() {
            return Err(Damage::MissingPart);
        }
        value.extend_from_slice(piece);
    }
    Ok(value)
}
