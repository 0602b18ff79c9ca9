//! What needs the policy's own settings, and the properties; the corpus of hostile and good URLs
//! is in `tests/guard_corpus.rs`.

use proptest::prelude::*;

use super::*;
use crate::guard::Class;

#[track_caller]
fn check(policy: &Policy, text: &str, expected: Result<&str, UrlError>) {
    let canonical = WebhookUrl::parse(text, policy).map(|url| url.to_string());
    assert_eq!(canonical, expected.map(str::to_owned), "{text:?}");
}

fn reason(policy: &Policy, text: &str) -> &'static str {
    WebhookUrl::parse(text, policy).map_or_else(|error| error.reason(), |_| "accepted")
}

fn testing() -> Policy {
    Policy {
        allow_networks: vec!["127.0.0.0/8".parse().expect("a network")],
        deny_ports: vec![22, 6379],
        deny_hosts: vec!["evil.example".into(), "9.9.9.9".into(), "[2620:fe::9]".into()],
        own_addresses: vec!["127.0.0.1:8080".parse().expect("an address")],
        ..Policy::default()
    }
}

#[test]
fn the_parts_are_typed_and_canonical() {
    let url = WebhookUrl::parse("HTTPS://Bücher.Example.:8443/a/../b?q=ü", &Policy::default())
        .expect("a good URL");
    assert_eq!(url.scheme, Scheme::Https);
    assert_eq!(url.host, Host::Name("xn--bcher-kva.example".into()));
    assert_eq!(url.port, 8443);
    assert_eq!(url.path_and_query, "/b?q=%C3%BC");
    assert_eq!(url.authority(), "xn--bcher-kva.example:8443");
    assert_eq!(url.sni(), Some("xn--bcher-kva.example"));
    assert_eq!(url.origin(), (Scheme::Https, &url.host, 8443));
    assert_eq!(url.to_string(), "https://xn--bcher-kva.example:8443/b?q=%C3%BC");
}

#[test]
fn an_address_has_no_sni_and_an_ipv6_address_stands_in_brackets() {
    let parse = |text| WebhookUrl::parse(text, &Policy::default()).expect("a good URL");
    let v6 = parse("https://[2606:4700:0::1111]:444");
    assert_eq!((v6.authority().as_str(), v6.sni()), ("[2606:4700::1111]:444", None));
    let v4 = parse("https://0x01.01.1/");
    assert_eq!((v4.authority().as_str(), v4.sni()), ("1.1.0.1", None));
    let mapped = parse("https://[::ffff:1.1.1.1]:443/");
    assert_eq!(mapped.host, Host::V4([1, 1, 1, 1].into()));
}

#[test]
fn plain_http_is_for_allowed_networks_only() {
    let policy = testing();
    check(&policy, "http://127.0.0.1:9000/in", Ok("http://127.0.0.1:9000/in"));
    check(&policy, "http://localhost:9000/in", Ok("http://localhost:9000/in"));
    check(&policy, "http://[::ffff:127.0.0.1]:9000/", Ok("http://127.0.0.1:9000/"));
    check(&policy, "http://example.com/", Err(UrlError::HttpsRequired));
    check(&policy, "http://1.1.1.1/", Err(UrlError::HttpsRequired));
    assert_eq!(reason(&policy, "http://[::1]/"), "loopback");
    assert_eq!(reason(&Policy::default(), "http://localhost/"), "local_name");
    let lax = Policy { require_https: false, ..testing() };
    check(&lax, "http://example.com:80/", Ok("http://example.com/"));
    assert_eq!(reason(&lax, "http://10.0.0.1/"), "private");
    assert_eq!(UrlError::HttpsRequired.code(), "https_required");
}

#[test]
fn denied_ports_hosts_and_own_listeners_are_refused_at_registration() {
    let policy = testing();
    check(&policy, "https://example.com:22/", Err(UrlError::PortNotAllowed(22)));
    check(&policy, "https://127.0.0.1:6379/", Err(UrlError::PortNotAllowed(6379)));
    assert_eq!(UrlError::PortNotAllowed(22).code(), "port_not_allowed");
    assert_eq!(reason(&policy, "https://evil.example/"), "denied_host");
    assert_eq!(reason(&policy, "https://a.EVIL.example./"), "denied_host");
    assert_eq!(reason(&policy, "https://9.9.2313/"), "denied_host");
    assert_eq!(reason(&policy, "https://[2620:fe:0::9]/"), "denied_host");
    assert_eq!(reason(&policy, "https://notevil.example/"), "accepted");
    assert_eq!(reason(&policy, "http://127.0.0.1:8080/"), "own_listener");
    assert_eq!(reason(&policy, "http://localhost:8080/"), "own_listener");
    assert_eq!(reason(&policy, "http://2130706433:8080/"), "own_listener");
    assert_eq!(reason(&policy, "http://127.0.0.1:8081/"), "accepted");
}

#[test]
fn a_url_is_measured_as_written_and_as_stored() {
    let limit = |text: &str, max_url: usize| {
        WebhookUrl::parse(text, &Policy { max_url, ..Policy::default() }).map(|_| ())
    };
    let text = "https://example.com/abc";
    assert_eq!(limit(text, text.len()), Ok(()));
    assert_eq!(limit(text, text.len() - 1), Err(UrlError::TooLong { limit: text.len() - 1 }));
    let grows = "https://example.com/äöü";
    assert_eq!(limit(grows, grows.len()), Err(UrlError::TooLong { limit: grows.len() }));
    assert_eq!(limit("https://example.com/%C3%A4%C3%B6%C3%BC", 38), Ok(()));
}

/// Ten thousand segments are refused by their length before any is looked at; the most that fit
/// are still resolved.
#[test]
fn ten_thousand_segments_are_refused_and_a_full_url_is_not() {
    let policy = Policy::default();
    let many = format!("https://example.com{}", "/a".repeat(10_000));
    check(&policy, &many, Err(UrlError::TooLong { limit: 2048 }));
    let full = format!("https://example.com{}/b/", "/a".repeat(1013));
    assert_eq!(full.len(), 2048);
    check(&policy, &full, Ok(&full));
    let climbing = format!("https://example.com/{}", "../".repeat(676));
    assert_eq!(climbing.len(), 2048);
    check(&policy, &climbing, Ok("https://example.com/"));
}

#[test]
fn names_and_labels_have_their_lengths() {
    let label = "a".repeat(63);
    let policy = Policy::default();
    let name = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(name.len(), 253);
    check(&policy, &format!("https://{name}/"), Ok(&format!("https://{name}/")));
    check(&policy, &format!("https://{name}./"), Ok(&format!("https://{name}/")));
    let long = [
        format!("https://{name}b/"),
        format!("https://{label}a.example/"),
        format!("https://{}example/", "a.".repeat(124)),
        format!("https://{}.example/", "ü".repeat(60)),
    ];
    for text in long {
        check(&policy, &text, Err(UrlError::NameTooLong));
    }
    let wide = Policy { max_url: usize::MAX, ..Policy::default() };
    // A mathematical `a`, which is written in four bytes and stands for the plain one.
    let spelled_out = format!("https://{}/", name.replace('a', "%F0%9D%90%9A"));
    check(&wide, &spelled_out, Ok(&format!("https://{name}/")));
    let raw = format!("https://{}.example/", "a".repeat(LONGEST_RAW_HOST));
    check(&wide, &raw, Err(UrlError::NameTooLong));
    // What is longer is not looked into.
    let wrong = |len: usize| format!("https://{}/", "%zz".repeat(len / 3));
    check(&wide, &wrong(LONGEST_RAW_HOST), Err(UrlError::Name));
    check(&wide, &wrong(LONGEST_RAW_HOST + 3), Err(UrlError::NameTooLong));
}

#[test]
fn what_is_no_scheme_is_told_from_another_scheme() {
    for other in ["ftp://a.example/", "svn+ssh://a.example/", "example.com:443/", "h2-c.x1://a/"] {
        check(&Policy::default(), other, Err(UrlError::Scheme));
    }
    for none in ["1http://a.example/", "-x://a.example/", "a_b://a.example/", "//a.example:1/", ":"]
    {
        check(&Policy::default(), none, Err(UrlError::NoScheme));
    }
}

#[test]
fn a_path_that_no_http_library_would_send_is_refused() {
    let wide = Policy { max_url: usize::MAX, ..Policy::default() };
    let with_path =
        |len| WebhookUrl::parse(&format!("https://a.example/{}", "x".repeat(len)), &wide);
    assert!(with_path(65_000).is_ok());
    assert_eq!(with_path(66_000), Err(UrlError::Path));
}

#[test]
fn a_stored_url_may_be_longer_than_any_that_is_accepted_now() {
    let text = format!("https://a.example/{}", "x".repeat(60_000));
    assert_eq!(WebhookUrl::from_stored(&text).map(|url| url.to_string()), Ok(text));
    let damaged = format!("https://a.example/{}", "x".repeat(LONGEST_STORED));
    let limit = LONGEST_STORED;
    assert_eq!(WebhookUrl::from_stored(&damaged), Err(UrlError::TooLong { limit }));
}

#[test]
fn a_stored_url_is_read_back_whatever_the_policy_says_now() {
    let url = WebhookUrl::parse("http://127.0.0.1:9000/in?x=%20", &testing()).expect("allowed");
    assert_eq!(WebhookUrl::from_stored(&url.to_string()), Ok(url.clone()));
    let judged = Policy::default().judge_url(&url).expect_err("not allowed now");
    assert_eq!((judged.code(), judged.reason()), ("blocked_target", Class::Loopback.as_str()));
}

#[test]
fn messages_say_what_to_do_and_not_what_is_behind_the_gateway() {
    let policy = testing();
    let blocked = [
        "https://10.0.0.1/",
        "https://[fe80::1]/",
        "https://metadata.google.internal/",
        "https://evil.example/",
        "http://127.0.0.1:8080/",
        "https://single/",
    ];
    let told: std::collections::HashSet<_> = blocked
        .iter()
        .map(|text| WebhookUrl::parse(text, &policy).expect_err("blocked").to_string())
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let secret = WebhookUrl::parse("https://user:hunter2@example.com/", &policy);
    let error = secret.expect_err("userinfo");
    assert!(error.to_string().contains("custom headers"));
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let hidden = WebhookUrl::parse("https://exam\u{ad}ple.com/", &policy).expect_err("hidden");
    assert_eq!(hidden, UrlError::Character { at: 12, character: '\u{ad}' });
    assert!(hidden.to_string().contains("U+00AD at byte 12"), "{hidden}");
}

/// Text that is often nearly a URL: pieces from every place where parsers differ.
fn nearly_urls() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "https://", "http://", "HTTPS:", "//", "/", "?", "#", "@", ":", "[", "]", "%", "%2e",
            "%2F", "%40", "%00", "%25", "\\", ".", "..", "a", "example", "com", ".example.com",
            "xn--", "xn--bcher-kva", "ü", "ß", "。", "①", "１", "127.0.0.1", "1.1.1.1", "0x7f",
            "0177", "2130706433", "::1", "[2606:4700::1]", "::ffff:1.1.1.1", "localhost", "443",
            ":443", ":0", ":8443", " ", "\t", "\n", "\u{ad}", "\u{200d}", "\u{feff}", "\u{0}",
            "'", "\"", "<", "{", "|", "^", "`", "~", "=", "&", "+", ";", ",", "(", "$", "*",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => "[a-z0-9.-]{1,12}",
    ];
    (
        prop::sample::select(vec![
            "https://",
            "https://",
            "http://",
            "",
            "https://a.example",
            "https://a.example/",
        ]),
        prop::collection::vec(piece, 0..8),
    )
        .prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()))
}

/// URLs most of which are accepted, so that the properties about accepted ones are not empty.
fn mostly_good() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        "[a-zA-Z0-9äéß_]{1,9}(\\.[a-z0-9ü]{1,8}){0,3}\\.(com|example|de|рф)\\.?",
        any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).to_string()),
        any::<u32>().prop_map(|bits| format!("0x{bits:x}")),
        any::<[u16; 7]>().prop_map(|s| {
            let high = 0x2400 | s[0] & 0xff;
            format!("[{}]", Ipv6Addr::new(high, s[1], s[2], s[3], s[4], s[5], s[6], 1))
        }),
    ];
    let tail = "([/?][a-zA-Z0-9%äé€{}\\[\\]|^`'\"<>~!$&()*+,;=:@./?-]{0,20}){0,4}";
    (prop_oneof![Just("https"), Just("HTTP"), Just("http")], host, any::<Option<u16>>(), tail)
        .prop_map(|(scheme, host, port, tail)| match port {
            Some(port) => format!("{scheme}://{host}:{port}{tail}"),
            None => format!("{scheme}://{host}{tail}"),
        })
        .prop_map(|text| match text.split_once("://") {
            Some((scheme, rest)) if !rest.contains(['/', '?']) => format!("{scheme}://{rest}/"),
            _ => text,
        })
}

fn lax() -> Policy {
    Policy { require_https: false, ..Policy::default() }
}

/// The three promises about an accepted URL: its text is canonical, another parser reads the same
/// from it, and its parts are what they are said to be.
fn holds_for_accepted(url: &WebhookUrl, policy: &Policy) {
    let text = url.to_string();
    assert_eq!(WebhookUrl::parse(&text, policy).as_ref(), Ok(url), "{text}");
    assert_eq!(WebhookUrl::from_stored(&text).as_ref(), Ok(url), "{text}");

    let other: http::Uri = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(other.scheme_str(), Some(url.scheme.as_str()));
    assert_eq!(other.host(), Some(url.host.to_string().as_str()));
    assert_eq!(other.port_u16().unwrap_or(url.scheme.default_port()), url.port);
    assert_eq!(other.path_and_query().map(|p| p.as_str()), Some(url.path_and_query.as_str()));
    assert_eq!(other.authority().map(|a| a.as_str()), Some(url.authority().as_str()));

    let third = ::url::Url::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(third.as_str(), text);
    assert_eq!((third.username(), third.password(), third.fragment()), ("", None, None));

    assert!(text.bytes().all(|b| b.is_ascii_graphic()) && text.len() <= policy.max_url);
    assert!(url.path_and_query.starts_with('/') && url.port != 0);
    match &url.host {
        Host::Name(name) => {
            assert!(name.len() <= 253 && name.contains('.') && !name.ends_with('.'));
            assert!(name.parse::<IpAddr>().is_err());
        }
        Host::V4(_) | Host::V6(_) => {
            let ip = url.host.ip().expect("an address");
            assert_eq!(policy.judge_ip(ip), Ok(()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn whatever_is_accepted_reads_the_same_to_every_parser(text in nearly_urls()) {
        if let Ok(url) = WebhookUrl::parse(&text, &lax()) {
            holds_for_accepted(&url, &lax());
        }
    }

    #[test]
    fn good_urls_read_the_same_to_every_parser(text in mostly_good()) {
        match WebhookUrl::parse(&text, &lax()) {
            Ok(url) => holds_for_accepted(&url, &lax()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn invisible_characters_are_refused_wherever_they_stand(
        at in 0usize..30,
        hidden in prop::sample::select(vec![
            '\0', '\t', '\n', '\r', ' ', '\u{7f}', '\u{85}', '\u{a0}', '\u{ad}', '\u{200b}',
            '\u{200d}', '\u{2028}', '\u{202e}', '\u{2060}', '\u{3000}', '\u{feff}', '\\',
        ]),
    ) {
        let mut text = String::from("https://example.com:8443/path?q");
        text.insert(at, hidden);
        let error = WebhookUrl::parse(&text, &Policy::default()).expect_err("hidden");
        let expected = match hidden {
            '\\' => UrlError::Backslash { at },
            character => UrlError::Character { at, character },
        };
        prop_assert_eq!(error, expected);
    }
}

#[test]
fn the_properties_see_accepted_urls() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let accepted = |strategy: BoxedStrategy<String>,
                    runner: &mut proptest::test_runner::TestRunner| {
        (0..500)
            .filter(|_| {
                let tree = strategy.new_tree(runner).expect("a value");
                WebhookUrl::parse(&proptest::strategy::ValueTree::current(&tree), &lax()).is_ok()
            })
            .count()
    };
    let (nearly, good) = (
        accepted(nearly_urls().boxed(), &mut runner),
        accepted(mostly_good().boxed(), &mut runner),
    );
    assert!(nearly >= 50 && good >= 150, "{nearly} and {good} of 500");
}
