//! Rows of the directory, as the store sees them.

use tokio::sync::oneshot;

use super::{NewEvent, Store, StoreError, Write};

/// A directory row; the value is none where the row is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

impl Write {
    /// Whether it can be done before anyone is fed. Rows with events are overtaken by rows without
    /// then: whoever writes a row twice waits for the first answer.
    pub(super) fn needs_no_feed(&self) -> bool {
        match self {
            Write::Rows { events, .. } => events.is_empty(),
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
        self.put_rows_and_events(rows, Vec::new()).await
    }

    /// Writes directory rows and appends events that tell of their change, durably, both or neither.
    pub async fn put_rows_and_events(
        &self,
        rows: Vec<Row>,
        events: Vec<NewEvent>,
    ) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let write = Write::Rows { rows, events, reply };
        self.writes.send(write).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}
