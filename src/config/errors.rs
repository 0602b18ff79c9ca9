//! What is wrong with a configuration: all of it at once, each with where it was written.

use std::{fmt, path::PathBuf};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `config.toml` as compiled in.
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    /// The name of a variable.
    Environment(String),
    /// A flag as typed, without its value.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `table.key`; empty where the file could not be read so far.
    pub key: String,
    /// As written. None where there is none, or where the key is unknown: an unknown variable may
    /// be a misspelt secret.
    pub value: Option<String>,
    /// What must hold, so that the reader knows what to write instead.
    pub rule: String,
    pub origin: Origin,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.value, self.key.as_str()) {
            (_, "") => write!(f, "{}: {}", self.origin, self.rule),
            (Some(value), key) => write!(f, "{key} = {value} ({}): {}", self.origin, self.rule),
            (None, key) => write!(f, "{key} ({}): {}", self.origin, self.rule),
        }
    }
}

/// Every problem that the layers have, in the order of the keys in `config.toml`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has 1 problem:")?,
            n => write!(f, "the configuration has {n} problems:")?,
        }
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
