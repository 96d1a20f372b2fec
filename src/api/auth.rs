//! Who may call.
//!
//! On loopback no token is needed, but a web page that the user happens to visit must not be able to start or abort
//! rollouts: Host and Origin must name this machine. Elsewhere every request needs a token, and [`rules`] says of which
//! role. As a header no browser sends one by itself, so Host and Origin say nothing there; as the cookie of somebody who
//! signed in it does, and then what changes something must come from a page of this origin ([`session`]).

mod cache;
pub mod rules;
pub mod session;

pub use cache::{FRESH, STALE};

use super::error::{self, ApiError};
use super::wire::USER_HEADER;
use crate::base::fault::Fault;
use crate::base::loopback::{is_origin_of_this_machine, is_this_machine};
use crate::base::token::{Role, Token, TokenId, TokenRecord};
use crate::clock::Monotonic;
use crate::ports::Tokens;
use crate::rollout::event::Actor;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use cache::{Cache, Look};
use rules::{Found, Need, look_up};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Names longer than this are not logins.
const USER_MAX_CHARS: usize = 64;
/// A token is looked up so long: a row by its key. Beyond it what was known of it counts.
const LOOKUP: Duration = Duration::from_secs(2);
/// Kind of the problem that a request without a token is answered with.
const TOKEN_MISSING: &str = "tidegate:token-missing";
/// What a client without a token is told (RFC 6750, 3), and one whose token counts for nothing.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"tidegate\"");
const CHALLENGE_AGAIN: HeaderValue = HeaderValue::from_static("Bearer realm=\"tidegate\", error=\"invalid_token\"");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// When to come back after too many wrong tokens: in this time some more are looked up.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// Who may call, of whom the address is that is listened on.
#[derive(Clone)]
pub enum Access {
    /// Everyone on this machine: for loopback addresses only.
    Loopback,
    /// Whoever has a token.
    Tokens(Arc<TokenAccess>),
}

impl Access {
    /// Whoever has a token that `tokens` knows. `people` are names that policies have for people, each with the names of the
    /// tokens that may speak for them. `is_reached_by_tls` says that people reach this API by TLS, so that a browser may
    /// keep a token for that alone.
    #[must_use]
    pub fn tokens(tokens: Arc<dyn Tokens>, people: BTreeMap<String, Vec<String>>, is_reached_by_tls: bool) -> Self {
        let cache = Mutex::new(Cache::new(Monotonic::now()));
        Self::Tokens(Arc::new(TokenAccess { tokens, people, is_reached_by_tls, cache }))
    }
}

/// Tokens, and what was found of them lately.
pub struct TokenAccess {
    tokens: Arc<dyn Tokens>,
    people: BTreeMap<String, Vec<String>>,
    is_reached_by_tls: bool,
    cache: Mutex<Cache>,
}

impl TokenAccess {
    /// Where they are kept.
    #[must_use]
    pub fn store(&self) -> &dyn Tokens {
        self.tokens.as_ref()
    }

    /// This process made or revoked one: here it counts from now on.
    pub fn forget(&self, id: &TokenId) {
        self.cache().forget(id);
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Valid after any panic: at worst an entry is missing, and is looked up again.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether people reach this API by TLS.
    #[must_use]
    pub fn is_reached_by_tls(&self) -> bool {
        self.is_reached_by_tls
    }

    /// Whether the request has the cookie of somebody who may look.
    pub async fn is_signed_in(&self, headers: &HeaderMap) -> bool {
        match session::token_of_cookie(headers).flatten() {
            Some(token) => self.admit_token(&token, Role::Viewer).await.is_ok(),
            None => false,
        }
    }

    /// Who sent the request, when they may send it.
    async fn admit(&self, method: &Method, headers: &HeaderMap, role: Role) -> Result<Admitted, ApiError> {
        let (token, by_cookie) = presented(headers)?;
        if by_cookie && !method.is_safe() {
            session::same_origin(headers)?;
        }
        let record = self.admit_token(&token, role).await?;
        let actor = Actor { name: record.name, via: "token".to_owned() };
        Ok(Admitted { actor, role: record.role, by_cookie })
    }

    /// What is known of a token that allows this.
    ///
    /// # Errors
    /// 401: it counts for nothing; 403: it allows less; 429 and 503: it was not looked up.
    pub async fn admit_token(&self, token: &Token, role: Role) -> Result<TokenRecord, ApiError> {
        let record = self.find(token).await?;
        if let Some((at, _)) = &record.revoked {
            let detail = format!("the token {} was revoked at {}", record.id, at.rfc3339());
            return Err(invalid(detail));
        }
        if record.role < role {
            let detail = format!("this needs the role {role}, and the token `{}` has {}", record.name, record.role);
            let hint = format!("ask an admin for a token of that role (`tidegate token create --role {role}`)");
            return Err(ApiError::new(StatusCode::FORBIDDEN, "role-missing", detail).hint(hint));
        }
        Ok(record)
    }

    async fn find(&self, token: &Token) -> Result<TokenRecord, ApiError> {
        let hash = token.hash();
        let look = self.cache().look(&hash, Monotonic::now());
        let known = match look {
            Look::Known(record) => return Ok(record),
            Look::Unknown => return Err(unknown(token)),
            Look::Limited => {
                let detail = "too many tokens that are not known are being tried";
                let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tokens", detail);
                error.0.retryable = true;
                return Err(error);
            }
            Look::Ask(known) => known,
        };
        let asked = tokio::time::timeout(LOOKUP, self.tokens.find(&hash)).await;
        let late = || Fault::transient("tokens", format!("no answer within {} s", LOOKUP.as_secs()));
        match (asked.unwrap_or_else(|_| Err(late())), known) {
            (Ok(found), _) => {
                self.cache().told(&hash, found.as_ref(), Monotonic::now());
                found.ok_or_else(|| unknown(token))
            }
            (Err(fault), Some(known)) => {
                self.cache().failed(&hash, Monotonic::now());
                tracing::warn!(%fault, token = %known.id, "tokens cannot be looked up; what was known counts");
                Ok(known)
            }
            (Err(fault), None) => {
                let detail = format!("tokens cannot be looked up: {fault}");
                Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail))
            }
        }
    }
}

/// Whom a token let in.
struct Admitted {
    actor: Actor,
    role: Role,
    by_cookie: bool,
}

/// The token of a request, and whether its cookie holds it. The header counts where there are both.
fn presented(headers: &HeaderMap) -> Result<(Token, bool), ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        if let Some(token) = session::token_of_cookie(headers) {
            return token.map(|token| (token, true)).ok_or_else(|| invalid("the cookie holds no token: sign in again"));
        }
        let error = ApiError::new(StatusCode::UNAUTHORIZED, "token-missing", "this needs a token, and none was sent");
        let error = error.hint(
            "set TIDEGATE_TOKEN, or send `Authorization: Bearer TOKEN`; `tidegate token create` makes one (docs/operations.md)",
        );
        return Err(error);
    };
    let text = value.to_str().unwrap_or_default();
    let (scheme, text) = text.split_once(' ').unwrap_or((text, ""));
    // Of another scheme it is for whoever stands before the daemon.
    if !scheme.eq_ignore_ascii_case("bearer")
        && let Some(Some(token)) = session::token_of_cookie(headers)
    {
        return Ok((token, true));
    }
    if !scheme.eq_ignore_ascii_case("bearer") || values.next().is_some() {
        return Err(invalid("the header `Authorization` must be there once, as `Bearer TOKEN`"));
    }
    let token = Token::parse(text.trim()).map(|token| (token, false));
    token.ok_or_else(|| invalid("what was sent is no token: cut off, mistyped, or something else"))
}

fn invalid(detail: impl Into<String>) -> ApiError {
    let error = ApiError::new(StatusCode::UNAUTHORIZED, "token-invalid", detail);
    error.hint("look at TIDEGATE_TOKEN; `tidegate token create` makes another (docs/operations.md)")
}

fn unknown(token: &Token) -> ApiError {
    invalid(format!("this daemon knows no token {}", token.id()))
}

/// A refusal as an answer, with the header that belongs to it.
fn refused(error: ApiError) -> Response {
    let header = match (error.0.status, error.0.kind.as_str()) {
        (401, TOKEN_MISSING) => Some((header::WWW_AUTHENTICATE, CHALLENGE)),
        (401, _) => Some((header::WWW_AUTHENTICATE, CHALLENGE_AGAIN)),
        (429, _) => Some((header::RETRY_AFTER, RETRY_AFTER_S)),
        _ => None,
    };
    let mut response = error.into_response();
    response.headers_mut().extend(header);
    response
}

/// Who sent a request, as far as that is known. Handlers get it from the request.
#[derive(Clone)]
pub struct Caller {
    actor: Actor,
    /// What the token allows; everything where none is needed.
    role: Role,
    by_cookie: bool,
    access: Access,
}

impl Caller {
    /// For the audit trail.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.actor.clone()
    }

    /// Whether they may do what this role may.
    #[must_use]
    pub fn may(&self, role: Role) -> bool {
        self.role >= role
    }

    /// The name of the token of somebody who signed in with a browser.
    #[must_use]
    pub fn signed_in(&self) -> Option<&str> {
        self.by_cookie.then_some(self.actor.name.as_str())
    }

    /// Whether they may speak for a person of a policy's `from`. On loopback everyone may: there is no telling who they are.
    ///
    /// # Errors
    /// 403: a token speaks for itself, and for those to whom the configuration gives it.
    pub fn speaks_for(&self, person: &str) -> Result<(), ApiError> {
        let Access::Tokens(access) = &self.access else { return Ok(()) };
        let name = &self.actor.name;
        let given = access.people.get(person).is_some_and(|tokens| tokens.contains(name));
        if given || person == name {
            return Ok(());
        }
        let detail = format!("the token `{name}` does not speak for `{person}`");
        Err(ApiError::new(StatusCode::FORBIDDEN, "not-that-person", detail).hint(format!(
            "they use a token of their own, or `[people.{person}]` of the configuration names it as `token`"
        )))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let unguarded = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "unguarded", "nobody asked who is calling");
        parts.extensions.get::<Self>().cloned().ok_or_else(unguarded)
    }
}

/// Lets in who may call what they ask for, and notes who it is.
pub async fn guard(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    let found = look_up(request.method().as_str(), request.uri().path());
    let admitted = match &access {
        // Its sender is elsewhere, and proves itself.
        Access::Loopback if found == Found::Needs(Need::OwnProof) => Ok(None),
        Access::Loopback => check(request.headers(), request.uri()).map(|()| Some(claimed(request.headers()))),
        Access::Tokens(tokens) => match with_token(tokens, request.method(), request.headers(), found).await {
            Ok(admitted) => Ok(admitted),
            Err(error) if error.0.status == 401 && is_visit(&request) => return to_sign_in(request.uri()),
            Err(error) => return refused(error),
        },
    };
    match (admitted, found) {
        (Err(error), _) => error.into_response(),
        (Ok(_), Found::NoSuchAddress) => error::no_such_address(request).await.into_response(),
        (Ok(_), Found::NoSuchMethod) => error::no_such_method(request).await.into_response(),
        (Ok(admitted), Found::Needs(_)) => {
            if let Access::Tokens(_) = access {
                request.headers_mut().remove(USER_HEADER);
            }
            if let Some(Admitted { actor, role, by_cookie }) = admitted {
                request.extensions_mut().insert(Caller { actor, role, by_cookie, access });
            }
            let mut response = next.run(request).await;
            // A cookie may have let it out, and shared caches need not know that.
            response.headers_mut().entry(header::CACHE_CONTROL).or_insert(NO_STORE);
            response
        }
    }
}

/// Nobody learns without a token which addresses there are.
async fn with_token(
    tokens: &TokenAccess,
    method: &Method,
    headers: &HeaderMap,
    found: Found,
) -> Result<Option<Admitted>, ApiError> {
    let role = match found {
        Found::Needs(Need::Nothing | Need::OwnProof) => return Ok(None),
        Found::Needs(Need::Role(role)) => role,
        Found::NoSuchAddress | Found::NoSuchMethod => Role::Viewer,
    };
    tokens.admit(method, headers, role).await.map(Some)
}

/// Whether a person opened an address in a browser, and no script asked for it.
fn is_visit(request: &Request) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    request.method() == Method::GET && accepts.contains("text/html")
}

/// Sends a browser to where people sign in, and back from there.
fn to_sign_in(uri: &Uri) -> Response {
    let to = percent_encoding::utf8_percent_encode(uri.path(), percent_encoding::NON_ALPHANUMERIC);
    Redirect::to(&format!("/sign-in?to={to}")).into_response()
}

/// Refuses requests whose Host or Origin is not this machine.
pub async fn loopback_only(request: Request, next: Next) -> Response {
    match check(request.headers(), request.uri()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check(headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).or_else(|| uri.host());
    if !host.is_some_and(is_this_machine) {
        let detail = format!("the Host `{}` is not this machine", host.unwrap_or(""));
        return Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-host", detail)
            .hint("in local mode the API answers on 127.0.0.1 and localhost only"));
    }
    // Handed on by another daemon on this machine, which was called by this name.
    if headers.get(super::front::FORWARDED).is_some_and(|host| !host.to_str().is_ok_and(is_this_machine)) {
        let detail = "the Host that another daemon was called by is not this machine";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-host", detail)
            .hint("without tokens the API answers on 127.0.0.1 and localhost only"));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    if origin.to_str().is_ok_and(is_origin_of_this_machine) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-origin", "a page of another site may not use this API"))
}

/// Who a request claims to be from: believed on loopback only.
fn claimed(headers: &HeaderMap) -> Admitted {
    let name = headers.get(USER_HEADER).and_then(|value| value.to_str().ok()).unwrap_or("someone on this machine");
    let name: String = name.chars().filter(|c| !c.is_control()).take(USER_MAX_CHARS).collect();
    Admitted { actor: Actor { name, via: "os_user".to_owned() }, role: Role::Admin, by_cookie: false }
}
