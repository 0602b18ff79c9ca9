//! Who is logged in to the portal.
//!
//! A session stands for the key that it was opened with, or for the tenant whose one-time link was
//! followed, and it never outlives either: whoever asks with a [`Pass`] is judged again each time,
//! so a key that is revoked, a tenant that is deleted and a logout end what was opened with them at
//! once. The browser holds a random token, we hold its hash, so that what is in our memory opens
//! nothing.
//!
//! That one was opened and that somebody ended it is in the audit log, durable before the browser
//! hears of it.
//!
//! Sessions are in memory only: a restart logs everybody out. That costs a login, where keeping them
//! would put another kind of credential on the disk.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    audit::{Action, Actor, By, Done},
    clock,
    config::Portal,
    directory::{Directory, KeyMark, Principal},
    id::{SessionId, TenantNo, random_u128},
    request_id::RequestId,
    store::StoreError,
};

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// The same as text: base64 without padding.
const TOKEN_CHARS: usize = 43;

/// The longest that a one-time link may be good for.
pub const MAX_LINK_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// One-time links that nobody has followed yet, for one tenant or the operator; beyond it the oldest
/// goes.
const MAX_LINKS_PER_TENANT: usize = 100;

/// What a browser holds: shown once, compared by its hash. `Debug` does not show it.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    fn generate() -> Self {
        let mut random = Zeroizing::new([0_u8; TOKEN_BYTES]);
        getrandom::fill(random.as_mut())
            .expect("the kernel's random source does not fail after boot");
        Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(random.as_ref())))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// SHA-256 of a token. Looking it up tells by its time at most where hashes differ, which helps
/// nobody to find what hashes to them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct TokenHash([u8; 32]);

impl TokenHash {
    /// None where the text is no token.
    fn of(text: &str) -> Option<Self> {
        (text.len() == TOKEN_CHARS).then(|| Self(Sha256::digest(text.as_bytes()).into()))
    }
}

impl From<StoreError> for Refused {
    /// That somebody came in could not be written down.
    fn from(_: StoreError) -> Self {
        Self::Stopped
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(hidden)")
    }
}

/// For whom a session was opened.
#[derive(Clone, Debug)]
enum Holder {
    Key(KeyMark),
    /// Who followed a link for a tenant, …
    Tenant(TenantNo),
    /// … and who followed the one that the start shows.
    Operator,
}

impl Holder {
    fn principal(&self, directory: &Directory) -> Option<Principal> {
        match self {
            Self::Key(mark) => directory.speaks_for(mark),
            Self::Tenant(no) => {
                directory.tenant_by_no(*no).map(|entry| Principal::Tenant(entry.tenant.no))
            }
            Self::Operator => Some(Principal::Operator),
        }
    }
}

#[derive(Debug)]
struct Session {
    /// Names it without opening it.
    id: SessionId,
    holder: Holder,
    /// Whose limit it counts against.
    principal: Principal,
    opened: Instant,
}

impl Session {
    fn is_over(&self, lifetime: Duration, now: Instant) -> bool {
        now >= self.opened + lifetime
    }
}

#[derive(Debug)]
struct Link {
    of: LinkOf,
    expires: Instant,
}

impl Link {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.expires
    }
}

/// Whom a link lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkOf {
    Tenant(TenantNo),
    Operator,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<TokenHash, Session>,
    links: HashMap<TokenHash, Link>,
}

/// Why nobody was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the key is unknown or was revoked")]
    Unknown,
    /// A key that may not look at anything.
    #[error("a producer's key may only send events")]
    Producer,
    #[error("the link was used already, or its time is over; ask for a new one")]
    Link,
    #[error("as many are logged in as may be (portal.max_sessions)")]
    Full,
    #[error("the gateway is stopping: try again in a moment")]
    Stopped,
}

/// All sessions of the gateway. Copies share them.
#[derive(Clone, Debug)]
pub struct Sessions {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: Directory,
    settings: Portal,
    /// What links begin with: scheme and host, without a slash at the end.
    base: String,
    state: Mutex<State>,
}

impl Sessions {
    /// `base`: where the gateway listens, for links where `portal.url` does not say how users reach
    /// it.
    pub fn new(directory: Directory, settings: Portal, base: String) -> Self {
        let base = if settings.url.is_empty() { base } else { settings.url.clone() };
        let state = Mutex::default();
        Self { inner: Arc::new(Inner { directory, settings, base, state }) }
    }

    /// Opens a session for a key.
    pub async fn log_in(&self, key: &str, request: Option<RequestId>) -> Result<Token, Refused> {
        let mark = KeyMark::of(key).ok_or(Refused::Unknown)?;
        match self.inner.directory.speaks_for(&mark) {
            None => Err(Refused::Unknown),
            Some(Principal::Producer) => Err(Refused::Producer),
            Some(principal) => self.enter(Holder::Key(mark), principal, request).await,
        }
    }

    /// Makes a one-time link for a tenant: its address, and how long it is good for. Whoever hands it
    /// out writes down that it was made.
    pub fn link(&self, of: LinkOf, lifetime: Option<Duration>) -> Option<(String, Duration)> {
        let settings = &self.inner.settings;
        if !settings.enabled {
            return None;
        }
        let lifetime = lifetime.unwrap_or(settings.link_lifetime).min(MAX_LINK_LIFETIME);
        let (token, now) = (Token::generate(), clock::instant());
        let mut state = self.lock();
        state.links.retain(|_, link| !link.is_over(now));
        let own = state.links.iter().filter(|(_, link)| link.of == of);
        if own.clone().count() >= MAX_LINKS_PER_TENANT {
            let oldest = own.min_by_key(|(_, link)| link.expires).map(|(hash, _)| *hash);
            oldest.map(|hash| state.links.remove(&hash));
        }
        state.links.insert(hash_of(&token), Link { of, expires: now + lifetime });
        Some((format!("{}/portal/link/{}", self.inner.base, token.expose()), lifetime))
    }

    /// Takes a link and opens a session for whom it is. It works once.
    pub async fn follow(&self, link: &str, request: Option<RequestId>) -> Result<Token, Refused> {
        let found = TokenHash::of(link).and_then(|hash| self.lock().links.remove(&hash));
        let link = found.filter(|link| !link.is_over(clock::instant())).ok_or(Refused::Link)?;
        let holder = match link.of {
            LinkOf::Tenant(no) => Holder::Tenant(no),
            LinkOf::Operator => Holder::Operator,
        };
        let principal = holder.principal(&self.inner.directory).ok_or(Refused::Link)?;
        self.enter(holder, principal, request).await
    }

    /// For whom a link is, while it is good; looking does not use it up.
    pub fn link_is_for(&self, link: &str) -> Option<LinkOf> {
        let state = self.lock();
        let link = state.links.get(&TokenHash::of(link)?)?;
        (!link.is_over(clock::instant())).then_some(link.of)
    }

    /// What a browser's token opens; none where that is nothing, or nothing any more.
    pub fn pass(&self, token: &str) -> Option<Pass> {
        let pass = Pass { sessions: self.clone(), hash: TokenHash::of(token)? };
        pass.principal()?;
        Some(pass)
    }

    /// Opens a session and writes down that somebody came in; one that cannot be written down is
    /// none.
    async fn enter(
        &self,
        holder: Holder,
        principal: Principal,
        request: Option<RequestId>,
    ) -> Result<Token, Refused> {
        let id = SessionId(random_u128());
        let token = self.open(id, holder, principal)?;
        let opened = Pass { sessions: self.clone(), hash: hash_of(&token) };
        let started = opened.told(Action::SessionStarted, request);
        if let Err(error) = opened.note(started).await {
            self.lock().sessions.remove(&opened.hash);
            return Err(error.into());
        }
        Ok(token)
    }

    fn open(&self, id: SessionId, holder: Holder, principal: Principal) -> Result<Token, Refused> {
        let (token, opened) = (Token::generate(), clock::instant());
        let settings = &self.inner.settings;
        let mut state = self.lock();
        state.sessions.retain(|_, session| !session.is_over(settings.session_lifetime, opened));
        let own = state.sessions.iter().filter(|(_, session)| session.principal == principal);
        if own.clone().count() >= settings.max_per_tenant {
            let oldest = own.min_by_key(|(_, session)| session.opened).map(|(hash, _)| *hash);
            oldest.map(|hash| state.sessions.remove(&hash));
        }
        if state.sessions.len() >= settings.max_sessions {
            return Err(Refused::Full);
        }
        state.sessions.insert(hash_of(&token), Session { id, holder, principal, opened });
        Ok(token)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The maps are whole between any two statements: a panic elsewhere cannot have torn them.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash_of(token: &Token) -> TokenHash {
    TokenHash::of(token.expose()).expect("tokens have the length of tokens")
}

/// A session that somebody asks with. It says for whom as long as that is so.
#[derive(Clone, Debug)]
pub struct Pass {
    sessions: Sessions,
    hash: TokenHash,
}

impl Pass {
    /// For whom it speaks now; none once the session has ended, for whatever reason.
    pub fn principal(&self) -> Option<Principal> {
        let inner = &self.sessions.inner;
        let state = self.sessions.lock();
        let session = state.sessions.get(&self.hash)?;
        if session.is_over(inner.settings.session_lifetime, clock::instant()) {
            return None;
        }
        session.holder.principal(&inner.directory)
    }

    /// Who that is in the audit log.
    pub fn actor(&self) -> Actor {
        let state = self.sessions.lock();
        let Some(session) = state.sessions.get(&self.hash) else { return Actor::default() };
        let key = match &session.holder {
            Holder::Key(mark) => self.sessions.inner.directory.key_id(mark),
            Holder::Tenant(_) | Holder::Operator => None,
        };
        Actor { kind: session.principal.actor(), key, session: Some(session.id) }
    }

    /// Ends the session. It is over also where that cannot be written down any more.
    pub async fn log_out(&self, request: Option<RequestId>) {
        let ended = self.told(Action::SessionEnded, request);
        self.sessions.lock().sessions.remove(&self.hash);
        if let Err(error) = self.note(ended).await {
            tracing::warn!(%error, "the end of a session could not be recorded");
        }
    }

    /// What is to be recorded of it, and by whom it was done.
    fn told(&self, action: Action, request: Option<RequestId>) -> (By, Done) {
        let actor = self.actor();
        let tenant = self.principal().and_then(Principal::tenant);
        let tenant = tenant.and_then(|no| self.sessions.inner.directory.tenant_by_no(no));
        let mut done = match &tenant {
            Some(entry) => Done::of(&entry.tenant, action),
            None => Done::of_gateway(action),
        };
        done.object = actor.session.map(|id| id.to_string());
        (By { actor, request }, done)
    }

    async fn note(&self, (by, done): (By, Done)) -> Result<(), StoreError> {
        self.sessions.inner.directory.on_behalf_of(&by).note(done).await
    }
}

#[cfg(test)]
mod tests;
