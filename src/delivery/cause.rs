//! Why an attempt failed, in plain words, and what mends it.
//!
//! Everything here is derived from what the attempt log holds anyway: the error's code and detail,
//! the status, the response's headers. So an attempt of long ago is explained as well as one of
//! today, and a better sentence needs no migration. Two closed tables in `table` say it all; tests
//! hold the sender's words, the tables and `docs/causes.md` together.
//!
//! It says nothing that the attempt does not show already: no address, no rule of the guard's, no
//! secret. What a receiver wrote (a `Location`, a certificate's names) is cut and escaped.

mod table;

pub use self::table::{ANSWERED, Answered, CHALLENGED, UNANSWERED, Unanswered};
use super::{Attempt, ErrorCode, KeptResponse};

/// What an attempt's error says beyond its code and detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What happened.
    pub words: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// The most of a receiver's own text in a cause, bytes.
const QUOTE: usize = 200;

impl Attempt {
    /// None where the attempt did not fail.
    pub fn cause(&self) -> Option<Cause> {
        let error = self.error.as_ref()?;
        match (error.code, self.status) {
            (ErrorCode::Status, Some(status)) => Some(of_status(status, &self.response)),
            (code, _) => Some(of_detail(code, &error.detail)),
        }
    }
}

/// The row for a detail: the first whose words it holds.
pub fn unanswered(code: ErrorCode, detail: &str) -> &'static Unanswered {
    let fits = |row: &&Unanswered| row.code == code && detail.contains(row.said);
    UNANSWERED.iter().find(fits).expect("the last row of each code takes every detail")
}

fn of_detail(code: ErrorCode, detail: &str) -> Cause {
    let row = unanswered(code, detail);
    let rest = detail.split_once(row.said).map_or("", |(_, rest)| rest);
    let words = if row.with_rest { row.words.to_owned() + &quote(rest) } else { row.words.into() };
    Cause { words, hint: row.hint }
}

/// The row for a status: the first whose range holds it.
pub fn answered(status: u16) -> &'static Answered {
    let fits = |row: &&Answered| (row.from..=row.until).contains(&status);
    ANSWERED.iter().find(fits).expect("the last row takes every status")
}

fn of_status(status: u16, response: &KeptResponse) -> Cause {
    let row = answered(status);
    let mut words = format!("the receiver answered {status}: {}", row.words);
    // What the receiver added to its answer so that a client can tell more.
    let said = match status {
        300..=399 => header(response, "location").map(|to| format!("; it points to {to}")),
        401 => header(response, "www-authenticate").map(|asked| {
            // Only the scheme: what follows can be long, and is in the response anyway.
            format!("; it asks for {}", asked.split([' ', ',']).next().unwrap_or_default())
        }),
        405 => header(response, "allow").map(|methods| format!("; it allows {methods}")),
        429 | 503 => {
            header(response, "retry-after").map(|wish| format!("; its Retry-After is {wish}"))
        }
        _ => None,
    };
    words.push_str(&said.unwrap_or_default());
    let challenged = status == 403 && header(response, "cf-mitigated").is_some();
    Cause { words, hint: if challenged { CHALLENGED } else { row.hint } }
}

/// A header of the response, as far as it was kept.
fn header(response: &KeptResponse, wanted: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&response.headers);
    let line = text.split("\r\n").filter_map(|line| line.split_once(':'));
    let mut values = line.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    values.next().map(|(_, value)| quote(value.trim())).filter(|value| !value.is_empty())
}

/// A receiver's own words: cut, and unable to move a cursor.
fn quote(text: &str) -> String {
    let end = (0..=text.len().min(QUOTE)).rev().find(|&at| text.is_char_boundary(at));
    let text = &text[..end.unwrap_or(0)];
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests;
