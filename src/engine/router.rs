//! The router: which webhooks get an event of which type.
//!
//! Worked out once per tenant when its webhooks change, not once per event. A disabled webhook is
//! routed to all the same: its deliveries wait until it is enabled, and whoever reads the routes
//! learns from the flag that it is not attempted now.

use crate::{
    event::{EventType, EventTypes},
    id::WebhookNo,
};

/// For each event type, at `event_type as usize`: who gets it, with whether it is enabled, in the
/// webhooks' order.
pub fn routes(
    webhooks: impl Iterator<Item = (WebhookNo, EventTypes, bool)>,
) -> [Vec<(WebhookNo, bool)>; EventType::EVERY.len()] {
    let mut routes = [const { Vec::new() }; EventType::EVERY.len()];
    for (webhook, wanted, enabled) in webhooks {
        for event_type in wanted.iter() {
            routes[event_type as usize].push((webhook, enabled));
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: WebhookNo = WebhookNo(9);
    const SECOND: WebhookNo = WebhookNo(2);

    #[track_caller]
    fn check(
        webhooks: &[(WebhookNo, EventTypes, bool)],
        expected: &[(EventType, &[(WebhookNo, bool)])],
    ) {
        let routes = routes(webhooks.iter().copied());
        for event_type in EventType::EVERY {
            let wanted = expected.iter().find(|(t, _)| *t == event_type).map_or(&[][..], |e| e.1);
            assert_eq!(routes[event_type as usize], wanted, "{event_type}");
        }
    }

    #[test]
    fn no_webhooks_no_routes() {
        check(&[], &[]);
        check(&[(FIRST, EventTypes::NONE, true)], &[]);
    }

    #[test]
    fn each_type_goes_to_those_that_want_it_in_the_webhooks_order() {
        let inbound_read = EventTypes::NONE.with(EventType::Inbound).with(EventType::Read);
        let read_blocked = EventTypes::NONE.with(EventType::Read).with(EventType::Blocked);
        check(
            &[(FIRST, inbound_read, true), (SECOND, read_blocked, true)],
            &[
                (EventType::Inbound, &[(FIRST, true)]),
                (EventType::Read, &[(FIRST, true), (SECOND, true)]),
                (EventType::Blocked, &[(SECOND, true)]),
            ],
        );
    }

    #[test]
    fn a_disabled_webhook_is_routed_to_and_marked() {
        let sent = EventTypes::NONE.with(EventType::Sent);
        check(
            &[(FIRST, sent, false), (SECOND, sent, true)],
            &[(EventType::Sent, &[(FIRST, false), (SECOND, true)])],
        );
    }

    #[test]
    fn all_types_are_the_six_that_producers_send() {
        let all: Vec<_> = EventType::ALL.into_iter().map(|one| (one, [(FIRST, true)])).collect();
        let all: Vec<_> = all.iter().map(|(one, to)| (*one, to.as_slice())).collect();
        check(&[(FIRST, EventTypes::ALL, true)], &all);
    }
}
