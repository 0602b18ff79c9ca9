//! The portal over HTTP, as browsers without JavaScript use it, and as others should not.

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod fence;
mod flows;
mod sessions;
mod slow;
mod visitor;
