//! How times, states, durations and numbers are written for people.
//!
//! What is in here writes HTML of its own making from values that it has parsed, and never passes
//! text of others through: that is what makes it fit to stand in a page unescaped.

use std::fmt;

use askama::filters::HtmlSafe;

use crate::clock::{Millis, rfc3339, wall_ms};

const SECOND: Millis = 1000;
const MINUTE: Millis = 60 * SECOND;
const HOUR: Millis = 60 * MINUTE;
const DAY: Millis = 24 * HOUR;

/// What was done, by its name in an address: text in an address is no text on a page.
pub(super) fn done(name: &str) -> Option<&'static str> {
    let text = match name {
        "replayed" => "The delivery is being sent again.",
        "replayed-selected" => "The selected deliveries are being sent again.",
        "canceled" => "The delivery is being canceled.",
        "tested" => "An example event is on its way to this webhook.",
        "created" => "The webhook is saved and gets its events from now on.",
        "saved" => "The changes are saved.",
        "deleted" => "The webhook is deleted.",
        "revoked" => "The key is revoked: it is unknown from now on.",
        "replay-started" => "The replay has begun.",
        "replay-changed" => "The replay was told.",
        _ => return None,
    };
    Some(text)
}

/// A moment: relative, with the exact time behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct When {
    at: Millis,
    now: Millis,
}

impl When {
    pub(super) fn at(at: Millis) -> Self {
        Self { at, now: wall_ms() }
    }

    /// None where the text is no time.
    pub(super) fn of(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Self::at(Millis::try_from(time.as_millisecond()).ok()?))
    }
}

impl HtmlSafe for When {}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = rfc3339(self.at);
        write!(
            f,
            "<time datetime=\"{exact}\" title=\"{exact}\">{}</time>",
            relative(self.at, self.now)
        )
    }
}

/// As people say it.
fn relative(at: Millis, now: Millis) -> String {
    let away = at.abs_diff(now);
    if away < SECOND {
        return "now".to_owned();
    }
    let (count, unit) = match away {
        ..MINUTE => (away / SECOND, "s"),
        MINUTE..HOUR => (away / MINUTE, "min"),
        HOUR..DAY => (away / HOUR, "h"),
        _ => (away / DAY, "d"),
    };
    if at < now { format!("{count} {unit} ago") } else { format!("in {count} {unit}") }
}

/// Where a delivery, a job or a webhook stands: a word, a sign and a colour, never the colour alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Badge {
    class: &'static str,
    sign: &'static str,
    word: &'static str,
}

impl Badge {
    pub(super) fn of(state: &str) -> Self {
        let (class, sign, word) = match state {
            "delivered" => ("good", "✓", "delivered"),
            "failed" => ("bad", "✕", "failed"),
            "retrying" => ("warn", "↻", "retrying"),
            "pending" => ("plain", "…", "pending"),
            "canceled" => ("mute", "⊘", "canceled"),
            "enabled" => ("good", "✓", "enabled"),
            "disabled" => ("mute", "⊘", "disabled"),
            "deleted" => ("mute", "⊘", "deleted"),
            "running" => ("plain", "▶", "running"),
            "paused" => ("warn", "‖", "paused"),
            "done" | "completed" => ("good", "✓", "done"),
            "dry_run" => ("plain", "≈", "counted only"),
            _ => ("plain", "•", "other"),
        };
        Self { class, sign, word }
    }
}

impl HtmlSafe for Badge {}

impl fmt::Display for Badge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, sign, word } = self;
        write!(
            f,
            "<span class=\"badge {class}\"><span aria-hidden=\"true\">{sign}</span>{word}</span>"
        )
    }
}

/// Milliseconds, with as many digits as matter.
pub(super) fn latency(ms: f64) -> String {
    match ms {
        ..1.0 => format!("{ms:.2} ms"),
        1.0..10.0 => format!("{ms:.1} ms"),
        10.0..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.2} s", ms / 1000.0),
    }
}

/// With a thin space between thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

/// Bytes.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        ..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_as_people_tell_them() {
        let now = 1_795_407_600_000;
        for (at, text) in [
            (now, "now"),
            (now - 999, "now"),
            (now - SECOND, "1 s ago"),
            (now - 59 * SECOND, "59 s ago"),
            (now - MINUTE, "1 min ago"),
            (now - 90 * MINUTE, "1 h ago"),
            (now - 3 * DAY, "3 d ago"),
            (now + 16 * SECOND, "in 16 s"),
        ] {
            assert_eq!(relative(at, now), text);
        }
    }

    #[test]
    fn nothing_that_is_no_time_is_written_as_one() {
        for text in ["", "yesterday", "2026-13-01T00:00:00Z", "\"><script>"] {
            assert_eq!(When::of(text), None, "{text}");
        }
        let when = When { at: 1_795_407_600_123, now: 1_795_407_601_500 };
        let html = r#"<time datetime="2026-11-23T04:20:00.123Z" title="2026-11-23T04:20:00.123Z">1 s ago</time>"#;
        assert_eq!(when.to_string(), html);
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1\u{2009}000", "1\u{2009}234\u{2009}567"]
        );
        assert_eq!(
            [0.25, 3.21, 312.4, 15_000.0].map(latency),
            ["0.25 ms", "3.2 ms", "312 ms", "15.00 s"]
        );
        assert_eq!([7, 2048, 5 << 20].map(size), ["7 B", "2.0 KiB", "5.0 MiB"]);
    }
}
