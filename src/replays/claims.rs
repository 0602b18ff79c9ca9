//! Who is reopening which delivery right now.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::id::DeliveryKey;

/// Bounded by the requests under way and by what the jobs feed at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(Arc<Mutex<HashSet<DeliveryKey>>>);

impl Claims {
    pub(super) fn claim(&self, key: DeliveryKey) -> Option<Claim> {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.insert(key).then(|| Claim { key, claims: self.clone() })
    }
}

/// A delivery that nobody else reopens until this is dropped.
#[derive(Debug)]
pub struct Claim {
    key: DeliveryKey,
    claims: Claims,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
