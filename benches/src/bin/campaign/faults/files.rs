//! Files that are damaged, and a disk that is full.

use std::fs::{self, File as Handle};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use super::Faults;
use crate::blocking;
use crate::bounds::{FORGOTTEN, LED};
use crate::changes::Changes;
use crate::story::{Damage, File};

/// Takes what is left of the disk.
const FILLER: &str = "filler";

impl Faults {
    /// The platform finds a damaged file when it is started: people see to it that all is asked for again.
    pub(super) async fn damage(&mut self, file: File, damage: Damage, changes: &mut Changes) {
        let now = self.desk.now();
        self.without_platform(now + LED);
        self.keeper.kill().await;
        let name = if file == File::Apps { "apps.json" } else { "ledger.json" };
        if file == File::Ledger {
            self.desk.judge().hinder(now, now + LED + FORGOTTEN);
        }
        let path = crate::platform::files(&self.ground.options).join(name);
        if let Err(error) = harm(&path, damage) {
            self.desk.say("fault", &format!("{}: {error}", path.display()));
        }
        if file == File::Apps {
            self.desk.judge().amnesty(now);
        }
        if let Err(error) = self.keeper.start().await {
            self.desk.say("platform", &format!("cannot be started: {error}"));
        }
        if file == File::Apps {
            changes.ask_again().await;
            if let Err(error) = forget_damaged(&crate::platform::files(&self.ground.options)) {
                self.desk.say("fault", &format!("damaged files stay: {error}"));
            }
            self.desk.judge().amnesty(self.desk.now());
        }
    }

    /// A configuration edited by hand while the balancer runs from it.
    pub(super) fn damage_balancer(&self, damage: Damage) {
        for path in configurations(&self.ground.state()) {
            match harm(&path, damage) {
                Ok(()) => self.desk.say("fault", &format!("{} is damaged", path.display())),
                Err(error) => self.desk.say("fault", &format!("{}: {error}", path.display())),
            }
        }
    }

    pub(super) fn fill_disk(&mut self, time: Duration) {
        let now = self.desk.now();
        // What failed meanwhile is tried again after at most as long as it failed, and as long again.
        self.desk.judge().hinder(now, now + 3 * time + Duration::from_secs(5));
        let filler = self.ground.state().join(FILLER);
        let desk = self.desk.clone();
        self.later.spawn(async move {
            let path = filler.clone();
            let full = blocking(move || fill(&path)).await;
            sleep(time).await;
            let _ = fs::remove_file(&filler);
            desk.say("disk", &format!("has room again; it was full by {full:?}"));
        });
    }
}

/// What was kept of damaged files is deleted by people, once all is asked for again.
fn forget_damaged(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("apps.json.damaged") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn configurations(directory: &Path) -> Vec<PathBuf> {
    let places = [directory.to_owned(), directory.join("haproxy"), directory.join("nginx")];
    let files = places.iter().flat_map(|d| ["haproxy.cfg", "nginx.conf"].map(|name| d.join(name)));
    files.filter(|path| path.exists()).collect()
}

fn harm(path: &Path, damage: Damage) -> io::Result<()> {
    let mut file = Handle::options().write(true).open(path)?;
    let length = file.metadata()?.len();
    match damage {
        Damage::Emptied => file.set_len(0),
        Damage::Halved => file.set_len(length / 2),
        Damage::Garbled => {
            file.seek(SeekFrom::Start(length / 3))?;
            file.write_all(&[0xff; 64])
        }
    }
}

/// Writes until nothing more is taken; how much that was.
fn fill(path: &Path) -> io::Result<u64> {
    let mut file = Handle::create(path)?;
    let mut written = 0;
    for chunk in [1 << 20, 4096, 1] {
        let bytes = vec![b'f'; chunk];
        while let Ok(count) = file.write(&bytes) {
            written += count as u64;
            if count == 0 {
                break;
            }
        }
    }
    Ok(written)
}
