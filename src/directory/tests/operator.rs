//! Keys: who gets in, and what nobody gets to see.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const GIVEN: &str = "szk_operator_0123456789abcdefghijkl";

#[tokio::test]
async fn the_operator_key_is_made_once_kept_private_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let directory = empty(held_store().0);
    let OperatorKey::Made(text) = directory.ensure_operator_key(None, dir.path()).unwrap() else {
        panic!("the first start makes a key");
    };
    assert_eq!(directory.authenticate(text.expose()), Some(Principal::Operator));
    let path = dir.path().join("operator.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let directory = empty(held_store().0);
    assert_eq!(directory.authenticate(text.expose()), None, "nobody, before it is read");
    let second = directory.ensure_operator_key(None, dir.path()).unwrap();
    assert!(matches!(second, OperatorKey::File));
    assert_eq!(directory.authenticate(text.expose()), Some(Principal::Operator));

    let third = directory.ensure_operator_key(Some(GIVEN), dir.path()).unwrap();
    assert!(matches!(third, OperatorKey::Environment));
    assert_eq!(directory.authenticate(GIVEN), Some(Principal::Operator));
    assert_eq!(directory.authenticate(text.expose()), None, "one operator key at a time");
}

#[tokio::test]
async fn an_operator_key_that_is_weak_damaged_or_exposed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let directory = empty(held_store().0);
    let long = format!("szk_operator_{}", "a".repeat(300));
    for bad in ["", "szk_operator_short", "0123456789012345678901234567890123456789", &long] {
        let refused = directory.ensure_operator_key(Some(bad), dir.path());
        assert!(matches!(refused, Err(OperatorKeyError::BadEnvironment)), "{bad:?}");
    }
    let spaced = "szk_operator_with a space inside it 0123";
    assert!(directory.ensure_operator_key(Some(spaced), dir.path()).is_err());

    let path = dir.path().join("operator.key");
    let write = |content: &[u8], mode| {
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        directory.ensure_operator_key(None, dir.path())
    };
    assert!(matches!(write(b"", 0o600), Err(OperatorKeyError::BadFile(_))));
    assert!(matches!(write(b"\xff\xfe", 0o600), Err(OperatorKeyError::BadFile(_))));
    assert!(matches!(write(long.as_bytes(), 0o600), Err(OperatorKeyError::BadFile(_))));
    assert!(matches!(write(GIVEN.as_bytes(), 0o644), Err(OperatorKeyError::Exposed(_))));
    let longest = format!("szk_operator_{}", "a".repeat(MAX_KEY_TEXT - 13));
    for followed in ["\r\nx", "\n\n\n"] {
        let refused = write(format!("{longest}{followed}").as_bytes(), 0o600);
        assert!(matches!(refused, Err(OperatorKeyError::BadFile(_))), "{followed:?}");
    }
    assert!(directory.authenticate(GIVEN).is_none() && directory.authenticate(&longest).is_none());
    assert!(matches!(write(format!("{longest}\r\n").as_bytes(), 0o600), Ok(OperatorKey::File)));
    assert!(matches!(write(GIVEN.as_bytes(), 0o600), Ok(OperatorKey::File)));
}

#[tokio::test]
async fn a_key_file_that_cannot_be_read_is_not_taken_for_a_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    let directory = empty(held_store().0);
    let path = dir.path().join("operator.key");
    let refused = || {
        let refused = directory.ensure_operator_key(None, dir.path());
        matches!(refused, Err(OperatorKeyError::Io { .. }))
    };
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(refused(), "a link to itself");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(refused(), "a directory");

    std::fs::remove_dir(&path).unwrap();
    std::fs::create_dir(dir.path().join("operator.key.new")).unwrap();
    let in_the_way = directory.ensure_operator_key(None, dir.path());
    let Err(OperatorKeyError::Io { source, .. }) = in_the_way else { panic!("{in_the_way:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::IsADirectory, "it says what is in the way");
}

#[test]
fn a_check_says_what_a_start_would_and_makes_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("operator.key");
    assert!(operator_key::check(None, dir.path()).is_ok(), "a start would make one");
    assert!(!path.exists());
    let refused = operator_key::check(Some("szk_operator_short"), dir.path());
    assert!(matches!(refused, Err(OperatorKeyError::BadEnvironment)));
    std::fs::write(&path, "no key").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = operator_key::check(None, dir.path());
    assert!(matches!(refused, Err(OperatorKeyError::BadFile(_))));
    assert!(operator_key::check(Some(GIVEN), dir.path()).is_ok(), "the file is not used then");
}

#[tokio::test]
async fn a_key_gets_its_owner_in_until_it_is_revoked() {
    let (store, rows) = keeping_store();
    let directory = empty(store);
    let acme = add_tenant(&directory, "acme").await;
    let tenant = Principal::Tenant(acme.tenant.no);
    let (producer, producer_text) = directory.create_key(Principal::Producer).await.unwrap();
    let (_, operator_text) = directory.create_key(Principal::Operator).await.unwrap();
    let again = loaded(held_store().0, stored(&rows)).unwrap();
    for directory in [&directory, &again] {
        assert_eq!(directory.authenticate(acme.api_key.expose()), Some(tenant));
        assert_eq!(directory.authenticate(producer_text.expose()), Some(Principal::Producer));
        assert_eq!(directory.authenticate(operator_text.expose()), Some(Principal::Operator));
    }
    directory.revoke_key(None, producer.id).await.unwrap();
    assert_eq!(directory.authenticate(producer_text.expose()), None, "at once");
    let foreign = directory.revoke_key(Some(TenantNo(99)), acme.key.id).await;
    assert_eq!(foreign, Err(ChangeError::NoSuchKey));
    directory.delete_tenant(acme.tenant.no).await.unwrap();
    assert_eq!(directory.authenticate(acme.api_key.expose()), None, "its keys go with it");
}

#[tokio::test]
async fn keys_are_listed_newest_first_one_page_after_the_other() {
    let (store, _) = keeping_store();
    let directory = empty(store);
    let (acme, bolt) = (add_tenant(&directory, "acme").await, add_tenant(&directory, "bolt").await);
    let (own, _) = directory.create_key(Principal::Tenant(acme.tenant.no)).await.unwrap();
    let (producer, _) = directory.create_key(Principal::Producer).await.unwrap();
    let pages = |tenant| {
        let (mut ids, mut before) = (Vec::new(), None);
        while let Some(key) = directory.keys(tenant, before, 1).pop() {
            (before, ids) = (Some(key.no), [ids, vec![key.id]].concat());
        }
        ids
    };
    assert_eq!(pages(None), [producer.id, own.id, bolt.key.id, acme.key.id]);
    assert_eq!(pages(Some(acme.tenant.no)), [own.id, acme.key.id]);
    assert_eq!(pages(Some(bolt.tenant.no)), [bolt.key.id]);
    assert_eq!(pages(Some(TenantNo(99))), []);
}

#[test]
fn a_principal_says_its_kind_and_its_tenant() {
    let all = [Principal::Operator, Principal::Producer, Principal::Tenant(TenantNo(7))];
    assert_eq!(all.map(Principal::kind), ["operator", "producer", "tenant"]);
    assert_eq!(all.map(Principal::tenant), [None, None, Some(TenantNo(7))]);
}

#[tokio::test]
async fn every_changed_character_of_a_key_keeps_its_holder_out() {
    let (store, _) = keeping_store();
    let directory = empty(store);
    let key = add_tenant(&directory, "acme").await.api_key;
    directory.ensure_operator_key(Some(GIVEN), std::path::Path::new("/")).unwrap();
    let text = key.expose();
    for at in 0..text.len() {
        let other = if text.as_bytes()[at] == b'x' { 'y' } else { 'x' };
        let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        assert_eq!(directory.authenticate(&changed), None, "character {at}");
        assert_eq!(directory.authenticate(&text[..at]), None, "the first {at} characters");
    }
    for odd in ["", " ", "szk_", "szk_tenant_", "ключ", &"a".repeat(1 << 20)] {
        assert_eq!(directory.authenticate(odd), None);
    }
    assert_eq!(directory.authenticate(&format!("{text} ")), None);
    assert_eq!(directory.authenticate(&text.to_uppercase()), None);
}

#[tokio::test]
async fn neither_debug_nor_the_store_shows_a_key_and_debug_shows_no_secret() {
    let (store, rows) = keeping_store();
    let directory = empty(store);
    let new = add_tenant(&directory, "acme").await;
    add_webhook(&directory, new.tenant.no).await;
    let (key, text) = directory.create_key(Principal::Operator).await.unwrap();
    assert_eq!(format!("{text:?} {:?}", key.hash), "KeyText(hidden) KeyHash(hidden)");
    let shown = format!("{directory:?} {new:?} {key:?} {text:?}");
    let stored = stored(&rows);
    let stored: Vec<u8> = stored.into_iter().flat_map(|row| row.value.unwrap()).collect();
    let stored = String::from_utf8_lossy(&stored).into_owned();
    for key in [&new.api_key, &text] {
        let secret = &key.expose()[key.expose().len() - 32..];
        assert!(!shown.contains(secret) && !stored.contains(secret));
    }
    assert!(!shown.contains("whsec_") && !stored.contains("whsec_"));
    assert!(stored.contains("acme"), "it can be looked into");
}
