//! Durations and sizes as people write them.
//!
//! One number and one unit. A bare number is refused as a duration, because nobody can tell
//! seconds from milliseconds; as a size it is bytes.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

pub const DURATION_RULE: &str = "a duration is a number and a unit: 250ms, 15s, 5m, 24h or 3d";
pub const SIZE_RULE: &str = "a size is a number and a unit: 512B, 64KiB, 16MiB or 10GiB";

/// `"15s"`; none where it is anything but one whole number with one of ms, s, m, h, d.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, factor) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(number.checked_mul(factor)?))
}

/// `"64KiB"` or `"65536"`, in bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Some(number);
    }
    let (_, factor) = SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(factor)
}

/// The shortest exact way to write a duration of whole milliseconds.
pub fn format_duration(duration: Duration) -> String {
    largest_unit(duration.as_millis() as u64, &DURATION_UNITS, "ms")
}

/// The shortest exact way to write a size.
pub fn format_size(bytes: u64) -> String {
    largest_unit(bytes, &SIZE_UNITS, "B")
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn largest_unit(number: u64, units: &[(&str, u64)], smallest: &str) -> String {
    units
        .iter()
        .rev()
        .find(|(_, factor)| number != 0 && number.is_multiple_of(*factor))
        .map_or_else(
            || format!("0{smallest}"),
            |(unit, factor)| format!("{}{unit}", number / factor),
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_is_one_number_and_one_unit() {
        let check = |text: &str, millis: Option<u64>| {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text:?}");
        };
        check("250ms", Some(250));
        check("15s", Some(15_000));
        check(" 5 m ", Some(300_000));
        check("24h", Some(86_400_000));
        check("3d", Some(259_200_000));
        check("0s", Some(0));
        for refused in
            ["", "s", "15", "1.5s", "-1s", "1h30m", "15sec", "15S", "99999999999999999999s"]
        {
            check(refused, None);
        }
        check("18446744073709551615d", None);
    }

    #[test]
    fn a_size_is_bytes_or_a_binary_unit() {
        let check = |text: &str, bytes: Option<u64>| {
            assert_eq!(parse_size(text), bytes, "{text:?}");
        };
        check("65536", Some(65_536));
        check("512B", Some(512));
        check("64KiB", Some(65_536));
        check("16 MiB", Some(16 << 20));
        check("10GiB", Some(10 << 30));
        for refused in
            ["", "KiB", "64KB", "64kib", "64k", "1.5MiB", "-1", "18446744073709551615KiB"]
        {
            check(refused, None);
        }
    }

    proptest! {
        #[test]
        fn what_is_formatted_reads_back(number in 0..u64::MAX / 2) {
            prop_assert_eq!(parse_size(&format_size(number)), Some(number));
            let duration = Duration::from_millis(number);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }
    }
}
