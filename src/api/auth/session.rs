//! Signing in with a browser: a token in a cookie, instead of the header that a browser cannot be told to send with a page
//! or a stream of events.
//!
//! The cookie is read by no script and sent with no request that another site begins (`HttpOnly`, `SameSite=Strict`). Beside
//! that, whatever changes something by it must come from a page of this very origin.

use super::super::error::ApiError;
use super::super::front::FORWARDED;
use crate::base::token::Token;
use axum::http::header::{COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, StatusCode};

/// Name of the cookie.
const COOKIE_NAME: &str = "tidegate_token";
/// It is kept for a day of work; then the token is pasted again.
const COOKIE_MAX_AGE_S: u32 = 12 * 3600;

/// What the request's cookie holds, when there is one; `None` within where that is no token.
pub(super) fn token_of_cookie(headers: &HeaderMap) -> Option<Option<Token>> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == COOKIE_NAME)?;
    Some(Token::parse(value.trim()))
}

/// The header that keeps a token in a browser. `is_secure` says that people reach this API by TLS.
#[must_use]
pub fn cookie_with(token: &Token, is_secure: bool) -> HeaderValue {
    header(token.reveal(), COOKIE_MAX_AGE_S, is_secure)
}

/// The header that has a browser forget it.
#[must_use]
pub fn cookie_without(is_secure: bool) -> HeaderValue {
    header("", 0, is_secure)
}

fn header(value: &str, max_age_s: u32, is_secure: bool) -> HeaderValue {
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!("{COOKIE_NAME}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}");
    // Tokens are letters, digits and `_`, so it always is one.
    let mut header = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}

/// Refuses a request that changes something unless a page of this origin made it.
///
/// # Errors
/// 403: it says that another page did, or does not say.
pub(super) fn same_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let detail = "a request with a cookie that changes something must come from a page of this very address";
    let refused = || ApiError::new(StatusCode::FORBIDDEN, "foreign-origin", detail);
    if headers.contains_key(ORIGIN) {
        not_foreign(headers)
    } else {
        Err(refused().hint("programs send the token as `Authorization: Bearer TOKEN`"))
    }
}

/// Refuses a request that says that a page of another origin made it.
///
/// # Errors
/// 403.
pub fn not_foreign(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    // Where another daemon handed it on, that one notes how it was called itself. No page can say so: browsers ask first
    // whether they may send such a header, and are told no.
    let host = headers.get(FORWARDED).or_else(|| headers.get(HOST)).and_then(|host| host.to_str().ok());
    let host_of_origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    match (host, host_of_origin) {
        (Some(host), Some(origin)) if host.eq_ignore_ascii_case(origin) => Ok(()),
        _ => {
            let detail = "a page of another site may not use this API";
            let hint = "behind a proxy, have it hand on the Host header as it came";
            Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-origin", detail).hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let token = Token::new([1; 6], [2; 32]);
        let text = token.reveal();
        for (cookie, found) in [
            (format!("tidegate_token={text}"), Some(true)),
            (format!("a=b; tidegate_token={text}; c=d"), Some(true)),
            (format!("tidegate_token={text}x"), Some(false)),
            ("tidegate_token=".to_owned(), Some(false)),
            (format!("xtidegate_token={text}"), None),
            (format!("tidegate_token2={text}"), None),
            (String::new(), None),
        ] {
            let found_now = token_of_cookie(&headers(&[("cookie", &cookie)])).map(|token| token.is_some());
            assert_eq!(found_now, found, "{cookie}");
        }
        assert!(token_of_cookie(&HeaderMap::new()).is_none());
    }

    #[test]
    fn the_cookie_is_for_this_site_alone_and_shown_by_no_log() {
        let token = Token::new([1; 6], [2; 32]);
        let header = cookie_with(&token, true);
        let text = header.to_str().unwrap();
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/", "Max-Age=43200"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!format!("{header:?}").contains(token.reveal()), "shown");
        assert!(!cookie_with(&token, false).to_str().unwrap().contains("Secure"));
        assert!(cookie_without(true).to_str().unwrap().contains("tidegate_token=; Path=/; Max-Age=0"));
    }

    #[test]
    fn only_a_page_of_this_very_address_changes_something() {
        for (pairs, may) in [
            (&[("host", "tidegate.example.com"), ("origin", "https://tidegate.example.com")][..], true),
            (&[("host", "Tidegate.example.com:7070"), ("origin", "http://tidegate.example.com:7070")], true),
            // Handed on by another daemon, which was called so.
            (
                &[("host", "10.0.0.2:7070"), ("x-tidegate-forwarded", "t.example"), ("origin", "https://t.example")],
                true,
            ),
            (&[("host", "t.example"), ("x-tidegate-forwarded", "10.0.0.2"), ("origin", "https://t.example")], false),
            (&[("host", "tidegate.example.com"), ("origin", "https://evil.example")], false),
            (&[("host", "tidegate.example.com"), ("origin", "https://tidegate.example.com.evil.example")], false),
            (&[("host", "tidegate.example.com"), ("origin", "https://tidegate.example.com:8443")], false),
            (&[("host", "tidegate.example.com"), ("origin", "null")], false),
            (&[("host", "tidegate.example.com")], false),
            (&[("origin", "https://tidegate.example.com")], false),
        ] {
            assert_eq!(same_origin(&headers(pairs)).is_ok(), may, "{pairs:?}");
        }
        assert!(not_foreign(&headers(&[("host", "t.example")])).is_ok());
    }
}
