//! The page for people: how rollouts stand, as HTML made on the server from the same views that the API answers.
//!
//! Nothing here decides or changes anything: an order is a request to the API like everybody's. Text from outside (names,
//! reasons, what sources said) is escaped by the templates of `templates/`, none of which puts a script or a style into the
//! page. The addresses and who may look at them are the API's (`api::pages`, `api::auth::rules`).

pub mod assets;
mod chart;
#[cfg(test)]
mod examples;
pub mod feed;
mod list;
mod rollout;
mod track;
mod verbs;
mod words;

use crate::ports::Freeze;
use crate::rollout::view::RolloutView;
use askama::Template;
use assets::Assets;
pub use track::Track;
pub use verbs::Rights;

/// Finished rollouts on the list, the newest: what ended before is asked for by its name.
pub const RECENT_MAX: usize = 25;

/// What frames every page.
struct Frame<'a> {
    title: &'a str,
    assets: &'static Assets,
    /// The name of the token, where the one who looks signed in with one.
    signed_in: Option<&'a str>,
    version: &'static str,
}

impl<'a> Frame<'a> {
    fn new(title: &'a str, signed_in: Option<&'a str>) -> Self {
        Self { title, assets: assets::get(), signed_in, version: env!("CARGO_PKG_VERSION") }
    }
}

#[derive(Template)]
#[template(path = "live.html")]
struct LivePage<'a> {
    frame: Frame<'a>,
    live_address: &'a str,
    events_address: &'a str,
    content: &'a str,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    frame: Frame<'a>,
    to: &'a str,
    problem: Option<&'a str>,
    /// Where to ask once more from this page, whose cookie is sent then.
    again: Option<String>,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    frame: Frame<'a>,
    title: &'a str,
    detail: &'a str,
}

#[derive(Template)]
#[template(path = "report.html")]
struct ReportPage<'a> {
    title: &'a str,
    style: &'static str,
    version: &'static str,
    content: &'a str,
}

/// What a page could not be made of: the formatting of a value failed.
pub type Failed = askama::Error;

/// Live rollouts and the newest finished ones, as the part of the page that is renewed.
///
/// # Errors
/// [`Failed`].
pub fn list_part(views: &[RolloutView], freezes: &[Freeze], now_ms: i64) -> Result<String, Failed> {
    list::List::of(views, freezes, now_ms).render()
}

/// The page at `/`.
///
/// # Errors
/// [`Failed`].
pub fn list_page(part: &str, signed_in: Option<&str>) -> Result<String, Failed> {
    let frame = Frame::new("Rollouts", signed_in);
    LivePage { frame, live_address: "/live", events_address: "/v1/events", content: part }.render()
}

/// One rollout, as the part of the page that is renewed.
///
/// # Errors
/// [`Failed`].
pub fn rollout_part(view: &RolloutView, track: &Track, rights: &Rights, now_ms: i64) -> Result<String, Failed> {
    rollout::Rollout::of(view, track, rights, now_ms).render()
}

/// The page of one rollout.
///
/// # Errors
/// [`Failed`].
pub fn rollout_page(part: &str, view: &RolloutView, signed_in: Option<&str>) -> Result<String, Failed> {
    let id = words::segment(&view.id);
    let live_address = format!("/rollouts/{id}/live");
    // A start that waits has no events of its own.
    let events_address = if view.seq == 0 { "/v1/events".to_owned() } else { format!("/v1/rollouts/{id}/events") };
    let frame = Frame::new(&view.policy, signed_in);
    LivePage { frame, live_address: &live_address, events_address: &events_address, content: part }.render()
}

/// One rollout as a file that needs nothing beside it: no script, no address, its style inside.
///
/// # Errors
/// [`Failed`].
pub fn report_page(view: &RolloutView, track: &Track) -> Result<String, Failed> {
    let nobody = Rights::default();
    let part = rollout::Rollout::of(view, track, &nobody, view.changed_at_ms);
    let content = part.with_evidence(chart::evidence_chart(track.points())).render()?;
    let (style, version) = (assets::STYLE, env!("CARGO_PKG_VERSION"));
    ReportPage { title: &view.policy, style, version, content: &content }.render()
}

/// The page that asks for a token; `to` is where to go on to. With `asks_again` it first asks once more whether there is a
/// cookie: browsers send none with a request that began on another site.
///
/// # Errors
/// [`Failed`].
pub fn sign_in_page(to: &str, problem: Option<&str>, asks_again: bool) -> Result<String, Failed> {
    let again = asks_again.then(|| format!("/sign-in?again=1&to={}", words::segment(to)));
    SignInPage { frame: Frame::new("Sign in", None), to, problem, again }.render()
}

/// A page that says what is wrong.
///
/// # Errors
/// [`Failed`].
pub fn problem_page(title: &str, detail: &str, signed_in: Option<&str>) -> Result<String, Failed> {
    ProblemPage { frame: Frame::new(title, signed_in), title, detail }.render()
}

#[cfg(test)]
mod tests;
