//! The suite of [`AppStore`].

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;

use super::{Ground, PATIENCE, Wrapped, at_each_await, poll_times, refused};
use crate::error::{ErrorKind, Result};
use crate::model::{App, AppName};
use crate::store::{AppChange, AppSet, AppStore, Generation, StoredApp};

/// What a store's tests give the suite. Made anew for each case; cases run beside each other.
#[async_trait]
pub trait AppStoreSetup: Debug + Send + Sync + 'static {
    /// The store of this case, empty at first. Asked again, the same store as a later process opens it.
    async fn store(&self) -> Arc<dyn AppStore>;
}

/// A store under test.
#[derive(Debug)]
pub struct Bed {
    /// The setup.
    pub setup: Arc<dyn AppStoreSetup>,
    /// Its store.
    pub store: Arc<dyn AppStore>,
}

impl Bed {
    /// A bed with an empty store.
    pub async fn new(setup: impl AppStoreSetup) -> Self {
        let store = setup.store().await;
        Self { setup: Arc::new(setup), store }
    }

    async fn put(&self, app: &App) -> Generation {
        self.store.put(app, AppChange::Deploy).await.unwrap()
    }
}

/// An app that answers at this host name on outside port 80.
fn app(name: &str, host: &str) -> App {
    App::from_toml(&format!(
        r#"
        name = "{name}"
        image = "registry.example.org/{name}:1"
        secrets = {{ TOKEN = "s3cret \"quoted\"" }}
        [ports.web]
        container = 8080
        outside = 80
        hosts = ["{host}"]
        "#
    ))
    .unwrap()
}

fn own(name: &str) -> App {
    app(name, &format!("{name}.example.org"))
}

async fn next(watch: &mut BoxStream<'static, Result<Arc<AppSet>>>) -> Arc<AppSet> {
    let next = tokio::time::timeout(PATIENCE, watch.next()).await;
    next.expect("the watch says something").expect("the watch never ends").unwrap()
}

async fn apps(store: &dyn AppStore) -> Vec<App> {
    next(&mut store.watch()).await.values().map(|stored| App::clone(&stored.app)).collect()
}

async fn shop(store: &dyn AppStore) -> StoredApp {
    next(&mut store.watch()).await[&own("shop").name].clone()
}

/// As it was given, secrets included.
pub async fn an_app_that_was_put_is_told(bed: &Bed) {
    let mut watch = bed.store.watch();
    assert!(next(&mut watch).await.is_empty());
    bed.put(&own("shop")).await;
    let set = next(&mut watch).await;
    assert_eq!(set.values().map(|a| &*a.app).collect::<Vec<_>>(), [&own("shop")]);
    bed.put(&own("blog")).await;
    let set = next(&mut watch).await;
    assert_eq!(set.keys().map(AppName::as_str).collect::<Vec<_>>(), ["blog", "shop"], "in order");
}

/// And told again: a deploy is an act.
pub async fn the_same_app_again_is_another_deploy(bed: &Bed) {
    let mut watch = bed.store.watch();
    next(&mut watch).await;
    let first = bed.put(&own("shop")).await;
    assert_eq!(next(&mut watch).await[&own("shop").name].deploy, first);
    let second = bed.put(&own("shop")).await;
    let told = next(&mut watch).await[&own("shop").name].clone();
    assert!(second > first, "{second} after {first}");
    assert_eq!((told.generation, told.deploy), (second, second));
}

/// Its own generation, and that of the deploy before.
pub async fn an_adjustment_is_no_deploy(bed: &Bed) {
    let first = bed.store.put(&own("shop"), AppChange::Adjust).await.unwrap();
    assert_eq!(shop(&*bed.store).await.deploy, first, "what is not there is deployed");
    let second = bed.store.put(&own("shop"), AppChange::Adjust).await.unwrap();
    let told = shop(&*bed.store).await;
    assert!(second > first, "{second} after {first}");
    assert_eq!((told.generation, told.deploy), (second, first));
}

/// Whatever happens between two of them.
pub async fn generations_only_rise(bed: &Bed) {
    let first = bed.put(&own("shop")).await;
    bed.store.remove(&own("shop").name).await.unwrap();
    let second = bed.put(&own("shop")).await;
    bed.store.remove(&own("shop").name).await.unwrap();
    let later = bed.setup.store().await;
    let third = later.put(&own("shop"), AppChange::Deploy).await.unwrap();
    let rival = later.put(&app("rival", "shop.example.org"), AppChange::Deploy).await;
    refused(rival, ErrorKind::Conflict);
    let fourth = bed.put(&own("shop")).await;
    let all = [first, second, third, fourth];
    assert!(all.is_sorted_by(|a, b| a < b), "{all:?}");
    assert_eq!(shop(&*bed.setup.store().await).await.generation, fourth);
}

/// As a whole.
pub async fn an_app_is_replaced(bed: &Bed) {
    bed.put(&own("shop")).await;
    let moved = app("shop", "elsewhere.example.org");
    bed.put(&moved).await;
    assert_eq!(apps(&*bed.store).await, [moved]);
    bed.put(&app("other", "shop.example.org")).await;
    assert_eq!(apps(&*bed.store).await.len(), 2, "the claim it gave up is free");
}

/// Absent is success.
pub async fn an_app_is_removed(bed: &Bed) {
    bed.put(&own("shop")).await;
    bed.put(&own("blog")).await;
    for _ in 0..2 {
        bed.store.remove(&own("shop").name).await.unwrap();
    }
    assert_eq!(apps(&*bed.store).await, [own("blog")]);
    bed.put(&app("rival", "shop.example.org")).await;
}

/// And nothing is changed by it.
pub async fn a_claim_clash_is_a_conflict_that_names_the_owner(bed: &Bed) {
    bed.put(&own("shop")).await;
    let rival = bed.store.put(&app("rival", "shop.example.org"), AppChange::Deploy).await;
    let error = refused(rival, ErrorKind::Conflict).to_string();
    assert!(error.contains("\"rival\"") && error.contains("\"shop\""), "{error}");
    assert_eq!(apps(&*bed.store).await, [own("shop")]);
}

/// Of clashing ones, one wins.
pub async fn puts_at_once_are_all_there(bed: &Bed) {
    let many: Vec<_> = (0..20).map(|n| own(&format!("app{n}"))).collect();
    let calls = join_all(many.iter().map(|app| bed.store.put(app, AppChange::Deploy))).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!(apps(&*bed.store).await.len(), 20);
    let rivals: Vec<_> = (0..5).map(|n| app(&format!("r{n}"), "one.example.org")).collect();
    let calls = join_all(rivals.iter().map(|app| bed.store.put(app, AppChange::Deploy))).await;
    assert_eq!(calls.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(apps(&*bed.store).await.len(), 21);
}

/// Not each.
pub async fn a_slow_reader_hears_the_latest_set(bed: &Bed) {
    let mut watch = bed.store.watch();
    next(&mut watch).await;
    for n in 0..20 {
        bed.put(&own(&format!("app{n}"))).await;
    }
    let mut heard = 1;
    while next(&mut watch).await.len() < 20 {
        heard += 1;
    }
    assert!(heard <= 5, "{heard} sets of 20 changes");
}

/// A call that returned has reached stable storage.
pub async fn what_was_put_is_there_for_the_next_process(bed: &Bed) {
    bed.put(&own("shop")).await;
    bed.put(&own("blog")).await;
    bed.store.remove(&own("blog").name).await.unwrap();
    let later = bed.setup.store().await;
    assert_eq!(apps(&*later).await, [own("shop")]);
    refused(
        later.put(&app("rival", "shop.example.org"), AppChange::Deploy).await,
        ErrorKind::Conflict,
    );
}

/// At whichever await it is cut; and it never undoes a later one.
pub async fn a_cut_put_is_done_or_not_done(bed: &Bed) {
    bed.put(&own("blog")).await;
    at_each_await(async |polls| {
        let (shop, moved) = (own("shop"), app("shop", "elsewhere.example.org"));
        let ended = poll_times(bed.store.put(&shop, AppChange::Deploy), polls).await.is_some();
        bed.put(&moved).await;
        assert_eq!(apps(&*bed.store).await, [own("blog"), moved.clone()], "after {polls} polls");
        let _ = poll_times(bed.store.remove(&shop.name), polls).await;
        bed.put(&moved).await;
        assert_eq!(apps(&*bed.store).await, [own("blog"), moved], "after {polls} polls");
        bed.store.remove(&shop.name).await.unwrap();
        assert_eq!(apps(&*bed.store).await, [own("blog")], "after {polls} polls");
        ended
    })
    .await;
}

/// One test of each case of an [`AppStore`](crate::AppStore), from an
/// [`AppStoreSetup`](crate::conformance::app_store::AppStoreSetup). See
/// [`conformance`](crate::conformance).
#[macro_export]
macro_rules! app_store_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) app_store [
                an_app_that_was_put_is_told
                the_same_app_again_is_another_deploy
                an_adjustment_is_no_deploy
                generations_only_rise
                an_app_is_replaced
                an_app_is_removed
                a_claim_clash_is_a_conflict_that_names_the_owner
                puts_at_once_are_all_there
                a_slow_reader_hears_the_latest_set
                what_was_put_is_there_for_the_next_process
                a_cut_put_is_done_or_not_done
            ]
            $($given)*
        }
    };
}

impl Ground for Bed {}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: AppStoreSetup> AppStoreSetup for Wrapped<S, dyn AppStore> {
    async fn store(&self) -> Arc<dyn AppStore> {
        self.wrap(self.setup.store().await)
    }
}
