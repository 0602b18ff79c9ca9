//! A probe beside the gateway that writes and syncs as it does, so that what a busy machine or its
//! disk kept everybody waiting for is not taken for the gateway's.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{eventually, now};

/// Between two writes.
const EVERY: Duration = Duration::from_millis(10);
/// A stall of the machine counts for a moment if it ended so shortly before it, or later.
const SPAN: Duration = Duration::from_millis(500);

/// Sleeps, writes and syncs in turns, as the gateway's store does, and notes what took long. Ends
/// with its handle.
pub struct Probe(Arc<Mutex<Vec<(Instant, Duration)>>>);

impl Probe {
    pub fn start(dir: &Path) -> Self {
        let mut file = File::create(dir.join("probe")).expect("it can be written");
        let turns = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::downgrade(&turns);
        std::thread::spawn(move || {
            while let Some(turns) = told.upgrade() {
                let began = now();
                std::thread::sleep(EVERY);
                file.write_all(&[7; 4096]).expect("there is room");
                file.sync_data().expect("the disk works");
                let took = began.elapsed().saturating_sub(EVERY);
                turns.lock().expect("no panic").push((now(), took));
            }
        });
        Self(turns)
    }

    /// The longest that ended within [`SPAN`] before `at` or was under way then.
    pub fn stall(&self, at: Instant) -> Duration {
        eventually("the probe's next turn", Duration::from_secs(60), || {
            let turns = self.0.lock().expect("no panic");
            let under_way = turns.iter().position(|(ended, _)| *ended > at)?;
            let until = turns[..=under_way].iter().rev();
            let near = until.take_while(|(ended, _)| *ended + SPAN >= at);
            near.map(|(_, took)| *took).max()
        })
    }
}
