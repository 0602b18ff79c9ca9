//! Skip: the places that a spilled lane must not take when it reads its stretch of the log back.
//!
//! One bit for each place, in words of 64 neighbours. So the memory is bounded by the log: a block
//! of about 16 KiB holds few events, and costs a lane a word or two and their names (some 50 bytes)
//! however many of them are to be skipped.

use std::collections::BTreeMap;

use crate::id::Place;

const BITS: u64 = u64::BITS as u64;

#[derive(Debug, Default)]
pub(super) struct Skip {
    /// By the places' numbers divided by the bits of a word. No word is zero.
    words: BTreeMap<u64, u64>,
}

impl Skip {
    /// Whether it is new.
    pub(super) fn insert(&mut self, place: Place) -> bool {
        let (name, bit) = split(place);
        let word = self.words.entry(name).or_default();
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, place: Place) -> bool {
        let (name, bit) = split(place);
        let Some(word) = self.words.get_mut(&name).filter(|word| **word & bit != 0) else {
            return false;
        };
        *word &= !bit;
        if *word == 0 {
            self.words.remove(&name);
        }
        true
    }

    /// What comes before this place will not be read again.
    pub(super) fn forget_before(&mut self, place: Place) {
        let (name, bit) = split(place);
        while let Some(first) = self.words.first_entry().filter(|first| *first.key() < name) {
            first.remove();
        }
        if let Some(first) = self.words.first_entry().filter(|first| *first.key() == name) {
            let kept = first.get() & !(bit - 1);
            if kept == 0 {
                first.remove();
            } else {
                *first.into_mut() = kept;
            }
        }
    }
}

fn split(place: Place) -> (u64, u64) {
    let number = place.as_u64();
    (number / BITS, 1 << (number % BITS))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Insert(u64),
        Remove(u64),
        Forget(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        let place = 0u64..400;
        prop_oneof![
            4 => place.clone().prop_map(Act::Insert),
            2 => place.clone().prop_map(Act::Remove),
            1 => place.prop_map(Act::Forget),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_places(acts in prop::collection::vec(act(), 1..200)) {
            let (mut skip, mut model) = (Skip::default(), BTreeSet::new());
            for act in acts {
                match act {
                    Act::Insert(n) => {
                        prop_assert_eq!(skip.insert(Place::from_u64(n)), model.insert(n));
                    }
                    Act::Remove(n) => {
                        prop_assert_eq!(skip.remove(Place::from_u64(n)), model.remove(&n));
                    }
                    Act::Forget(n) => {
                        skip.forget_before(Place::from_u64(n));
                        model = model.split_off(&n);
                    }
                }
                let words: BTreeSet<u64> = model.iter().map(|n| n / BITS).collect();
                prop_assert!(skip.words.keys().eq(&words), "{:?} for {:?}", skip, model);
            }
            let left: Vec<_> = (0..400).filter(|n| skip.remove(Place::from_u64(*n))).collect();
            prop_assert!(left.iter().eq(&model));
        }
    }

    #[test]
    fn a_block_costs_a_word_however_many_of_its_places_are_skipped() {
        let mut skip = Skip::default();
        for block in 0..100 {
            for index in 0..60 {
                skip.insert(Place::new(block, index));
            }
        }
        assert_eq!(skip.words.len(), 100);
    }
}
