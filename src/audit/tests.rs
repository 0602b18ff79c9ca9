//! The log against a plain model of it, and against a store whose answers the test holds.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, watch};

use super::*;
use crate::{
    id::{KeyId, NodeNo, SessionId, TenantNo},
    request_id::RequestId,
    store::Health,
    tenant::TenantId,
};

const ACME: u32 = 1;

fn done(tenant: u32, action: Action) -> Done {
    let id: TenantId = format!("t{tenant}").parse().expect("a tenant id");
    Done { tenant: Some((TenantNo(tenant), id)), ..Done::of_gateway(action) }
}

fn by(key: u128) -> By {
    let actor = Actor { kind: ActorKind::Tenant, key: Some(KeyId(key)), session: None };
    By { actor, request: RequestId::of(key.to_string().as_bytes()) }
}

/// What the store holds after these rows.
fn put(kept: &mut BTreeMap<Vec<u8>, Vec<u8>>, rows: Vec<Row>) {
    for Row { key, value } in rows {
        match value {
            Some(value) => kept.insert(key, value),
            None => kept.remove(&key),
        };
    }
}

fn stored(kept: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Row> {
    kept.iter().map(|(key, value)| Row { key: key.clone(), value: Some(value.clone()) }).collect()
}

/// Numbers and writes at once.
fn add(state: &mut State, kept: &mut BTreeMap<Vec<u8>, Vec<u8>>, one: Done) {
    let added = state.add(&by(7), vec![one]);
    put(kept, added.rows);
    state.settle(&added.orders, true);
}

fn numbers(state: &State, of: Option<u32>) -> Vec<u64> {
    let query = Query { of: of.map(TenantNo), limit: 1000, ..Query::default() };
    let mut numbers: Vec<_> =
        state.page(&query).records.iter().map(|record| record.sequence).collect();
    numbers.reverse();
    numbers
}

#[test]
fn a_chain_is_numbered_without_a_gap_also_over_a_restart() {
    let (mut state, mut kept) = (State::of(Vec::new(), 100), BTreeMap::new());
    for nth in 0..5 {
        add(&mut state, &mut kept, done(ACME, Action::KeyCreated));
        add(&mut state, &mut kept, done(2, Action::KeyRevoked));
        if nth == 2 {
            let records = stored(&kept).iter().map(wire::decode).collect::<Result<_, _>>();
            state = State::of(records.expect("what was written"), 100);
        }
    }
    assert_eq!(numbers(&state, Some(ACME)), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(&state, Some(2)), [1, 2, 3, 4, 5]);
    assert_eq!(state.gaps(), []);
}

#[test]
fn who_does_much_pushes_nobody_else_out() {
    let (mut state, mut kept) = (State::of(Vec::new(), 10), BTreeMap::new());
    add(&mut state, &mut kept, done(ACME, Action::TenantCreated));
    add(&mut state, &mut kept, done(ACME, Action::SecretRotated));
    for _ in 0..40 {
        add(&mut state, &mut kept, done(2, Action::SessionStarted));
    }
    assert_eq!(numbers(&state, Some(ACME)), [1, 2]);
    assert_eq!(numbers(&state, Some(2)), [33, 34, 35, 36, 37, 38, 39, 40]);
    assert_eq!(kept.len(), 10, "what is no longer known is no longer kept");
    // More chains than there is room for: the oldest of all goes.
    for tenant in 10..30 {
        add(&mut state, &mut kept, done(tenant, Action::TenantCreated));
    }
    assert_eq!((kept.len(), numbers(&state, Some(29))), (10, vec![1]));
}

#[test]
fn a_record_that_was_taken_away_shows() {
    let (mut state, mut kept) = (State::of(Vec::new(), 100), BTreeMap::new());
    for _ in 0..6 {
        add(&mut state, &mut kept, done(ACME, Action::WebhookUpdated));
        add(&mut state, &mut kept, Done::of_gateway(Action::BackupCreated));
    }
    // The third of acme's.
    let gone = stored(&kept)[4].key.clone();
    kept.remove(&gone);
    let records = stored(&kept).iter().map(wire::decode).collect::<Result<Vec<_>, _>>();
    let state = State::of(records.expect("what was written"), 100);
    assert_eq!(state.gaps(), [(Some(TenantNo(ACME)), (2, 4))]);
    assert_eq!(numbers(&state, Some(ACME)), [1, 2, 4, 5, 6]);
}

#[test]
fn pages_go_through_all_that_match_and_look_at_a_bounded_number() {
    let (mut state, mut kept) = (State::of(Vec::new(), 1000), BTreeMap::new());
    for nth in 0..200_u64 {
        let action = if nth % 60 == 0 { Action::KeyRevoked } else { Action::KeyCreated };
        let one = done(ACME, action).to(format!("key_{nth}"));
        add(&mut state, &mut kept, one);
        add(&mut state, &mut kept, done(2, Action::KeyRevoked));
    }
    for of in [Some(TenantNo(ACME)), None] {
        let actions = [Action::KeyRevoked];
        let object = of.is_none().then_some("key_120");
        let mut query = Query { of, actions: &actions, object, limit: 2, ..Query::default() };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = state.page(&query);
            pages += 1;
            found.extend(page.records.iter().map(|record| record.sequence));
            query.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        let expected: &[u64] = if of.is_some() { &[181, 121, 61, 1] } else { &[121] };
        assert_eq!(found, expected, "{of:?}");
        assert!(pages >= 4, "no page looks at more than a stretch: {pages}");
    }
}

#[test]
fn a_record_survives_the_way_out_and_back_and_what_is_cut_does_not() {
    let actor =
        Actor { kind: ActorKind::Operator, key: Some(KeyId(5)), session: Some(SessionId(6)) };
    for action in Action::ALL {
        let record = Record {
            order: 1 << 40,
            sequence: 9,
            at: 1_795_407_600_123,
            action,
            by: By { actor, request: RequestId::of(b"req_1") },
            tenant: done(ACME, action).tenant,
            object: Some("wh_1".to_owned()),
            changed: vec!["url".to_owned(), "headers".to_owned()],
        };
        let row = wire::encode(&record);
        assert!(wire::is_record(&row.key));
        assert_eq!(wire::decode(&row).expect("a record"), record);
        let value = row.value.clone().expect("it has one");
        for cut in 0..value.len() {
            let cut = Row { value: Some(value[..cut].to_vec()), ..row.clone() };
            assert!(wire::decode(&cut).is_err());
        }
        for bit in 0..value.len() * 8 {
            let mut flipped = value.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = Row { value: Some(flipped), ..row.clone() };
            assert!(matches!(wire::decode(&flipped), Err(BadRecord::Checksum)), "bit {bit}");
        }
        let newer = [&[2], wire::checksum(2, &value[5..]).as_slice(), &value[5..]].concat();
        let newer = Row { value: Some(newer), ..row };
        assert!(matches!(wire::decode(&newer), Err(BadRecord::Newer(2))));
    }
    let hidden = actor.seen(false);
    assert_eq!((hidden.key, hidden.session, actor.seen(true)), (None, None, actor));
}

/// A store handle and the writes that arrive on it, unanswered.
fn held_store() -> (Store, mpsc::Receiver<Write>) {
    let (writes, asked) = mpsc::channel(16);
    let (reads, _) = mpsc::channel(1);
    let (_, health) = watch::channel(Health::default());
    let (_, recorded) = watch::channel(0);
    (Store { writes, reads, health, recorded, node: NodeNo(1) }, asked)
}

#[tokio::test]
async fn a_record_is_shown_once_it_and_all_before_it_are_durable() {
    let (store, mut asked) = held_store();
    let audit = Audit::load(&[], 100).expect("an empty log");
    let shown = |audit: &Audit| audit.page(&Query { limit: 10, ..Query::default() }).records.len();
    let note = |nth: u128| {
        let (audit, store) = (audit.clone(), store.clone());
        async move { audit.note(&store, &by(nth), done(ACME, Action::KeyCreated)).await }
    };
    let mut first = Box::pin(note(1));
    let mut second = Box::pin(note(2));
    let mut replies = Vec::new();
    for noted in [&mut first, &mut second] {
        // Its asker goes on to wait, and the write is there.
        let write = tokio::select! {
            biased;
            _ = noted => panic!("answered before it is durable"),
            write = asked.recv() => write,
        };
        let Some(Write::Rows { bundle, reply }) = write else { panic!("rows") };
        assert_eq!(bundle.rows.len(), 1);
        replies.push(reply);
    }
    let (one, two) = (replies.remove(0), replies.remove(0));
    two.send(Ok(())).expect("somebody waits");
    second.await.expect("it was written");
    assert_eq!(shown(&audit), 0, "the one before it is not durable");
    // An asker who goes away changes nothing.
    drop(first);
    one.send(Ok(())).expect("somebody waits all the same");
    let began = crate::clock::instant();
    while shown(&audit) != 2 {
        assert!(began.elapsed().as_secs() < 10, "never shown");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_could_not_be_written_is_never_shown() {
    let (store, mut asked) = held_store();
    let audit = Audit::load(&[], 100).expect("an empty log");
    let noted = async { audit.note(&store, &by(1), done(ACME, Action::KeyCreated)).await };
    let answer = async {
        let Some(Write::Rows { reply, .. }) = asked.recv().await else { panic!("rows") };
        reply.send(Err(StoreError::Poisoned)).expect("somebody waits");
    };
    let (noted, ()) = tokio::join!(noted, answer);
    assert_eq!(noted, Err(StoreError::Poisoned));
    let all = audit.page(&Query { limit: 10, ..Query::default() });
    assert!(all.records.is_empty() && all.next.is_none());
}
