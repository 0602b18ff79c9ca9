//! Who is asking, for which tenant, and whether that is allowed: decided before a handler runs.
//!
//! The order of the checks is part of the interface: a key in the URL is refused before anything
//! else, then the key is judged (401), then its role (403), then the tenant it acts for (400, 404),
//! and only then the URL's parameters (400), all of them at once. So who may not call a route learns nothing about it.

use std::{convert::Infallible, str::FromStr, sync::Arc};

use axum::{
    extract::{FromRequestParts, Path, Request, State},
    middleware::Next,
    response::Response,
};
use http::{Extensions, HeaderMap, HeaderName, header, request::Parts};

use super::{
    Code, Problem,
    params::Params,
    problem::Object,
    routes::{Access, Route},
};
use crate::{
    audit::{Actor, By},
    directory::{Directory, KeyMark, Principal, TenantEntry},
    id::{self, IdError, TenantNo},
    request_id::RequestId,
    sessions::Pass,
};

/// The header in which an operator names the tenant it acts for.
const TENANT_HEADER: HeaderName = HeaderName::from_static("senderz-tenant");

/// Names under which people put keys into URLs.
const KEY_PARAMETERS: [&str; 6] =
    ["access_token", "api_key", "apikey", "authorization", "key", "token"];

/// What stands before every key's kind.
const KEY_PREFIX: &str = "szk_";

/// What one route's check needs.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    directory: Directory,
    access: Access,
    params: &'static [&'static str],
}

impl Gate {
    pub(super) fn new(directory: &Directory, route: &Route) -> Self {
        Self { directory: directory.clone(), access: route.access, params: route.params }
    }
}

/// What a request came with: a key in its header, or, where it comes from the portal, the session of
/// whoever sits before it. Only the portal puts a session into a request; what comes over the
/// network has headers and nothing else.
#[derive(Clone, Debug)]
pub(super) enum Credential {
    Key(KeyMark),
    Session(Pass),
}

impl Credential {
    fn of(extensions: &Extensions, headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(pass) = extensions.get::<Pass>() {
            return Ok(Self::Session(pass.clone()));
        }
        KeyMark::of(bearer(headers)?).map(Self::Key).ok_or_else(unknown_key)
    }

    /// Whose it is in the audit log.
    fn actor(&self, principal: Principal, directory: &Directory) -> Actor {
        match self {
            Self::Key(mark) => {
                let key = directory.key_id(mark);
                Actor { kind: principal.actor(), key, session: None }
            }
            Self::Session(pass) => pass.actor(),
        }
    }

    /// For whom it speaks at this moment: keys are revoked, sessions end.
    pub(super) fn principal(&self, directory: &Directory) -> Option<Principal> {
        match self {
            Self::Key(mark) => directory.speaks_for(mark),
            Self::Session(pass) => pass.principal(),
        }
    }
}

fn unknown_key() -> Problem {
    Problem::new(Code::Unauthorized, "the key is unknown or was revoked")
}

/// Who asks, once allowed to.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) principal: Principal,
    pub(super) credential: Credential,
    /// For the audit log.
    pub(super) by: By,
    /// For which tenant; always there where the route's access is [`Access::Tenant`].
    pub(super) tenant: Option<Arc<TenantEntry>>,
}

impl Caller {
    pub(super) fn is_operator(&self) -> bool {
        self.principal == Principal::Operator
    }

    pub(super) fn tenant_no(&self) -> Option<TenantNo> {
        self.tenant.as_ref().map(|entry| entry.tenant.no)
    }
}

/// Lets a request through to its handler, or refuses it.
pub(super) async fn pass(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let params = Params::of(request.uri().query().unwrap_or_default(), gate.params);
    refuse_key_in_url(&params)?;
    if gate.access != Access::Anyone {
        let caller = gate.admit(request.extensions(), request.headers())?;
        request.extensions_mut().insert(caller);
    }
    if gate.params.is_empty() {
        // No handler reads them.
        params.read().finish()?;
    }
    request.extensions_mut().insert(params);
    Ok(next.run(request).await)
}

fn refuse_key_in_url(params: &Params) -> Result<(), Problem> {
    let is_key = |name: &str, value: &str| {
        KEY_PARAMETERS.contains(&name.to_ascii_lowercase().as_str())
            || name.contains(KEY_PREFIX)
            || value.contains(KEY_PREFIX)
    };
    if params.iter().any(|(name, value)| is_key(name, value)) {
        return Err(Problem::new(
            Code::KeyInUrl,
            "URLs end up in logs: send the key in the header Authorization, and replace a key \
             that was in a URL",
        ));
    }
    Ok(())
}

impl Gate {
    fn admit(&self, extensions: &Extensions, headers: &HeaderMap) -> Result<Caller, Problem> {
        let credential = Credential::of(extensions, headers)?;
        let principal = credential.principal(&self.directory).ok_or_else(unknown_key)?;
        let tenant = match (self.access, principal) {
            (_, Principal::Producer) => {
                return Err(Problem::new(Code::Forbidden, "a producer's key may only send events"));
            }
            (Access::Operator, Principal::Tenant(_)) => {
                return Err(Problem::new(Code::Forbidden, "this needs an operator's key"));
            }
            (_, Principal::Tenant(no)) => Some(self.as_tenant(no, headers)?),
            (_, Principal::Operator) => self.as_operator(headers)?,
        };
        let actor = credential.actor(principal, &self.directory);
        let by = By { actor, request: extensions.get::<RequestId>().cloned() };
        Ok(Caller { principal, credential, by, tenant })
    }

    fn as_tenant(&self, no: TenantNo, headers: &HeaderMap) -> Result<Arc<TenantEntry>, Problem> {
        // A key goes with its tenant; this one went a moment ago.
        let entry = self.directory.tenant_by_no(no).ok_or_else(unknown_key)?;
        let mut named = headers.get_all(TENANT_HEADER).iter();
        if named.any(|name| name.as_bytes() != entry.tenant.id.as_str().as_bytes()) {
            return Err(Problem::new(
                Code::Forbidden,
                "a tenant's key acts for its own tenant only; leave the header Senderz-Tenant out",
            ));
        }
        Ok(entry)
    }

    fn as_operator(&self, headers: &HeaderMap) -> Result<Option<Arc<TenantEntry>>, Problem> {
        let mut named = headers.get_all(TENANT_HEADER).iter();
        match (named.next(), named.next()) {
            (None, _) if self.access == Access::Tenant => Err(Problem::new(
                Code::TenantRequired,
                "say for which tenant with the header `Senderz-Tenant: <tenant id>`",
            )),
            (None, _) => Ok(None),
            (Some(name), None) => {
                let entry = name.to_str().ok().and_then(|name| self.directory.tenant(name));
                let missing = || Problem::new(Code::NotFound, "Senderz-Tenant names no tenant");
                entry.ok_or_else(missing).map(Some)
            }
            (Some(_), Some(_)) => {
                Err(Problem::new(Code::TenantRequired, "the header Senderz-Tenant may appear once"))
            }
        }
    }
}

/// The key in `Authorization: Bearer <key>`; the scheme's letter case does not count, everything
/// else does.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let refuse =
        || Problem::new(Code::Unauthorized, "send the key once, as `Authorization: Bearer <key>`");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(refuse()) };
    let (scheme, key) = value.to_str().ok().and_then(|v| v.split_once(' ')).ok_or_else(refuse)?;
    if scheme.eq_ignore_ascii_case("bearer") && !key.is_empty() && !key.contains(' ') {
        Ok(key)
    } else {
        Err(refuse())
    }
}

const GATED: &str = "every route of the table is behind its gate";

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Caller>().expect(GATED).clone())
    }
}

/// The tenant that a request acts for.
#[derive(Clone, Debug)]
pub(super) struct Scope(pub(super) Arc<TenantEntry>);

impl Scope {
    pub(super) fn no(&self) -> TenantNo {
        self.0.tenant.no
    }
}

impl<S: Sync> FromRequestParts<S> for Scope {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().expect(GATED);
        Ok(Self(caller.tenant.clone().expect("access Tenant admits nobody without one")))
    }
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(parts.extensions.get::<Params>().expect(GATED).clone())
    }
}

/// The `{id}` of the path; empty, so that it names nothing, where it cannot be decoded.
#[derive(Clone, Debug)]
pub(super) struct Id(pub(super) String);

impl Id {
    /// The typed id of an object; what is none names nothing. Where it is the id of something else,
    /// that is said: whoever asks mixed up two ids.
    pub(super) fn parse<T: FromStr<Err = IdError>>(&self, object: Object) -> Result<T, Problem> {
        self.0.parse().map_err(|error| match (error, id::kind(&self.0)) {
            (IdError::Prefix(_), Some(kind)) => Problem::is_of(kind, object),
            _ => Problem::no_such(object),
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(path.map(|Path(id)| id).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests;
