//! All that an engine did in a run, as one number: two runs that differ anywhere differ in it.

use std::{
    fmt::{self, Write as _},
    hash::{DefaultHasher, Hasher as _},
};

use senderz_gateway::{clock::Millis, engine::Effect};

#[derive(Clone, Default)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    effects: u64,
}

impl Trace {
    pub(crate) fn add(&mut self, at: Millis, effect: &Effect) {
        self.effects += 1;
        write!(Text(&mut self.hasher), "{at} {effect:?}").expect("a hash takes everything");
    }

    pub(crate) fn effects(&self) -> u64 {
        self.effects
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

/// What is written goes into the hash, and nowhere else.
struct Text<'a>(&'a mut DefaultHasher);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
