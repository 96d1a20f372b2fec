//! Redirects connections of this machine, or of the network namespace that the process is in, to a proxy: the rules that ECS makes
//! of `proxyConfiguration`, and App Mesh's script made on EC2 (appmesh "Interception"), by the system's own iptables.
//!
//! What is to be in force is said as a whole and put in force in one transaction, so no connection meets half of it. Rules that
//! a killed process left are taken over by the next one.

/// The rules as text (pure).
mod rules;

pub use rules::{Address, Interception};

use rules::{Family, LINKS, own_rule};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// The ways that systems have iptables: each with what it makes single rules by, and whole tables.
const VARIANTS: [&str; 3] = ["iptables", "iptables-nft", "iptables-legacy"];
/// One call of iptables, which may wait for another program that holds its lock.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Before the arguments of a call: another program that holds the lock is waited for, which legacy tables do not do by themselves.
const WAITS: [&str; 2] = ["-w", "15"];
/// A link that somebody doubled is taken away so often.
const TIMES_MAX: usize = 16;
/// Of what iptables says to an error, so much is passed on, in characters.
const SAID_MAX: usize = 300;

/// Why connections cannot be redirected.
#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    /// There is no iptables that works here.
    #[error(
        "connections cannot be redirected: {said}; it takes iptables with the nat table, and the right to change it (root, or \
         CAP_NET_ADMIN)"
    )]
    Missing {
        /// What the last one that was tried said.
        said: String,
    },
    /// The rules were not taken.
    #[error("iptables does not take the rules that redirect connections: {said}")]
    Refused {
        /// What it said.
        said: String,
    },
}

/// Lets a user's connections through the rules that a killed process left, if there are any: they let those of that process's
/// user through, and a proxy that runs as another one would call its control plane by way of itself, for ever. To be called
/// before it calls anybody; [`Installed::new`] then makes the rules its own.
pub async fn let_through(uid: u32) {
    for variant in VARIANTS {
        for family in [Family::V4, Family::V6] {
            let program = family.program(variant);
            let own = own_rule(uid);
            if call(&program, &words("-C", &own), None).await.is_ok() {
                continue;
            }
            // Where there is no such chain, or no such program, nothing stands in the way.
            if call(&program, &words("-I", &own), None).await.is_ok() {
                tracing::info!(uid, program, "rules that another process left let this one's user through now");
            }
        }
    }
}

/// Rules that are in force. Dropped without [`Installed::remove`], they go all the same: nothing may be redirected to a process
/// that is no more.
#[derive(Debug)]
pub struct Installed {
    variant: &'static str,
    interception: Interception,
    /// Whether any may be in force.
    is_armed: bool,
}

impl Installed {
    /// Puts rules in force. Where it fails, nothing is.
    ///
    /// # Errors
    /// [`InterceptError`].
    pub async fn new(interception: Interception) -> Result<Self, InterceptError> {
        let mut said = String::new();
        for variant in VARIANTS {
            let words = [&WAITS[..], &["-t", "nat", "-S", "OUTPUT"]].concat();
            match call(&Family::V4.program(variant), &words, None).await {
                Ok(()) => {
                    let installed = Self { variant, interception, is_armed: true };
                    installed.put().await?;
                    return Ok(installed);
                }
                Err(failed) => said = format!("{variant}: {}", failed.said),
            }
        }
        Err(InterceptError::Missing { said })
    }

    /// Puts others in their place.
    ///
    /// # Errors
    /// [`InterceptError::Refused`]; the last ones stay in force.
    pub async fn change(&mut self, interception: Interception) -> Result<(), InterceptError> {
        let last = std::mem::replace(&mut self.interception, interception);
        let changed = self.put().await;
        if changed.is_err() {
            self.interception = last;
            for family in self.families() {
                // One family may have taken what the other refused.
                let _ = self.restore(family, &self.interception.table(family, &[])).await;
            }
        }
        changed
    }

    /// What is in force.
    #[must_use]
    pub const fn interception(&self) -> &Interception {
        &self.interception
    }

    async fn put(&self) -> Result<(), InterceptError> {
        let mut linked = Vec::new();
        for family in self.families() {
            if let Err(said) = self.put_for(family, &mut linked).await {
                for family in linked {
                    // One family alone would be half of it.
                    let _ = self.unlink(family).await;
                }
                return Err(InterceptError::Refused { said });
            }
        }
        Ok(())
    }

    async fn put_for(&self, family: Family, linked: &mut Vec<Family>) -> Result<(), String> {
        let mut missing = Vec::new();
        for link in LINKS {
            if !self.has(family, link).await? {
                missing.push(link);
            }
        }
        self.restore(family, &self.interception.table(family, &missing)).await?;
        if !missing.is_empty() {
            linked.push(family);
        }
        Ok(())
    }

    /// Takes the rules out of force. Open connections stay redirected: the system knows each by itself.
    ///
    /// # Errors
    /// [`InterceptError::Refused`]: what is left has to be removed by hand.
    pub async fn remove(mut self) -> Result<(), InterceptError> {
        for family in self.families() {
            self.unlink(family).await.map_err(|said| InterceptError::Refused { said })?;
        }
        self.is_armed = false;
        Ok(())
    }

    /// Takes both links away, as often as they are there, and the chains.
    async fn unlink(&self, family: Family) -> Result<(), String> {
        for link in LINKS {
            for _ in 0..TIMES_MAX {
                if !self.has(family, link).await? {
                    break;
                }
                self.rule(family, "-D", link).await.map_err(|failed| failed.said)?;
            }
        }
        // Nothing comes to the chains any more; where they cannot go they do no harm.
        let _ = self.restore(family, &Interception::removal()).await;
        Ok(())
    }

    fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let both = self.interception.both_families;
        [Family::V4, Family::V6].into_iter().filter(move |family| both || *family == Family::V4)
    }

    /// Whether a link is there. That it could not be found out is no answer: exit codes 1 and 2 are (no such rule, no such chain).
    async fn has(&self, family: Family, link: &str) -> Result<bool, String> {
        match self.rule(family, "-C", link).await {
            Ok(()) => Ok(true),
            Err(Failed { code: Some(1 | 2), .. }) => Ok(false),
            Err(Failed { said, .. }) => Err(said),
        }
    }

    async fn rule(&self, family: Family, what: &str, link: &str) -> Result<(), Failed> {
        call(&family.program(self.variant), &words(what, link), None).await
    }

    async fn restore(&self, family: Family, table: &str) -> Result<(), String> {
        let program = format!("{}-restore", family.program(self.variant));
        call(&program, &["--noflush", "--wait"], Some(table)).await.map_err(|failed| failed.said)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if !self.is_armed {
            return;
        }
        for (family, link) in self.families().flat_map(|family| LINKS.map(|link| (family, link))) {
            for _ in 0..TIMES_MAX {
                let mut command = std::process::Command::new(family.program(self.variant));
                command.args(words("-D", link)).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
                if !command.status().is_ok_and(|status| status.success()) {
                    break;
                }
            }
        }
    }
}

/// Arguments that do something with a link.
fn words<'w>(what: &'w str, link: &'w str) -> Vec<&'w str> {
    WAITS.into_iter().chain(["-t", "nat", what]).chain(link.split(' ')).collect()
}

/// How a call failed.
struct Failed {
    /// `None` where it did not come to an end by itself.
    code: Option<i32>,
    said: String,
}

impl From<String> for Failed {
    fn from(said: String) -> Self {
        Self { code: None, said }
    }
}

/// Calls a program. In a group of its own: Ctrl-C in a terminal is for this process to hear.
async fn call(program: &str, words: &[&str], input: Option<&str>) -> Result<(), Failed> {
    let mut command = Command::new(program);
    command.args(words).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).process_group(0);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let called = async {
        let mut child = command.spawn().map_err(|error| format!("{program} cannot be run: {error}"))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input.as_bytes()).await.map_err(|error| error.to_string())?;
        }
        let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().replace('\n', "; ").chars().take(SAID_MAX).collect();
        Err(Failed { code: output.status.code(), said })
    };
    let late = || Err(format!("{program} did not answer within 20 s").into());
    timeout(CALL_TIMEOUT, called).await.unwrap_or_else(|_| late())
}
