//! Any text as a webhook URL: what is accepted has to be canonical and safe to hand on.

use senderz_gateway::guard::{Host, Policy, WebhookUrl};

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let strict = Policy::default();
    let lax = Policy { require_https: false, ..Policy::default() };
    let everything = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a network"));
    let open = Policy { allow_networks: everything.to_vec(), ..lax.clone() };

    for policy in [&strict, &lax, &open] {
        match WebhookUrl::parse(text, policy) {
            Ok(url) => is_sound(&url, policy),
            Err(error) => assert!(!error.to_string().is_empty() && !error.code().is_empty()),
        }
    }
    // A policy that allows more accepts more, and nothing is read differently under it.
    if let Ok(url) = WebhookUrl::parse(text, &strict) {
        assert_eq!(WebhookUrl::parse(text, &lax), Ok(url.clone()));
        assert_eq!(WebhookUrl::parse(text, &open), Ok(url));
    }
}

fn is_sound(url: &WebhookUrl, policy: &Policy) {
    let text = url.to_string();
    assert_eq!(WebhookUrl::parse(&text, policy).as_ref(), Ok(url));
    assert_eq!(WebhookUrl::from_stored(&text).as_ref(), Ok(url));
    assert!(text.len() <= policy.max_url && text.bytes().all(|b| b.is_ascii_graphic()));

    let other: http::Uri = text.parse().expect("the HTTP library reads it too");
    assert_eq!(other.scheme_str(), Some(url.scheme.as_str()));
    assert_eq!(other.authority().map(|a| a.as_str()), Some(url.authority().as_str()));
    assert_eq!(other.host(), Some(url.host.to_string().as_str()));
    assert_eq!(other.port_u16().unwrap_or(url.scheme.default_port()), url.port);
    assert_eq!(other.path_and_query().map(|p| p.as_str()), Some(url.path_and_query.as_str()));

    match &url.host {
        Host::Name(name) => assert_eq!(policy.judge_name(name), Ok(())),
        Host::V4(_) | Host::V6(_) => {
            assert_eq!(policy.judge_ip(url.host.ip().expect("an address")), Ok(()));
        }
    }
}
