//! Files of the page beside its HTML, part of the program. A file's name holds its hash, so that browsers may keep it for
//! ever and never take one of another version for it.

use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const SCRIPT: &str = include_str!("assets/page.js");
/// The style sheet itself, for a page that has it inside.
pub(super) const STYLE: &str = include_str!("assets/page.css");
const MARK: &str = include_str!("assets/mark.svg");

/// Names of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    /// The script.
    pub script: String,
    /// The style sheet.
    pub style: String,
    /// The picture in the browser's tab.
    pub mark: String,
}

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Its media type.
    pub kind: &'static str,
    /// What is in it.
    pub text: &'static str,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    script: named("page", SCRIPT, "js"),
    style: named("page", STYLE, "css"),
    mark: named("mark", MARK, "svg"),
});

/// Names of the files.
#[must_use]
pub fn get() -> &'static Assets {
    &ASSETS
}

/// A file by its name.
#[must_use]
pub fn find(name: &str) -> Option<Asset> {
    let Assets { script, style, mark } = get();
    let (kind, text) = match name {
        name if name == script => ("text/javascript; charset=utf-8", SCRIPT),
        name if name == style => ("text/css; charset=utf-8", STYLE),
        name if name == mark => ("image/svg+xml", MARK),
        _ => return None,
    };
    Some(Asset { kind, text })
}

fn named(name: &str, text: &str, ending: &str) -> String {
    let hash: String = Sha256::digest(text).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{name}.{hash}.{ending}")
}
