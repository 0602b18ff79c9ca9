//! The URL's parameters as they were written, and which of their names are taken.

use super::{Code, FieldError, Problem, query::Query};
use crate::problem;

/// The most wrong things that one answer names.
pub(super) const MAX_ERRORS: usize = 20;

/// A request's parameters, decoded, in the order written. What is wrong with their names is noted,
/// and said together with what is wrong with their values: see [`Params::read`].
#[derive(Clone, Debug)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
    errors: Errors,
}

impl Params {
    pub(super) fn of(query: &str, known: &[&str]) -> Self {
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let errors = Errors::of_names(pairs.iter().map(|(name, _)| name.as_str()), known);
        Self { pairs, errors }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Takes the values; every handler of a route with parameters has to [`Query::finish`] it.
    pub(super) fn read(&self) -> Query<'_> {
        Query::new(self, self.errors.clone())
    }

    /// What narrows the list down: all but the page's own parameters, in a fixed order.
    pub(super) fn filters(&self) -> Vec<(&str, &str)> {
        let mut filters: Vec<_> =
            self.iter().filter(|(name, _)| !matches!(*name, "limit" | "cursor")).collect();
        filters.sort_unstable();
        filters
    }
}

/// What is wrong with a request's parameters, the first [`MAX_ERRORS`] of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    /// Notes names that are not known, and names that appear more than once.
    fn of_names<'a>(names: impl Iterator<Item = &'a str>, known: &[&str]) -> Self {
        let mut errors = Self::default();
        let mut times = vec![0_usize; known.len()];
        for name in names {
            if errors.0.len() >= MAX_ERRORS {
                break;
            }
            match known.iter().position(|known| *known == name) {
                None => errors.note(name, unknown(name, known)),
                Some(at) => {
                    times[at] += 1;
                    if times[at] == 2 {
                        errors.note(name, "it may appear once");
                    }
                }
            }
        }
        errors
    }

    /// Notes what is wrong with the parameter `name`.
    pub(super) fn note(&mut self, name: &str, detail: impl Into<String>) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(FieldError::new(format!("?{name}"), detail));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.is_empty() {
            return Ok(());
        }
        Err(Problem::fields(Code::InvalidParameter, self.0))
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return "this route takes no parameters".to_owned();
    }
    problem::unknown("parameter", name, known)
}
