//! What a page is told of a rollout: the same whether it was kept up or read again, and bounded.

use super::*;
use tidegate::dashboard::Track;
use tidegate::dashboard::feed::Feed;

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

impl Setting {
    async fn looked(&self, feed: &Arc<Feed>) -> Arc<Track> {
        let view = self.runner.get("checkout").await.expect("readable").expect("stored");
        feed.track(&view).await.expect("readable")
    }
}

fn texts(track: &Track) -> Vec<&str> {
    let mut texts: Vec<&str> = track.lines().map(|line| line.text.as_str()).collect();
    texts.reverse();
    texts
}

#[tokio::test(start_paused = true)]
async fn a_page_that_was_open_shows_what_one_that_is_opened_does() {
    let setting = setting(&[10, 50, 100], Ways::default());
    setting.start().await;
    let feed = Feed::new(setting.runner.clone());
    assert_eq!(texts(&*setting.looked(&feed).await)[..2], ["start by ann", "weight of v2 set to 10 %"]);
    setting.reaches("baking").await;
    let reason = "look at <it>".to_owned();
    setting.runner.command("checkout", Command::Pause { reason }, ann()).await.expect("paused");
    // Longer than a slow listener is waited for: what was kept is read again.
    seconds(1_500).await;
    setting.looked(&feed).await;
    setting.runner.command("checkout", Command::Resume, ann()).await.expect("resumed");
    setting.end().await;
    let (kept_up, read_again) = (setting.looked(&feed).await, setting.looked(&Feed::new(setting.runner.clone())).await);
    assert_eq!(texts(&kept_up), texts(&read_again));
    let texts = texts(&kept_up);
    for wanted in ["pause by ann: look at <it>", "Paused", "resume by ann", "weight of v2 set to 50 %", "Succeeded"] {
        assert!(texts.contains(&wanted), "no `{wanted}` in {texts:#?}");
    }
    let ends = |track: &Track| (track.points().first().cloned(), track.points().last().cloned());
    assert_eq!(ends(&kept_up), ends(&read_again));
    assert!(read_again.points().len() > 200 && read_again.points().len() <= 512, "{}", read_again.points().len());
    assert!(!kept_up.is_partial && !read_again.is_partial);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_too_long_is_not_replayed_for_a_page() {
    let setting = setting(&[10, 50, 100], Ways::default());
    setting.start().await;
    setting.reaches("baking").await;
    let feed = Feed::with(setting.runner.clone(), 2);
    let track = setting.looked(&feed).await;
    assert!(track.is_partial && track.points().len() == 1, "{track:?}");
    setting.end().await;
    let track = setting.looked(&feed).await;
    assert!(track.is_partial && texts(&track).contains(&"Succeeded"), "from then on it is kept up: {track:?}");
}
