//! Rows of the directory, as the store sees them.

use tokio::sync::oneshot;

use super::{NewEvent, Store, StoreError, Write};
use crate::delivery::Entry;

/// A directory row; the value is none where the row is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// What is written together, all or none of it.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    pub rows: Vec<Row>,
    /// They tell of the rows' change, are taken however full the disk is, and have no idempotency
    /// keys.
    pub events: Vec<NewEvent>,
    /// Entries of the attempt log that the rows tell of.
    pub entries: Vec<Entry>,
}

impl Write {
    /// Whether it can be done before anyone is fed. Rows with events or entries are overtaken by
    /// rows without then: whoever writes a row twice waits for the first answer.
    pub(super) fn needs_no_feed(&self) -> bool {
        match self {
            Write::Rows { bundle, .. } => bundle.events.is_empty() && bundle.entries.is_empty(),
            Write::Close { .. } => true,
            Write::Append { .. }
            | Write::Entries { .. }
            | Write::Erase { .. }
            | Write::Scrub { .. }
            | Write::Backup { .. } => false,
        }
    }
}

impl Store {
    /// Writes directory rows durably.
    pub async fn put_rows(&self, rows: Vec<Row>) -> Result<(), StoreError> {
        self.put(Bundle { rows, ..Bundle::default() }).await
    }

    /// Writes all of it durably, or nothing.
    pub async fn put(&self, bundle: Bundle) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let write = Write::Rows { bundle, reply };
        self.writes.send(write).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}
