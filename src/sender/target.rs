//! A webhook made ready to be called: everything that does not change between its attempts.
#[derive(Debug)]
pub struct Target {}
