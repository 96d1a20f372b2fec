//! Which role each address needs: one table, by which requests are let in and by which the tests go.
//!
//! What does not stand here is not answered, whatever routes there are: whoever adds a route decides here who may use it.

use crate::base::token::Role;

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Nothing: it tells only whether the process is alive.
    Nothing,
    /// A proof of its own, which the handler checks: the sender's signature, or the token in a form.
    OwnProof,
    /// A token of this role or a stronger one.
    Role(Role),
}

/// One method at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The method. GET stands for HEAD as well.
    pub method: &'static str,
    /// The address, in the notation of the router: `{name}` is any one segment.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
}

const fn rule(method: &'static str, path: &'static str, need: Need) -> Rule {
    Rule { method, path, need }
}

const VIEWER: Need = Need::Role(Role::Viewer);
const OPERATOR: Need = Need::Role(Role::Operator);
const ADMIN: Need = Need::Role(Role::Admin);

/// Every address.
pub const RULES: &[Rule] = &[
    rule("GET", "/healthz", Need::Nothing),
    rule("GET", "/readyz", Need::Nothing),
    rule("GET", "/metrics", VIEWER),
    rule("GET", "/", VIEWER),
    rule("GET", "/live", VIEWER),
    rule("GET", "/rollouts/{id}", VIEWER),
    rule("GET", "/rollouts/{id}/live", VIEWER),
    // The same for everybody, and what the form that asks for a token is made with.
    rule("GET", "/assets/{name}", Need::Nothing),
    rule("GET", "/sign-in", Need::Nothing),
    rule("POST", "/sign-in", Need::OwnProof),
    rule("POST", "/sign-out", Need::OwnProof),
    rule("GET", "/v1/policies", VIEWER),
    rule("GET", "/v1/policies/{name}", VIEWER),
    rule("PUT", "/v1/policies/{name}", ADMIN),
    rule("GET", "/v1/rollouts", VIEWER),
    rule("POST", "/v1/rollouts", OPERATOR),
    rule("GET", "/v1/rollouts/{id}", VIEWER),
    rule("POST", "/v1/rollouts/{id}/retry", OPERATOR),
    rule("POST", "/v1/rollouts/{id}/{verb}", OPERATOR),
    rule("GET", "/v1/rollouts/{id}/events", VIEWER),
    rule("GET", "/v1/events", VIEWER),
    rule("GET", "/v1/freezes", VIEWER),
    rule("POST", "/v1/freezes", OPERATOR),
    rule("DELETE", "/v1/freezes", OPERATOR),
    rule("DELETE", "/v1/freezes/{policy}", OPERATOR),
    rule("GET", "/v1/mesh/proxies", VIEWER),
    rule("GET", "/v1/mesh/problems", VIEWER),
    rule("GET", "/v1/tokens", ADMIN),
    rule("POST", "/v1/tokens", ADMIN),
    rule("DELETE", "/v1/tokens/{id}", ADMIN),
    rule("POST", "/v1/hooks/{source}", Need::OwnProof),
    rule("POST", "/v1/slack/{what}", Need::OwnProof),
];

/// What the table says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It needs this.
    Needs(Need),
    /// There is nothing at that address.
    NoSuchAddress,
    /// The address has other methods only.
    NoSuchMethod,
}

/// Looks a request up. Where several rules fit, the strictest counts: the router may choose any of them.
#[must_use]
pub fn look_up(method: &str, path: &str) -> Found {
    let method = if method == "HEAD" { "GET" } else { method };
    let mut fitting = RULES.iter().filter(|rule| fits(rule.path, path)).peekable();
    if fitting.peek().is_none() {
        return Found::NoSuchAddress;
    }
    let needs = fitting.filter(|rule| rule.method == method).map(|rule| rule.need).max();
    needs.map_or(Found::NoSuchMethod, Found::Needs)
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(wanted), Some(segment)) if wanted.starts_with('{') && !segment.is_empty() => {}
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_looked_up_as_the_router_does() {
        for (method, path, found) in [
            ("GET", "/healthz", Found::Needs(Need::Nothing)),
            ("HEAD", "/v1/rollouts", Found::Needs(VIEWER)),
            ("POST", "/v1/rollouts/r-1/abort", Found::Needs(OPERATOR)),
            ("POST", "/v1/rollouts/%2e%2e/events", Found::Needs(OPERATOR)),
            ("GET", "/v1/rollouts/r-1/events", Found::Needs(VIEWER)),
            ("PUT", "/v1/policies/x", Found::Needs(ADMIN)),
            ("DELETE", "/v1/rollouts/r-1", Found::NoSuchMethod),
            ("post", "/v1/rollouts", Found::NoSuchMethod),
            ("GET", "/", Found::Needs(VIEWER)),
            ("POST", "/", Found::NoSuchMethod),
            ("GET", "/rollouts/", Found::NoSuchAddress),
            ("GET", "/rollouts/r-1/live", Found::Needs(VIEWER)),
            ("GET", "/assets/page.js", Found::Needs(Need::Nothing)),
            ("GET", "/assets/a/b", Found::NoSuchAddress),
            ("GET", "", Found::NoSuchAddress),
            ("GET", "/healthz/", Found::NoSuchAddress),
            ("GET", "//healthz", Found::NoSuchAddress),
            ("POST", "/v1/rollouts//abort", Found::NoSuchAddress),
            ("GET", "/v1/Rollouts", Found::NoSuchAddress),
            ("GET", "/v1/rollouts/a/b/c", Found::NoSuchAddress),
        ] {
            assert_eq!(look_up(method, path), found, "{method} {path}");
        }
    }

    #[test]
    fn no_address_stands_twice_and_only_the_process_itself_and_the_way_in_are_open_to_all() {
        for (at, one) in RULES.iter().enumerate() {
            assert!(!RULES[..at].iter().any(|other| (other.method, other.path) == (one.method, one.path)), "{one:?}");
            let is_open = one.need == Need::Nothing;
            let opens = [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/assets/{name}"), ("GET", "/sign-in")];
            assert_eq!(is_open, opens.contains(&(one.method, one.path)), "{one:?}");
            let of_a_form = [("POST", "/sign-in"), ("POST", "/sign-out")].contains(&(one.method, one.path));
            let proves_itself = of_a_form || one.path.starts_with("/v1/hooks/") || one.path.starts_with("/v1/slack/");
            assert_eq!(one.need == Need::OwnProof, proves_itself, "{one:?}");
            let changes = one.method != "GET" && !proves_itself;
            assert!(!changes || one.need >= OPERATOR, "{one:?}: looking is not changing");
        }
    }
}
