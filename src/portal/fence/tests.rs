//! Which host is ours, and which page.

use super::*;
use crate::config::Sources;

fn settings() -> config::Portal {
    config::load(&Sources::default()).unwrap().portal
}

fn request(uri: &str, headers: &[(&'static str, &str)]) -> Request {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(axum::body::Body::empty()).unwrap()
}

#[test]
fn addresses_localhost_and_the_names_of_the_configuration_are_ours() {
    let url = "https://Hooks.example.com:8443".to_owned();
    let named = config::Portal { url, hosts: vec!["inside.example".to_owned()], ..settings() };
    let plain = settings();
    let is_ours = |settings, host: &str| is_our_host(settings, &host.parse().unwrap());
    for always in ["127.0.0.1", "203.0.113.7:8080", "[::1]:80", "localhost", "LOCALHOST.:1"] {
        assert!(is_ours(&named, always) && is_ours(&plain, always), "{always}");
    }
    for name in ["hooks.example.com", "HOOKS.example.com.:9", "inside.example", "Inside.Example:1"]
    {
        assert!(is_ours(&named, name), "{name}");
        assert!(!is_ours(&plain, name), "{name}");
    }
    for other in ["evil.example", "x.hooks.example.com", "example.com", "localhost.evil.example"] {
        assert!(!is_ours(&named, other), "{other}");
    }
}

#[test]
fn a_request_is_for_one_host() {
    let of = |uri, headers: &[_]| authority(&request(uri, headers)).map(|host| host.to_string());
    assert_eq!(of("/", &[("host", "a.example:1")]), Some("a.example:1".to_owned()));
    let both = of("http://b.example/", &[("host", "a.example")]);
    assert_eq!(both, Some("b.example".to_owned()), "HTTP/2 has it in the address");
    assert_eq!(of("/", &[]), None);
    assert_eq!(of("/", &[("host", "a.example"), ("host", "a.example")]), None);
    assert_eq!(of("/", &[("host", "user@a.example")]), None);
    assert_eq!(of("/", &[("host", "")]), None);
}

#[test]
fn only_loopback_does_without_tls() {
    let is_local = |host: &str| is_loopback(request("/", &[("host", host)]).headers());
    for local in ["localhost", "localhost:8080", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:80"] {
        assert!(is_local(local), "{local}");
    }
    for other in ["203.0.113.7", "[2001:db8::1]", "localhost.evil.example", "a.example", ""] {
        assert!(!is_local(other), "{other}");
    }
    assert!(!is_loopback(&HeaderMap::new()));
}

#[test]
fn what_changes_something_is_everything_but_get_and_head() {
    for (method, writes) in [
        (Method::GET, false),
        (Method::HEAD, false),
        (Method::POST, true),
        (Method::PUT, true),
        (Method::PATCH, true),
        (Method::DELETE, true),
        (Method::OPTIONS, true),
    ] {
        assert_eq!(is_write(&method), writes, "{method}");
    }
}

#[test]
fn our_page_is_one_of_this_host_and_port() {
    let host = ("host", "a.example:8080");
    let is_ours = |headers: &[_]| is_from_our_page(&request("/", &[&[host], headers].concat()));
    for origin in ["http://a.example:8080", "https://a.example:8080", "http://A.EXAMPLE:8080"] {
        assert!(is_ours(&[("origin", origin)]), "{origin}");
        assert!(is_ours(&[("origin", origin), ("sec-fetch-site", "same-origin")]), "{origin}");
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!is_ours(&[("origin", origin), ("sec-fetch-site", site)]), "{origin} {site}");
        }
        assert!(!is_ours(&[("origin", origin), ("origin", origin)]), "{origin} twice");
    }
    for origin in ["null", "", "a.example:8080", "http://a.example", "http://a.example:80801"] {
        assert!(!is_ours(&[("origin", origin)]), "{origin}");
    }
    assert!(!is_ours(&[]) && !is_ours(&[("sec-fetch-site", "same-origin")]));
    let nowhere = request("/", &[("origin", "http://a.example:8080")]);
    assert!(!is_from_our_page(&nowhere));
}

#[test]
fn answers_run_load_and_frame_nothing_that_is_not_ours() {
    let hardened = |settings: &config::Portal, given: HeaderMap| {
        let mut headers = given;
        harden(settings, &mut headers);
        headers
    };
    let alone = hardened(&settings(), HeaderMap::new());
    let policy = alone[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none';"), "{policy}");
    assert_eq!(alone[header::X_FRAME_OPTIONS], "DENY");
    assert_eq!(alone[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(alone[header::CACHE_CONTROL], "no-store");

    let frame_ancestors = vec!["https://a.example".to_owned(), "https://b.example".to_owned()];
    let cached = HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static("x"))]);
    let framed = hardened(&config::Portal { frame_ancestors, ..settings() }, cached);
    let policy = framed[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("frame-ancestors https://a.example https://b.example;"), "{policy}");
    assert!(!framed.contains_key(header::X_FRAME_OPTIONS), "it knows no list");
    assert_eq!(framed[header::CACHE_CONTROL], "x", "what a page says itself stays");
}
