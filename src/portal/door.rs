//! Coming in and going out.
//!
//! A login always makes a new session with a new token and ends the one that the browser came with:
//! whoever planted a cookie there beforehand knows nothing of the one that is logged in.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    Portal,
    ask::Refused,
    fence::is_loopback,
    form::{Form, Pairs},
    shell::{Shell, page, page_with},
    visit::{COOKIE, Name, session},
};
use crate::{
    directory::Principal,
    request_id::RequestId,
    sessions::{self, LinkOf, Token},
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    shell: Shell,
    next: &'a str,
    wrong: Option<String>,
}

#[derive(Template)]
#[template(path = "link.html")]
struct LinkPage<'a> {
    shell: Shell,
    whose: &'a str,
    token: &'a str,
}

/// To the first page of whoever comes.
pub(super) async fn front(State(portal): State<Portal>, headers: HeaderMap) -> Response {
    let principal = session(&portal.sessions, &headers).and_then(|pass| pass.principal());
    Redirect::to(&home(&portal, principal)).into_response()
}

fn home(portal: &Portal, principal: Option<Principal>) -> String {
    match principal {
        Some(Principal::Operator) => "/portal/tenants".to_owned(),
        Some(Principal::Tenant(no)) => match portal.directory.tenant_by_no(no) {
            Some(entry) => format!("/portal/t/{}/", entry.tenant.id),
            None => "/portal/login".to_owned(),
        },
        Some(Principal::Producer) | None => "/portal/login".to_owned(),
    }
}

pub(super) async fn login_page(
    State(portal): State<Portal>,
    headers: HeaderMap,
    uri: http::Uri,
) -> Response {
    let query = Pairs::of(uri.query().unwrap_or_default().as_bytes());
    if let Some(pass) = session(&portal.sessions, &headers) {
        return Redirect::to(&home(&portal, pass.principal())).into_response();
    }
    let shell = Shell::outside("Log in");
    page(&LoginPage { shell, next: own_page(query.text("next")).unwrap_or_default(), wrong: None })
}

pub(super) async fn login(
    State(portal): State<Portal>,
    Name(request): Name,
    headers: HeaderMap,
    Form(form): Form,
) -> Response {
    let next = own_page(form.text("next"));
    match portal.sessions.log_in(form.text("key").trim(), request.clone()).await {
        Ok(token) => {
            let principal = portal.sessions.pass(token.expose()).and_then(|pass| pass.principal());
            let home = home(&portal, principal);
            enter(&portal, &headers, &token, next.unwrap_or(&home), request).await
        }
        Err(refused) => {
            tracing::info!(reason = %refused, "portal login refused");
            let status = match refused {
                sessions::Refused::Full | sessions::Refused::Stopped => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                _ => StatusCode::FORBIDDEN,
            };
            let shell = Shell::outside("Log in");
            let wrong = Some(sentence(refused));
            page_with(status, &LoginPage { shell, next: next.unwrap_or_default(), wrong })
        }
    }
}

/// Looking at a link does not use it up: programs that read mail follow links, people press buttons.
pub(super) async fn link_page(State(portal): State<Portal>, Path(token): Path<String>) -> Response {
    let whose = match portal.sessions.link_is_for(&token) {
        Some(LinkOf::Operator) => Some("all tenants".to_owned()),
        Some(LinkOf::Tenant(no)) => {
            portal.directory.tenant_by_no(no).map(|entry| entry.tenant.name.clone())
        }
        None => None,
    };
    let Some(whose) = whose else { return link_is_over() };
    let shell = Shell::outside("Open the portal");
    page(&LinkPage { shell, whose: &whose, token: &token })
}

pub(super) async fn follow(
    State(portal): State<Portal>,
    Name(request): Name,
    headers: HeaderMap,
    Form(form): Form,
) -> Response {
    match portal.sessions.follow(form.text("token"), request.clone()).await {
        Ok(token) => {
            let principal = portal.sessions.pass(token.expose()).and_then(|pass| pass.principal());
            enter(&portal, &headers, &token, &home(&portal, principal), request).await
        }
        Err(refused @ (sessions::Refused::Full | sessions::Refused::Stopped)) => {
            let detail = sentence(refused);
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Refused::new(status, "Not now", &detail).into_response()
        }
        Err(_) => link_is_over(),
    }
}

fn link_is_over() -> Response {
    let detail = "It was used already, or its time is over. Ask for a new one, or log in with an \
                  API key.";
    Refused::new(StatusCode::GONE, "This link is used up", detail).into_response()
}

pub(super) async fn logout(
    State(portal): State<Portal>,
    Name(request): Name,
    headers: HeaderMap,
) -> Response {
    if let Some(pass) = session(&portal.sessions, &headers) {
        pass.log_out(request).await;
    }
    let mut response = Redirect::to("/portal/login").into_response();
    set_cookie(&mut response, &headers, "", "; Max-Age=0");
    response
}

pub(super) async fn nothing_here() -> Response {
    Refused::nothing_here().into_response()
}

async fn enter(
    portal: &Portal,
    headers: &HeaderMap,
    token: &Token,
    to: &str,
    request: Option<RequestId>,
) -> Response {
    if let Some(before) = session(&portal.sessions, headers) {
        before.log_out(request).await;
    }
    let mut response = Redirect::to(to).into_response();
    // It ends with the browser, or with the session, whichever comes first.
    set_cookie(&mut response, headers, token.expose(), "");
    response
}

fn set_cookie(response: &mut Response, headers: &HeaderMap, value: &str, more: &str) {
    // Browsers keep cookies that are `Secure` from plain HTTP, which only loopback is fit for.
    let secure = if is_loopback(headers) { "" } else { "; Secure" };
    let cookie = format!("{COOKIE}={value}; Path=/portal; HttpOnly; SameSite=Lax{secure}{more}");
    let cookie = HeaderValue::try_from(cookie).expect("tokens are visible ASCII");
    response.headers_mut().insert(header::SET_COOKIE, cookie);
}

/// A page to go on to, where it is one of ours: never another host, whatever a link says.
fn own_page(path: &str) -> Option<&str> {
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    (path.starts_with("/portal/") && is_plain).then_some(path)
}

/// As people are told.
fn sentence(refused: sessions::Refused) -> String {
    let text = refused.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_our_own_pages_only() {
        for good in ["/portal/", "/portal/t/acme/deliveries?status=failed&webhook=wh_1"] {
            assert_eq!(own_page(good), Some(good));
        }
        for bad in [
            "",
            "/",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example/portal/",
            "/portal",
            "/portals/",
            "/portal/\\..\\",
            "/portal/\r\nSet-Cookie: a=b",
            "/portal/é",
            "javascript:alert(1)",
        ] {
            assert_eq!(own_page(bad), None, "{bad}");
        }
    }
}
