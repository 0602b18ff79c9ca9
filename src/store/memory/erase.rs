//! How the reference store forgets.

use std::sync::Arc;

use super::State;
use crate::{
    clock::Millis,
    id::Place,
    store::{
        Erasure, EventBlock,
        erasure::{redact, tells_of_response},
    },
};

impl State {
    /// What is left of the blocks in which something was erased.
    pub(super) fn erase(&mut self, erasure: &Erasure) -> Vec<Arc<EventBlock>> {
        self.erased.extend(&erasure.places);
        let mut changed = Vec::new();
        for place in &erasure.places {
            let Some(block) = self.blocks.get_mut(&place.block()) else { continue };
            let index = usize::from(place.index());
            if block.events.get(index).is_some_and(|event| !event.erased) {
                forget(Arc::make_mut(block), index, erasure.at);
                changed.push(place.block());
            }
        }
        for number in &erasure.entries {
            let entry = self.entries.get_mut(*number as usize);
            if let Some(entry) = entry.filter(|e| erasure.places.contains(&e.key.place)) {
                redact(entry);
            }
        }
        changed.dedup();
        changed.iter().map(|number| Arc::clone(&self.blocks[number])).collect()
    }

    pub(super) fn responses(&self, places: &[Place]) -> Vec<u64> {
        let entries = (0..).zip(&self.entries);
        let about = entries.filter(|(_, e)| places.contains(&e.key.place) && tells_of_response(e));
        about.map(|(number, _)| number).collect()
    }
}

/// Puts the time where the payload was, and moves what stands behind it.
fn forget(block: &mut EventBlock, index: usize, at: Millis) {
    let (from, to) = block.events[index].payload;
    let mut bytes = block.bytes.to_vec();
    bytes.splice(from as usize..to as usize, at.to_le_bytes());
    block.bytes = bytes.into();
    let shift = |end: u32| end - to + from + size_of::<Millis>() as u32;
    for (other, event) in block.events.iter_mut().enumerate() {
        if other == index {
            event.erased = true;
            event.payload.1 = shift(to);
        } else if event.payload.0 >= to {
            event.payload = (shift(event.payload.0), shift(event.payload.1));
        }
    }
}
