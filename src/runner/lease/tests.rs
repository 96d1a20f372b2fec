//! When a daemon takes the lease, how long it believes in it, and what it tells, with a clock that jumps over waits.

use super::*;
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::Mutex;

/// A lease whose answers are laid down; the last one of each kind is repeated.
#[derive(Default)]
struct Scripted {
    holders: Mutex<VecDeque<Result<Option<Holder>, Fault>>>,
    renewals: Mutex<VecDeque<Renewal>>,
    /// What taking comes to, beyond those in which it succeeds.
    refusals: Mutex<VecDeque<Option<Result<Holder, Fault>>>>,
    taken: Mutex<u64>,
}

#[derive(Clone)]
enum Renewal {
    Extended,
    Lost,
    Failed,
    Hangs,
}

fn next<T: Clone>(script: &Mutex<VecDeque<T>>) -> Option<T> {
    let mut script = script.lock().unwrap();
    if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
}

fn fault() -> Fault {
    Fault::transient("postgresql", "no answer within 3 s")
}

fn holder(left_ms: u64) -> Holder {
    Holder { id: "other".into(), address: "http://other.test".into(), left: Duration::from_millis(left_ms) }
}

#[async_trait]
impl DriverLease for Scripted {
    async fn try_acquire(&self) -> Result<Acquired, Fault> {
        if let Some(Some(refused)) = next(&self.refusals) {
            return refused.map(Acquired::Theirs);
        }
        let mut taken = self.taken.lock().unwrap();
        *taken += 1;
        Ok(Acquired::Ours { epoch: *taken })
    }

    async fn renew(&self) -> Result<bool, Fault> {
        match next(&self.renewals).unwrap_or(Renewal::Extended) {
            Renewal::Extended => Ok(true),
            Renewal::Lost => Ok(false),
            Renewal::Failed => Err(fault()),
            Renewal::Hangs => std::future::pending().await,
        }
    }

    async fn release(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn holder(&self) -> Result<Option<Holder>, Fault> {
        next(&self.holders).unwrap_or(Ok(None))
    }
}

/// Every turn that is told within a time, with the second in which it was.
async fn turns(lease: Scripted, within_s: u64) -> Vec<(u64, Turn)> {
    let (turned, mut turn) = watch::channel(Turn::default());
    let (_stopping, stops) = watch::channel(false);
    let taking = tokio::spawn(take_turns(Arc::new(lease), turned, stops));
    let mut told = Vec::new();
    let mut waited = 0_u64;
    // Looks ten times a second; with the clock paused that takes no time.
    while waited < within_s * 10 {
        if turn.has_changed().unwrap_or(false) {
            told.push((waited / 10, turn.borrow_and_update().clone()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        waited += 1;
    }
    taking.abort();
    told
}

fn driving(epoch: u64) -> Turn {
    Turn::Driving { epoch }
}

#[tokio::test(start_paused = true)]
async fn a_free_lease_is_taken_and_kept() {
    assert_eq!(turns(Scripted::default(), 60).await, [(0, driving(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_another_is_waited_for() {
    let holders = [Ok(Some(holder(4000))), Ok(Some(holder(3000))), Ok(Some(holder(2000))), Ok(None)];
    let lease = Scripted { holders: Mutex::new(holders.into()), ..Scripted::default() };
    let told = turns(lease, 10).await;
    // Told once who drives, however often it was looked.
    assert!(matches!(&told[0], (0, Turn::StandingBy { holder: Some(holder), .. }) if holder.id == "other"), "{told:?}");
    assert_eq!(told[1..], [(3, driving(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_over_ends_the_turn() {
    let lease = Scripted {
        holders: Mutex::new([Ok(None), Ok(Some(holder(9000)))].into()),
        renewals: Mutex::new([Renewal::Extended, Renewal::Lost].into()),
        refusals: Mutex::new([None, Some(Ok(holder(9000)))].into()),
        ..Scripted::default()
    };
    let told = turns(lease, 20).await;
    assert_eq!(told[0], (0, driving(1)));
    assert!(matches!(&told[1], (6, Turn::StandingBy { .. })), "{told:?}");
    assert_eq!(told.len(), 2);
}

/// Ten seconds after the call that extended it began, whether later ones fail or hang; not after the last one that failed.
#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_extended_ends_with_its_time() {
    for after in [Renewal::Failed, Renewal::Hangs] {
        let lease = Scripted {
            holders: Mutex::new([Ok(None), Err(fault())].into()),
            renewals: Mutex::new([Renewal::Extended, after].into()),
            refusals: Mutex::new([None, Some(Err(fault()))].into()),
            ..Scripted::default()
        };
        let told = turns(lease, 30).await;
        assert_eq!(told[0], (0, driving(1)));
        assert!(matches!(&told[1], (13, Turn::StandingBy { fault: Some(_), .. })), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_renewal_that_fails_ends_nothing() {
    let lease = Scripted {
        renewals: Mutex::new([Renewal::Extended, Renewal::Failed, Renewal::Failed, Renewal::Extended].into()),
        ..Scripted::default()
    };
    assert_eq!(turns(lease, 60).await, [(0, driving(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_does_not_answer_is_told_and_asked_again() {
    let lease = Scripted { holders: Mutex::new([Err(fault()), Err(fault()), Ok(None)].into()), ..Scripted::default() };
    let told = turns(lease, 10).await;
    assert_eq!(told, [(0, Turn::StandingBy { holder: None, fault: Some(fault()) }), (2, driving(1))]);
}

/// The answer to an extension was lost, so the row goes on naming this process: it drives again and does not wait for
/// itself.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_its_own_after_all_is_taken_again() {
    let lease = Scripted {
        holders: Mutex::new([Ok(None), Ok(Some(holder(9000)))].into()),
        renewals: Mutex::new([Renewal::Hangs, Renewal::Extended].into()),
        ..Scripted::default()
    };
    let told = turns(lease, 30).await;
    assert_eq!((told.first(), told.last()), (Some(&(0, driving(1))), Some(&(10, driving(2)))), "{told:?}");
}
