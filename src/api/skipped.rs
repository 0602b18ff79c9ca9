//! Why a webhook got no delivery of an event.
//!
//! Routes are decided once, when the event comes, and stored with it; of a webhook only what it is
//! now is known, and when it was created and last changed. What follows from that is told as a
//! fact, and where nothing follows, that is told: never a guess.

use crate::{clock::Millis, event::EventType, id::EventId, webhook::Webhook};

/// A webhook that was created or changed so shortly before an event's acceptance may have been so
/// after the event's routes were decided: they are when it comes in, its time when it is durable.
const CLOSE: Millis = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// As its route says.
    Disabled,
    CreatedLater,
    NotSubscribed,
    NotSubscribedThen,
    /// The event is a test for another webhook.
    Test,
    Unknown,
}

/// Every reason, for the document.
pub(super) const REASONS: [&str; 6] = [
    Skipped::Disabled.as_str(),
    Skipped::CreatedLater.as_str(),
    Skipped::NotSubscribed.as_str(),
    Skipped::NotSubscribedThen.as_str(),
    Skipped::Test.as_str(),
    Skipped::Unknown.as_str(),
];

impl Skipped {
    /// Of a webhook that the event has no route to.
    pub(super) fn of(
        webhook: &Webhook,
        event: EventId,
        event_type: EventType,
        is_test: bool,
    ) -> Self {
        let accepted = event.accepted_at;
        let is_close = |at: Millis| at.saturating_add(CLOSE) > accepted;
        let never_changed = webhook.updated_at == webhook.created_at;
        let (was_there, is_as_it_was) =
            (!is_close(webhook.created_at), !is_close(webhook.updated_at));
        match webhook.events.contains(event_type) {
            _ if webhook.created_at > accepted => Self::CreatedLater,
            _ if is_test => Self::Test,
            false if was_there || never_changed => Self::NotSubscribed,
            // It would have had a route, had it been there when routes were decided.
            true if never_changed && !was_there => Self::CreatedLater,
            true if was_there && !is_as_it_was => Self::NotSubscribedThen,
            _ => Self::Unknown,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::CreatedLater => "created_later",
            Self::NotSubscribed => "not_subscribed",
            Self::NotSubscribedThen => "not_subscribed_then",
            Self::Test => "test",
            Self::Unknown => "unknown",
        }
    }

    pub(super) const fn detail(self) -> &'static str {
        match self {
            Self::Disabled => {
                "it was disabled when the event came; once it is enabled, the delivery can be \
                 replayed"
            }
            Self::CreatedLater => "it was created after the event came",
            Self::NotSubscribed => "its list of events does not have this type",
            Self::NotSubscribedThen => {
                "its list of events has this type now and had not when the event came"
            }
            Self::Test => "the event is a test, which goes to the one webhook that it was made for",
            Self::Unknown => {
                "it cannot be told any more: it was created or changed while the event came, or \
                 the gateway's clock was set back"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::EventTypes,
        guard::{Policy, WebhookUrl},
        id::{NodeNo, Place, TenantNo, WebhookId, WebhookNo},
        webhook::CustomHeaders,
    };

    const EVENT: Millis = 1_000_000;
    const SENT: EventTypes = EventTypes::NONE.with(EventType::Sent);
    const READ: EventTypes = EventTypes::NONE.with(EventType::Read);

    fn webhook(events: EventTypes, created_at: Millis, updated_at: Millis) -> Webhook {
        Webhook {
            no: WebhookNo(1),
            id: WebhookId(1),
            tenant: TenantNo(1),
            url: WebhookUrl::parse("https://a.example.com", &Policy::default()).unwrap(),
            events,
            description: String::new(),
            headers: CustomHeaders::default(),
            enabled: true,
            disabled: None,
            success: None,
            timeout: None,
            max_in_flight: None,
            rate_limit: None,
            created_at,
            updated_at,
        }
    }

    #[test]
    fn what_follows_is_told_and_where_nothing_follows_nothing_is_claimed() {
        let event = EventId { accepted_at: EVENT, node: NodeNo(1), place: Place::new(1, 0) };
        let check = |events, created, updated, is_test, expected: Skipped| {
            let why =
                Skipped::of(&webhook(events, created, updated), event, EventType::Sent, is_test);
            assert_eq!(why, expected, "created {created}, updated {updated}");
        };
        let (long_ago, just_now, later) = (1, EVENT - 1, EVENT + 1);
        for events in [SENT, READ] {
            check(events, later, later, false, Skipped::CreatedLater);
            check(events, later, later, true, Skipped::CreatedLater);
            check(events, long_ago, later, true, Skipped::Test);
            check(events, just_now, just_now, true, Skipped::Test);
        }
        check(READ, long_ago, long_ago, false, Skipped::NotSubscribed);
        check(READ, long_ago, later, false, Skipped::NotSubscribed);
        check(READ, just_now, just_now, false, Skipped::NotSubscribed);
        check(SENT, long_ago, later, false, Skipped::NotSubscribedThen);
        check(SENT, long_ago, just_now, false, Skipped::NotSubscribedThen);
        // It subscribed from its first moment: it was not there yet.
        check(SENT, just_now, just_now, false, Skipped::CreatedLater);
        // It was not there, or it did not subscribe.
        check(SENT, just_now, later, false, Skipped::Unknown);
        check(READ, just_now, later, false, Skipped::Unknown);
        // It was there, as it is: it should have got the event.
        check(SENT, long_ago, long_ago, false, Skipped::Unknown);
        check(SENT, long_ago, 2, false, Skipped::Unknown);
    }
}
