//! Looks all the time: at the instances, for the judge, and at what is used.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::apps::Name;
use super::bounds::{BALANCER_MEMORY, FILE_COUNT, FILES, PLATFORM_MEMORY};
use super::desk::Desk;
use super::ground::Ground;
use super::judge::Rule;
use super::keeper::Keeper;
use super::platform::Order;
use super::{blocking, census};

/// Between two counts of the instances.
const COUNT: Duration = Duration::from_millis(400);
/// Counts between two looks at what is used.
const EVERY: u32 = 5;

/// Between two times that the platform is asked why something does not hold.
const EXPLAINED: Duration = Duration::from_secs(5);

/// Looks until it is dropped.
pub async fn watch(desk: Arc<Desk>, ground: Arc<Ground>, keeper: Arc<Keeper>) {
    let (mut told, mut explained) = (BTreeSet::new(), Duration::ZERO);
    for look in 0_u32.. {
        let cluster = ground.common.cluster.clone();
        let at = desk.now();
        if let Ok(all) = blocking(move || Ok(census::instances(&cluster))).await {
            desk.judge().counted(at, &census::census(&all));
        }
        if look.is_multiple_of(EVERY) {
            let state = ground.state();
            let platform = keeper.pid().await;
            let used = blocking(move || Ok(used(platform, &state))).await.unwrap_or_default();
            for (what, amount, most) in used {
                if amount > most && told.insert(what) {
                    let text = format!("{what}: {amount}, must be at most {most}");
                    desk.judge().violate(desk.now(), Rule::TooMuch, text);
                }
            }
        }
        let word = keeper.try_tell(&Order::Look).await;
        let served = word.iter().flat_map(|word| &word.served);
        for (name, version) in served {
            if let Some(number) = name.strip_prefix("app").and_then(|n| n.parse().ok()) {
                desk.judge().claimed(desk.now(), Name(number), version);
            }
        }
        if desk.say_violations() && desk.now() >= explained {
            explained = desk.now() + EXPLAINED;
            explain(&desk, &keeper).await;
        }
        sleep(COUNT).await;
    }
}

/// What the platform says while something does not hold.
async fn explain(desk: &Desk, keeper: &Keeper) {
    let Some(word) = keeper.try_tell(&Order::Look).await else { return };
    let unsettled = word.apps.iter().filter(|(_, app)| !app.settled);
    for (name, app) in unsettled {
        desk.say("status", &format!("{name}: {app:?}"));
    }
    for reason in word.troubles.iter().chain(&word.reasons) {
        desk.say("status", reason);
    }
}

/// What is used, how much of it, and how much it may be.
fn used(platform: Option<u32>, state: &Path) -> Vec<(&'static str, u64, u64)> {
    let balancer = census::balancer(state).into_iter().map(census::memory).sum();
    let (bytes, files) = size(state);
    vec![
        ("memory of the platform", platform.map_or(0, census::memory), PLATFORM_MEMORY),
        ("memory of the balancer", balancer, BALANCER_MEMORY),
        ("bytes in files", bytes, FILES),
        ("files", files as u64, FILE_COUNT as u64),
    ]
}

/// Bytes and number of the files below a directory, but for what fills the disk.
fn size(directory: &Path) -> (u64, usize) {
    let (mut bytes, mut count) = (0, 0);
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            let (more, files) = size(&entry.path());
            bytes += more;
            count += files;
        } else if entry.file_name() != "filler" {
            bytes += meta.len();
            count += 1;
        }
    }
    (bytes, count)
}
