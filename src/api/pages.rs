//! The page for people at `/`: HTML over the same views that the API answers, and signing in with a browser.
//!
//! Every answer forbids scripts, styles and frames that are not this daemon's own. Parts are fetched by the page's script
//! whenever something happened; an order that it gives is a request to `/v1` like everybody's.

use super::ApiState;
use super::auth::session::{cookie_with, cookie_without, not_foreign};
use super::auth::{Access, Caller};
use super::error::ApiError;
use crate::base::token::{Role, Token};
use crate::clock::{Clock, SystemClock};
use crate::dashboard::{self, Failed, Rights, assets};
use crate::rollout::view::RolloutView;
use crate::trigger::inbox::NotBegun;
use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;

/// Only what this daemon serves, nothing inline, no frame around it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
     base-uri 'none'; frame-ancestors 'none'",
);
/// Other sites are told nothing of where somebody was. Not `no-referrer`, by which forms would lose their Origin.
const REFERRER: HeaderValue = HeaderValue::from_static("same-origin");
/// A page shows how things stand now, and maybe what only its reader may see.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// A file's name changes with what is in it.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

pub(super) fn router() -> Router<ApiState> {
    Router::new()
        .route("/", get(list))
        .route("/live", get(list_part))
        .route("/rollouts/{id}", get(one))
        .route("/rollouts/{id}/live", get(one_part))
        .route("/assets/{name}", get(asset))
        .route("/sign-in", get(sign_in_form).post(sign_in))
        .route("/sign-out", post(sign_out))
}

fn with_headers(status: StatusCode, kind: &'static str, cache: HeaderValue, text: impl IntoResponse) -> Response {
    let mut response = text.into_response();
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (header::REFERRER_POLICY, REFERRER),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (header::CACHE_CONTROL, cache),
    ] {
        headers.insert(name, value);
    }
    response
}

fn html(status: StatusCode, made: Result<String, Failed>) -> Response {
    match made {
        Ok(text) => with_headers(status, "text/html; charset=utf-8", NO_STORE, text),
        Err(error) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", error.to_string()).into_response(),
    }
}

fn now_ms() -> i64 {
    SystemClock.now().0
}

// === pages ===

async fn made_list(state: &ApiState) -> Result<Result<String, Failed>, ApiError> {
    let views = super::rollouts::all(state).await?;
    let freezes = state.runner.freezes().await?;
    Ok(dashboard::list_part(&views, &freezes, now_ms()))
}

async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Response, ApiError> {
    let part = made_list(&state).await?;
    Ok(html(StatusCode::OK, part.and_then(|part| dashboard::list_page(&part, caller.signed_in()))))
}

async fn list_part(State(state): State<ApiState>) -> Result<Response, ApiError> {
    Ok(html(StatusCode::OK, made_list(&state).await?))
}

async fn found(state: &ApiState, id: &str) -> Result<Result<RolloutView, String>, ApiError> {
    match super::rollouts::find(state, id).await? {
        Ok(view) => Ok(Ok(view)),
        Err(None) => Ok(Err(format!("There is no rollout {id}, and no policy of that name has had one."))),
        Err(Some(NotBegun::Over(why))) => Ok(Err(format!("The start {id} has begun no rollout: {why}"))),
        Err(Some(NotBegun::Fault(fault))) => Err(fault.into()),
    }
}

async fn made_one(state: &ApiState, caller: &Caller, view: &RolloutView) -> Result<Result<String, Failed>, ApiError> {
    let track = state.feed.track(view).await?;
    let people = view.approval.as_ref().map(|approval| approval.from.as_slice()).unwrap_or_default();
    let speaks_for = people.iter().filter(|person| caller.speaks_for(person).is_ok()).cloned().collect();
    let rights = Rights { may_act: caller.may(Role::Operator), speaks_for };
    Ok(dashboard::rollout_part(view, &track, &rights, now_ms()))
}

async fn one(State(state): State<ApiState>, Path(id): Path<String>, caller: Caller) -> Result<Response, ApiError> {
    let view = match found(&state, &id).await? {
        Ok(view) => view,
        Err(why) => {
            let page = dashboard::problem_page("Not found", &why, caller.signed_in());
            return Ok(html(StatusCode::NOT_FOUND, page));
        }
    };
    let part = made_one(&state, &caller, &view).await?;
    Ok(html(StatusCode::OK, part.and_then(|part| dashboard::rollout_page(&part, &view, caller.signed_in()))))
}

async fn one_part(State(state): State<ApiState>, Path(id): Path<String>, caller: Caller) -> Result<Response, ApiError> {
    let no_such = |why| ApiError::new(StatusCode::NOT_FOUND, "no-such-rollout", why);
    let view = found(&state, &id).await?.map_err(no_such)?;
    Ok(html(StatusCode::OK, made_one(&state, &caller, &view).await?))
}

async fn asset(Path(name): Path<String>) -> Result<Response, ApiError> {
    let asset = assets::find(&name).ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "no-such-address", "there is no such file in this version")
            .hint("reload the page")
    })?;
    Ok(with_headers(StatusCode::OK, asset.kind, FOR_EVER, asset.text))
}

// === signing in ===

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    to: String,
    again: Option<String>,
}

/// It has no `Debug`, so that the token is not printed by accident.
#[derive(Deserialize)]
struct SignIn {
    token: String,
    #[serde(default)]
    to: String,
}

/// Where to go on to: a page of this daemon, never an address of somebody else's.
fn page_of_ours(to: &str) -> &str {
    let rest = to.strip_prefix("/rollouts/");
    let is_ours =
        rest.is_some_and(|id| !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.%".contains(c)));
    if is_ours { to } else { "/" }
}

async fn sign_in_form(State(state): State<ApiState>, Query(wanted): Query<Wanted>, headers: HeaderMap) -> Response {
    let to = page_of_ours(&wanted.to);
    let let_in = match &state.access {
        Access::Loopback => true,
        Access::Tokens(tokens) => tokens.is_signed_in(&headers).await,
    };
    if let_in {
        return Redirect::to(to).into_response();
    }
    html(StatusCode::OK, dashboard::sign_in_page(to, None, wanted.again.is_none()))
}

async fn sign_in(
    State(state): State<ApiState>,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Result<Response, ApiError> {
    not_foreign(&headers)?;
    let Access::Tokens(access) = &state.access else { return Ok(Redirect::to("/").into_response()) };
    let refused = |status, to: &str, why: &str| html(status, dashboard::sign_in_page(to, Some(why), false));
    let Ok(Form(SignIn { token, to })) = form else {
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, "/", "Paste a token."));
    };
    let to = page_of_ours(&to);
    let Some(token) = Token::parse(token.trim()) else {
        let why = "That is no token: cut off, mistyped, or something else. A token begins with tg_.";
        return Ok(refused(StatusCode::UNPROCESSABLE_ENTITY, to, why));
    };
    if let Err(error) = access.admit_token(&token, Role::Viewer).await {
        let status = StatusCode::from_u16(error.0.status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
        // Without the challenge that a 401 would need: a form answers people.
        let status = if status == StatusCode::UNAUTHORIZED { StatusCode::UNPROCESSABLE_ENTITY } else { status };
        return Ok(refused(status, to, &format!("{}.", error.0.detail)));
    }
    let mut response = Redirect::to(to).into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie_with(&token, access.is_reached_by_tls()));
    Ok(response)
}

async fn sign_out(State(state): State<ApiState>, headers: HeaderMap) -> Result<Response, ApiError> {
    not_foreign(&headers)?;
    let mut response = Redirect::to("/sign-in?again=1").into_response();
    if let Access::Tokens(access) = &state.access {
        response.headers_mut().insert(header::SET_COOKIE, cookie_without(access.is_reached_by_tls()));
    }
    Ok(response)
}
