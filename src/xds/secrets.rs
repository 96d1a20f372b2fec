//! Certificates that stand in for those of AWS Certificate Manager: read when the process starts, and again as long as it runs.
//!
//! A renewed one reaches its proxies as a secret of xDS, without a restart of anything. Files that are not usable, such as half
//! of a renewal, are told once, and what was good last stays.

use crate::base::certificate::{SecretFiles, SecretPem, StandIn};
use crate::base::time::Timestamp;
use crate::clock::{Clock, SystemClock};
use crate::tls::{self, RELOAD, TlsError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// All of them, and whoever follows them.
#[derive(Debug)]
pub struct Secrets {
    files: Arc<Vec<StandIn>>,
    known: watch::Sender<Arc<SecretFiles>>,
    /// What is wrong with the files of an ARN, so that it is not told again.
    told: BTreeMap<String, String>,
}

/// What the files of one ARN hold, and whether it is out of its time.
struct Found {
    pem: SecretPem,
    late: Option<TlsError>,
}

impl Secrets {
    /// Reads them. One that is out of its time counts all the same and is told: whoever restarts a control plane at night must
    /// not be kept from it by a certificate that proxies have anyway.
    ///
    /// # Errors
    /// Every ARN whose files cannot be used, and why.
    pub fn open(files: Vec<StandIn>, now: Timestamp) -> Result<Self, Vec<String>> {
        let (mut secrets, mut problems) = (SecretFiles::default(), Vec::new());
        let mut told = BTreeMap::new();
        for stand_in in &files {
            match read(stand_in, now) {
                Ok(Found { pem, late }) => {
                    if let Some(error) = late {
                        tracing::error!(arn = stand_in.arn, %error, "a certificate that nobody will believe");
                        told.insert(stand_in.arn.clone(), error.to_string());
                    }
                    secrets.by_name.insert(stand_in.arn.clone(), pem);
                }
                Err(error) => problems.push(format!("mesh.certificates.\"{}\": {error}", stand_in.arn)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let (known, _) = watch::channel(Arc::new(secrets));
        Ok(Self { files: Arc::new(files), known, told })
    }

    /// What they hold, now and whenever it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<SecretFiles>> {
        self.known.subscribe()
    }

    /// Reads them again every so often, until `stop`.
    pub async fn follow(mut self, mut stop: watch::Receiver<bool>) {
        while !self.files.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(RELOAD) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let files = Arc::clone(&self.files);
            let now = SystemClock.now();
            // Reads files, of a few kB each.
            let all = move || files.iter().map(|stand_in| read(stand_in, now)).collect();
            if let Ok(found) = tokio::task::spawn_blocking(all).await {
                self.take(found);
            }
        }
        // Nobody else may find them gone.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Takes over what is good and new, in the order of the files.
    fn take(&mut self, found: Vec<Result<Found, TlsError>>) {
        let mut next = SecretFiles::clone(&self.known.borrow());
        let mut changed = false;
        for (stand_in, found) in self.files.iter().zip(found) {
            let arn = &stand_in.arn;
            let last = next.by_name.get(arn);
            let error = match found {
                Ok(Found { pem, .. }) if last == Some(&pem) => continue,
                Ok(Found { pem, late: None }) => {
                    tracing::info!(arn, "a renewed certificate goes to the proxies that need it");
                    next.by_name.insert(arn.clone(), pem);
                    self.told.remove(arn);
                    changed = true;
                    continue;
                }
                Ok(Found { late: Some(error), .. }) | Err(error) => error,
            };
            let text = error.to_string();
            if self.told.get(arn) != Some(&text) {
                tracing::error!(arn, error = text, "the last good certificate stays");
                self.told.insert(arn.clone(), text);
            }
        }
        if changed {
            self.known.send_replace(Arc::new(next));
        }
    }
}

fn read(stand_in: &StandIn, now: Timestamp) -> Result<Found, TlsError> {
    let authorities = tls::read_authorities(&stand_in.authorities)?;
    let (mut pem, mut late) = (SecretPem { authorities, ..SecretPem::default() }, None);
    if let Some((chain, key)) = &stand_in.pair {
        let pair = tls::read_pair(chain, key)?;
        late = pair.in_its_time(now).err();
        (pem.chain, pem.key) = (pair.chain, pair.key);
    }
    Ok(Found { pem, late })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    const ARN: &str = "arn:aws:acm:eu-central-1:123456789012:certificate/c";

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("the folder is there");
        path
    }

    fn pair(folder: &Path) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).expect("a name");
        let chain = write(folder, "chain.pem", &made.cert.pem());
        (chain, write(folder, "key.pem", &made.signing_key.serialize_pem()))
    }

    #[test]
    fn what_is_good_and_new_is_taken_and_half_a_renewal_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (chain, key) = pair(folder.path());
        let files = vec![StandIn { arn: ARN.into(), pair: Some((chain.clone(), key)), authorities: chain.clone() }];
        let now = SystemClock.now();
        let mut secrets = Secrets::open(files.clone(), now).expect("usable");
        let mut seen = secrets.watch();
        let first = Arc::clone(&seen.borrow_and_update());
        assert!(!first.by_name[ARN].chain.is_empty() && !format!("{first:?}").contains("PRIVATE KEY"), "{first:?}");
        let look = |secrets: &mut Secrets| secrets.take(files.iter().map(|file| read(file, now)).collect());
        look(&mut secrets);
        assert!(!seen.has_changed().expect("open"), "nothing is new");

        // A chain whose key is not there yet.
        let old = std::fs::read_to_string(folder.path().join("key.pem")).expect("there");
        pair(folder.path());
        let new = std::fs::read_to_string(folder.path().join("key.pem")).expect("there");
        write(folder.path(), "key.pem", &old);
        look(&mut secrets);
        assert!(!seen.has_changed().expect("open") && secrets.told[ARN].contains("does not belong"), "{secrets:?}");
        write(folder.path(), "key.pem", &new);
        look(&mut secrets);
        assert!(seen.has_changed().expect("open") && secrets.told.is_empty());
        assert_ne!(seen.borrow_and_update().by_name[ARN].chain, first.by_name[ARN].chain);

        // At the start it is an error, with its ARN and its file.
        write(folder.path(), "key.pem", &old);
        let problems = Secrets::open(files, now).expect_err("no pair");
        assert!(problems[0].contains(ARN) && problems[0].contains("key.pem does not belong"), "{problems:?}");
    }
}
