//! Whose session a cookie opens, and whose pages somebody sees.

use super::*;
use crate::{
    config::{self, Sources},
    directory::tests::{add_tenant, directory},
};

#[test]
fn a_tenant_sees_its_own_pages_the_operator_all_and_a_producer_none() {
    let (own, other) = (TenantNo(1), TenantNo(2));
    for tenant in [own, other] {
        assert!(may_visit(Principal::Operator, tenant));
        assert!(!may_visit(Principal::Producer, tenant));
    }
    assert!(may_visit(Principal::Tenant(own), own));
    assert!(!may_visit(Principal::Tenant(own), other));
}

#[tokio::test]
async fn one_of_the_first_cookies_of_our_name_has_to_open_something() {
    let directory = directory();
    let acme = add_tenant(&directory, "acme").await;
    let settings = config::load(&Sources::default()).unwrap().portal;
    let sessions = Sessions::new(directory.clone(), settings, String::new());
    let token = sessions.log_in(acme.api_key.expose(), None).await.unwrap();
    let ours = format!("{COOKIE}={}", token.expose());
    let opened = |lines: &[String]| {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        session(&sessions, &headers).and_then(|pass| pass.principal())
    };
    let (planted, renamed) = (format!("{COOKIE}=x"), format!("x{ours}"));
    let acme = Some(Principal::Tenant(acme.tenant.no));
    for lines in [
        vec![ours.clone()],
        vec![format!("a=b; {ours}; c=d")],
        vec![planted.clone(), ours.clone()],
        vec![format!("{planted}; {ours}")],
        vec![[vec![planted.clone(); 7], vec![ours.clone()]].concat().join("; ")],
    ] {
        assert_eq!(opened(&lines), acme, "{lines:?}");
    }
    for lines in [
        vec![],
        vec![planted.clone()],
        vec![renamed],
        vec![token.expose().to_owned()],
        vec![[vec![planted; 8], vec![ours]].concat().join("; ")],
    ] {
        assert_eq!(opened(&lines), None, "{lines:?}");
    }
}
