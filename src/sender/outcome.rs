//! What an answer, or the lack of one, means: one total function.
//!
//! A status that is known decides, whatever happened to the body after it: a receiver that said
//! 200 has the event, and asking it again would deliver it twice.

use std::{borrow::Cow, time::Duration};

use super::{
    failure::Failure,
    response::{Head, RetryAfter},
};
use crate::{
    clock::Millis,
    delivery::{AttemptError, ErrorCode, Outcome},
    engine::Blame,
    webhook::SuccessRule,
};

/// The most of a `Location` that goes into an error's detail, bytes.
const LOCATION_LIMIT: usize = 200;

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum Ending<'a> {
    /// A response's head came; `broken` says what ended its body early.
    Answered {
        head: &'a Head,
        broken: Option<Failure>,
    },
    Unanswered(Failure),
}

/// What it means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) outcome: Outcome,
    pub(super) error: Option<AttemptError>,
    pub(super) blame: Blame,
    pub(super) gone: bool,
}

/// The clocks that a `Retry-After` is measured with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// The engine's time: what `not_before` is in. Rounded up, lest a wait from here end early.
    pub(super) steady: Millis,
    /// What a receiver's date is compared with.
    pub(super) wall: Millis,
}

pub(super) fn judge(
    ending: Ending<'_>,
    rule: SuccessRule,
    now: Now,
    max_retry_after: Duration,
) -> Judgement {
    match ending {
        Ending::Unanswered(failure) => judge_failure(failure),
        Ending::Answered { head, .. } if let Some(why) = head.defect() => {
            judge_failure(Failure::bad_response(why))
        }
        Ending::Answered { head, .. } if rule.accepts(head.status) => Judgement {
            outcome: Outcome::Delivered,
            error: None,
            blame: Blame::Receiver,
            gone: false,
        },
        Ending::Answered { head, broken } => {
            let wait = head.retry_after.map(|wish| wait(wish, now.wall).min(max_retry_after));
            let not_before = wait
                .filter(|wait| !wait.is_zero())
                .map(|wait| now.steady.saturating_add(wait.as_millis() as u64));
            Judgement {
                outcome: Outcome::Retry { not_before },
                error: Some(AttemptError { code: ErrorCode::Status, detail: status_detail(head) }),
                blame: broken.map_or(Blame::Receiver, |failure| failure.blame),
                gone: head.status == 410,
            }
        }
    }
}

fn judge_failure(failure: Failure) -> Judgement {
    let Failure { code, detail, blame } = failure;
    let outcome = match code {
        // Registration refuses such a URL; a name that leads there is as hopeless.
        ErrorCode::BlockedTarget => Outcome::Failed,
        _ => Outcome::Retry { not_before: None },
    };
    let error = Some(AttemptError { code, detail: Cow::into_owned(detail) });
    Judgement { outcome, error, blame, gone: false }
}

fn wait(wish: RetryAfter, wall: Millis) -> Duration {
    match wish {
        RetryAfter::Seconds(seconds) => Duration::from_secs(seconds),
        RetryAfter::At(at) => Duration::from_millis(at.saturating_sub(wall)),
    }
}

fn status_detail(head: &Head) -> String {
    let status = head.status;
    if (300..400).contains(&status) {
        return match &head.location {
            Some(location) => {
                let shown = &location[..location.len().min(LOCATION_LIMIT)];
                let shown = shown.escape_ascii();
                format!("answered {status}: redirects are not followed (to {shown})")
            }
            None => format!("answered {status}: redirects are not followed"),
        };
    }
    let name = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    match name {
        Some(name) => format!("answered {status} {name}"),
        None => format!("answered {status}"),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Version, header};

    use super::*;

    const NOW: Now = Now { steady: 5_000_000, wall: 1_795_407_600_000 };
    const CAP: Duration = Duration::from_secs(300);

    fn head(status: u16, headers: &[(header::HeaderName, &str)]) -> Head {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Head::read(http::StatusCode::from_u16(status).unwrap(), Version::HTTP_11, &map)
    }

    fn answered(head: &Head, rule: SuccessRule) -> Judgement {
        judge(Ending::Answered { head, broken: None }, rule, NOW, CAP)
    }

    #[test]
    fn every_status_has_its_meaning() {
        for status in 200..600 {
            let head = head(status, &[]);
            for rule in [SuccessRule::Only200, SuccessRule::Any2xx] {
                let judged = answered(&head, rule);
                assert_eq!(judged.gone, status == 410, "{status}");
                assert_eq!(judged.blame, Blame::Receiver, "{status}");
                if rule.accepts(status) {
                    assert_eq!((judged.outcome, judged.error), (Outcome::Delivered, None));
                } else {
                    assert_eq!(judged.outcome, Outcome::Retry { not_before: None }, "{status}");
                    assert_eq!(judged.error.map(|e| e.code), Some(ErrorCode::Status), "{status}");
                }
            }
        }
        for status in [101, 600, 999] {
            let judged = answered(&head(status, &[]), SuccessRule::Any2xx);
            assert_eq!(judged.error.map(|e| e.code), Some(ErrorCode::BadResponse), "{status}");
        }
    }

    #[test]
    fn a_known_success_outlives_its_body_and_a_failure_keeps_its_blame() {
        let stalled = || Some(Failure::timeout(super::super::failure::Stage::Body, CAP));
        let ok = head(200, &[]);
        let ending = Ending::Answered { head: &ok, broken: stalled() };
        let judged = judge(ending, SuccessRule::Only200, NOW, CAP);
        assert_eq!((judged.outcome, judged.blame), (Outcome::Delivered, Blame::Receiver));
        let broken = head(500, &[]);
        let ending = Ending::Answered { head: &broken, broken: stalled() };
        let judged = judge(ending, SuccessRule::Only200, NOW, CAP);
        assert_eq!(judged.blame, Blame::ReceiverTimeout);
        assert_eq!(judged.error.map(|e| e.code), Some(ErrorCode::Status));
    }

    #[test]
    fn retry_after_is_clamped_and_never_trusted() {
        let check = |status, values: &[&str], expected: Option<u64>| {
            let headers: Vec<_> = values.iter().map(|v| (header::RETRY_AFTER, *v)).collect();
            let judged = answered(&head(status, &headers), SuccessRule::Only200);
            let not_before = expected.map(|ms| NOW.steady + ms);
            assert_eq!(judged.outcome, Outcome::Retry { not_before }, "{status} {values:?}");
        };
        check(429, &["7"], Some(7_000));
        check(503, &["7"], Some(7_000));
        check(503, &[" 7 "], Some(7_000));
        check(500, &["7"], None);
        check(429, &["0"], None);
        check(429, &["-1"], None);
        check(429, &["+1"], None);
        check(429, &["1e300"], None);
        check(429, &["inf"], None);
        check(429, &["NaN"], None);
        check(429, &[""], None);
        check(429, &["100000000000000000000"], Some(300_000));
        check(429, &["301"], Some(300_000));
        check(429, &["7", "9"], Some(7_000));
        check(429, &[&"9".repeat(10_000)], None);
        // NOW is Mon, 23 Nov 2026 04:20:00 GMT.
        check(429, &["Mon, 23 Nov 2026 04:20:30 GMT"], Some(30_000));
        check(429, &["Monday, 23-Nov-26 04:20:30 GMT"], Some(30_000));
        check(429, &["Mon Nov 23 04:20:30 2026"], Some(30_000));
        check(429, &["Mon, 23 Nov 2026 04:19:30 GMT"], None);
        check(429, &["Thu, 01 Jan 2099 00:00:00 GMT"], Some(300_000));
        check(429, &["Mon, 99 Nov 2026 04:20:30 GMT"], None);
    }

    #[test]
    fn details_name_the_status_and_cap_what_the_receiver_wrote() {
        let check = |head: Head, expected: &str| {
            let error = answered(&head, SuccessRule::Only200).error.unwrap();
            assert_eq!(error.detail, expected);
        };
        check(head(500, &[]), "answered 500 Internal Server Error");
        check(head(599, &[]), "answered 599");
        check(head(301, &[]), "answered 301: redirects are not followed");
        check(
            head(302, &[(header::LOCATION, "http://169.254.169.254/\u{e9}")]),
            "answered 302: redirects are not followed (to http://169.254.169.254/\\xc3\\xa9)",
        );
        let long = head(307, &[(header::LOCATION, &"x".repeat(5_000))]);
        let error = answered(&long, SuccessRule::Only200).error.unwrap();
        assert!(error.detail.len() < 300);
    }

    #[test]
    fn only_a_blocked_target_is_final() {
        for code in ErrorCode::ALL {
            let judged = judge_failure(Failure::receiver(code, "x"));
            let expected = match code {
                ErrorCode::BlockedTarget => Outcome::Failed,
                _ => Outcome::Retry { not_before: None },
            };
            assert_eq!(judged.outcome, expected, "{code:?}");
        }
    }
}
