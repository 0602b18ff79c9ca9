//! Reads merged layers key by key, with the rule for each, and collects what breaks one.
//!
//! After a problem reading goes on with the key's default, so that one mistake does not hide the
//! next. Nothing of the result is used then: the caller refuses the whole configuration.

use std::{
    collections::BTreeSet, num::NonZeroU32, ops::RangeInclusive, path::PathBuf, time::Duration,
};

use super::{
    errors::Problem,
    layers::Layers,
    units::{self, DURATION_RULE, SIZE_RULE},
    value::Value,
};

pub(super) struct Reader<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
    read: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers, problems: Vec<Problem>) -> Self {
        Self { layers, problems, read: BTreeSet::new() }
    }

    /// What is wrong, in the order of `config.toml`'s keys; what belongs to none comes first.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let unread: Vec<_> =
            self.layers.keys.iter().filter(|key| !self.read.contains(key.as_str())).collect();
        assert!(unread.is_empty(), "config.toml has keys that nothing reads: {unread:?}");
        let mut problems = self.problems;
        problems.sort_by_key(|problem| self.layers.keys.iter().position(|k| *k == problem.key));
        problems
    }

    /// A value by its own rule; `Err` is the rule that it breaks.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> T {
        self.read.insert(key);
        match parse(&self.layers.entry(key).value) {
            Ok(value) => value,
            Err(rule) => {
                self.problem(key, rule);
                parse(self.layers.default_of(key)).expect("a default keeps its own rule")
            }
        }
    }

    /// A rule between keys, told about the first of them. It is not judged where one of them is
    /// already a problem.
    pub(super) fn rule(&mut self, keys: &[&'static str], holds: bool, rule: impl Into<String>) {
        let judged = keys.iter().all(|key| self.problems.iter().all(|p| p.key != *key));
        if judged && !holds {
            self.problem(keys[0], rule.into());
        }
    }

    fn problem(&mut self, key: &'static str, rule: String) {
        let entry = self.layers.entry(key);
        self.problems.push(Problem {
            key: key.to_owned(),
            value: Some(entry.value.to_string()),
            rule,
            origin: entry.origin.clone(),
        });
    }

    pub(super) fn bool(&mut self, key: &'static str) -> bool {
        self.value(key, |value| value.as_bool().ok_or_else(|| "must be true or false".to_owned()))
    }

    pub(super) fn count(&mut self, key: &'static str, range: RangeInclusive<u64>) -> usize {
        self.value(key, |value| match value.as_u64() {
            Some(number) if range.contains(&number) => Ok(number as usize),
            _ => Err(format!("must be a whole number from {} to {}", range.start(), range.end())),
        })
    }

    /// A number that is never zero.
    pub(super) fn some(&mut self, key: &'static str, most: u32) -> NonZeroU32 {
        let number = self.count(key, 1..=u64::from(most));
        u32::try_from(number).ok().and_then(NonZeroU32::new).expect("the range was checked")
    }

    pub(super) fn share(&mut self, key: &'static str, range: RangeInclusive<f64>) -> f64 {
        self.value(key, |value| match value.as_f64() {
            Some(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("must be a number from {:?} to {:?}", range.start(), range.end())),
        })
    }

    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.value(key, |value| duration(value, &range))
    }

    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> u64 {
        self.value(key, |value| {
            let bytes = value.as_u64().or_else(|| units::parse_size(value.as_str()?));
            let bytes = bytes.ok_or(SIZE_RULE)?;
            if range.contains(&bytes) {
                return Ok(bytes);
            }
            let [least, most] = [range.start(), range.end()].map(|b| units::format_size(*b));
            Err(format!("must be from {least} to {most}"))
        })
    }

    pub(super) fn text(&mut self, key: &'static str) -> String {
        self.value(key, |value| Ok(value.as_str().ok_or("must be text in quotes")?.to_owned()))
    }

    /// A path; none where it is empty.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key);
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    /// One of a closed list of words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> T {
        self.value(key, |value| {
            let found = words.iter().find(|(word, _)| Some(*word) == value.as_str());
            found.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                format!("must be {}", words.join(" or "))
            })
        })
    }

    /// A list whose every item keeps the same rule.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Vec<T> {
        self.value(key, |value| {
            let items = value.as_list().ok_or("must be a list")?;
            items.iter().map(|item| parse(item).map_err(|rule| format!("{item}: {rule}"))).collect()
        })
    }
}

/// A duration within a range, for keys and for items of lists.
pub(super) fn duration(
    value: &Value,
    range: &RangeInclusive<Duration>,
) -> Result<Duration, String> {
    let duration = value.as_str().and_then(units::parse_duration).ok_or(DURATION_RULE)?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let [least, most] = [range.start(), range.end()].map(|d| units::format_duration(*d));
    Err(format!("must be from {least} to {most}"))
}
