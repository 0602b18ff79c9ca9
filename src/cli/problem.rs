//! The API's refusals (RFC 9457) as the command line tells them: once, in its own words, and with
//! what to do where that is known.

use std::fmt;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::output;
use crate::request_id::REQUEST_ID;

/// An error as the API tells it.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    body: Value,
    /// What the gateway's log calls the request.
    request: Option<String>,
}

/// What is a header or a route to the API is a flag or a command to whoever reads this.
const IN_OUR_WORDS: [(&str, &str); 8] = [
    ("the header Senderz-Tenant", "--tenant"),
    ("Senderz-Tenant", "--tenant"),
    ("GET /v1/tenants ", "`senderz-gateway tenants list` "),
    ("GET /v1/webhooks ", "`senderz-gateway webhooks list` "),
    ("GET /v1/deliveries ", "`senderz-gateway deliveries list` "),
    ("GET /v1/events ", "`senderz-gateway events list` "),
    ("GET /v1/replays ", "`senderz-gateway replays list` "),
    ("GET /v1/keys ", "`senderz-gateway keys list` "),
];

impl Problem {
    pub(super) fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body, request: None }
    }

    /// With the name that the answer says its request has.
    pub(super) fn of_request(self, headers: &HeaderMap) -> Self {
        let name = headers.get(REQUEST_ID).and_then(|name| name.to_str().ok());
        Self { request: name.map(output::text), ..self }
    }

    pub(super) fn code(&self) -> Option<&str> {
        self.text("code")
    }

    /// What `/readyz` holds against being ready.
    pub(super) fn reasons(&self) -> String {
        let reasons = self.body["reasons"].as_array().into_iter().flatten();
        reasons.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.body[name].as_str().filter(|text| !text.is_empty())
    }

    fn errors(&self) -> &[Value] {
        self.body["errors"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The sentence, and which errors it leaves to be told one by one. The API's detail repeats the
    /// first of them, for those who read nothing else.
    fn head(&self) -> (&str, &[Value]) {
        let reason = self.status.canonical_reason().unwrap_or("unexpected answer");
        let title = self.text("title").unwrap_or(reason);
        let detail = self.text("detail").unwrap_or(title);
        let repeats = |error: &Value| error["detail"].as_str().is_some_and(|d| detail.contains(d));
        match self.errors() {
            [only] if repeats(only) => (detail, &[]),
            errors @ [first, ..] if repeats(first) => (title, errors),
            errors => (detail, errors),
        }
    }

    /// What to do about it.
    fn hint(&self) -> Option<&'static str> {
        match self.status {
            StatusCode::UNAUTHORIZED => Some(
                "set SENDERZ_API_KEY or --key-file; the operator's key is in \
                 <data_dir>/operator.key",
            ),
            StatusCode::FORBIDDEN => Some("this needs a key of another kind"),
            _ => self.errors().iter().find_map(|error| of_the_guard(error["code"].as_str()?)),
        }
    }
}

/// Which setting lets a URL through. Tenants are not told by the API: it is nothing that they could
/// change.
fn of_the_guard(code: &str) -> Option<&'static str> {
    match code {
        "blocked_target" => Some(
            "the gateway's operator can open networks to webhooks with security.allow_networks, \
             such as [\"127.0.0.0/8\"] for tests on one machine",
        ),
        "https_required" => Some(
            "the gateway's operator can allow http:// with security.require_https = false, or to \
             addresses in security.allow_networks only",
        ),
        "port_not_allowed" => Some("the gateway's operator sets these with security.deny_ports"),
        _ => None,
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, errors) = self.head();
        f.write_str(&in_our_words(head))?;
        write!(f, " ({}", self.status.as_u16())?;
        match self.code() {
            Some(code) => write!(f, ", {code})")?,
            None => f.write_str(")")?,
        }
        for error in errors {
            let [pointer, detail] = ["pointer", "detail"].map(|n| error[n].as_str().unwrap_or("?"));
            write!(f, "\n  {pointer}: {detail}")?;
        }
        if let Some(hint) = self.hint() {
            write!(f, "\n{hint}")?;
        }
        match &self.request {
            // Of what the asker did wrong the log knows no more.
            Some(request) if self.status.is_server_error() => {
                write!(f, "\nthe gateway's log may say more of the request {request}")
            }
            _ => Ok(()),
        }
    }
}

fn in_our_words(told: &str) -> String {
    match told {
        // The flag becomes the header, and for an event a part of the path.
        "Senderz-Tenant names no tenant" | "there is no such tenant" => {
            "--tenant names no tenant; `senderz-gateway tenants list` shows their ids".to_owned()
        }
        told => IN_OUR_WORDS.iter().fold(told.to_owned(), |t, (from, to)| t.replace(from, to)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(status: u16, body: Value, told: &str) {
        let problem = Problem::new(StatusCode::from_u16(status).unwrap(), body);
        assert_eq!(problem.to_string(), told);
    }

    #[test]
    fn what_is_wrong_is_told_once() {
        let error = |pointer: &str, detail: &str| json!({"pointer": pointer, "detail": detail});
        let (url, timeout) = (error("/url", "it is required"), error("/timeout", "too long"));
        check(
            400,
            json!({"title": "The body is not valid", "detail": "url: it is required",
                "code": "invalid_body", "errors": [url]}),
            "url: it is required (400, invalid_body)",
        );
        check(
            400,
            json!({"title": "The body is not valid", "detail": "url: it is required (and 1 more)",
                "code": "invalid_body", "errors": [url, timeout]}),
            "The body is not valid (400, invalid_body)\n  /url: it is required\n  /timeout: too long",
        );
        // A detail that says something else stays.
        check(
            400,
            json!({"title": "t", "detail": "1 of 9 lines are bad", "code": "c", "errors": [url]}),
            "1 of 9 lines are bad (400, c)\n  /url: it is required",
        );
        check(502, Value::Null, "Bad Gateway (502)");
    }

    #[test]
    fn a_fault_of_the_gateway_names_the_request_in_its_log() {
        let headers = HeaderMap::from_iter([(REQUEST_ID, "req_1".parse().unwrap())]);
        let told = |status: StatusCode| {
            let problem = Problem::new(status, json!({"detail": "no", "code": "c"}));
            problem.of_request(&headers).to_string()
        };
        let ours = told(StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(ours, "no (500, c)\nthe gateway's log may say more of the request req_1");
        assert_eq!(told(StatusCode::NOT_FOUND), "no (404, c)");
    }

    #[test]
    fn what_the_guard_refuses_names_the_setting() {
        let setting = |code: &str| {
            let error = json!({"pointer": "/url", "detail": "no", "code": code});
            let body = json!({"detail": "url: no", "code": "invalid_body", "errors": [error]});
            let told = Problem::new(StatusCode::BAD_REQUEST, body).to_string();
            let (first, hint) = told.split_once('\n').unwrap_or((&told, ""));
            assert_eq!(first, "url: no (400, invalid_body)");
            hint.to_owned()
        };
        assert!(setting("blocked_target").contains("security.allow_networks"));
        assert!(setting("https_required").contains("security.require_https"));
        assert!(setting("port_not_allowed").contains("security.deny_ports"));
        assert_eq!(setting("invalid_url"), "");
    }

    #[test]
    fn headers_and_routes_are_told_as_flags_and_commands() {
        let told = |detail: &str| {
            let body = json!({"detail": detail, "code": "not_found"});
            Problem::new(StatusCode::NOT_FOUND, body).to_string()
        };
        assert_eq!(
            told("its id is the `dlv_…` that GET /v1/deliveries shows"),
            "its id is the `dlv_…` that `senderz-gateway deliveries list` shows (404, not_found)"
        );
        let no_tenant = "--tenant names no tenant; `senderz-gateway tenants list` shows their ids (404, not_found)";
        for detail in ["there is no such tenant", "Senderz-Tenant names no tenant"] {
            assert_eq!(told(detail), no_tenant);
        }
        assert!(told("leave the header Senderz-Tenant out").starts_with("leave --tenant out"));
    }
}
