//! What is around every page: head, navigation, notices.

use askama::Template;
use axum::response::{Html, IntoResponse as _, Response};
use http::StatusCode;

use super::{ask::Refused, assets};

/// The entry of the navigation that a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Webhooks,
    Deliveries,
    Events,
    Live,
    Replays,
    Verify,
    Keys,
    Audit,
    Tenants,
    AuditOfAll,
    System,
    /// Before anybody is logged in.
    Outside,
}

impl Place {
    /// Of a tenant's pages: the entry, its name, the end of its address.
    const OF_TENANT: [(Self, &'static str, &'static str); 9] = [
        (Self::Overview, "Overview", "/"),
        (Self::Deliveries, "Deliveries", "/deliveries"),
        (Self::Webhooks, "Webhooks", "/webhooks"),
        (Self::Events, "Events", "/events"),
        (Self::Live, "Live", "/live"),
        (Self::Replays, "Replays", "/replays"),
        (Self::Verify, "Verify", "/verify"),
        (Self::Keys, "Keys", "/keys"),
        (Self::Audit, "Audit", "/audit"),
    ];

    const OF_OPERATOR: [(Self, &'static str, &'static str); 3] = [
        (Self::Tenants, "Tenants", "/portal/tenants"),
        (Self::AuditOfAll, "Audit of all", "/portal/audit"),
        (Self::System, "System", "/portal/system"),
    ];
}

/// A link of the navigation.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) address: String,
    pub(super) is_here: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Shell {
    pub(super) title: String,
    pub(super) assets: &'static str,
    /// The tenant's id; empty where the page is nobody's.
    pub(super) tenant: String,
    /// Its name, where that says more than its id.
    pub(super) tenant_name: String,
    pub(super) entries: Vec<Entry>,
    pub(super) operator_entries: Vec<Entry>,
    pub(super) is_inside: bool,
    /// What the request before this one did.
    pub(super) done: Option<&'static str>,
}

impl Shell {
    pub(super) fn new(
        title: &str,
        place: Place,
        tenant: &str,
        tenant_name: &str,
        is_operator: bool,
        done: Option<&'static str>,
    ) -> Self {
        let own = Place::OF_TENANT.into_iter().filter(|_| !tenant.is_empty());
        let own = own.map(|(entry, name, end)| Entry {
            name,
            address: format!("/portal/t/{tenant}{end}"),
            is_here: entry == place,
        });
        let operators = Place::OF_OPERATOR.into_iter().filter(|_| is_operator);
        let operators = operators.map(|(entry, name, address)| Entry {
            name,
            address: address.to_owned(),
            is_here: entry == place,
        });
        Self {
            title: title.to_owned(),
            assets: &assets::VERSION,
            tenant: tenant.to_owned(),
            tenant_name: if tenant_name == tenant { String::new() } else { tenant_name.to_owned() },
            entries: own.collect(),
            operator_entries: operators.collect(),
            is_inside: place != Place::Outside,
            done,
        }
    }

    /// Of pages for nobody in particular.
    pub(super) fn outside(title: &str) -> Self {
        Self::new(title, Place::Outside, "", "", false, None)
    }
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage<'a> {
    shell: Shell,
    refused: &'a Refused,
}

/// A page that says why there is none.
pub(super) fn refusal(refused: &Refused) -> Response {
    page_with(refused.status, &RefusalPage { shell: Shell::outside(&refused.title), refused })
}

pub(super) fn page(template: &impl Template) -> Response {
    page_with(StatusCode::OK, template)
}

pub(super) fn page_with(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
