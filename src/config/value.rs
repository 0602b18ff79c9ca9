//! A value as written, before it is known what it means.
//!
//! Files say what kind of value they hold; the environment and flags hold text, whose kind follows
//! from the key. Both are read through the same questions.

use std::fmt;

use toml::de::DeValue;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// From the environment or a flag: whatever the key wants it to be; lists are comma-separated.
    Untyped(String),
    String(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Value>),
    /// Something that no key takes (a table, a date), by name.
    Other(&'static str),
}

impl Value {
    pub(super) fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::String(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_or(Self::Other("a number beyond 64 bits"), Self::Integer),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or(Self::Other("a number that cannot be read"), Self::Float),
            DeValue::Boolean(value) => Self::Bool(*value),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Array(items) => {
                Self::List(items.iter().map(|item| Self::from_toml(item.get_ref())).collect())
            }
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// A URL's query, of a text that is a URL, is hidden.
    pub(super) fn without_query(&self) -> Self {
        let hide = |text: &String| match text.split_once('?') {
            Some((url, _)) if url.contains("://") => format!("{url}?(hidden)"),
            _ => text.clone(),
        };
        match self {
            Self::Untyped(text) => Self::Untyped(hide(text)),
            Self::String(text) => Self::String(hide(text)),
            Self::List(values) => Self::List(values.iter().map(Self::without_query).collect()),
            other => other.clone(),
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Untyped(text) | Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Untyped(text) => text.trim().parse().ok(),
            Self::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Untyped(text) => text.trim().parse().ok(),
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Untyped(text) => text.trim().parse().ok(),
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<Vec<Value>> {
        match self {
            Self::Untyped(text) if text.trim().is_empty() => Some(Vec::new()),
            Self::Untyped(text) => {
                Some(text.split(',').map(|part| Self::Untyped(part.trim().to_owned())).collect())
            }
            Self::List(items) => Some(items.clone()),
            _ => None,
        }
    }

    /// The same value in the kind that the key's default has, so that it can be written to a file.
    pub(super) fn in_the_kind_of(&self, default: &Value) -> Value {
        let typed = match default {
            Self::Bool(_) => self.as_bool().map(Self::Bool),
            Self::Integer(_) => {
                self.as_u64().and_then(|n| i64::try_from(n).ok()).map(Self::Integer)
            }
            Self::Float(_) => self.as_f64().map(Self::Float),
            Self::List(_) => self.as_list().map(Self::List),
            _ => None,
        };
        typed.unwrap_or_else(|| self.clone())
    }
}

/// As TOML, whatever it came from.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untyped(text) | Self::String(text) => {
                write!(f, "{}", toml::Value::from(text.as_str()))
            }
            Self::Integer(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{}", toml::Value::from(*number)),
            Self::Bool(value) => write!(f, "{value}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

impl From<&Value> for serde_json::Value {
    fn from(value: &Value) -> Self {
        match value {
            Value::Untyped(text) | Value::String(text) => text.as_str().into(),
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Bool(value) => (*value).into(),
            Value::List(items) => items.iter().map(serde_json::Value::from).collect(),
            Value::Other(kind) => (*kind).into(),
        }
    }
}
