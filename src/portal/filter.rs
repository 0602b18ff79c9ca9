//! What narrows a list of deliveries down: as controls, as a line to type, as an address.
//!
//! Values are not judged here. They go to the API as they are, and what it says of them stands beside
//! the list. Only times may be typed as `2h`; in addresses they are made absolute, because a cursor
//! belongs to its filters.

use super::{ask::with_query, form::Pairs};
use crate::{
    clock::{rfc3339, wall_ms},
    config::units::parse_duration,
};

/// What a line calls a filter, and what the API does.
const NAMES: [(&str, &str); 7] = [
    ("webhook", "webhook"),
    ("status", "status"),
    ("type", "event_type"),
    ("code", "code"),
    ("error", "error"),
    ("since", "since"),
    ("until", "until"),
];

/// Filters by the API's names, in a fixed order, none of them empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter(Vec<(&'static str, String)>);

impl Filter {
    /// Of the controls or the address. A control with several values has them with commas.
    pub(super) fn of(query: &Pairs) -> Self {
        let value = |name: &'static str| {
            let values: Vec<_> =
                query.all(name).map(str::trim).filter(|text| !text.is_empty()).collect();
            (!values.is_empty()).then(|| (name, absolute(name, &values.join(","))))
        };
        Self(NAMES.iter().filter_map(|(_, name)| value(name)).collect())
    }

    /// Of a line such as `status:failed code:5xx since:2h`.
    pub(super) fn of_line(line: &str) -> Result<Self, String> {
        let mut given: Vec<(&'static str, String)> = Vec::new();
        for word in line.split_whitespace() {
            let known = NAMES.map(|(short, _)| short).join(", ");
            let (short, value) = word.split_once(':').unwrap_or((word, ""));
            let found = NAMES.iter().find(|(own, api)| *own == short || *api == short);
            match found {
                Some((_, name)) if !value.is_empty() => given.push((name, absolute(name, value))),
                Some(_) => return Err(format!("{short} needs a value, as in {short}:…")),
                None => {
                    return Err(format!(
                        "{short} is no filter; write name:value with one of {known}"
                    ));
                }
            }
        }
        let at = |name: &str| NAMES.iter().position(|(_, own)| *own == name);
        given.sort_by_key(|(name, _)| at(name));
        given.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 = format!("{},{}", first.1, later.1);
            }
            same
        });
        Ok(Self(given))
    }

    /// As it would be typed.
    pub(super) fn line(&self) -> String {
        let short =
            |name: &str| NAMES.iter().find(|(_, api)| *api == name).map_or("", |(short, _)| *short);
        let words: Vec<_> =
            self.0.iter().map(|(name, value)| format!("{}:{value}", short(name))).collect();
        words.join(" ")
    }

    /// The value of a filter; empty where it is not set.
    pub(super) fn value(&self, name: &str) -> &str {
        self.0.iter().find(|(own, _)| *own == name).map_or("", |(_, value)| value)
    }

    /// Whether one of the values with commas is this one.
    pub(super) fn names(&self, name: &str, one: &str) -> bool {
        self.value(name).split(',').any(|value| value == one)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An address under `path`, with a cursor where there is one.
    pub(super) fn at(&self, path: &str, cursor: Option<&str>) -> String {
        let own = self.0.iter().map(|(name, value)| (*name, value.as_str()));
        with_query(path, own.chain(cursor.map(|cursor| ("cursor", cursor))))
    }

    /// The filters that are not among these.
    pub(super) fn beside(&self, names: &[&str]) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).filter(|name| !names.contains(name)).collect()
    }

    /// Only those among these.
    pub(super) fn only(&self, names: &[&str]) -> Self {
        Self(self.0.iter().filter(|(name, _)| names.contains(name)).cloned().collect())
    }
}

/// A time that was typed as an age, as the time that it means now.
pub(super) fn absolute(name: &str, value: &str) -> String {
    let is_time = matches!(name, "since" | "until");
    match parse_duration(value).filter(|_| is_time) {
        Some(age) => rfc3339(wall_ms().saturating_sub(age.as_millis() as u64)),
        None => value.to_owned(),
    }
}

/// Whether an address says a time as an age.
pub(super) fn is_relative(query: &Pairs) -> bool {
    ["since", "until"].iter().any(|name| parse_duration(query.text(name).trim()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_an_address_and_controls_mean_the_same() {
        let typed = Filter::of_line("code:5xx  status:failed status:canceled type:message.sent");
        let typed = typed.expect("a line");
        let query = b"status=failed&status=canceled&code=5xx&event_type=message.sent&webhook=+&q=";
        assert_eq!(typed, Filter::of(&Pairs::of(query)));
        assert_eq!(typed.line(), "status:failed,canceled type:message.sent code:5xx");
        assert_eq!(Filter::of_line(&typed.line()), Ok(typed.clone()));
        let address = typed.at("/x", Some("c"));
        let (_, query) = address.split_once('?').expect("a query");
        assert_eq!(Filter::of(&Pairs::of(query.as_bytes())), typed);
        assert!(typed.names("status", "canceled") && !typed.names("status", "cancel"));
        assert_eq!(typed.beside(&["status", "event_type"]), ["code"]);
    }

    #[test]
    fn what_is_no_filter_is_said() {
        for (line, said) in [
            ("colour:red", "colour is no filter"),
            ("status:", "status needs a value"),
            ("failed", "failed is no filter"),
        ] {
            let error = Filter::of_line(line).expect_err(line);
            assert!(error.starts_with(said), "{error}");
        }
    }

    #[test]
    fn an_age_becomes_a_time() {
        let typed = Filter::of_line("since:2h until:2026-11-23T04:20:00Z").expect("a line");
        assert!(typed.value("since").ends_with('Z'), "{}", typed.value("since"));
        assert_eq!(typed.value("until"), "2026-11-23T04:20:00Z");
        assert!(is_relative(&Pairs::of(b"since=2h")) && !is_relative(&Pairs::of(b"since=")));
    }
}
