//! State in files survives damage, crashes and full disks (F9, F13, F14 of the fault table).
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lb_core::*;

fn app(name: &str) -> App {
    App::from_toml(&format!(
        r#"
        name = "{name}"
        image = "registry.example.org/{name}:1"
        secrets = {{ TOKEN = "s3cret" }}
        [ports.web]
        container = 8080
        outside = 80
        hosts = ["{name}.example.org"]
        "#
    ))
    .unwrap()
}

async fn names(store: &FileAppStore) -> Vec<String> {
    let apps = store.watch().next().await.unwrap().unwrap();
    apps.keys().map(ToString::to_string).collect()
}

/// A directory with two snapshots: `a`, then `a` and `b`.
async fn two_snapshots() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = FileAppStore::open(directory.path()).await.unwrap();
    store.put(&app("a"), AppChange::Deploy).await.unwrap();
    store.put(&app("b"), AppChange::Deploy).await.unwrap();
    directory
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).unwrap();
    let edited = change(text.clone());
    assert_ne!(text, edited, "the edit changes something");
    fs::write(path, edited).unwrap();
}

#[tokio::test]
async fn what_another_process_puts_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let [ours, theirs] = [directory.path(); 2].map(FileAppStore::open);
    let (ours, theirs) = (ours.await.unwrap(), theirs.await.unwrap());
    let mut watch = ours.watch();
    assert!(watch.next().await.unwrap().unwrap().is_empty());
    for (change, count) in [("a", 1), ("b", 2)] {
        theirs.put(&app(change), AppChange::Deploy).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
        assert_eq!(heard.unwrap().unwrap().unwrap().len(), count);
    }
    theirs.remove(&app("a").name).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
    assert_eq!(heard.unwrap().unwrap().unwrap().len(), 1);
    assert_eq!(names(&ours).await, ["b"], "who watches next is told the same");
}

#[tokio::test]
async fn what_was_put_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileAppStore::open(directory.path().join("made/when/needed")).await.unwrap();
    let mut watch = store.watch();
    assert!(watch.next().await.unwrap().unwrap().is_empty());
    store.put(&app("a"), AppChange::Deploy).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().len(), 1);
    drop(store);

    let store = FileAppStore::open(directory.path().join("made/when/needed")).await.unwrap();
    let apps = store.watch().next().await.unwrap().unwrap();
    assert_eq!(*apps.values().next().unwrap().app, app("a"));
    store.remove(&app("a").name).await.unwrap();
    store.remove(&app("a").name).await.unwrap();
    assert_eq!(names(&store).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_truncated_file_gives_way_to_the_one_before() {
    let directory = two_snapshots().await;
    let file = directory.path().join("apps.json");
    let whole = fs::read(&file).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 2] {
        fs::write(&file, &whole[..length]).unwrap();
        let store = FileAppStore::open(directory.path()).await.unwrap();
        assert_eq!(names(&store).await, ["a"], "cut to {length} of {} bytes", whole.len());
    }
    fs::remove_file(&file).unwrap();
    let store = FileAppStore::open(directory.path()).await.unwrap();
    assert_eq!(names(&store).await, ["a"], "a crash between the two renames");
}

#[tokio::test]
async fn any_flipped_byte_is_noticed() {
    let directory = two_snapshots().await;
    let file = directory.path().join("apps.json");
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() - 1 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        fs::write(&file, &bytes).unwrap();
        let store = FileAppStore::open(directory.path()).await.unwrap();
        assert_eq!(names(&store).await, ["a"], "byte {at} ({:?})", char::from(whole[at]));
    }
}

#[tokio::test]
async fn damage_to_both_is_an_error_that_names_the_file() {
    let directory = two_snapshots().await;
    let file = directory.path().join("apps.json");
    edit(&file, |text| text.replace("registry.example.org/b", "registry.example.org/c"));
    edit(&directory.path().join("apps.previous.json"), |text| text.replace(":1", ":2"));
    let error = FileAppStore::open(directory.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(
        error.to_string(),
        format!("read \"{}\": the checksum must match the payload", file.display())
    );
}

#[tokio::test]
async fn a_write_after_damage_keeps_the_good_one_before() {
    let directory = two_snapshots().await;
    let file = directory.path().join("apps.json");
    fs::write(&file, "damage").unwrap();
    let store = FileAppStore::open(directory.path()).await.unwrap();
    store.put(&app("c"), AppChange::Deploy).await.unwrap();
    fs::write(&file, "damage again").unwrap();
    let store = FileAppStore::open(directory.path()).await.unwrap();
    assert_eq!(names(&store).await, ["a"], "damage never takes the place of a whole snapshot");
}

/// A snapshot as a program of this schema writes it.
fn written(schema: u32, payload: &str) -> String {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(&schema.to_le_bytes());
    hash.update(payload.as_bytes());
    let checksum = format!("{:032x}", hash.digest128());
    format!(r#"{{"schema":{schema},"checksum":"{checksum}","payload":{payload}}}"#)
}

/// They knew no generations: what they hold was deployed before all that is put now.
#[tokio::test]
async fn apps_of_an_older_schema_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let old = serde_json::json!({ "a": app("a") }).to_string();
    fs::write(directory.path().join("apps.json"), written(1, &old)).unwrap();
    let store = FileAppStore::open(directory.path()).await.unwrap();
    let apps = store.watch().next().await.unwrap().unwrap();
    let known = &apps[&app("a").name];
    assert_eq!((&*known.app, known.deploy), (&app("a"), Generation::default()));
    assert!(store.put(&app("a"), AppChange::Deploy).await.unwrap() > known.generation);
}

/// The ledger remembers for which deploy a tag was looked up: one that comes again would not be.
#[tokio::test]
async fn no_generation_comes_again_when_files_are_lost() {
    let directory = two_snapshots().await;
    let generation =
        async |store: FileAppStore| store.put(&app("b"), AppChange::Deploy).await.unwrap();
    let first = generation(FileAppStore::open(directory.path()).await.unwrap()).await;
    fs::write(directory.path().join("apps.json"), "damage").unwrap();
    let second = generation(FileAppStore::open(directory.path()).await.unwrap()).await;
    assert!(second > first, "{second} after {first}: the file before was taken");
    fs::remove_file(directory.path().join("apps.json")).unwrap();
    fs::remove_file(directory.path().join("apps.previous.json")).unwrap();
    let third = generation(FileAppStore::open(directory.path()).await.unwrap()).await;
    assert!(third > second, "{third} after {second}: nothing was left");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_not_overwritten() {
    let directory = two_snapshots().await;
    let file = directory.path().join("apps.json");
    let newer = written(3, r#"{"apps":[],"something":"new"}"#);
    let store = FileAppStore::open(directory.path()).await.unwrap();
    fs::write(&file, &newer).unwrap();
    let error = FileAppStore::open(directory.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(
        store.put(&app("c"), AppChange::Deploy).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), newer);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_leaves_the_old_file() {
    let directory = two_snapshots().await;
    let store = FileAppStore::open(directory.path()).await.unwrap();
    let temporary = directory.path().join("apps.json.tmp");
    std::os::unix::fs::symlink("/dev/full", &temporary).unwrap();
    let error = store.put(&app("c"), AppChange::Deploy).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("No space left on device"), "{error}");
    assert_eq!(names(&store).await, ["a", "b"], "watchers hear of nothing that is not stored");
    let reopened = FileAppStore::open(directory.path()).await.unwrap();
    assert_eq!(names(&reopened).await, ["a", "b"]);
    fs::remove_file(&temporary).unwrap();
    store.put(&app("c"), AppChange::Deploy).await.unwrap();
    assert_eq!(names(&store).await, ["a", "b", "c"]);
}

#[cfg(unix)]
#[tokio::test]
async fn secrets_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = two_snapshots().await;
    for file in ["apps.json", "apps.previous.json"] {
        let mode = fs::metadata(directory.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn clashes_are_refused_also_with_apps_another_process_put() {
    let directory = tempfile::tempdir().unwrap();
    let ours = FileAppStore::open(directory.path()).await.unwrap();
    let theirs = FileAppStore::open(directory.path()).await.unwrap();
    theirs.put(&app("a"), AppChange::Deploy).await.unwrap();
    let mut rival = AppSpec::from(app("b"));
    rival.ports = app("a").ports.clone();
    let error = ours.put(&App::new(rival).unwrap(), AppChange::Deploy).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().ends_with("is already claimed by app \"a\""), "{error}");
    ours.put(&app("b"), AppChange::Deploy).await.unwrap();
    assert_eq!(names(&ours).await, ["a", "b"], "their app is not lost");
}

#[tokio::test]
async fn the_ledger_is_fenced_across_processes() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) =
        (FileLedgerStore::new(directory.path()), FileLedgerStore::new(directory.path()));
    assert_eq!(old.load().await.unwrap(), None);
    old.save(&Ledger::default(), Term(1)).await.unwrap();
    let mut later = Ledger::default();
    later.at = std::time::Duration::from_secs(9);
    new.save(&later, Term(2)).await.unwrap();
    let error = old.save(&Ledger::default(), Term(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(old.load().await.unwrap(), Some(later));
}

#[tokio::test]
async fn one_process_leads_and_terms_rise_at_each_acquisition() {
    let directory = tempfile::tempdir().unwrap();
    let leadership = FileLeadership::new(directory.path());
    let mut first = leadership.campaign();
    assert_eq!(first.next().await.unwrap().unwrap(), Standing::Leader(Term(1)));
    let mut second = leadership.campaign();
    assert_eq!(second.next().await.unwrap().unwrap(), Standing::Follower);
    assert!(first.next().now_or_never().is_none());
    drop(first);
    let taken = tokio::time::timeout(std::time::Duration::from_secs(10), second.next()).await;
    assert_eq!(taken.unwrap().unwrap().unwrap(), Standing::Leader(Term(2)));
}

#[tokio::test]
async fn a_damaged_term_is_an_error_and_no_term_is_given_twice() {
    let directory = tempfile::tempdir().unwrap();
    let leadership = FileLeadership::new(directory.path());
    for term in 1..=3 {
        let standing = leadership.campaign().next().await.unwrap().unwrap();
        assert_eq!(standing, Standing::Leader(Term(term)));
    }
    fs::write(directory.path().join("term.json"), "damage").unwrap();
    let mut campaign = leadership.campaign();
    let error = campaign.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}
