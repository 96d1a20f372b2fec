//! Renews the lease of a rollout's weights for as long as somebody drives it: what a mesh that knows leases waits for before
//! it puts the traffic back on stable.
//!
//! Apart from readings and writes, so that none of them delays a renewal. It changes no weights: the mesh refuses a renewal of
//! weights that the route does not have any more, and a rollout that another daemon drives by now has a newer generation or is
//! renewed once too often.

use crate::base::fault::Fault;
use crate::ports::Traffic;
use crate::rollout::effect::WeightsWrite;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A lease is renewed after this part of it: two renewals may be lost before it runs out.
const PART: u32 = 3;
/// How often weights that stay without a lease get their fuse again: whoever changes anything else of the route takes it away.
const REARM: Duration = Duration::from_secs(40);
/// Wait before a renewal that failed is tried again, unless the next one comes sooner.
const RETRY: Duration = Duration::from_secs(2);
/// Stands over the adapter's own timeouts: describe and update, 5 s each.
const TIMEOUT: Duration = Duration::from_secs(12);

/// Renews what `held` says for as long as it stays the same; ends with the driver. The first renewal of a driver is at once:
/// nobody knows how long the one before it has been gone.
pub(super) async fn renew_on(traffic: Arc<dyn Traffic>, mut held: watch::Receiver<Option<WeightsWrite>>) {
    let lease = traffic.lease();
    let every = lease.map_or(REARM, |span| span.duration() / PART);
    let unless_answered = match lease {
        Some(_) => {
            "the lease of the weights was not renewed; unless one of the next tries is answered, the mesh puts the traffic back on stable"
        }
        None => "proxies were not given their fuse again; until a try is answered it may be that of before, or none",
    };
    let (mut wait, mut failing) = (Duration::ZERO, false);
    loop {
        let has_to_be_renewed = |write: &WeightsWrite| lease.is_some() || write.fuse.is_some();
        let Some(write) = held.borrow_and_update().clone().filter(has_to_be_renewed) else {
            if held.changed().await.is_err() {
                return;
            }
            // Written just now.
            wait = every;
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = held.changed() => match changed {
                Ok(()) => {
                    // The same weights with another fuse: proxies that have come need it now.
                    let is_same = held.borrow().as_ref().is_some_and(|now| now.generation == write.generation);
                    wait = if is_same { Duration::ZERO } else { every };
                    continue;
                }
                Err(_) => return,
            }
        }
        let renewed = once(Arc::clone(&traffic), write.clone()).await;
        wait = if renewed.is_ok() { every } else { every.min(RETRY) };
        match renewed {
            Ok(()) if failing => tracing::info!(route = %write.route, "the weights are renewed again"),
            Ok(()) => {}
            // Every few seconds, so each is told once.
            Err(fault) if !failing => tracing::warn!(route = %write.route, %fault, "{unless_answered}"),
            Err(_) => {}
        }
        failing = wait < every;
    }
}

async fn once(traffic: Arc<dyn Traffic>, write: WeightsWrite) -> Result<(), Fault> {
    // A task of its own: should the adapter panic, the next renewal is made all the same. It ends with its timeout.
    let renewal = tokio::spawn(async move { tokio::time::timeout(TIMEOUT, traffic.renew(&write)).await });
    match renewal.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(Fault::unknown("app mesh", format!("no answer within {} s", TIMEOUT.as_secs()))),
        Err(_) => Err(Fault::unknown("app mesh", "the renewal broke off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::RouteRef;
    use crate::base::time::Millis;
    use crate::rollout::event::RouteReading;
    use async_trait::async_trait;
    use std::sync::Mutex;

    /// Notes the seconds at which it was asked, by a clock that jumps over waits, and fails in some of them.
    struct Asked {
        began: tokio::time::Instant,
        lease: Option<Millis>,
        at: Mutex<Vec<(u64, u8)>>,
        fails: fn(u64) -> bool,
    }

    #[async_trait]
    impl Traffic for Asked {
        async fn read(&self, _: &RouteRef) -> Result<(RouteReading, u64), Fault> {
            Err(Fault::permanent("test", "is not asked"))
        }

        async fn set_weights(&self, _: &WeightsWrite) -> Result<u64, Fault> {
            Err(Fault::permanent("test", "is not asked"))
        }

        fn lease(&self) -> Option<Millis> {
            self.lease
        }

        async fn renew(&self, write: &WeightsWrite) -> Result<(), Fault> {
            let second = self.began.elapsed().as_secs();
            self.at.lock().unwrap().push((second, write.canary.1));
            if (self.fails)(second) { Err(Fault::transient("app mesh", "no answer")) } else { Ok(()) }
        }
    }

    fn write(canary: u8) -> Option<WeightsWrite> {
        let route = RouteRef { mesh: "m".into(), router: "r".into(), route: "x".into() };
        Some(WeightsWrite {
            route,
            canary: ("v2".into(), canary),
            stable: ("v1".into(), 100 - canary),
            generation: u64::from(canary),
            urgent: false,
            fuse: None,
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the paused clock of the test's runtime")]
    fn asked(fails: fn(u64) -> bool) -> Arc<Asked> {
        let (began, lease) = (tokio::time::Instant::now(), Some(Millis::from_seconds(60)));
        Arc::new(Asked { began, lease, at: Mutex::default(), fails })
    }

    #[tokio::test(start_paused = true)]
    async fn at_once_and_then_after_each_third_for_as_long_as_the_weights_stay() {
        let traffic = asked(|second| (20..25).contains(&second));
        let (hold, held) = watch::channel(write(10));
        let renewing = tokio::spawn(renew_on(Arc::clone(&traffic) as _, held));
        let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        wait(50).await;
        // A new step counts from its own write; then nothing is split; then it is again.
        hold.send_replace(write(50));
        wait(25).await;
        hold.send_replace(None);
        wait(100).await;
        hold.send_replace(write(90));
        wait(21).await;
        // Another fuse for the same weights is not left for a third of the lease.
        hold.send_replace(write(90).map(|write| WeightsWrite { urgent: true, ..write }));
        wait(1).await;
        drop(hold);
        renewing.await.unwrap();
        let seen = traffic.at.lock().unwrap().clone();
        assert_eq!(seen, [(0, 10), (20, 10), (22, 10), (24, 10), (26, 10), (46, 10), (70, 50), (195, 90), (196, 90)]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_lease_fuses_are_sent_again_and_nothing_else() {
        let mut traffic = asked(|second| (300..305).contains(&second));
        Arc::get_mut(&mut traffic).expect("nobody else has it").lease = None;
        let armed = |canary: u8, failures: u32| {
            let fuse = crate::base::fuse::Fuse {
                failures,
                canary: "v2".into(),
                rollout: "r".into(),
                threshold: crate::base::fuse::Decimal::whole(6),
                ratio: crate::base::fuse::Decimal::whole(1),
                add: crate::base::fuse::Decimal::whole(0),
            };
            write(canary).map(|write| WeightsWrite { fuse: Some(fuse), ..write })
        };
        let (hold, held) = watch::channel(armed(10, 1));
        let renewing = tokio::spawn(renew_on(Arc::clone(&traffic) as _, held));
        let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        wait(100).await;
        // Other weights bring theirs.
        hold.send_replace(armed(50, 2));
        wait(100).await;
        hold.send_replace(armed(50, 2));
        wait(50).await;
        hold.send_replace(armed(50, 3));
        wait(50).await;
        hold.send_replace(armed(50, 4));
        wait(50).await;
        hold.send_replace(None);
        wait(50).await;
        hold.send_replace(armed(50, 5));
        wait(50).await;
        hold.send_replace(write(60));
        wait(100).await;
        drop(hold);
        renewing.await.unwrap();
        let seen = traffic.at.lock().unwrap().clone();
        let (first, then) = ([0, 40, 80], [140, 180, 200, 240, 250, 290, 300, 302, 304, 306, 346, 440]);
        let expected = first.map(|second| (second, 10)).into_iter().chain(then.map(|second| (second, 50)));
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }
}
