//! RFC 3339 date-times, checked without building one.
//!
//! A full parse (`jiff`) costs more than the rest of a payload's walk; nothing here needs the
//! instant itself, which the receiver reads from the untouched text.

/// A fraction has no limit in the grammar; a text longer than this is not a time.
const MAX_LEN: usize = 64;

/// Whether `text` is `date-time` of RFC 3339 section 5.6: upper or lower case `T` and `Z`, any
/// number of fraction digits, a numeric offset or `Z`. A leap second (`:60`) is allowed at any
/// minute, because which ones exist is not known in advance.
pub(super) fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() > MAX_LEN || bytes.len() < "2026-11-23T04:20:00Z".len() {
        return false;
    }
    let (clock, rest) = bytes.split_at(19);
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.into_iter().any(|(at, byte)| clock[at] != byte)
        || !clock[10].eq_ignore_ascii_case(&b'T')
    {
        return false;
    }
    let year = digits(&clock[0..4]);
    let month = digits(&clock[5..7]);
    let day = digits(&clock[8..10]);
    let (Some(year), Some(month), Some(day)) = (year, month, day) else { return false };
    (1..=days_in(year, month)).contains(&day)
        && digits(&clock[11..13]).is_some_and(|hour| hour <= 23)
        && digits(&clock[14..16]).is_some_and(|minute| minute <= 59)
        && digits(&clock[17..19]).is_some_and(|second| second <= 60)
        && is_offset(after_fraction(rest))
}

/// The number that all-digit `text` writes.
fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'))
    })
}

/// 0 where there is no such month, so that no day is in it.
fn days_in(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 0,
    }
}

/// What follows `.` and at least one digit; all of `rest` where there is no fraction.
fn after_fraction(rest: &[u8]) -> &[u8] {
    let Some(fraction) = rest.strip_prefix(b".") else { return rest };
    match fraction.iter().position(|byte| !byte.is_ascii_digit()) {
        Some(0) | None => rest,
        Some(end) => &fraction[end..],
    }
}

fn is_offset(text: &[u8]) -> bool {
    match text {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', hour @ .., b':', m1, m2] if hour.len() == 2 => {
            digits(hour).is_some_and(|hour| hour <= 23)
                && digits(&[*m1, *m2]).is_some_and(|minute| minute <= 59)
        }
        _ => false,
    }
}
