//! A bar for long work, on stderr and only where a person looks at it. Where `NO_COLOR` is set it
//! has no colours.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::environment;

/// How finely a share is shown.
const WHOLE: u64 = 1000;

pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Over a span of time.
    pub(super) fn of_time(span: Duration, is_seen: bool) -> Self {
        Self::new(millis(span), is_seen, "{percent:>3}%")
    }

    /// Over a number of things.
    pub(super) fn of_count(count: u64, is_seen: bool) -> Self {
        Self::new(count, is_seen, "{pos}/{len}")
    }

    /// Over a share, 0 to 1.
    pub(super) fn of_share(is_seen: bool) -> Self {
        Self::new(WHOLE, is_seen, "{percent:>3}%")
    }

    fn new(length: u64, is_seen: bool, what: &str) -> Self {
        let target =
            if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = if environment::no_color() { "{bar:30}" } else { "{bar:30.cyan/dim}" };
        let style = ProgressStyle::with_template(&format!("{bar} {what}  {{msg}}"));
        let style = style.expect("the template is a constant").progress_chars("━━─");
        Self(ProgressBar::with_draw_target(Some(length), target).with_style(style))
    }

    pub(super) fn tell(&self, elapsed: Duration, message: &str) {
        self.at(millis(elapsed), message);
    }

    pub(super) fn at(&self, position: u64, message: &str) {
        self.0.set_message(message.to_owned());
        self.0.set_position(position);
    }

    pub(super) fn at_share(&self, share: f64, message: &str) {
        self.at((share.clamp(0.0, 1.0) * WHOLE as f64) as u64, message);
    }

    /// The bar goes, so that what follows stands alone.
    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
