//! Tidegate's own form, for scripts and for senders that nobody thought of: one flat object.
//!
//! ```json
//! {"image": "ghcr.io/shop/checkout:v1@sha256:...", "revision": "0a1b2c3", "actor": "ada", "id": "run-42"}
//! ```
//! Either `image`, or `repository` with `tag` and `digest`; `policy` names one policy, and then the image may be left out.
//! Whoever writes it can correct it, so everything that is not understood is refused.

use super::event::{Delivery, Event, ImagePushed, Source, StartAsked};
use super::image::{Digest, ImageRef, Tag, shown};
use super::payload::{self, NAME_MAX, PayloadError, checked, text};
use serde_json::Value;

/// The keys, in the order of the documentation.
pub const KEYS: [&str; 8] = ["policy", "image", "repository", "tag", "digest", "revision", "actor", "id"];
/// So many letters may be wrong in a key for it to be taken for another.
const TYPOS_MAX: usize = 3;

/// What a script says.
///
/// # Errors
/// Not an object, an unknown key, a value of the wrong type or form, or keys that do not go together.
pub fn delivery(body: &[u8]) -> Result<Delivery, PayloadError> {
    let value = payload::read(body)?;
    let Value::Object(object) = &value else {
        return Err(PayloadError::NotAnEvent { what: "event", why: "it is not an object: send `{...}`" });
    };
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(PayloadError::UnknownKey { key: shown(key), nearest: nearest(key) });
    }
    let ids = match word_of(&value, "id")? {
        Some(id) => vec![format!("{}:{id}", Source::Generic.name())],
        None => vec![payload::id_of(body)],
    };
    let image = image(&value)?;
    let (revision, actor) = (word_of(&value, "revision")?, actor(&value)?);
    let event = match (policy(&value)?, image) {
        (Some(policy), image) => Event::Start(StartAsked { policy, image, revision, actor }),
        (None, Some(image)) => Event::Image(ImagePushed { image, pushed_by: actor, revision, source: Source::Generic }),
        (None, None) => return Err(PayloadError::Keys("one of `policy`, `image` and `repository` is needed")),
    };
    Ok(Delivery { ids, event })
}

fn nearest(key: &str) -> Option<&'static str> {
    // A key is short; how far a long text is from one takes long to find out and interests nobody.
    let near = KEYS.iter().filter(|_| key.len() <= 32).map(|known| (strsim::damerau_levenshtein(key, known), *known));
    near.filter(|(distance, known)| *distance <= TYPOS_MAX.min(known.len() - 1)).min().map(|(_, known)| known)
}

fn image(value: &Value) -> Result<Option<ImageRef>, PayloadError> {
    let (whole, repository) = (text(value, "/image")?, text(value, "/repository")?);
    let tag = checked("/tag", text(value, "/tag")?.map(Tag::parse).transpose())?;
    let digest = checked("/digest", text(value, "/digest")?.map(Digest::parse).transpose())?;
    let image = match (whole, repository) {
        (Some(_), Some(_)) => {
            return Err(PayloadError::Keys("`image` and `repository` say the same: send one of them"));
        }
        (Some(image), None) => {
            if tag.is_some() {
                return Err(PayloadError::Keys("`tag` goes with `repository`: in `image` it stands behind the colon"));
            }
            let image = checked("/image", ImageRef::parse(image))?;
            if digest.is_some() && image.digest.is_some() {
                return Err(PayloadError::Keys("`image` has its digest already: leave `digest` out"));
            }
            ImageRef { digest: image.digest.clone().or(digest), ..image }
        }
        (None, Some(repository)) => {
            let image = checked("/repository", ImageRef::parse(repository))?;
            if image.tag.is_some() || image.digest.is_some() {
                return Err(PayloadError::Keys("`repository` has a tag or digest in it: send it as `image`"));
            }
            ImageRef { tag, digest, ..image }
        }
        (None, None) if tag.is_some() || digest.is_some() => {
            return Err(PayloadError::Keys("`tag` and `digest` need `repository`"));
        }
        (None, None) => return Ok(None),
    };
    if image.tag.is_none() && image.digest.is_none() {
        return Err(PayloadError::Keys("the image needs a tag or a digest, and best both"));
    }
    Ok(Some(image))
}

/// A name that could be one of a policy, by the rule of the policy file.
fn policy(value: &Value) -> Result<Option<String>, PayloadError> {
    let Some(name) = text(value, "/policy")? else { return Ok(None) };
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let holds = name.len() <= 63
        && name.bytes().next().is_some_and(alphanumeric)
        && name.bytes().all(|byte| alphanumeric(byte) || byte == b'-');
    if holds {
        return Ok(Some(name.to_owned()));
    }
    let rule = "a name of up to 63 lower-case letters, digits and `-` that begins with a letter or digit";
    Err(PayloadError::Text { at: "policy".to_owned(), shown: shown(name), rule })
}

/// A word that can stand in a log, a label or a placeholder.
fn word_of(value: &Value, key: &str) -> Result<Option<String>, PayloadError> {
    let Some(word) = text(value, &format!("/{key}"))? else { return Ok(None) };
    if word.len() <= NAME_MAX && word.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(word.to_owned()));
    }
    let rule = "a word of up to 128 ASCII characters without spaces";
    Err(PayloadError::Text { at: key.to_owned(), shown: shown(word), rule })
}

fn actor(value: &Value) -> Result<Option<String>, PayloadError> {
    let Some(name) = text(value, "/actor")? else { return Ok(None) };
    if payload::is_line(name, NAME_MAX) {
        return Ok(Some(name.to_owned()));
    }
    Err(PayloadError::Text { at: "actor".to_owned(), shown: shown(name), rule: "one line of up to 128 characters" })
}
