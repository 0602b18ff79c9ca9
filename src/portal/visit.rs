//! A request of somebody who is logged in.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{FromRequestParts, RawPathParams},
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, Method, header, request::Parts};

use super::{
    Portal,
    ask::{Asker, Refused, part, with_query},
    form::Pairs,
    shell::{Place, Shell},
    words::When,
};
use crate::{
    clock::wall_ms,
    directory::{Principal, TenantEntry},
    id::TenantNo,
    request_id::RequestId,
    sessions::{Pass, Sessions},
    tenant::SigningSecret,
};

/// The cookie that holds a session's token.
pub(super) const COOKIE: &str = "senderz_portal";

/// Who looks at which page.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) asker: Asker,
    pub(super) is_operator: bool,
    /// Whose page it is; none on the operator's own.
    tenant: Option<Arc<TenantEntry>>,
    /// The `{id}` of the path, so written that it is one part of another.
    pub(super) id: String,
    /// The `{change}` of the path.
    pub(super) change: String,
    /// The query of the address.
    pub(super) query: Pairs,
}

impl Visit {
    /// The tenant's id; empty on the operator's own pages.
    pub(super) fn tenant(&self) -> &str {
        self.tenant.as_ref().map_or("", |entry| entry.tenant.id.as_str())
    }

    /// The address of a page of this tenant.
    pub(super) fn to(&self, page: &str) -> String {
        format!("/portal/t/{}{page}", self.tenant())
    }

    /// Until when the tenant's older secrets sign beside the one in force.
    pub(super) fn overlaps(&self) -> Vec<When> {
        let now = wall_ms();
        let secrets = self.tenant.as_ref().map(|entry| &entry.tenant.secrets);
        let older = secrets.into_iter().flat_map(|secrets| secrets.overlapping(now));
        older.map(|(_, until)| When::at(*until)).collect()
    }

    /// The tenant's secrets, the one in force first, to compare with. What shows them asks the API,
    /// which records it.
    pub(super) fn secrets(&self) -> Vec<SigningSecret> {
        let Some(entry) = &self.tenant else { return Vec::new() };
        let secrets = &entry.tenant.secrets;
        let older = secrets.overlapping(wall_ms()).map(|(secret, _)| secret.clone());
        [secrets.current.clone()].into_iter().chain(older).collect()
    }

    pub(super) fn shell(&self, title: &str, place: Place) -> Shell {
        let name = self.tenant.as_ref().map_or("", |entry| entry.tenant.name.as_str());
        let done = self.query.get("done").and_then(super::words::done);
        Shell::new(title, place, self.tenant(), name, self.is_operator, done)
    }

    /// Redirects after something was done, so that a reload does not do it again.
    pub(super) fn done(&self, page: &str, what: &str) -> Response {
        Redirect::to(&with_query(&self.to(page), [("done", what)])).into_response()
    }
}

/// The session that a request's cookie opens.
pub(super) fn session(sessions: &Sessions, headers: &HeaderMap) -> Option<Pass> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let tokens = cookies.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    });
    // A page of a neighbouring host can add cookies of the same name: one that opens something
    // is ours all the same, because nobody else knows it.
    tokens.take(8).find_map(|token| sessions.pass(token))
}

/// What the request is called.
pub(super) struct Name(pub(super) Option<RequestId>);

impl<S: Sync> FromRequestParts<S> for Name {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<RequestId>().cloned()))
    }
}

/// Whose pages somebody may see. To everybody else they do not exist.
fn may_visit(who: Principal, tenant: TenantNo) -> bool {
    match who {
        Principal::Operator => true,
        Principal::Tenant(own) => own == tenant,
        Principal::Producer => false,
    }
}

impl FromRequestParts<Portal> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, portal: &Portal) -> Result<Self, Response> {
        let Some(pass) = session(&portal.sessions, &parts.headers) else {
            return Err(to_login(parts));
        };
        let Some(principal) = pass.principal() else { return Err(to_login(parts)) };
        let params = RawPathParams::from_request_parts(parts, portal).await;
        let params = params.map_err(|_| Refused::nothing_here().into_response())?;
        let find = |wanted: &str| params.iter().find(|(name, _)| *name == wanted);
        let tenant = match find("tenant") {
            Some((_, id)) => {
                let entry = portal.directory.tenant(id);
                let entry = entry.filter(|entry| may_visit(principal, entry.tenant.no));
                Some(entry.ok_or_else(|| Refused::nothing_here().into_response())?)
            }
            None => None,
        };
        let id = find("id").map(|(_, id)| part(id)).unwrap_or_default();
        let change = find("change").map(|(_, change)| part(change)).unwrap_or_default();
        let named = tenant.as_ref().map(|entry| entry.tenant.id.to_string());
        let request = parts.extensions.get::<RequestId>().cloned();
        Ok(Self {
            asker: Asker { portal: portal.clone(), pass, tenant: named, request },
            is_operator: principal == Principal::Operator,
            tenant,
            id,
            change,
            query: Pairs::of(parts.uri.query().unwrap_or_default().as_bytes()),
        })
    }
}

/// Where to log in, and to come back to this page.
fn to_login(parts: &Parts) -> Response {
    let back = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let back = (parts.method == Method::GET && back != "/portal/").then_some(("next", back));
    Redirect::to(&with_query("/portal/login", back)).into_response()
}

/// A visit of the operator, on a page about the gateway. To anybody else it does not exist.
#[derive(Clone, Debug)]
pub(super) struct OperatorVisit(pub(super) Visit);

impl FromRequestParts<Portal> for OperatorVisit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, portal: &Portal) -> Result<Self, Response> {
        let visit = Visit::from_request_parts(parts, portal).await?;
        if visit.is_operator {
            return Ok(Self(visit));
        }
        Err(Refused::nothing_here().into_response())
    }
}

#[cfg(test)]
mod tests;
