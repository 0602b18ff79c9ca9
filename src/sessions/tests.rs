//! Who is let in, how many at once, and what ends it.

use super::*;
use crate::{
    config::{self, Sources},
    directory::{
        NewTenant,
        tests::{add_tenant, directory},
    },
};

const HOUR: Duration = Duration::from_secs(60 * 60);

fn settings() -> Portal {
    config::load(&Sources::default()).unwrap().portal
}

fn open(directory: &Directory, settings: Portal) -> Sessions {
    Sessions::new(directory.clone(), settings, "http://127.0.0.1:8080".to_owned())
}

fn principal(sessions: &Sessions, token: &Token) -> Option<Principal> {
    sessions.pass(token.expose()).and_then(|pass| pass.principal())
}

fn token_in(link: &str) -> &str {
    link.strip_prefix("http://127.0.0.1:8080/portal/link/").unwrap()
}

#[tokio::test]
async fn a_key_opens_a_session_for_whom_it_speaks() {
    let directory = directory();
    let acme = add_tenant(&directory, "acme").await;
    let (_, operator) = directory.create_key(Principal::Operator).await.unwrap();
    let (_, producer) = directory.create_key(Principal::Producer).await.unwrap();
    let sessions = open(&directory, settings());

    let token = sessions.log_in(acme.api_key.expose(), None).await.unwrap();
    assert_eq!(principal(&sessions, &token), Some(Principal::Tenant(acme.tenant.no)));
    let token = sessions.log_in(operator.expose(), None).await.unwrap();
    assert_eq!(principal(&sessions, &token), Some(Principal::Operator));

    assert_eq!(sessions.log_in(producer.expose(), None).await.unwrap_err(), Refused::Producer);
    let changed = format!("{}x", &acme.api_key.expose()[..acme.api_key.expose().len() - 1]);
    for unknown in ["", "x", &changed, &"x".repeat(1 << 10)] {
        assert_eq!(
            sessions.log_in(unknown, None).await.unwrap_err(),
            Refused::Unknown,
            "{unknown}"
        );
    }
}

#[tokio::test]
async fn only_a_whole_token_opens_its_session() {
    let directory = directory();
    let acme = add_tenant(&directory, "acme").await;
    let sessions = open(&directory, settings());
    let token = sessions.log_in(acme.api_key.expose(), None).await.unwrap();
    let other = sessions.log_in(acme.api_key.expose(), None).await.unwrap();
    assert_ne!(token.expose(), other.expose(), "each is random");
    assert_eq!(token.expose().len(), 43, "256 bits in base64");

    let text = token.expose();
    let changed = format!("{}{}", if text.starts_with('x') { 'y' } else { 'x' }, &text[1..]);
    for wrong in ["", &text[1..], &format!("{text} "), &changed, acme.api_key.expose()] {
        assert!(sessions.pass(wrong).is_none(), "{wrong}");
    }
    sessions.pass(text).unwrap().log_out(None).await;
    assert!(sessions.pass(text).is_none(), "a logout ends it");
    assert!(sessions.pass(other.expose()).is_some(), "and no other");
}

#[tokio::test]
async fn a_session_ends_with_what_it_was_opened_with() {
    let directory = directory();
    let acme = add_tenant(&directory, "acme").await;
    let (key, text) = directory.create_key(Principal::Tenant(acme.tenant.no)).await.unwrap();
    let sessions = open(&directory, settings());
    let by_key = sessions.log_in(text.expose(), None).await.unwrap();
    let (link, _) = sessions.link(LinkOf::Tenant(acme.tenant.no), None).unwrap();
    let by_link = sessions.follow(token_in(&link), None).await.unwrap();
    assert_eq!(principal(&sessions, &by_link), Some(Principal::Tenant(acme.tenant.no)));

    let pass = sessions.pass(by_key.expose()).unwrap();
    directory.revoke_key(None, key.id).await.unwrap();
    assert_eq!(pass.principal(), None, "a pass that was given out knows at once");
    assert!(sessions.pass(by_key.expose()).is_none());
    assert!(sessions.pass(by_link.expose()).is_some(), "it hangs on no key");
    directory.delete_tenant(acme.tenant.no).await.unwrap();
    assert!(sessions.pass(by_link.expose()).is_none());
}

#[tokio::test]
async fn a_session_has_its_time() {
    let opened = clock::instant();
    let session = Session {
        id: SessionId(1),
        holder: Holder::Tenant(TenantNo(1)),
        principal: Principal::Operator,
        opened,
    };
    assert!(!session.is_over(HOUR, opened));
    assert!(!session.is_over(HOUR, opened + HOUR - Duration::from_nanos(1)));
    assert!(session.is_over(HOUR, opened + HOUR));

    let directory = directory();
    let acme = add_tenant(&directory, "acme").await;
    let brief = Portal { session_lifetime: Duration::ZERO, max_sessions: 1, ..settings() };
    let sessions = open(&directory, brief);
    let token = sessions.log_in(acme.api_key.expose(), None).await.unwrap();
    assert!(sessions.pass(token.expose()).is_none());
    assert!(
        sessions.log_in(acme.api_key.expose(), None).await.is_ok(),
        "one that is over takes no room"
    );
}

#[tokio::test]
async fn a_tenant_has_so_many_sessions_and_its_oldest_makes_room() {
    let directory = directory();
    let (acme, bolt) = (add_tenant(&directory, "acme").await, add_tenant(&directory, "bolt").await);
    let sessions = open(&directory, Portal { max_per_tenant: 2, max_sessions: 3, ..settings() });
    let log_in = async |tenant: &NewTenant| sessions.log_in(tenant.api_key.expose(), None).await;
    let is_in = |token: &Token| sessions.pass(token.expose()).is_some();

    let theirs = log_in(&bolt).await.unwrap();
    let (first, second) = (log_in(&acme).await.unwrap(), log_in(&acme).await.unwrap());
    assert!(is_in(&theirs) && is_in(&first) && is_in(&second), "all have room");
    let third = log_in(&acme).await.unwrap();
    assert!(!is_in(&first), "the tenant's oldest made room");
    assert!(is_in(&theirs) && is_in(&second) && is_in(&third));

    let cog = add_tenant(&directory, "cog").await;
    assert_eq!(log_in(&cog).await.unwrap_err(), Refused::Full, "nobody else's goes for it");
    assert!(is_in(&theirs) && is_in(&second) && is_in(&third));
}

#[tokio::test]
async fn a_link_works_once_and_looking_at_it_does_not_use_it_up() {
    let directory = directory();
    let acme = add_tenant(&directory, "acme").await;
    let sessions = open(&directory, settings());
    let (link, lifetime) = sessions.link(LinkOf::Tenant(acme.tenant.no), None).unwrap();
    assert_eq!(lifetime, settings().link_lifetime);
    let token = token_in(&link);
    for _ in 0..2 {
        assert_eq!(sessions.link_is_for(token), Some(LinkOf::Tenant(acme.tenant.no)));
    }
    assert_eq!(sessions.link_is_for(&token[1..]), None);
    assert_eq!(sessions.follow(&token[1..], None).await.unwrap_err(), Refused::Link);
    assert!(sessions.pass(token).is_none(), "a link is no session");
    sessions.follow(token, None).await.unwrap();
    assert_eq!(sessions.follow(token, None).await.unwrap_err(), Refused::Link);
    assert_eq!(sessions.link_is_for(token), None);
}

#[tokio::test]
async fn a_link_has_its_time() {
    let expires = clock::instant() + HOUR;
    let link = Link { of: LinkOf::Tenant(TenantNo(1)), expires };
    assert!(!link.is_over(expires - Duration::from_nanos(1)));
    assert!(link.is_over(expires));

    let directory = directory();
    let acme = add_tenant(&directory, "acme").await;
    let sessions = open(&directory, settings());
    let (link, lifetime) =
        sessions.link(LinkOf::Tenant(acme.tenant.no), Some(Duration::ZERO)).unwrap();
    assert_eq!(lifetime, Duration::ZERO);
    assert_eq!(sessions.link_is_for(token_in(&link)), None);
    assert_eq!(sessions.follow(token_in(&link), None).await.unwrap_err(), Refused::Link);
    let (_, lifetime) = sessions.link(LinkOf::Tenant(acme.tenant.no), Some(25 * HOUR)).unwrap();
    assert_eq!(lifetime, 24 * HOUR, "however long was asked for");
}

#[tokio::test]
async fn a_tenant_has_so_many_links_and_its_oldest_makes_room() {
    let directory = directory();
    let (acme, bolt) = (add_tenant(&directory, "acme").await, add_tenant(&directory, "bolt").await);
    let sessions = open(&directory, settings());
    let link = |no| sessions.link(LinkOf::Tenant(no), None).unwrap().0;
    let is_good = |link: &String| sessions.link_is_for(token_in(link)).is_some();

    let theirs = link(bolt.tenant.no);
    let own: Vec<_> = (0..MAX_LINKS_PER_TENANT).map(|_| link(acme.tenant.no)).collect();
    assert!(own.iter().all(is_good));
    let over: Vec<_> = (0..2).map(|_| link(acme.tenant.no)).collect();
    assert!(!own[..2].iter().any(is_good), "the tenant's two oldest made room");
    assert!(own[2..].iter().chain(&over).chain([&theirs]).all(is_good));

    // What is over takes no room: as many again, each gone at once, and none of the good ones goes.
    let brief = open(&directory, settings());
    let good = brief.link(LinkOf::Tenant(acme.tenant.no), None).unwrap().0;
    for _ in 0..2 * MAX_LINKS_PER_TENANT {
        brief.link(LinkOf::Tenant(acme.tenant.no), Some(Duration::ZERO)).unwrap();
    }
    assert!(brief.link_is_for(token_in(&good)).is_some());
}

#[tokio::test]
async fn links_begin_as_users_reach_the_portal_and_there_are_none_where_it_is_off() {
    let directory = directory();
    let acme = add_tenant(&directory, "acme").await;
    let named = Portal { url: "https://hooks.example.com".to_owned(), ..settings() };
    let (link, _) = open(&directory, named).link(LinkOf::Tenant(acme.tenant.no), None).unwrap();
    assert!(link.starts_with("https://hooks.example.com/portal/link/"), "{link}");
    let off = Portal { enabled: false, ..settings() };
    assert!(open(&directory, off).link(LinkOf::Tenant(acme.tenant.no), None).is_none());
}

#[tokio::test]
async fn debug_shows_neither_a_token_nor_its_hash() {
    let directory = directory();
    let acme = add_tenant(&directory, "acme").await;
    let sessions = open(&directory, settings());
    let token = sessions.log_in(acme.api_key.expose(), None).await.unwrap();
    let pass = sessions.pass(token.expose()).unwrap();
    let shown = format!("{token:?} {:?}", pass.hash);
    assert_eq!(shown, "Token(hidden) TokenHash(hidden)");
    assert!(!format!("{pass:?}").contains(token.expose()));
}
