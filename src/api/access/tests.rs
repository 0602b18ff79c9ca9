//! Every kind of caller before every kind of gate.

use axum::{
    Router,
    body::{Body, to_bytes},
    middleware,
    routing::get,
};
use http::StatusCode;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::{
    config::{self, Sources},
    directory::{
        KeyText, NewTenant,
        tests::{add_tenant, directory},
    },
    id::WebhookId,
    sessions::Sessions,
};

const NO_PARAMS: &[&str] = &[];

/// Two tenants and a key of each kind.
struct World {
    directory: Directory,
    acme: NewTenant,
    operator: KeyText,
    producer: KeyText,
}

impl World {
    async fn new() -> Self {
        let directory = directory();
        let acme = add_tenant(&directory, "acme").await;
        add_tenant(&directory, "bolt").await;
        let (_, operator) = directory.create_key(Principal::Operator).await.unwrap();
        let (_, producer) = directory.create_key(Principal::Producer).await.unwrap();
        Self { directory, acme, operator, producer }
    }

    fn gate(&self, access: Access, params: &'static [&'static str]) -> Gate {
        Gate { directory: self.directory.clone(), access, params }
    }

    fn sessions(&self) -> Sessions {
        let settings = config::load(&Sources::default()).unwrap().portal;
        Sessions::new(self.directory.clone(), settings, String::new())
    }

    /// Who is admitted with this key, acting for these tenants; or the code of the refusal.
    fn admit(&self, access: Access, key: &str, tenants: &[&str]) -> Result<Caller, Code> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        for tenant in tenants {
            headers.append(TENANT_HEADER, tenant.parse().unwrap());
        }
        let gate = self.gate(access, NO_PARAMS);
        gate.admit(&Extensions::new(), &headers).map_err(|problem| problem.code)
    }

    /// For whom a caller is admitted: its principal, and the tenant that it acts for.
    fn admitted(
        &self,
        access: Access,
        key: &str,
        tenants: &[&str],
    ) -> Result<(Principal, Option<String>), Code> {
        let caller = self.admit(access, key, tenants)?;
        assert_eq!(caller.tenant_no(), caller.tenant.as_ref().map(|entry| entry.tenant.no));
        assert_eq!(caller.is_operator(), caller.principal == Principal::Operator);
        Ok((caller.principal, caller.tenant.map(|entry| entry.tenant.id.to_string())))
    }
}

const KEYED: [Access; 3] = [Access::Operator, Access::Tenant, Access::TenantOrOperator];

#[tokio::test]
async fn the_operator_acts_for_the_tenant_that_it_names() {
    let world = World::new().await;
    let operator =
        |access, tenants: &[&str]| world.admitted(access, world.operator.expose(), tenants);
    for access in KEYED {
        let named = Ok((Principal::Operator, Some("bolt".to_owned())));
        assert_eq!(operator(access, &["bolt"]), named, "{access:?}");
        for unknown in ["", "nobody", "ACME", "acme,bolt", "\u{e9}"] {
            assert_eq!(operator(access, &[unknown]), Err(Code::NotFound), "{access:?} {unknown}");
        }
        let twice = operator(access, &["acme", "acme"]);
        assert_eq!(twice, Err(Code::TenantRequired), "{access:?}");
        let named = match access {
            Access::Tenant => Err(Code::TenantRequired),
            _ => Ok((Principal::Operator, None)),
        };
        assert_eq!(operator(access, &[]), named, "{access:?}");
    }
}

#[tokio::test]
async fn a_tenant_acts_for_itself_and_never_as_the_operator() {
    let world = World::new().await;
    let key = world.acme.api_key.expose();
    for access in [Access::Tenant, Access::TenantOrOperator] {
        let own = Ok((Principal::Tenant(world.acme.tenant.no), Some("acme".to_owned())));
        for tenants in [&[][..], &["acme"], &["acme", "acme"]] {
            assert_eq!(world.admitted(access, key, tenants), own, "{access:?} {tenants:?}");
        }
        for tenants in [&["bolt"][..], &["nobody"], &[""], &["acme", "bolt"], &["bolt", "acme"]] {
            let refused = world.admitted(access, key, tenants);
            assert_eq!(refused, Err(Code::Forbidden), "{access:?} {tenants:?}");
        }
    }
    for tenants in [&[][..], &["acme"]] {
        let refused = world.admitted(Access::Operator, key, tenants);
        assert_eq!(refused, Err(Code::Forbidden), "{tenants:?}");
    }
}

#[tokio::test]
async fn a_producer_and_an_unknown_key_pass_no_gate() {
    let world = World::new().await;
    for access in KEYED {
        for tenants in [&[][..], &["acme"]] {
            let producer = world.admitted(access, world.producer.expose(), tenants);
            assert_eq!(producer, Err(Code::Forbidden), "{access:?}");
            for unknown in ["x", &"x".repeat(1 << 10)] {
                let unknown = world.admitted(access, unknown, tenants);
                assert_eq!(unknown, Err(Code::Unauthorized), "{access:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_credential_speaks_until_its_key_is_revoked_or_its_session_ends() {
    let world = World::new().await;
    let own = Principal::Tenant(world.acme.tenant.no);
    let (key, text) = world.directory.create_key(own).await.unwrap();
    let by_key = world.admit(Access::Tenant, text.expose(), &[]).unwrap().credential;
    assert_eq!(by_key.principal(&world.directory), Some(own));
    world.directory.revoke_key(None, key.id).await.unwrap();
    assert_eq!(by_key.principal(&world.directory), None);

    let sessions = world.sessions();
    let token = sessions.log_in(world.acme.api_key.expose(), None).await.unwrap();
    let pass = sessions.pass(token.expose()).unwrap();
    let mut extensions = Extensions::new();
    extensions.insert(pass.clone());
    let gate = world.gate(Access::Tenant, NO_PARAMS);
    let by_session = gate.admit(&extensions, &HeaderMap::new()).unwrap();
    assert_eq!((by_session.principal, by_session.tenant_no()), (own, Some(world.acme.tenant.no)));
    assert_eq!(by_session.credential.principal(&world.directory), Some(own));
    pass.log_out(None).await;
    assert_eq!(by_session.credential.principal(&world.directory), None);
    let refused = gate.admit(&extensions, &HeaderMap::new()).unwrap_err();
    assert_eq!(refused.code, Code::Unauthorized);
}

#[test]
fn a_key_is_read_in_one_form_only() {
    let read = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        bearer(&headers).map(str::to_owned).map_err(|problem| problem.code)
    };
    for good in ["Bearer k", "bearer k", "BEARER k"] {
        assert_eq!(read(&[good]), Ok("k".to_owned()), "{good}");
    }
    let bad: [&[&str]; 10] = [
        &[],
        &["Bearer k", "Bearer k"],
        &["k"],
        &["Basic k"],
        &["Bearer"],
        &["Bearer "],
        &["Bearer  k"],
        &["Bearer k "],
        &["Bearer k x"],
        &["Bearer \u{e9}"],
    ];
    for values in bad {
        assert_eq!(read(values), Err(Code::Unauthorized), "{values:?}");
    }
}

/// What a handler behind the gate was given.
async fn echo(id: Id, params: Params, parts: Parts) -> String {
    let caller = parts.extensions.get::<Caller>().map(|caller| caller.tenant_no());
    format!("{caller:?} {} {:?}", id.0, params.iter().collect::<Vec<_>>())
}

/// Asks a route behind the gate; gives the status, and the code of a refusal or what was echoed.
async fn ask(gate: Gate, uri: &str, key: Option<&str>) -> (StatusCode, String) {
    let guarded = middleware::from_fn_with_state(gate, pass);
    let router: Router = Router::new().route("/v1/things/{id}", get(echo).layer(guarded));
    let mut request = Request::get(uri);
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let answer = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
    let problem: Option<Value> = serde_json::from_slice(&body).ok();
    let code = problem.and_then(|problem| Some(problem["code"].as_str()?.to_owned()));
    (status, code.unwrap_or_else(|| String::from_utf8(body.to_vec()).unwrap()))
}

#[tokio::test]
async fn a_handler_behind_the_gate_is_given_the_caller_the_id_and_the_parameters() {
    let world = World::new().await;
    let key = Some(world.acme.api_key.expose());
    let gate = world.gate(Access::Tenant, &["limit"]);
    let echoed = ask(gate.clone(), "/v1/things/x%20y?limit=5", key).await;
    assert_eq!(echoed, (StatusCode::OK, r#"Some(Some(TenantNo(1))) x y [("limit", "5")]"#.into()));
    let undecodable = ask(gate, "/v1/things/%FF", key).await;
    assert_eq!(undecodable, (StatusCode::OK, "Some(Some(TenantNo(1)))  []".into()));
    let anyone = ask(world.gate(Access::Anyone, NO_PARAMS), "/v1/things/x", None).await;
    assert_eq!(anyone, (StatusCode::OK, "None x []".into()), "nobody is asked for a key");
}

#[tokio::test]
async fn a_gate_refuses_in_the_order_that_the_interface_says() {
    let world = World::new().await;
    let tenant = Some(world.acme.api_key.expose());
    let gate = |access| world.gate(access, NO_PARAMS);
    let bad = StatusCode::BAD_REQUEST;
    for (uri, access, key, status, code) in [
        ("?key=x&odd=1", Access::Operator, None, bad, "key_in_url"),
        ("?key=x", Access::Anyone, None, bad, "key_in_url"),
        ("?odd=1", Access::Operator, None, StatusCode::UNAUTHORIZED, "unauthorized"),
        ("?odd=1", Access::Operator, tenant, StatusCode::FORBIDDEN, "forbidden"),
        ("?odd=1", Access::Tenant, tenant, bad, "invalid_parameter"),
        ("?odd=1", Access::Anyone, None, bad, "invalid_parameter"),
    ] {
        let refused = ask(gate(access), &format!("/v1/things/x{uri}"), key).await;
        assert_eq!(refused, (status, code.to_owned()), "{uri} {access:?}");
    }
}

#[test]
fn a_key_in_the_url_is_known_by_its_name_or_its_look() {
    let refused =
        |query| refuse_key_in_url(&Params::of(query, &[])).map_err(|problem| problem.code).is_err();
    for key in ["key=", "token=x", "API_KEY=x", "limit=szk_x", "szk_x", "a=1&b=xszk_x", "szk%5fx"] {
        assert!(refused(key), "{key}");
    }
    for other in ["", "limit=1&cursor=abc", "keys=1", "sz=k_", "after=tokens"] {
        assert!(!refused(other), "{other}");
    }
}

#[test]
fn an_id_that_is_none_names_nothing() {
    let id = WebhookId(7);
    assert_eq!(Id(id.to_string()).parse(Object::Webhook), Ok(id));
    let parsed = |text: &str| Id(text.to_owned()).parse::<WebhookId>(Object::Webhook);
    for none in ["", "wh_"] {
        assert_eq!(parsed(none), Err(Problem::no_such(Object::Webhook)), "{none}");
    }
    let other = parsed("evt_00000000000000000000000007").unwrap_err();
    assert_eq!(other.code, Code::NotFound);
    assert!(other.detail.starts_with("this is the id of an event; "), "{}", other.detail);
}
