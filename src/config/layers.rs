//! The layers of a configuration, merged key by key: what is written, and where.
//!
//! All keys are `key` or `table.key`, so a layer is a flat map. The compiled-in `config.toml` is
//! the list of the keys that exist; any other key is a problem, with the nearest one as a hint.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use super::{
    environment,
    errors::{Origin, Problem},
    value::Value,
    written::Written,
};

/// The base layer: every key at its default.
pub const DEFAULTS: &str = include_str!("../../config.toml");

/// A configuration file is read up to here.
const MAX_FILE: u64 = 1 << 20;
/// How much an unknown key must resemble a known one for a hint, 1 being the same.
const MIN_LIKENESS: f64 = 0.6;

/// Where to look, in rising precedence. Kept by whoever reloads.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `SENDERZ_*` variables, by name.
    pub environment: Vec<(String, OsString)>,
    /// Flags, in the order typed; a later one wins.
    pub flags: Vec<FlagSetting>,
}

/// A key set on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagSetting {
    /// As typed, for messages: `--listen`, `--set`.
    pub flag: &'static str,
    pub key: String,
    pub value: String,
}

impl Sources {
    /// With this process's environment.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<FlagSetting>) -> Self {
        Self { file, environment: environment::settings(), flags }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) struct Layers {
    /// The keys in the order of `config.toml`.
    pub(super) keys: Vec<String>,
    defaults: BTreeMap<String, Value>,
    merged: BTreeMap<String, Entry>,
}

impl Layers {
    /// Merges all sources; what cannot be merged is a problem.
    pub(super) fn merge(sources: &Sources) -> (Self, Vec<Problem>) {
        let Written { entries: base, problems, .. } = Written::read(DEFAULTS, |_| Origin::Default);
        assert!(problems.is_empty(), "config.toml is part of the program: {problems:?}");
        let mut layers = Self {
            keys: base.iter().map(|(key, _)| key.clone()).collect(),
            defaults: base.iter().map(|(key, entry)| (key.clone(), entry.value.clone())).collect(),
            merged: base.into_iter().collect(),
        };
        let mut problems = Vec::new();
        layers.add_file(sources, &mut problems);
        for (name, value) in &sources.environment {
            layers.add_variable(name, value, &mut problems);
        }
        for FlagSetting { flag, key, value } in &sources.flags {
            let origin = Origin::Flag((*flag).to_owned());
            let entry = Entry { value: Value::Untyped(value.clone()), origin };
            layers.set(key, entry, &mut problems);
        }
        (layers, problems)
    }

    /// What holds for a key of `config.toml`.
    pub(super) fn entry(&self, key: &str) -> &Entry {
        self.merged.get(key).unwrap_or_else(|| panic!("config.toml has no key {key}"))
    }

    pub(super) fn default_of(&self, key: &str) -> &Value {
        self.defaults.get(key).unwrap_or_else(|| panic!("config.toml has no key {key}"))
    }

    fn add_file(&mut self, sources: &Sources, problems: &mut Vec<Problem>) {
        let Some(path) = &sources.file else { return };
        let text = match read_file(path) {
            Ok(text) => text,
            Err(reason) => {
                problems.push(Problem {
                    key: String::new(),
                    value: None,
                    rule: format!("the configuration file cannot be read: {reason}"),
                    origin: Origin::Flag(format!("--config {}", path.display())),
                });
                return;
            }
        };
        let written = Written::read(&text, |line| Origin::File { path: path.clone(), line });
        problems.extend(written.problems);
        for (key, entry) in written.entries {
            self.set(&key, entry, problems);
        }
        for (table, origin) in written.empty_tables {
            problems.extend(self.unknown_table(table, origin));
        }
    }

    /// A table without keys sets nothing; what would be set in one that does not exist was meant
    /// for another.
    fn unknown_table(&self, table: String, origin: Origin) -> Option<Problem> {
        let known = || self.keys.iter().filter_map(|key| Some(key.split_once('.')?.0));
        if known().any(|known| known == table) {
            return None;
        }
        let likeness = |known: &str| strsim::normalized_damerau_levenshtein(&table, known);
        let nearest = known().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let nearest = nearest.filter(|known| likeness(known) >= MIN_LIKENESS);
        let hint = nearest.map(|near| format!("; the nearest is {near}")).unwrap_or_default();
        let rule = format!("there is no such table{hint}");
        Some(Problem { key: table, value: None, rule, origin })
    }

    fn add_variable(&mut self, name: &str, value: &OsString, problems: &mut Vec<Problem>) {
        let origin = Origin::Environment(name.to_owned());
        let key = name[environment::PREFIX.len()..].to_lowercase().replacen("__", ".", 1);
        match value.to_str() {
            Some(text) => {
                let entry = Entry { value: Value::Untyped(text.to_owned()), origin };
                self.set(&key, entry, problems);
            }
            None => problems.push(Problem {
                key,
                value: None,
                rule: "the value is not UTF-8".to_owned(),
                origin,
            }),
        }
    }

    fn set(&mut self, key: &str, entry: Entry, problems: &mut Vec<Problem>) {
        if let Some(slot) = self.merged.get_mut(key) {
            *slot = entry;
            return;
        }
        let hint = match (self.nearest(key), &entry.origin) {
            (None, _) => String::new(),
            (Some(near), Origin::Environment(_)) => {
                format!("; the nearest is {}", variable_name(near))
            }
            (Some(near), _) => format!("; the nearest is {near}"),
        };
        problems.push(Problem {
            key: key.to_owned(),
            value: None,
            rule: format!("there is no such key{hint}"),
            origin: entry.origin,
        });
    }

    /// The known key that an unknown one most resembles: by the whole name, and where the last
    /// part is exactly that of a key, by that (`listen` is nearer to `server.listen` than to
    /// `dns.min_ttl`). None where even that one is too far to have been meant.
    fn nearest(&self, key: &str) -> Option<&str> {
        let same_leaf = |known: &str| known.rsplit('.').next() == key.rsplit('.').next();
        let nearest = self.keys.iter().min_by_key(|known| {
            let distance = strsim::damerau_levenshtein(key, known);
            if same_leaf(known) { distance / 2 } else { distance }
        })?;
        let likeness = strsim::normalized_damerau_levenshtein(key, nearest);
        (same_leaf(nearest) || likeness >= MIN_LIKENESS).then_some(nearest)
    }
}

/// The variable that sets a key.
fn variable_name(key: &str) -> String {
    format!("{}{}", environment::PREFIX, key.replace('.', "__").to_uppercase())
}

fn read_file(path: &std::path::Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE {
        return Err(format!("it has {size} bytes, the most is {MAX_FILE}"));
    }
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}
