//! What the program makes of the command and the variables with which something starts it.

use clap::Parser;
use std::collections::BTreeMap;
use tidegate::cli::args::{Arguments, Verb};
use tidegate::config::daemon::{DaemonConfig, load};
use tidegate::config::keys::{ACCESS_KEY_PREFIX, ACCESS_KEYS_VARIABLE, KEYS, Key};
use tidegate::config::{Environment, LOG_VARIABLE};

/// Read by the client of PostgreSQL where `database.url` has no password: docs/operations.md.
pub(super) const PASSWORD: &str = "PGPASSWORD";
/// What stands for any secret.
pub(super) const SECRET: &str = "sixteen-or-more-characters";

struct Variables(BTreeMap<String, String>);

impl Environment for Variables {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

/// The configuration that variables make by themselves: each is one that is read, and all of them together are valid.
pub(super) fn understood(variables: BTreeMap<String, String>) -> DaemonConfig {
    let others = [LOG_VARIABLE, PASSWORD, ACCESS_KEYS_VARIABLE].map(str::to_owned);
    let known: Vec<String> = KEYS.iter().map(Key::variable).chain(others).collect();
    for name in variables.keys().filter(|name| !name.starts_with(ACCESS_KEY_PREFIX)) {
        assert!(known.contains(name), "nothing reads {name}");
    }
    load("tidegate.toml", "", &Variables(variables)).unwrap().config
}

/// What the words after the program's name ask it to do.
pub(super) fn verb<W: AsRef<str>>(words: &[W]) -> Verb {
    let words = words.iter().map(AsRef::as_ref);
    Arguments::try_parse_from(std::iter::once("tidegate").chain(words)).unwrap().verb
}
