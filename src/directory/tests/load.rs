//! What was stored is what is loaded, and what is damaged is refused.

use proptest::prelude::*;

use super::*;
use crate::{
    tenant::SigningSecret,
    webhook::{CustomHeaders, HeaderLimits, HeadersPatch, SuccessRule},
};

/// What somebody might do; indices wrap around what there is.
#[derive(Clone, Debug)]
enum Step {
    MakeTenant(u8),
    DropTenant(u8),
    MakeWebhook(u8),
    Change(u8),
    DropWebhook(u8),
    MakeKey(u8),
    DropKey(u8),
    Rotate(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<u8>().prop_map(Step::MakeTenant),
        1 => any::<u8>().prop_map(Step::DropTenant),
        4 => any::<u8>().prop_map(Step::MakeWebhook),
        2 => any::<u8>().prop_map(Step::Change),
        3 => any::<u8>().prop_map(Step::DropWebhook),
        2 => any::<u8>().prop_map(Step::MakeKey),
        1 => any::<u8>().prop_map(Step::DropKey),
        1 => any::<u8>().prop_map(Step::Rotate),
    ]
}

fn pick<T: Clone>(all: &[T], at: u8) -> Option<T> {
    (!all.is_empty()).then(|| all[usize::from(at) % all.len()].clone())
}

/// Does it; what a limit refuses is not done. Returns the numbers that were given.
async fn act(directory: &Directory, step: Step) -> Vec<(char, u32)> {
    let tenants: Vec<TenantNo> = directory.tenants(None, 99).iter().map(|t| t.no).collect();
    let mut webhooks = Vec::new();
    for tenant in &tenants {
        webhooks.extend(directory.webhooks(*tenant, None, 99));
    }
    let keys = directory.keys(None, None, 99);
    let headers = CustomHeaders::parse(
        [("X-Token", "geheim / 1")],
        HeaderLimits { max_count: 9, max_bytes: 99 },
    )
    .unwrap();
    match step {
        Step::MakeTenant(at) => {
            let id = name(&format!("t{}", at % 9));
            let made = directory.create_tenant(id, "Acme \"& Søn\"".to_owned()).await;
            return made.map(|new| ('t', new.tenant.no.0)).into_iter().collect();
        }
        Step::DropTenant(at) => {
            if let Some(no) = pick(&tenants, at) {
                directory.delete_tenant(no).await.unwrap();
            }
        }
        Step::MakeWebhook(at) => {
            if let Some(no) = pick(&tenants, at) {
                let events = EventTypes::NONE.with(EventType::ALL[usize::from(at) % 6]);
                let url = url("https://[2606:4700::1]:8443/a?b=c%20d");
                let made = directory.create_webhook(no, url, events, WebhookPatch::default());
                return made.await.map(|webhook| ('w', webhook.no.0)).into_iter().collect();
            }
        }
        Step::Change(at) => {
            if let Some(webhook) = pick(&webhooks, at) {
                let patch = WebhookPatch {
                    description: Some(format!("line\n{at}")),
                    headers: Some(HeadersPatch::Merge { set: headers, removed: Vec::new() }),
                    enabled: Some(at % 2 == 0),
                    success: Some((at % 3 == 0).then_some(SuccessRule::Any2xx)),
                    timeout: Some(Some(std::time::Duration::from_millis(u64::from(at) + 100))),
                    max_in_flight: Some(Some(u32::from(at) + 1)),
                    rate_limit: Some((at % 5 == 0).then_some(7)),
                    ..WebhookPatch::default()
                };
                directory.update_webhook(webhook.tenant, webhook.no, None, patch).await.unwrap();
            }
        }
        Step::DropWebhook(at) => {
            if let Some(webhook) = pick(&webhooks, at) {
                directory.delete_webhook(webhook.tenant, webhook.no, None).await.unwrap();
            }
        }
        Step::MakeKey(at) => {
            let principal = pick(&tenants, at).map_or(Principal::Producer, Principal::Tenant);
            let _ = directory.create_key(principal).await;
        }
        Step::DropKey(at) => {
            if let Some(key) = pick(&keys, at) {
                directory.revoke_key(None, key.id).await.unwrap();
            }
        }
        Step::Rotate(at) => {
            if let Some(no) = pick(&tenants, at) {
                let overlap = std::time::Duration::from_secs(u64::from(at % 2) * 60);
                // Refused where as many as may still sign.
                let _ = directory.rotate_secret(no, overlap).await;
            }
        }
    }
    Vec::new()
}

/// All that a directory knows, in a fixed order, secrets and header values included.
fn dump(directory: &Directory) -> Vec<String> {
    let state = directory.read();
    let mut lines = vec![format!("{:?} {}", state.counters, state.gateway_keys)];
    for (no, tenant) in &state.tenants {
        let secrets = &tenant.entry.tenant.secrets;
        let previous = secrets.previous.iter().map(|(secret, until)| (secret.expose(), until));
        let previous: Vec<_> = previous.collect();
        lines.push(format!("{:?} {} {previous:?}", tenant.entry, secrets.current.expose()));
        lines.push(format!("{no:?} {:?} {:?}", tenant.webhooks, tenant.keys));
        let deleted: Vec<_> = tenant.deleted.iter().map(|no| (no, state.deleted[no])).collect();
        lines.push(format!("{deleted:?}"));
    }
    let mut rest: Vec<String> = Vec::new();
    for webhook in state.webhooks.values() {
        let headers: Vec<_> = webhook.headers.iter().collect();
        rest.push(format!("{webhook:?} {headers:?}"));
    }
    rest.extend(state.webhook_ids.iter().map(|pair| format!("{pair:?}")));
    rest.extend(state.tenant_names.iter().map(|pair| format!("{pair:?}")));
    rest.extend(state.deleted.iter().map(|pair| format!("{pair:?}")));
    rest.extend(state.keys.values().map(|key| format!("{key:?} {:?}", key.hash.0)));
    rest.extend(state.key_order.iter().map(|order| format!("{order:?}")));
    rest.sort_unstable();
    lines.append(&mut rest);
    lines
}

/// What is kept beside the tenants and webhooks for being asked often.
fn check_kept_beside(directory: &Directory) {
    let state = directory.read();
    let enabled = state.webhooks.values().filter(|webhook| webhook.enabled).count();
    assert_eq!(state.enabled, enabled);
    assert_eq!(state.tenant_names.len(), state.tenants.len());
    for tenant in state.tenants.values() {
        let named = &state.tenant_names[tenant.entry.tenant.id.as_str()];
        assert!(Arc::ptr_eq(named, &tenant.entry), "{named:?} is not {:?}", tenant.entry);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restart_changes_nothing_and_no_number_comes_twice(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (store, rows) = keeping_store();
            let mut directory = empty(store.clone());
            let mut given = std::collections::BTreeSet::new();
            for (at, step) in steps.into_iter().enumerate() {
                for number in act(&directory, step).await {
                    prop_assert!(given.insert(number), "{number:?} was given twice");
                }
                check_kept_beside(&directory);
                // Now and then the process starts anew.
                if at % 7 == 6 {
                    let again = loaded(store.clone(), stored(&rows)).unwrap();
                    prop_assert_eq!(dump(&directory), dump(&again));
                    directory = again;
                }
            }
            let again = loaded(store, stored(&rows)).unwrap();
            prop_assert_eq!(dump(&directory), dump(&again));
            Ok(())
        })?;
    }
}

async fn rows_of_a_small_directory() -> Vec<Row> {
    let (store, rows) = keeping_store();
    let directory = empty(store);
    let tenant = add_tenant(&directory, "acme").await.tenant.no;
    add_webhook(&directory, tenant).await;
    let gone = add_webhook(&directory, tenant).await;
    directory.delete_webhook(tenant, gone.no, None).await.unwrap();
    directory.create_key(Principal::Producer).await.unwrap();
    stored(&rows)
}

fn load(rows: Vec<Row>) -> Result<Directory, LoadError> {
    loaded(held_store().0, rows)
}

#[tokio::test]
async fn every_flipped_bit_of_a_row_is_noticed() {
    let rows = rows_of_a_small_directory().await;
    let recorded = rows.iter().filter(|row| row.key[0] == b'a').count();
    let own = rows.len() - recorded;
    assert_eq!((own, recorded), (6, 6), "counters, tenant, webhook, deleted webhook, two keys");
    load(rows.clone()).expect("whole rows load");
    for at in 0..rows.len() {
        let bits = rows[at].value.as_ref().unwrap().len() * 8;
        for bit in 0..bits {
            let mut damaged = rows.clone();
            damaged[at].value.as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
            let loaded = load(damaged);
            assert!(matches!(loaded, Err(LoadError::Damaged { .. })), "row {at}, bit {bit}");
        }
    }
}

#[tokio::test]
async fn a_missing_row_that_others_need_is_damage() {
    let rows = rows_of_a_small_directory().await;
    for kind in [b'm', b't'] {
        let without = rows.iter().filter(|row| row.key[0] != kind).cloned().collect();
        assert!(matches!(load(without), Err(LoadError::Damaged { .. })), "{}", kind as char);
    }
    let unknown = Row { key: b"x1".to_vec(), value: rows[0].value.clone() };
    let with_unknown = rows.iter().cloned().chain([unknown]).collect();
    assert!(matches!(load(with_unknown), Err(LoadError::Damaged { .. })));
}

#[tokio::test]
async fn a_row_of_a_newer_version_is_refused_as_that() {
    let rows = rows_of_a_small_directory().await;
    for at in 0..rows.len() {
        let mut rows = rows.clone();
        let value = rows[at].value.as_mut().unwrap();
        value[0] = 3;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&value[..1]);
        hasher.update(&value[5..]);
        let crc = hasher.finalize().to_le_bytes();
        value[1..5].copy_from_slice(&crc);
        assert!(matches!(load(rows), Err(LoadError::Newer { version: 3, .. })), "row {at}");
    }
}

/// A row of the first version, as it was framed.
fn first_version(key: Vec<u8>, body: &str) -> Row {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[1]);
    hasher.update(body.as_bytes());
    let crc = hasher.finalize().to_le_bytes();
    Row { key, value: Some([&[1][..], &crc, body.as_bytes()].concat()) }
}

/// Rows as the first version wrote them: they must stay readable for ever.
pub(super) fn rows_of_the_first_version() -> Vec<Row> {
    let row = first_version;
    vec![
        row(b"m".to_vec(), r#"{"next_tenant":2,"next_webhook":3,"next_key":2,"next_deletion":1}"#),
        row(
            b"t\0\0\0\x01".to_vec(),
            r#"{"id":"acme","name":"Acme","created_at":5,"secret":"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","previous":{"secret":"whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=","valid_until":9}}"#,
        ),
        row(
            b"w\0\0\0\x01".to_vec(),
            r#"{"id":"wh_00000000000000000000000007","tenant":1,"url":"http://10.0.0.7:8080/in","events":["message.sent"],"description":"d","headers":[["x-a","b"]],"enabled":false,"success":"2xx","timeout_ms":2500,"max_in_flight":3,"rate_limit":null,"created_at":6,"updated_at":7}"#,
        ),
        row(
            [b"k".as_slice(), &9u128.to_be_bytes()].concat(),
            &format!(
                r#"{{"no":1,"kind":"tenant","tenant":1,"sha256":{:?},"created_at":8}}"#,
                [7; 32]
            ),
        ),
        row(
            b"d\0\0\0\x01\0\0\0\x02".to_vec(),
            r#"{"id":"wh_00000000000000000000000008","order":1}"#,
        ),
    ]
}

#[tokio::test]
async fn rows_of_the_first_version_are_read() {
    let directory = load(rows_of_the_first_version()).unwrap();
    assert_eq!(directory.webhook_id(WebhookNo(2)), Some(WebhookId(8)));
    let key = &directory.keys(Some(TenantNo(1)), None, 9)[0];
    assert_eq!((key.id, key.hash.0, key.created_at), (KeyId(9), [7; 32], 8));
    let tenant = &directory.tenant("acme").unwrap().tenant;
    let previous: SigningSecret =
        "whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=".parse().unwrap();
    assert_eq!(tenant.secrets.previous, [(previous, 9)]);
    let webhook = directory.webhook(tenant.no, WebhookId(7)).unwrap();
    assert_eq!(webhook.url.to_string(), "http://10.0.0.7:8080/in", "judged when it was registered");
    assert_eq!(webhook.timeout, Some(std::time::Duration::from_millis(2500)));
    assert_eq!((webhook.success, webhook.enabled), (Some(SuccessRule::Any2xx), false));
}

#[tokio::test]
async fn a_deleted_webhooks_id_is_known_until_too_many_followed_it() {
    let (store, rows) = keeping_store();
    let directory = empty(store);
    let tenant = add_tenant(&directory, "acme").await.tenant.no;
    let mut deleted = Vec::new();
    for _ in 0..6 {
        let webhook = add_webhook(&directory, tenant).await;
        directory.delete_webhook(tenant, webhook.no, None).await.unwrap();
        deleted.push(webhook);
    }
    let again = load(stored(&rows)).unwrap();
    for directory in [directory, again] {
        for (at, webhook) in deleted.iter().enumerate() {
            let known = at >= 2;
            assert_eq!(directory.webhook_id(webhook.no), known.then_some(webhook.id), "{at}");
            assert_eq!(directory.webhook_no(tenant, webhook.id).is_some(), known, "{at}");
            assert_eq!(directory.webhook_no(TenantNo(99), webhook.id), None);
        }
    }
}
