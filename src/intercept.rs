//! Redirects connections of this machine, or of the network namespace that the process is in, to a proxy: the rules that ECS makes
//! of `proxyConfiguration`, and App Mesh's script made on EC2 (appmesh "Interception"), by the system's own iptables.
//!
//! What is to be in force is said as a whole and put in force in one transaction, so no connection meets half of it. Rules that
//! a killed process left are taken over by the next one.

/// The rules as text (pure).
mod rules;

pub use rules::{Address, Interception};

use rules::Family;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// The ways that systems have iptables: each with what it makes single rules by, and whole tables.
const VARIANTS: [&str; 3] = ["iptables", "iptables-nft", "iptables-legacy"];
/// One call of iptables, which may wait for another program that holds its lock.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
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

/// Rules that are in force.
#[derive(Debug)]
pub struct Installed {
    variant: &'static str,
    interception: Interception,
}

impl Installed {
    /// Puts rules in force. Where it fails, nothing is.
    ///
    /// # Errors
    /// [`InterceptError`].
    pub async fn new(interception: Interception) -> Result<Self, InterceptError> {
        let mut said = String::new();
        for variant in VARIANTS {
            match call(&Family::V4.program(variant), &["-t", "nat", "-S", "OUTPUT"], None).await {
                Ok(_) => {
                    let installed = Self { variant, interception };
                    installed.put().await?;
                    return Ok(installed);
                }
                Err(why) => said = format!("{variant}: {why}"),
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
        }
        changed
    }

    /// What is in force.
    #[must_use]
    pub const fn interception(&self) -> &Interception {
        &self.interception
    }

    async fn put(&self) -> Result<(), InterceptError> {
        let mut done = Vec::new();
        for family in self.families() {
            let linked = self.is_linked(family).await;
            if let Err(said) = self.restore(family, &self.interception.table(family, !linked)).await {
                // One family alone would be half of it.
                for family in done {
                    let _ = self.restore(family, &Interception::removal()).await;
                }
                return Err(InterceptError::Refused { said });
            }
            if !linked {
                done.push(family);
            }
        }
        Ok(())
    }

    /// Takes the rules out of force. Open connections stay redirected: the system knows each by itself.
    ///
    /// # Errors
    /// [`InterceptError::Refused`]: what is left has to be removed by hand.
    pub async fn remove(self) -> Result<(), InterceptError> {
        for family in self.families() {
            if self.is_linked(family).await {
                let removed = self.restore(family, &Interception::removal()).await;
                removed.map_err(|said| InterceptError::Refused { said })?;
            }
        }
        Ok(())
    }

    fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let both = self.interception.both_families;
        [Family::V4, Family::V6].into_iter().filter(move |family| both || *family == Family::V4)
    }

    /// Whether connections come to the chains: they are linked in one transaction, so one link tells of both.
    async fn is_linked(&self, family: Family) -> bool {
        let words = rules::linked();
        call(&family.program(self.variant), &words, None).await.is_ok()
    }

    async fn restore(&self, family: Family, table: &str) -> Result<(), String> {
        let program = format!("{}-restore", family.program(self.variant));
        call(&program, &["--noflush", "--wait"], Some(table)).await
    }
}

/// Calls a program; what it said where it failed.
async fn call(program: &str, words: &[&str], input: Option<&str>) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(words).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
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
        Err(said.trim().replace('\n', "; ").chars().take(SAID_MAX).collect())
    };
    timeout(CALL_TIMEOUT, called).await.unwrap_or_else(|_| Err(format!("{program} did not answer within 20 s")))
}
