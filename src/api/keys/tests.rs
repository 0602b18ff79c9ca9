//! For whom a caller may make keys.

use axum::{
    body::Body,
    extract::{FromRequest as _, Request},
};
use http::header;
use serde_json::json;

use super::*;
use crate::{
    audit::By,
    directory::{
        KeyMark,
        tests::{add_tenant, directory},
    },
};

/// What the caller is given, or the refusal's code and pointers.
type Made = Result<Option<Principal>, (Code, Vec<String>)>;

async fn make(directory: &Directory, caller: &Caller, body: serde_json::Value) -> Made {
    let request = Request::post("/v1/keys").header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_string())).unwrap();
    let mut fields = Fields::from_request(request, &()).await.unwrap();
    let kind = fields.string("kind");
    let kind = fields.required("kind", kind);
    let tenant = fields.string("tenant");
    let made = principal(directory, caller, &mut fields, kind.as_deref(), tenant);
    made.and_then(|made| fields.finish().map(|()| made)).map_err(|problem| {
        (problem.code, problem.errors.into_iter().map(|error| error.pointer).collect())
    })
}

/// Somebody with a key, acting for a tenant or for none.
fn caller(directory: &Directory, principal: Principal, tenant: Option<&str>) -> Caller {
    let credential = super::super::access::Credential::Key(KeyMark::of("").unwrap());
    let tenant = tenant.map(|name| directory.tenant(name).unwrap());
    Caller { principal, credential, by: By::default(), tenant }
}

#[tokio::test]
async fn a_tenant_makes_keys_for_itself_only() {
    let directory = directory();
    let acme = Principal::Tenant(add_tenant(&directory, "acme").await.tenant.no);
    add_tenant(&directory, "bolt").await;
    let caller = caller(&directory, acme, Some("acme"));
    for good in [json!({"kind": "tenant"}), json!({"kind": "tenant", "tenant": "acme"})] {
        assert_eq!(make(&directory, &caller, good.clone()).await, Ok(Some(acme)), "{good}");
    }
    for bad in [
        json!({"kind": "operator"}),
        json!({"kind": "producer"}),
        json!({"kind": "operator", "tenant": "acme"}),
        json!({"kind": "odd"}),
        json!({"kind": "tenant", "tenant": "bolt"}),
        json!({"kind": "tenant", "tenant": "nobody"}),
        json!({"tenant": "bolt"}),
    ] {
        let refused = make(&directory, &caller, bad.clone()).await;
        assert_eq!(refused, Err((Code::Forbidden, Vec::new())), "{bad}");
    }
    let missing = make(&directory, &caller, json!({"tenant": "acme"})).await;
    assert_eq!(missing, Err((Code::InvalidBody, vec!["/kind".to_owned()])));
}

#[tokio::test]
async fn the_operator_makes_keys_for_everybody() {
    let directory = directory();
    let acme = Principal::Tenant(add_tenant(&directory, "acme").await.tenant.no);
    add_tenant(&directory, "bolt").await;
    let alone = caller(&directory, Principal::Operator, None);
    let for_acme = caller(&directory, Principal::Operator, Some("acme"));
    for (caller, body, made) in [
        (&alone, json!({"kind": "operator"}), Principal::Operator),
        (&alone, json!({"kind": "producer"}), Principal::Producer),
        (&alone, json!({"kind": "tenant", "tenant": "acme"}), acme),
        (&for_acme, json!({"kind": "operator"}), Principal::Operator),
        (&for_acme, json!({"kind": "producer"}), Principal::Producer),
        (&for_acme, json!({"kind": "tenant"}), acme),
        (&for_acme, json!({"kind": "tenant", "tenant": "acme"}), acme),
    ] {
        assert_eq!(make(&directory, caller, body.clone()).await, Ok(Some(made)), "{body}");
    }
    for (caller, body, pointers) in [
        (&alone, json!({}), &["/kind"][..]),
        (&alone, json!({"kind": "odd"}), &["/kind"]),
        (&alone, json!({"kind": "tenant"}), &["/tenant"]),
        (&alone, json!({"kind": "tenant", "tenant": "nobody"}), &["/tenant"]),
        (&alone, json!({"kind": "operator", "tenant": "acme"}), &["/tenant"]),
        (&alone, json!({"kind": "producer", "tenant": "acme"}), &["/tenant"]),
        (&for_acme, json!({"kind": "tenant", "tenant": "bolt"}), &["/tenant"]),
        (&for_acme, json!({"kind": "odd", "tenant": "bolt"}), &["/tenant", "/kind"]),
    ] {
        let refused = make(&directory, caller, body.clone()).await;
        let pointers = pointers.iter().map(|pointer| (*pointer).to_owned()).collect();
        assert_eq!(refused, Err((Code::InvalidBody, pointers)), "{body}");
    }
}
