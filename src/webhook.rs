//! Webhooks: a registered URL with its event filter and its settings.
//!
//! The words a tenant writes are parsed here and nowhere else: what has become a [`CustomHeaders`]
//! or an [`EventTypes`] is valid. The URL is the [`guard`](crate::guard)'s.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::{
    clock::Millis,
    event::{EventType, EventTypes, UnknownEventType},
    guard::WebhookUrl,
    id::{TenantNo, WebhookId, WebhookNo},
};

/// A tenant's registered URL, what it wants to hear of, and how it wants to be called.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub no: WebhookNo,
    pub id: WebhookId,
    pub tenant: TenantNo,
    pub url: WebhookUrl,
    pub events: EventTypes,
    pub description: String,
    pub headers: CustomHeaders,
    pub enabled: bool,
    /// Why it is not enabled; none where it is, and where nobody wrote it down.
    pub disabled: Option<Disabled>,
    /// Which responses count as delivered; the gateway's default where none.
    pub success: Option<SuccessRule>,
    /// The deadline of one attempt; the gateway's default where none.
    pub timeout: Option<Duration>,
    /// How many attempts may be under way at once; the gateway's default where none.
    pub max_in_flight: Option<u32>,
    /// Attempts per second; unlimited where none.
    pub rate_limit: Option<u32>,
    pub created_at: Millis,
    pub updated_at: Millis,
}

/// Why and when a webhook was disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disabled {
    pub reason: DisabledReason,
    pub at: Millis,
    /// Since when every attempt had failed; where that was the reason.
    pub failing_since: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisabledReason {
    /// Its owner or the operator wanted it.
    Requested,
    /// Every attempt had failed for `delivery.disable_after`.
    Failing,
    /// The receiver answered 410, and `delivery.disable_on_gone` is set.
    Gone,
}

impl DisabledReason {
    pub const ALL: [DisabledReason; 3] = [Self::Requested, Self::Failing, Self::Gone];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Failing => "failing",
            Self::Gone => "gone",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

impl Webhook {
    /// Why it is disabled; none where it is not.
    pub fn disabled_reason(&self) -> Option<DisabledReason> {
        let reason = self.disabled.map_or(DisabledReason::Requested, |disabled| disabled.reason);
        (!self.enabled).then_some(reason)
    }
}

/// Which response statuses are a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SuccessRule {
    /// Only 200: the published contract.
    #[default]
    Only200,
    /// 200 to 299.
    Any2xx,
}

impl SuccessRule {
    pub const ALL: [SuccessRule; 2] = [Self::Only200, Self::Any2xx];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Only200 => "200",
            Self::Any2xx => "2xx",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == text)
    }

    pub fn accepts(self, status: u16) -> bool {
        match self {
            Self::Only200 => status == 200,
            Self::Any2xx => (200..300).contains(&status),
        }
    }
}

/// What is wrong with an event filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventFilterError {
    #[error("the list of events is empty; name the types to receive, or write [\"*\"] for all")]
    Empty,
    #[error("\"*\" means every type and stands alone; remove it or the other types")]
    Mixed,
    #[error("number {} of the list: {why}; or * for all six of messages", .index + 1)]
    Unknown { index: usize, why: UnknownEventType },
}

impl EventFilterError {
    /// The place in the list that the error is about, if it is about one.
    pub fn index(&self) -> Option<usize> {
        match self {
            Self::Unknown { index, .. } => Some(*index),
            Self::Empty | Self::Mixed => None,
        }
    }
}

/// Reads a webhook's `events`: `["*"]` or a list of types, in any order and however often. Of a list
/// that is not valid every unknown type is told, and whether `*` stands beside a known one. What the
/// gateway tells its operator is known to webhooks of the operator's own tenant only, and is no part
/// of `*`.
pub fn parse_event_filter<S: AsRef<str>>(
    list: &[S],
    is_operators: bool,
) -> Result<EventTypes, Vec<EventFilterError>> {
    if list.is_empty() {
        return Err(vec![EventFilterError::Empty]);
    }
    let (mut all, mut named, mut errors) = (false, EventTypes::NONE, Vec::new());
    for (index, name) in list.iter().enumerate() {
        match name.as_ref() {
            ALL_EVENTS => all = true,
            name => match EventType::known_to(is_operators, name) {
                Ok(known) => named = named.with(known),
                Err(why) => errors.push(EventFilterError::Unknown { index, why }),
            },
        }
    }
    if all && !named.is_empty() {
        errors.push(EventFilterError::Mixed);
    }
    match errors.is_empty() {
        true if all => Ok(EventTypes::ALL),
        true => Ok(named),
        false => Err(errors),
    }
}

/// Writes a filter as [`parse_event_filter`] reads it. All six types are `["*"]`.
pub fn event_filter_names(types: EventTypes) -> Vec<&'static str> {
    if types == EventTypes::ALL {
        return vec![ALL_EVENTS];
    }
    types.iter().map(EventType::as_str).collect()
}

pub const ALL_EVENTS: &str = "*";

/// How many custom headers a webhook may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderLimits {
    pub max_count: usize,
    /// Names and values of one webhook together.
    pub max_bytes: usize,
}

/// What is wrong with a webhook's custom headers, or with one of them. Names are shown once they are
/// known to be header names; values never.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("a webhook may have {limit} custom headers; remove some")]
    TooMany { limit: usize },
    #[error("names and values of the custom headers may have {limit} bytes together; shorten them")]
    TooLarge { limit: usize },
    #[error("the name is not valid; names have letters, digits and !#$%&'*+-.^_`|~")]
    Name,
    #[error("the header {0} is set by the gateway; choose another name")]
    Reserved(HeaderName),
    #[error("the header {0} appears twice; put its values into one, separated by commas")]
    Duplicate(HeaderName),
    #[error(
        "the value of {0} has a character that is not visible ASCII or a space inside; encode it, \
         for example with base64"
    )]
    Value(HeaderName),
    #[error("the value of {0} starts or ends with a space, which receivers cut off; remove it")]
    Padded(HeaderName),
}

/// One wrong thing in a list of custom headers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct HeaderFault {
    /// The header's place in the list, from 0; none where it is about all of them together.
    pub place: Option<usize>,
    pub why: HeaderError,
}

/// Headers that the tenant adds to every request of a webhook. Values may be credentials: `Debug`
/// hides them, HTTP/2 does not put them into its compression table, and their memory is wiped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(Vec<(HeaderName, HeaderValue)>);

impl CustomHeaders {
    /// Reads what the tenant wrote, or says all that is wrong with it; of more headers than there may
    /// be, only as many are judged. Letter case of names does not count.
    pub fn parse<N, V>(
        pairs: impl IntoIterator<Item = (N, V)>,
        limits: HeaderLimits,
    ) -> Result<Self, Vec<HeaderFault>>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut reading = Reading::default();
        let pairs = pairs.into_iter().enumerate();
        let headers = reading.headers(pairs, limits);
        reading.finish(headers)
    }

    /// Makes a change, or none of it. A header that is replaced keeps its place. Where something is
    /// set, the whole has to keep the limits; taking headers away is always allowed, even where the
    /// limits were lowered since.
    pub fn merge(&mut self, patch: HeadersPatch, limits: HeaderLimits) -> Result<(), HeaderError> {
        let (set, removed) = match patch {
            HeadersPatch::Clear => (Self::default(), None),
            HeadersPatch::Merge { set, removed } => (set, Some(removed)),
        };
        let keeps = |name: &HeaderName| removed.as_ref().is_some_and(|gone| !gone.contains(name));
        let mut merged = self.0.clone();
        merged.retain(|(name, _)| keeps(name));
        let sets = !set.is_empty();
        for (name, value) in set.0 {
            match merged.iter_mut().find(|(other, _)| *other == name) {
                Some((_, old)) => *old = value,
                None => merged.push((name, value)),
            }
        }
        let bytes: usize =
            merged.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if sets && merged.len() > limits.max_count {
            return Err(HeaderError::TooMany { limit: limits.max_count });
        }
        if sets && bytes > limits.max_bytes {
            return Err(HeaderError::TooLarge { limit: limits.max_bytes });
        }
        self.0 = merged;
        Ok(())
    }

    /// In the order written.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&HeaderName, &HeaderValue)> + Clone {
        self.0.iter().map(|(name, value)| (name, value))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A change of custom headers: a JSON merge patch (RFC 7396).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadersPatch {
    /// None are left.
    Clear,
    /// The others stay as they are. One that is to go need not be there.
    Merge { set: CustomHeaders, removed: Vec<HeaderName> },
}

impl HeadersPatch {
    /// Reads what the tenant wrote: a value for each header to set, none for each to remove.
    pub fn parse(
        pairs: &[(&str, Option<&str>)],
        limits: HeaderLimits,
    ) -> Result<Self, Vec<HeaderFault>> {
        let mut reading = Reading::default();
        let numbered = || pairs.iter().enumerate();
        let set = numbered().filter_map(|(place, (name, value))| Some((place, (*name, (*value)?))));
        let set = reading.headers(set, limits);
        let removed = numbered().filter(|(_, pair)| pair.1.is_none());
        let removed = removed.filter_map(|(place, (name, _))| reading.name(place, name)).collect();
        reading.finish(Self::Merge { set, removed })
    }
}

/// A list of headers on its way to be read: which names it had so far, and what is wrong with it.
#[derive(Default)]
struct Reading {
    names: Vec<HeaderName>,
    faults: Vec<HeaderFault>,
}

impl Reading {
    /// Takes the headers to set, each with its place in the list.
    fn headers<N: AsRef<str>, V: AsRef<str>>(
        &mut self,
        pairs: impl Iterator<Item = (usize, (N, V))>,
        limits: HeaderLimits,
    ) -> CustomHeaders {
        let mut headers = Vec::new();
        let mut bytes = 0;
        for (nth, (place, (name, value))) in pairs.enumerate() {
            if nth >= limits.max_count {
                self.fault(None, HeaderError::TooMany { limit: limits.max_count });
                break;
            }
            let (name, value) = (name.as_ref(), value.as_ref());
            let size = name.len() + value.len();
            if size > limits.max_bytes {
                self.fault(Some(place), HeaderError::TooLarge { limit: limits.max_bytes });
                continue;
            }
            bytes += size;
            let Some(name) = self.name(place, name) else { continue };
            match parse_value(&name, value) {
                Ok(value) => headers.push((name, value)),
                Err(why) => self.fault(Some(place), why),
            }
        }
        if bytes > limits.max_bytes {
            self.fault(None, HeaderError::TooLarge { limit: limits.max_bytes });
        }
        CustomHeaders(headers)
    }

    /// Takes a name that may stand here, once.
    fn name(&mut self, place: usize, text: &str) -> Option<HeaderName> {
        match parse_name(text) {
            Ok(name) if self.names.contains(&name) => {
                self.fault(Some(place), HeaderError::Duplicate(name));
                None
            }
            Ok(name) => {
                self.names.push(name.clone());
                Some(name)
            }
            Err(why) => {
                self.fault(Some(place), why);
                None
            }
        }
    }

    fn fault(&mut self, place: Option<usize>, why: HeaderError) {
        self.faults.push(HeaderFault { place, why });
    }

    fn finish<T>(self, read: T) -> Result<T, Vec<HeaderFault>> {
        if self.faults.is_empty() { Ok(read) } else { Err(self.faults) }
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// A name that a tenant may write, to set a header or to remove one: whoever removes what the
/// gateway sets would take its silence for consent.
fn parse_name(text: &str) -> Result<HeaderName, HeaderError> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| HeaderError::Name)?;
    if is_reserved(name.as_str()) { Err(HeaderError::Reserved(name)) } else { Ok(name) }
}

/// Stricter than HTTP, which has a tab and bytes above ASCII: receivers read those differently.
fn parse_value(name: &HeaderName, text: &str) -> Result<HeaderValue, HeaderError> {
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(HeaderError::Padded(name.clone()));
    }
    if !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Err(HeaderError::Value(name.clone()));
    }
    // Its copies share these bytes, and the last one wipes them.
    let bytes = Bytes::from_owner(Zeroizing::new(text.as_bytes().to_vec()));
    let value = HeaderValue::from_maybe_shared(bytes);
    let mut value = value.map_err(|_| HeaderError::Value(name.clone()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What the gateway sets itself, what signs, and what belongs to the connection and not to the
/// message (RFC 9110, section 7.6.1): a tenant who could write these could speak in the gateway's
/// name or end a request early. Takes lower case.
fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

pub const RESERVED: [&str; 15] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

pub const RESERVED_PREFIXES: [&str; 3] = ["proxy-", "webhook-", "x-senderz-"];

#[cfg(test)]
mod tests;
