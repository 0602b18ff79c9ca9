//! The URL's parameters: which are taken, what they mean, and what is wrong with them.

use crate::{
    api::Problem,
    clock::Millis,
    delivery::ErrorCode,
    event::{EventType, EventTypes},
    id::WebhookId,
};

/// The states by which deliveries are filtered, as the API names them.
const STATES: [&str; 5] = ["pending", "retrying", "delivered", "failed", "canceled"];

/// How many rows a page has where the request does not say.
const DEFAULT_LIMIT: usize = 50;

/// A request's parameters, decoded, in the order written.
#[derive(Clone, Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn of(query: &str) -> Self {
        Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Refuses a name that is not in the list, and a name that appears twice.
    pub(super) fn allow_only(&self, known: &[&str]) -> Result<(), Problem> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let detail = match nearest(name, known) {
                    Some(near) => format!("there is no such parameter; did you mean `{near}`?"),
                    None if known.is_empty() => "this route takes no parameters".to_owned(),
                    None => format!("there is no such parameter; there are {}", known.join(", ")),
                };
                return Err(Problem::parameter(name, detail));
            }
            if self.0[..at].iter().any(|(other, _)| other == name) {
                return Err(Problem::parameter(name, "it may appear once"));
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.get("cursor")
    }

    pub(super) fn limit(&self, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.get("limit") else { return Ok(DEFAULT_LIMIT.min(max)) };
        match text.parse() {
            Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
            _ => Err(Problem::parameter("limit", format!("it is a number from 1 to {max}"))),
        }
    }

    pub(super) fn webhook(&self) -> Result<Option<WebhookId>, Problem> {
        let parse = |text: &str| {
            text.parse().map_err(|error| Problem::parameter("webhook", format!("{error}")))
        };
        self.get("webhook").map(parse).transpose()
    }

    /// `status=failed,canceled`; empty where there is none.
    pub(super) fn states(&self) -> Result<Vec<&'static str>, Problem> {
        let Some(text) = self.get("status") else { return Ok(Vec::new()) };
        let state = |name: &str| {
            STATES.into_iter().find(|state| *state == name).ok_or_else(|| {
                let detail = format!("it is one or more, with commas, of {}", STATES.join(", "));
                Problem::parameter("status", detail)
            })
        };
        text.split(',').map(state).collect()
    }

    /// `event_type=message.failed,message.blocked`; all where there is none.
    pub(super) fn event_types(&self) -> Result<EventTypes, Problem> {
        let Some(text) = self.get("event_type") else { return Ok(EventTypes::ALL) };
        text.split(',').try_fold(EventTypes::NONE, |types, name| {
            let parsed: Result<EventType, _> = name.parse();
            parsed
                .map(|event_type| types.with(event_type))
                .map_err(|error| Problem::parameter("event_type", error.to_string()))
        })
    }

    /// `code=503` or `code=5xx`, as an inclusive range.
    pub(super) fn code(&self) -> Result<Option<(u16, u16)>, Problem> {
        let Some(text) = self.get("code") else { return Ok(None) };
        let range = match text.as_bytes() {
            [class @ b'1'..=b'5', b'x', b'x'] => {
                let from = u16::from(class - b'0') * 100;
                Some((from, from + 99))
            }
            [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => text.parse().ok().map(|code| (code, code)),
            _ => None,
        };
        range.map(Some).ok_or_else(|| {
            Problem::parameter("code", "it is a response status such as 503, or a class as 5xx")
        })
    }

    pub(super) fn error(&self) -> Result<Option<ErrorCode>, Problem> {
        let Some(text) = self.get("error") else { return Ok(None) };
        let code = ErrorCode::ALL.into_iter().find(|code| code.as_str() == text);
        code.map(Some).ok_or_else(|| {
            let all = ErrorCode::ALL.map(ErrorCode::as_str).join(", ");
            Problem::parameter("error", format!("it is one of {all}"))
        })
    }

    /// `since` and `until`, both inclusive.
    pub(super) fn period(&self) -> Result<(Option<Millis>, Option<Millis>), Problem> {
        let (since, until) = (self.time("since")?, self.time("until")?);
        if let (Some(since), Some(until)) = (since, until)
            && since > until
        {
            return Err(Problem::parameter("since", "it is later than `until`"));
        }
        Ok((since, until))
    }

    fn time(&self, name: &str) -> Result<Option<Millis>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let time: Option<jiff::Timestamp> = text.parse().ok();
        let millis = time.and_then(|time| Millis::try_from(time.as_millisecond()).ok());
        millis.map(Some).ok_or_else(|| {
            let detail =
                "it is a time since 1970 as in 2026-11-23T04:20:00Z (a + in it is written %2B)";
            Problem::parameter(name, detail)
        })
    }

    /// What narrows the list down: all but the page's own parameters, in a fixed order.
    pub(super) fn filters(&self) -> Vec<(&str, &str)> {
        let mut filters: Vec<_> =
            self.iter().filter(|(name, _)| !matches!(*name, "limit" | "cursor")).collect();
        filters.sort_unstable();
        filters
    }
}

/// The known name that is most like what was written; none where nothing is.
pub(super) fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    // A name is short: longer input is no typing mistake, and comparing costs its length.
    const LONGEST: usize = 40;
    if written.len() > LONGEST {
        return None;
    }
    let likeness = |name: &&str| strsim::jaro_winkler(written, name);
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) >= 0.8).then_some(best)
}
