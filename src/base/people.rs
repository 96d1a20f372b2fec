//! People by the name that policies have for them, and what each is known by elsewhere.

use std::collections::BTreeMap;

/// What one of `[people.NAME]` is known by; each absent where it was not given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Person {
    /// Name of the API token with which they speak.
    pub token: Option<String>,
    /// Login on the daemon's machine.
    pub os_user: Option<String>,
    /// Identifier of a user at Slack.
    pub slack_user: Option<String>,
    /// Identifier of a group at Slack: then this is no person but a name for all of them.
    pub slack_group: Option<String>,
    /// Login at the Git host whose pushes start rollouts.
    pub git_login: Option<String>,
}

/// All of `[people]`, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct People(pub BTreeMap<String, Person>);

impl People {
    /// Names of whoever does something: `name` is what the way `via` (of an actor) calls them. A group is nobody's name.
    #[must_use]
    pub fn known_as(&self, via: &str, name: &str) -> Vec<String> {
        let is = |known: &Option<String>| known.as_deref() == Some(name);
        let fits = |(key, person): &(&String, &Person)| match via {
            "token" => is(&person.token) || *key == name,
            "os_user" => is(&person.os_user) || *key == name,
            "slack" => is(&person.slack_user) || person.slack_user.is_some() && *key == name,
            // An event of a trigger comes by `hook:github`, `queue:ecr` and the like, and names who pushed.
            _ => {
                let login = person.git_login.as_deref();
                // Logins of Git hosts are the same in capitals.
                via.contains(':') && login.is_some_and(|login| login.eq_ignore_ascii_case(name))
            }
        };
        self.0.iter().filter(fits).map(|(key, _)| key.clone()).collect()
    }

    /// Groups at Slack by the name that policies have for them: (name, group).
    pub fn groups(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, person)| Some((name.as_str(), person.slack_group.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_does_something_is_known_by_the_way_they_came() {
        let some = |text: &str| Some(text.to_owned());
        let ada = Person {
            token: some("ada-laptop"),
            os_user: some("ada"),
            slack_user: some("U1"),
            git_login: some("ada-git"),
            ..Person::default()
        };
        let oncall = Person { slack_group: some("S1"), ..Person::default() };
        let people = People([("ada".to_owned(), ada), ("oncall".to_owned(), oncall)].into());
        for (via, name, known) in [
            ("token", "ada-laptop", true),
            // A token of that name speaks for them, as the API has it.
            ("token", "ada", true),
            ("token", "bob", false),
            ("os_user", "ada", true),
            ("slack", "U1", true),
            ("slack", "ada", true),
            ("slack", "S1", false),
            ("slack", "oncall", false),
            ("hook:github", "ada-git", true),
            ("hook:gitlab", "Ada-Git", true),
            ("hook:generic", "ada-git", true),
            ("hook:generic", "ada", false),
            ("daemon", "ada", false),
        ] {
            let expected: &[&str] = if known { &["ada"] } else { &[] };
            assert_eq!(people.known_as(via, name), expected, "{via} {name}");
        }
        assert_eq!(people.groups().collect::<Vec<_>>(), [("oncall", "S1")]);
    }
}
