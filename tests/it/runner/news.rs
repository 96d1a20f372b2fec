//! What is told of rollouts while a place answers, does not, or answers again; and that no decision waits for it.

use super::{Setting, setting_of};
use crate::kit::postgres::Server;
use crate::kit::world::Ways;
use crate::kit::{directory, plan};
use async_trait::async_trait;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidegate::base::fault::Fault;
use tidegate::policy::plan::{GithubNotice, Notice, NoticeKind, Plan};
use tidegate::ports::{News, NewsCursor, NewsStanding, Notices};
use tidegate::runner::news::NewsFollower;
use tidegate::store::sqlite::SqliteStore;

/// A place whose answers a test chooses, and a cursor that outlives the follower.
#[derive(Default)]
struct Place {
    told: Mutex<Vec<(String, News)>>,
    tries: Mutex<u32>,
    fault: Mutex<Option<Fault>>,
    cursor: Mutex<Option<u64>>,
}

#[async_trait]
impl Notices for Place {
    async fn tell(&self, place: &Notice, news: &News) -> Result<(), Fault> {
        let Notice::Github(github) = place else { panic!("of another kind: {place:?}") };
        *self.tries.lock().unwrap() += 1;
        match self.fault.lock().unwrap().clone() {
            Some(fault) => Err(fault),
            None => {
                self.told.lock().unwrap().push((github.repository.clone(), news.clone()));
                Ok(())
            }
        }
    }
}

#[async_trait]
impl NewsCursor for Place {
    async fn told(&self, _: NoticeKind) -> Result<Option<u64>, Fault> {
        Ok(self.noted())
    }

    async fn set_told(&self, _: NoticeKind, position: u64) -> Result<(), Fault> {
        let mut cursor = self.cursor.lock().unwrap();
        *cursor = (*cursor).max(Some(position));
        Ok(())
    }
}

impl Place {
    /// What a repository was told, as standing and text.
    fn told(&self, repository: &str) -> Vec<(NewsStanding, String)> {
        let told = self.told.lock().unwrap();
        let of = told.iter().filter(|(place, _)| place == repository);
        of.map(|(_, news)| (news.standing, news.text.clone())).collect()
    }

    /// How far it has been told.
    fn noted(&self) -> Option<u64> {
        *self.cursor.lock().unwrap()
    }

    fn follow(self: &Arc<Self>, setting: &Setting) -> tokio::task::JoinHandle<()> {
        let notices: Arc<dyn Notices> = self.clone();
        tokio::spawn(
            NewsFollower::new(setting.runner.clone(), self.clone(), (NoticeKind::Github, Some(notices)), None).follow(),
        )
    }
}

fn telling(repositories: &[&str]) -> Plan {
    let place = |name: &&str| {
        Notice::Github(GithubNotice { repository: (*name).to_owned(), environment: "production".to_owned() })
    };
    Plan { notify: repositories.iter().map(place).collect(), ..plan(&[10, 100]) }
}

async fn soon() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

#[tokio::test(start_paused = true)]
async fn each_change_that_matters_is_told_once_to_every_place() {
    let (setting, place) = (setting_of(telling(&["shop/a", "shop/b"]), Ways::default()), Arc::<Place>::default());
    let following = place.follow(&setting);
    soon().await;
    setting.start().await;
    let (view, _) = setting.end().await;
    soon().await;
    let told = place.told("shop/a");
    assert_eq!(told, place.told("shop/b"));
    let standings: Vec<NewsStanding> = told.iter().map(|(standing, _)| *standing).collect();
    let (last, before) = standings.split_last().unwrap();
    assert_eq!(*last, NewsStanding::Succeeded);
    assert!(before.iter().all(|standing| *standing == NewsStanding::UnderWay), "{told:?}");
    assert!(told[0].1.starts_with("10 %: ") && told.last().unwrap().1 == "100 %: every step passed", "{told:?}");
    assert!(told.len() <= 4, "every step once, and the end: {told:?}");
    assert_eq!(place.noted(), Some(setting.runner.position().await.unwrap()));

    // Whoever drives next tells nothing of it again.
    following.abort();
    let before = *place.tries.lock().unwrap();
    let following = place.follow(&setting);
    soon().await;
    assert_eq!(*place.tries.lock().unwrap(), before, "{view:?}");
    following.abort();
}

/// Nobody at the other end for the whole release: it goes as it would, and its end is told when somebody is there again.
#[tokio::test(start_paused = true)]
async fn a_place_that_is_down_delays_nothing_and_is_told_the_end() {
    let ways = || Ways { bad_from: Some(0), ..Ways::default() };
    let (alone, _) = {
        let setting = setting_of(plan(&[10, 100]), ways());
        soon().await;
        setting.start().await;
        setting.end().await
    };
    let (setting, place) = (setting_of(telling(&["shop/a"]), ways()), Arc::<Place>::default());
    *place.fault.lock().unwrap() = Some(Fault::transient("github", "no connection"));
    let following = place.follow(&setting);
    soon().await;
    setting.start().await;
    let (end, _) = setting.end().await;
    assert_eq!((end.phase.as_str(), &end.reason), ("rolled_back", &alone.reason));
    assert_eq!(end.decided_at_ms, alone.decided_at_ms, "both began at the same time of their clocks");
    tokio::time::sleep(Duration::from_secs(600)).await;
    let tries = *place.tries.lock().unwrap();
    assert!((5..40).contains(&tries), "asked {tries} times in ten minutes");
    assert_eq!(place.noted(), Some(0), "what was not told is not noted as told");
    // A restart before anybody is there.
    following.abort();
    let following = place.follow(&setting);
    soon().await;
    *place.fault.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_secs(61)).await;
    let told = place.told("shop/a");
    assert_eq!(told.len(), 1, "how it stands now, and not how it came there: {told:?}");
    assert_eq!(told[0].0, NewsStanding::Failed);
    assert!(told[0].1.starts_with("rolled back: canary "), "{told:?}");
    following.abort();
}

#[tokio::test(start_paused = true)]
async fn an_end_of_yesterday_is_told_no_more() {
    let (setting, place) = (setting_of(telling(&["shop/a"]), Ways::default()), Arc::<Place>::default());
    let following = place.follow(&setting);
    soon().await;
    following.abort();
    setting.start().await;
    setting.end().await;
    tokio::time::sleep(Duration::from_secs(25 * 3600)).await;
    let following = place.follow(&setting);
    soon().await;
    assert_eq!((place.told("shop/a"), *place.tries.lock().unwrap()), (vec![], 0));
    assert_eq!(place.noted(), Some(setting.runner.position().await.unwrap()));
    following.abort();
}

#[tokio::test(start_paused = true)]
async fn a_place_that_refuses_is_not_asked_again_for_the_same() {
    let (setting, place) = (setting_of(telling(&["shop/a"]), Ways::default()), Arc::<Place>::default());
    *place.fault.lock().unwrap() = Some(Fault::permanent("github", "status 404"));
    let following = place.follow(&setting);
    soon().await;
    setting.start().await;
    setting.end().await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(*place.tries.lock().unwrap() <= 4);
    assert_eq!(place.noted(), Some(setting.runner.position().await.unwrap()));
    following.abort();
}

async fn a_cursor_only_rises(store: &dyn NewsCursor) {
    for kind in NoticeKind::ALL {
        assert_eq!(store.told(kind).await.unwrap(), None);
        for (set, then) in [(0, 0), (7, 7), (3, 7), (9, 9)] {
            store.set_told(kind, set).await.unwrap();
            assert_eq!(store.told(kind).await.unwrap(), Some(then));
        }
    }
}

#[tokio::test]
async fn sqlite_keeps_how_far_news_were_told() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    a_cursor_only_rises(&store).await;
    store.close().await;
}

#[tokio::test]
async fn postgresql_keeps_how_far_news_were_told() {
    let Some(server) = Server::start().await else { return };
    let store = server.drive("a").await;
    a_cursor_only_rises(&store).await;
    store.close().await;
}
