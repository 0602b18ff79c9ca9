//! Who is let in, for how long, and what ends it.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::{
    support::{
        eventually,
        gateway::{Gateway, OPERATOR_KEY},
    },
    visitor::{House, Visitor, text},
};

const SOON: Duration = Duration::from_secs(20);

/// Where somebody who is not logged in is sent.
fn is_out(answer: &crate::support::http::Response) -> bool {
    answer.status == 303
        && answer.header("location").is_some_and(|to| to.starts_with("/portal/login"))
}

#[test]
fn a_session_is_a_cookie_that_no_script_reads_and_ends_with_a_logout() {
    let house = House::open(&[]);
    let key = house.tenant("acme");
    let mut visitor = house.visitor();
    assert!(is_out(&visitor.get("/portal/t/acme/")));
    let entered = visitor.post("/portal/login", &[("key", &key), ("next", "/portal/t/acme/keys")]);
    assert_eq!((entered.status, entered.header("location")), (303, Some("/portal/t/acme/keys")));
    let cookie = entered.header("set-cookie").expect("a cookie").to_owned();
    for flag in ["; HttpOnly", "; SameSite=Lax", "; Path=/portal"] {
        assert!(cookie.contains(flag), "{cookie} without {flag}");
    }
    assert!(!cookie.contains("Secure"), "loopback has no TLS: {cookie}");
    assert!(!cookie.contains(&key), "the cookie is no key");
    visitor.page("/portal/t/acme/keys");

    let held = visitor.cookie.clone();
    assert_eq!(visitor.post("/portal/logout", &[]).status, 303);
    assert_eq!(visitor.cookie, None);
    visitor.cookie = held;
    assert!(is_out(&visitor.get("/portal/t/acme/")), "the server forgot it too");
}

#[test]
fn off_loopback_the_cookie_goes_over_tls_only() {
    let house = House::open(&[("SENDERZ_PORTAL__URL", "https://hooks.example.com")]);
    let key = house.tenant("acme");
    let mut visitor = house.visitor();
    let entered = visitor.post_from(
        "/portal/login",
        &[("key", &key)],
        &[("host", "hooks.example.com"), ("origin", "https://hooks.example.com")],
    );
    assert_eq!(entered.status, 303, "{}", text(&entered));
    assert!(entered.header("set-cookie").is_some_and(|cookie| cookie.contains("; Secure")));
}

#[test]
fn keys_that_may_not_look_are_refused() {
    let house = House::open(&[]);
    let producer = house.gateway.post("/v1/keys", None, &json!({"kind": "producer"}));
    let producer = producer["api_key"].as_str().expect("shown once");
    for key in ["", "x", producer, &"szk_tenant_".repeat(100)] {
        let mut visitor = house.visitor();
        let refused = visitor.post("/portal/login", &[("key", key)]);
        assert_eq!(refused.status, 403, "{key}");
        assert_eq!(refused.header("set-cookie"), None);
        assert!(key.is_empty() || !text(&refused).contains(&format!("\"{key}\"")), "echoed");
    }
}

#[test]
fn a_session_planted_before_the_login_is_not_the_one_that_is_logged_in() {
    let house = House::open(&[]);
    let (key, other) = (house.tenant("acme"), house.tenant("evil"));
    let planted = house.logged_in(&other).cookie.expect("a session");
    let mut victim = house.visitor();
    victim.cookie = Some(planted.clone());
    assert_eq!(victim.post("/portal/login", &[("key", &key)]).status, 303);
    assert_ne!(victim.cookie.as_deref(), Some(planted.as_str()));
    victim.page("/portal/t/acme/");
    let mut attacker = house.visitor();
    attacker.cookie = Some(planted);
    assert!(is_out(&attacker.get("/portal/t/acme/")), "the planted one ended with the login");
    let made_up = "senderz_portal=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    attacker.cookie = Some(made_up.to_owned());
    attacker.post("/portal/login", &[("key", &key)]);
    assert_ne!(attacker.cookie.as_deref(), Some(made_up));
}

#[test]
fn what_a_session_was_opened_with_ends_it() {
    let house = House::open(&[]);
    house.tenant("acme");
    let made = house.gateway.post("/v1/keys", Some("acme"), &json!({"kind": "tenant"}));
    let mut by_key = house.logged_in(made["api_key"].as_str().expect("a key"));
    by_key.page("/portal/t/acme/");
    let path = format!("/v1/keys/{}", made["id"].as_str().expect("an id"));
    assert_eq!(house.gateway.ask("DELETE", &path, None, b"").status, 204);
    assert!(is_out(&by_key.get("/portal/t/acme/")), "the key was revoked");

    let link = house.gateway.post("/v1/portal/sessions", Some("acme"), &json!({}));
    let token = link["url"].as_str().and_then(|url| url.rsplit('/').next()).expect("a token");
    let mut by_link = house.visitor();
    assert_eq!(by_link.post("/portal/link", &[("token", token)]).status, 303);
    by_link.page("/portal/t/acme/");
    assert_eq!(house.gateway.ask("DELETE", "/v1/tenants/acme", None, b"").status, 204);
    assert!(is_out(&by_link.get("/portal/t/acme/")), "the tenant was deleted");
}

#[test]
fn sessions_end_by_themselves_and_are_bounded() {
    let house = House::open(&[
        ("SENDERZ_PORTAL__SESSION_LIFETIME", "2s"),
        ("SENDERZ_PORTAL__MAX_PER_TENANT", "2"),
        ("SENDERZ_PORTAL__MAX_SESSIONS", "3"),
    ]);
    let (key, other, third) = (house.tenant("acme"), house.tenant("bolt"), house.tenant("cog"));
    let mut first = house.logged_in(&key);
    let _second = house.logged_in(&key);
    let _their = house.logged_in(&other);
    let mut last = house.logged_in(&key);
    assert!(is_out(&first.get("/portal/t/acme/")), "the oldest of the tenant ended");
    let mut nobody = house.visitor();
    assert_eq!(nobody.post("/portal/login", &[("key", &third)]).status, 503);
    eventually("the session is over", SOON, || is_out(&last.get("/portal/t/acme/")).then_some(()));
    house.logged_in(&third);
}

#[test]
fn a_link_works_once_and_looking_at_it_does_not_use_it_up() {
    let house = House::open(&[]);
    let key = house.tenant("acme");
    let bearer = format!("Bearer {key}");
    let mut maker = house.visitor();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let made = maker.ask("POST", "/v1/portal/sessions", &headers, br#"{"expires_in":"5m"}"#);
    assert_eq!(made.status, 201, "{}", text(&made));
    let url = made.json()["url"].as_str().expect("a link").to_owned();
    let path = &url[url.find("/portal/").expect("a path")..];
    let token = path.rsplit('/').next().expect("a token");
    let mut visitor = house.visitor();
    for _ in 0..2 {
        assert!(visitor.page(path).contains("Open the portal"));
        assert_eq!(visitor.cookie, None, "looking logs nobody in");
    }
    let entered = visitor.post("/portal/link", &[("token", token)]);
    assert_eq!(entered.header("location"), Some("/portal/t/acme/"));
    visitor.page("/portal/t/acme/");
    let mut late = house.visitor();
    assert_eq!(late.get(path).status, 410);
    assert_eq!(late.post("/portal/link", &[("token", token)]).status, 410);
    assert_eq!(late.cookie, None);
}

#[test]
fn a_link_has_its_time() {
    let house = House::open(&[("SENDERZ_PORTAL__LINK_LIFETIME", "1s")]);
    house.tenant("acme");
    let ask = |body: &[u8]| house.gateway.ask("POST", "/v1/portal/sessions", Some("acme"), body);
    let link = ask(b"{}").json()["url"].as_str().expect("a link").to_owned();
    let path = &link[link.find("/portal/").expect("a path")..];
    eventually("the link is over", SOON, || {
        (house.visitor().get(path).status == 410).then_some(())
    });
    assert_eq!(ask(br#"{"expires_in":"25h"}"#).status, 400);
    assert_eq!(ask(br#"{"for_ever":true}"#).status, 400);
}

#[test]
fn the_operator_makes_links_with_a_button() {
    let house = House::open(&[]);
    house.tenant("acme");
    let mut operator = house.logged_in(OPERATOR_KEY);
    let made = operator.post("/portal/t/acme/link", &[]);
    assert_eq!(made.status, 200, "{}", text(&made));
    let page = text(&made);
    let (_, rest) = page.split_once("/portal/link/").expect("the link");
    let token: String = rest.chars().take_while(|c| *c != '<').collect();
    let mut visitor = house.visitor();
    assert_eq!(visitor.post("/portal/link", &[("token", &token)]).status, 303);
    let tenants = visitor.get("/portal/tenants");
    assert_eq!(tenants.status, 404, "who came by a link is no operator");
    assert_eq!(visitor.post("/portal/t/acme/link", &[]).status, 404);
}

#[test]
fn on_a_terminal_the_start_shows_a_link_for_the_operator_and_in_a_log_none() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let own = Gateway::command(data.path(), &[]);
    // What it is to run on a terminal of its own.
    let line = format!("exec {} serve", own.get_program().to_str().expect("UTF-8"));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = Terminal(
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("script: bsdutils"),
    );
    let lines = BufReader::new(child.0.stdout.take().expect("piped")).lines();
    let link = lines.map_while(Result::ok).find(|line| line.contains("/portal/link/"));
    let link = link.expect("it is shown").trim().to_owned();
    let (base, path) = link.split_at(link.find("/portal/").expect("a path"));
    let to = base.strip_prefix("http://").and_then(|to| to.parse().ok()).expect("an address");
    let mut visitor = Visitor::to(to);
    assert!(visitor.page(path).contains("all tenants"));
    let token = path.rsplit('/').next().expect("a token");
    let entered = visitor.post("/portal/link", &[("token", token)]);
    assert_eq!(entered.header("location"), Some("/portal/tenants"));
    visitor.page("/portal/system");
    assert_eq!(Visitor::to(to).post("/portal/link", &[("token", token)]).status, 410);
    let all = visitor.page("/portal/audit");
    assert!(all.contains("portal_link.created") && all.contains("session.started"), "{all}");

    let logged = tempfile::tempdir().expect("a temporary directory");
    let mut command = Gateway::command(logged.path(), &[]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let stop = |child: &std::process::Child| {
        Command::new("kill").arg(child.id().to_string()).status().expect("kill")
    };
    let mut said = Vec::new();
    for line in out.lines().map_while(Result::ok) {
        if line.contains("  data ") {
            stop(&child);
        }
        said.push(line);
    }
    child.wait().expect("it ends");
    assert!(said.iter().any(|line| line.contains("/portal/")), "{said:?}");
    assert!(!said.iter().any(|line| line.contains("/portal/link/")), "{said:?}");
}

/// `script`, which ends with the gateway on its terminal; that one takes a hang-up for a reload.
struct Terminal(std::process::Child);

impl Drop for Terminal {
    fn drop(&mut self) {
        let id = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            let _ = Command::new("kill").arg(child).status();
        }
        let _ = self.0.wait();
    }
}

#[test]
fn a_portal_that_is_off_is_not_there() {
    let house = House::open(&[("SENDERZ_PORTAL__ENABLED", "false")]);
    house.tenant("acme");
    assert_eq!(house.visitor().get("/portal/").status, 404);
    let link = house.gateway.ask("POST", "/v1/portal/sessions", Some("acme"), b"{}");
    assert_eq!(link.status, 404);
}
