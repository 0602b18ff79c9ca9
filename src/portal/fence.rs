//! What every request of the portal passes, and every answer.
//!
//! - The host is one of ours: a name that somebody else made point at this machine (DNS rebinding)
//!   shows nothing. An address, which no name server answers for, and `localhost` are always ours.
//! - What changes something says that it comes from a page of this host. Browsers say so in `Origin`
//!   on every post, and add `Sec-Fetch-Site`; whoever says neither is no browser that is logged in.
//! - Answers carry a policy under which nothing runs, loads or frames that is not ours, and may not
//!   be kept by anybody.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, uri::Authority};

use super::{Portal, ask::Refused, shell};
use crate::{config, metrics::HTTP_REQUESTS};

/// The `route` under which pages are counted.
const ROUTE: &str = "portal";

pub(super) async fn pass(State(portal): State<Portal>, request: Request, next: Next) -> Response {
    let is_ours = authority(&request).is_some_and(|host| is_our_host(&portal.settings, &host));
    let mut response = if !is_ours {
        let detail = "The portal does not answer to this host name: the operator adds it to \
                      portal.url or portal.hosts.";
        Refused::new(StatusCode::MISDIRECTED_REQUEST, "Another host", detail).into_response()
    } else if is_write(request.method()) && !is_from_our_page(&request) {
        let detail = "The request does not come from a page of the portal, and was not carried out. \
                      Open the portal and do it there.";
        Refused::new(StatusCode::FORBIDDEN, "Not from here", detail).into_response()
    } else {
        next.run(request).await
    };
    if let Some(refused) = response.extensions_mut().remove::<Refused>() {
        response = shell::refusal(&refused);
    }
    count(response.status());
    harden(&portal.settings, response.headers_mut());
    response
}

fn is_write(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// Host and port that the request is for: HTTP/2 has them in the address.
fn authority(request: &Request) -> Option<Authority> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.clone());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        // A user in front of the host is no part of any host.
        (Some(host), None) => Authority::try_from(host.as_bytes())
            .ok()
            .filter(|authority| !authority.as_str().contains('@')),
        _ => None,
    }
}

fn is_our_host(settings: &config::Portal, authority: &Authority) -> bool {
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let of_url = settings.url.split_once("://").map_or("", |(_, rest)| rest);
    let of_url = of_url.parse::<Authority>().ok();
    is_address(&host)
        || host == "localhost"
        || settings.hosts.contains(&host)
        || of_url.is_some_and(|ours| ours.host().eq_ignore_ascii_case(&host))
}

fn is_address(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    host.parse::<Ipv4Addr>().is_ok() || v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

/// Whether nobody between the browser and this host can read what goes over the wire.
pub(super) fn is_loopback(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority: Option<Authority> = host.and_then(|host| host.parse().ok());
    authority.is_some_and(|authority| {
        let host = authority.host();
        host == "localhost"
            || host == "[::1]"
            || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
    })
}

fn is_from_our_page(request: &Request) -> bool {
    let headers = request.headers();
    let site = headers.get(HeaderName::from_static("sec-fetch-site"));
    if site.is_some_and(|site| site != "same-origin") {
        return false;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    // The scheme is the proxy's business, which may end TLS before us.
    let ours = authority(request);
    origin.zip(ours).is_some_and(|((_, from), ours)| from.eq_ignore_ascii_case(ours.as_str()))
}

/// Scripts, styles, images, forms and connections of this origin, and nothing else of any kind. With
/// trusted types a script cannot make HTML of text even by mistake.
fn policy(settings: &config::Portal) -> String {
    let frames = &settings.frame_ancestors;
    let frames = if frames.is_empty() { "'none'".to_owned() } else { frames.join(" ") };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src \
         'self'; form-action 'self'; base-uri 'none'; frame-ancestors {frames}; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

fn harden(settings: &config::Portal, headers: &mut HeaderMap) {
    let policy = HeaderValue::try_from(policy(settings)).expect("origins are visible ASCII");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    let fixed = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`, which makes browsers leave out where a post comes from.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if settings.frame_ancestors.is_empty() {
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    }
}

fn count(status: StatusCode) {
    let class = match status.as_u16() {
        ..400 => "2xx",
        400..500 => "4xx",
        500.. => "5xx",
    };
    ::metrics::counter!(HTTP_REQUESTS, "route" => ROUTE, "code_class" => class).increment(1);
}

#[cfg(test)]
mod tests;
