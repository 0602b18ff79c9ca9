//! Every place of the database's file in turn: one bit flipped, or the file cut there.
//!
//! A start either has everything, bit for bit, or refuses with a sentence. Twice over: the first
//! start after damage writes to the file, and what it wrote must not hide the damage from the next.

use std::{fs, sync::Arc};

use super::{
    Dir, delivered,
    loss::{Ended, start, with_db},
};
use crate::{
    id::{DeliveryKey, WebhookNo},
    store::{EventBlock, contract_tests::event},
};

const EVENTS: usize = 24;

/// Bytes between two places: 16 in `scripts/test damage`, which is built for it, and
/// many in the plain run.
fn step() -> usize {
    const PLAIN: usize = 16 * 101;
    option_env!("DAMAGE_STEP").map_or(PLAIN, |step| step.parse().expect("a number of bytes"))
}

/// What a store holds: the deliveries that wait, and every block as it is read.
#[derive(Debug, PartialEq)]
struct Held {
    waiting: Vec<DeliveryKey>,
    blocks: Vec<Option<Arc<EventBlock>>>,
}

fn held(dir: &Dir, blocks: u64) -> Held {
    let running = dir.start();
    let mut waiting: Vec<_> = running.recovered.iter().map(|recovered| recovered.key).collect();
    waiting.sort_unstable_by_key(|key| (key.place, key.webhook));
    let read = |block| running.runtime.block_on(running.store.block(block)).expect("a whole block");
    let blocks = (0..blocks).map(read).collect();
    running.close();
    Held { waiting, blocks }
}

#[test]
fn a_flipped_bit_or_a_cut_anywhere_in_the_log_is_noticed_or_did_not_matter() {
    let dir = Dir::new();
    let running = dir.start();
    let mut blocks = 0;
    for n in 0..EVENTS {
        let payload = format!("{n:0>5} {}", "payload ".repeat(n * 7 % 60));
        let place = running.append(vec![event(&payload, &[1])]).unwrap()[0].id.place;
        if n % 3 == 0 {
            running.record(vec![delivered(DeliveryKey { place, webhook: WebhookNo(1) })]);
        }
        blocks = place.block() + 1;
    }
    running.close();
    let whole = held(&dir, blocks);
    assert_eq!(whole.waiting.len(), EVENTS - EVENTS / 3);

    let db = fs::read(dir.data().join("store/db")).unwrap();
    let end = db.iter().rposition(|byte| *byte != 0).expect("it is not empty") + 1;
    let (mut refused, mut harmless) = (0, 0);
    for at in (0..end).step_by(step()) {
        let flipped = with_db(&dir, |bytes| bytes[at] ^= 1 << (at / 16 % 8));
        let cut = with_db(&dir, |bytes| bytes.truncate(at));
        for (what, damaged) in [("flipped", flipped), ("cut", cut)] {
            match start(&damaged) {
                Ended::Refused(_) => {
                    let again = start(&damaged);
                    assert!(matches!(again, Ended::Refused(_)), "{what} at {at}, then: {again:?}");
                    refused += 1;
                }
                Ended::Whole(_) => {
                    assert_eq!(held(&damaged, blocks), whole, "{what} at {at}");
                    harmless += 1;
                }
            }
        }
    }
    let places = refused + harmless;
    println!("damage: {places} places of {end} bytes, {refused} refused, {harmless} harmless");
    assert!(refused > harmless, "most of the file matters");
}
