//! What the parameters of a list mean: read one by one, everything wrong said at once.
//!
//! A value that is wrong is noted and reads as if it were not there; nothing of a [`Query`] counts
//! before [`Query::finish`] said that all of it is right.

use std::str::FromStr;

use super::{
    Code, Problem,
    cursor::{List, Refused},
    params::{Errors, Params},
    stats::DEFAULT_PERIOD,
};
use crate::{
    audit::{Action, ActorKind, WantedActor},
    clock::Millis,
    delivery::ErrorCode,
    event::{EventType, EventTypes, MAX_RECIPIENT},
    id::{self, EventId, IdError, SessionId, WebhookId},
    stats::Period,
};

/// The states by which deliveries are filtered, as the API names them.
pub(super) const STATES: [&str; 5] = ["pending", "retrying", "delivered", "failed", "canceled"];

/// How many rows a page has where the request does not say.
pub(super) const DEFAULT_LIMIT: usize = 50;

/// Where a list of events in the order of acceptance starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// With the oldest event kept.
    Start,
    Event(EventId),
}

/// A request's parameters while they are read.
#[derive(Debug)]
pub(super) struct Query<'a> {
    params: &'a Params,
    errors: Errors,
    cursor: Option<Refused>,
}

impl<'a> Query<'a> {
    pub(super) fn new(params: &'a Params, errors: Errors) -> Self {
        Self { params, errors, cursor: None }
    }

    /// Everything that was wrong. Where more than the cursor is, one that was never a cursor is
    /// named among the rest; one of another list is not, because a mistake in a filter makes the
    /// right cursor look like one.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        match self.cursor {
            Some(_) if self.errors.is_empty() => {
                return Err(Problem::new(Code::InvalidCursor, CURSOR_RULE));
            }
            Some(Refused::Malformed) => self.errors.note("cursor", CURSOR_RULE),
            Some(Refused::Foreign) | None => {}
        }
        self.errors.finish()
    }

    pub(super) fn limit(&mut self, max: usize) -> usize {
        let rule = || format!("it is a number from 1 to {max}");
        let limit = self.value("limit", |text| {
            text.parse().ok().filter(|limit| (1..=max).contains(limit)).ok_or_else(rule)
        });
        limit.unwrap_or(DEFAULT_LIMIT.min(max))
    }

    /// Where the cursor says to go on; none where there is none.
    pub(super) fn position<const N: usize>(&mut self, list: &List<'_>) -> Option<[u8; N]> {
        match list.position(self.params.get("cursor")?) {
            Ok(position) => Some(position),
            Err(refused) => {
                self.cursor = Some(refused);
                None
            }
        }
    }

    /// Whose events are to be erased; it has to be there.
    pub(super) fn recipient(&mut self) -> Option<String> {
        if self.params.get("recipient").is_none() {
            self.errors.note("recipient", "it is required: whose events are to be erased");
        }
        self.value("recipient", |text| match text.len() {
            1..=MAX_RECIPIENT if !text.starts_with(' ') => Ok(text.to_owned()),
            1..=MAX_RECIPIENT => Err("it begins with a space; a + is written %2B".to_owned()),
            _ => Err(format!("it has 1 to {MAX_RECIPIENT} bytes")),
        })
    }

    pub(super) fn webhook(&mut self) -> Option<WebhookId> {
        self.value("webhook", id)
    }

    /// `after=evt_…`, or `after=start`.
    pub(super) fn after(&mut self) -> Option<After> {
        self.value("after", |text| match text {
            "start" => Ok(After::Start),
            text => id(text).map(After::Event),
        })
    }

    /// `name=true`, or left out.
    pub(super) fn flag(&mut self, name: &'static str) -> bool {
        let flag = self.value(name, |text| match text {
            "true" => Ok(()),
            _ => Err("it is `true`, or left out".to_owned()),
        });
        flag.is_some()
    }

    /// `status=failed,canceled`; empty where there is none.
    pub(super) fn states(&mut self) -> Vec<&'static str> {
        let state = |name: &str| {
            let found = STATES.into_iter().find(|state| *state == name);
            found.ok_or_else(|| format!("it is one or more, with commas, of {}", STATES.join(", ")))
        };
        self.value("status", |text| text.split(',').map(state).collect()).unwrap_or_default()
    }

    /// `event_type=message.failed,message.blocked`; all where there is none.
    pub(super) fn event_types(&mut self) -> EventTypes {
        let types = self.value("event_type", |text| {
            text.split(',').try_fold(EventTypes::NONE, |types, name| {
                EventType::named(name).map(|one| types.with(one)).map_err(|e| e.to_string())
            })
        });
        types.unwrap_or(EventTypes::EVERY)
    }

    /// `code=503` or `code=5xx`, as an inclusive range.
    pub(super) fn code(&mut self) -> Option<(u16, u16)> {
        self.value("code", |text| {
            let range = match text.as_bytes() {
                [class @ b'1'..=b'5', b'x', b'x'] => {
                    let from = u16::from(class - b'0') * 100;
                    Some((from, from + 99))
                }
                [b'1'..=b'5', b'0'..=b'9', b'0'..=b'9'] => {
                    text.parse().ok().map(|code| (code, code))
                }
                _ => None,
            };
            range.ok_or_else(|| "it is a response status such as 503, or a class as 5xx".to_owned())
        })
    }

    pub(super) fn error(&mut self) -> Option<ErrorCode> {
        self.value("error", |text| {
            let code = ErrorCode::ALL.into_iter().find(|code| code.as_str() == text);
            code.ok_or_else(|| {
                let all = ErrorCode::ALL.map(ErrorCode::as_str).join(", ");
                format!("it is one of {all}")
            })
        })
    }

    /// `action=webhook.created,webhook.deleted`; empty where there is none.
    pub(super) fn actions(&mut self) -> Vec<Action> {
        let action = |name: &str| {
            let names = || Action::ALL.map(Action::as_str).join(", ");
            Action::named(name)
                .ok_or_else(|| format!("it is one or more, with commas, of {}", names()))
        };
        self.value("action", |text| text.split(',').map(action).collect()).unwrap_or_default()
    }

    /// `actor=key_…`, `actor=ses_…` or `actor=operator`.
    pub(super) fn actor(&mut self) -> Option<WantedActor> {
        self.value("actor", |text| match (ActorKind::named(text), id::kind(text)) {
            (Some(kind), _) => Ok(WantedActor::Kind(kind)),
            (None, _) if text.starts_with(SessionId::PREFIX) => id(text).map(WantedActor::Session),
            (None, Some(_)) => id(text).map(WantedActor::Key),
            (None, None) => {
                let kinds = ActorKind::ALL.map(ActorKind::as_str).join(", ");
                Err(format!("it is the id of a key or of a session, or one of {kinds}"))
            }
        })
    }

    /// `object=wh_…`: the id of what was changed.
    pub(super) fn object(&mut self) -> Option<&'a str> {
        const LONGEST: usize = 128;
        let object = self.params.get("object")?;
        let is_id =
            (1..=LONGEST).contains(&object.len()) && object.bytes().all(|b| b.is_ascii_graphic());
        if !is_id {
            self.errors.note("object", "it is the id of what was changed, such as wh_…");
        }
        is_id.then_some(object)
    }

    /// `period=24h`: over which time statistics are wanted.
    pub(super) fn of_stats(&mut self) -> Period {
        let period = self.value("period", |text| {
            let period = Period::ALL.into_iter().find(|period| period.as_str() == text);
            let names = || Period::ALL.map(Period::as_str).join(", ");
            period.ok_or_else(|| format!("it is one of {}", names()))
        });
        period.unwrap_or(DEFAULT_PERIOD)
    }

    /// `since` and `until`, both inclusive.
    pub(super) fn period(&mut self) -> (Option<Millis>, Option<Millis>) {
        // A + would be a space there.
        let read =
            |text: &str| time(text).map_err(|rule| format!("{rule} (a + in it is written %2B)"));
        let (since, until) = (self.value("since", read), self.value("until", read));
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            self.errors.note("since", "it is later than `until`");
        }
        (since, until)
    }

    /// A parameter's value; none where it is not there, or breaks the rule that `read` says.
    fn value<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match read(self.params.get(name)?) {
            Ok(value) => Some(value),
            Err(rule) => {
                self.errors.note(name, rule);
                None
            }
        }
    }
}

const CURSOR_RULE: &str =
    "pass `next_cursor` unchanged, with the same filters, or start without a cursor";

pub(super) fn id<T: FromStr<Err = IdError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: IdError| error.of(text))
}

pub(super) fn time(text: &str) -> Result<Millis, &'static str> {
    let time: Option<jiff::Timestamp> = text.parse().ok();
    let millis = time.and_then(|time| Millis::try_from(time.as_millisecond()).ok());
    millis.ok_or("it is a time since 1970 as in 2026-11-23T04:20:00Z")
}
