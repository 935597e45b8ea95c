//! State in files survives damage, crashes and full disks (F9, F13, F14 of the fault table).
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]
#![allow(clippy::too_many_lines, reason = "lists of cases")]

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
    let text = error.to_string();
    let start =
        format!("read \"{}\": the checksum must match the payload; and so is", file.display());
    assert!(text.starts_with(&start) && text.contains("put a good copy in its place"), "{text}");
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
    let Standing::Leader(fourth) = campaign.next().await.unwrap().unwrap() else {
        panic!("nobody else")
    };
    assert!(fourth > Term(3), "{fourth:?}");
    assert!(directory.path().join("term.json.damaged").exists(), "what was damaged is kept");
    drop(campaign);
    let next = leadership.campaign().next().await.unwrap().unwrap();
    assert_eq!(next, Standing::Leader(Term(fourth.0 + 1)));
}

/// A leader of a lower term could save no ledger.
#[tokio::test]
async fn a_lost_term_begins_above_the_ledgers() {
    let directory = tempfile::tempdir().unwrap();
    FileLedgerStore::new(directory.path()).save(&Ledger::default(), Term(41)).await.unwrap();
    let standing = FileLeadership::new(directory.path()).campaign().next().await.unwrap().unwrap();
    assert_eq!(standing, Standing::Leader(Term(42)));
}

/// What becomes of files: by hand, by full disks, by disks that forget.
fn damages(whole: &[u8]) -> Vec<Vec<u8>> {
    let mut flipped = whole.to_vec();
    flipped[whole.len() / 2] ^= 0x20;
    let garbage = (0..300_u32).map(|n| (n * 7919 % 251) as u8).collect();
    vec![
        Vec::new(),
        b"{\"a\":".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        vec![0; whole.len()],
        garbage,
        flipped,
    ]
}

#[tokio::test]
async fn damaged_apps_are_told_with_what_was_lost_until_somebody_has_seen_to_it() {
    for (n, damage) in damages(&[b'x'; 400]).into_iter().enumerate() {
        let directory = two_snapshots().await;
        let file = directory.path().join("apps.json");
        let whole = fs::read(&file).unwrap();
        // A change of what is read, not of what is lost: the text goes on being readable.
        let edited = n == 5;
        let damage = match edited {
            true => String::from_utf8(whole).unwrap().replace("s3cret", "s3cre7").into_bytes(),
            false => damage,
        };
        fs::write(&file, &damage).unwrap();
        let store = FileAppStore::open(directory.path()).await.unwrap();
        let told = async |store: &FileAppStore| {
            store.watch().next().await.unwrap().unwrap().trouble.clone()
        };
        let text = told(&store).await.unwrap().to_string();
        assert!(text.contains("apps.json") && text.contains("delete the damaged file"), "{text}");
        let lost = if edited { "lost was what it says of \"b\"" } else { "cannot be read" };
        assert!(text.contains(lost), "damage {n}: {text}");

        store.put(&app("c"), AppChange::Deploy).await.unwrap();
        let aside = directory.path().join("apps.json.damaged");
        assert_eq!(fs::read(&aside).unwrap(), damage, "as it was");
        let text = told(&store).await.unwrap().to_string();
        assert!(text.contains("apps.json.damaged") && text.contains(lost), "{text}");
        let reopened = FileAppStore::open(directory.path()).await.unwrap();
        assert_eq!(
            (names(&reopened).await, told(&reopened).await.is_some()),
            (vec!["a".to_owned(), "c".to_owned()], true)
        );
        if edited {
            store.put(&app("b"), AppChange::Deploy).await.unwrap();
            assert!(told(&store).await.unwrap().to_string().contains("is there again"));
        }

        let mut watch = store.watch();
        assert!(watch.next().await.unwrap().unwrap().trouble.is_some());
        fs::remove_file(&aside).unwrap();
        let healed = tokio::time::timeout(Duration::from_secs(10), async {
            while watch.next().await.unwrap().unwrap().trouble.is_some() {}
        });
        healed.await.expect("whoever watches hears that it was seen to");
    }
}

#[tokio::test]
async fn a_damaged_ledger_is_begun_anew_and_kept_aside() {
    let whole = b"x".repeat(400);
    for damage in damages(&whole) {
        for both in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let store = FileLedgerStore::new(directory.path());
            let ledger = |seq| {
                let mut ledger = Ledger::default();
                ledger.seq = seq;
                ledger
            };
            store.save(&ledger(1), Term(1)).await.unwrap();
            store.save(&ledger(2), Term(1)).await.unwrap();
            let [file, before] =
                ["ledger.json", "ledger.previous.json"].map(|f| directory.path().join(f));
            fs::write(&file, &damage).unwrap();
            if both {
                fs::write(&before, &damage).unwrap();
                let error = store.load().await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(
                    error.to_string().contains("begun anew")
                        && error.to_string().contains(".damaged"),
                    "{error}"
                );
            } else {
                assert_eq!(store.load().await.unwrap(), Some(ledger(1)));
            }
            for seq in 3..6 {
                store.save(&ledger(seq), Term(2)).await.unwrap();
                let later = FileLedgerStore::new(directory.path());
                assert_eq!(later.load().await.unwrap(), Some(ledger(seq)));
            }
            let aside = directory.path().join("ledger.json.damaged");
            assert_eq!(fs::read(aside).unwrap(), damage);
            assert_eq!(directory.path().join("ledger.json.damaged.2").exists(), both);
        }
    }
}

#[tokio::test]
async fn damaged_files_kept_aside_are_bounded() {
    let directory = two_snapshots().await;
    let store = FileAppStore::open(directory.path()).await.unwrap();
    for n in 0..20 {
        fs::write(directory.path().join("apps.json"), format!("damage {n}")).unwrap();
        store.put(&app("c"), AppChange::Deploy).await.unwrap();
    }
    let files = fs::read_dir(directory.path()).unwrap();
    let damaged =
        files.filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"));
    assert_eq!(damaged.count(), 9);
    let first = fs::read_to_string(directory.path().join("apps.json.damaged")).unwrap();
    assert_eq!(first, "damage 0");
}
