//! What the quickstart shows while it runs: instances, requests a second, failures, events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lb_core::{Orchestrator, Status};
use lb_load::Watch;

/// Time between two pictures.
const EVERY: Duration = Duration::from_millis(250);
/// Instances shown.
const ROWS: usize = 10;

/// A live view on a terminal; plain lines elsewhere; lines on standard error with `--json`.
pub(crate) struct Screen {
    bars: MultiProgress,
    header: ProgressBar,
    rows: Vec<ProgressBar>,
    platform: Orchestrator,
    ended: Arc<AtomicBool>,
    plain: bool,
}

impl Screen {
    pub(crate) fn new(platform: &Orchestrator, json: bool) -> Self {
        let bars = MultiProgress::new();
        let plain = json || bars.is_hidden();
        let line = || {
            let style = ProgressStyle::with_template("{msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bars.add(ProgressBar::new(1).with_style(style))
        };
        let header = line();
        let rows = (0..ROWS).map(|_| line()).collect();
        let screen =
            Self { bars, header, rows, platform: platform.clone(), ended: Arc::default(), plain };
        screen.tell_events();
        screen
    }

    /// Shows instances and the load until the end.
    pub(crate) fn follow(&self, watch: Watch) {
        if self.plain {
            return;
        }
        let (header, rows, platform) =
            (self.header.clone(), self.rows.clone(), self.platform.clone());
        let ended = self.ended.clone();
        tokio::spawn(async move {
            let mut before = 0;
            while !ended.load(Ordering::Relaxed) {
                let counts = watch.counts();
                let rate = (counts.requests - before) as f64 / EVERY.as_secs_f64();
                before = counts.requests;
                header.set_message(format!(
                    "{rate:>6.0} requests/s of the first load, {} failed",
                    counts.failed
                ));
                let lines = instances(&platform.status());
                for (number, row) in rows.iter().enumerate() {
                    row.set_message(lines.get(number).cloned().unwrap_or_default());
                }
                tokio::time::sleep(EVERY).await;
            }
        });
    }

    /// A line of its own.
    pub(crate) fn say(&self, text: &str) {
        say(&self.bars, self.plain, text);
    }

    /// Takes the live part away.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.bars.clear();
    }

    fn tell_events(&self) {
        let (bars, plain, ended) = (self.bars.clone(), self.plain, self.ended.clone());
        let mut events = self.platform.events();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                say(&bars, plain, &format!("  {}", event.what));
            }
        });
    }
}

fn say(bars: &MultiProgress, plain: bool, text: &str) {
    if plain {
        eprintln!("{text}");
    } else {
        let _ = bars.println(text);
    }
}

fn instances(status: &Status) -> Vec<String> {
    let apps = status.apps.values();
    apps.flat_map(|app| &app.instances)
        .map(|i| {
            format!(
                "{:<28} {:<15} {:<24} {:>3} open",
                i.id.to_string(),
                i.address,
                i.in_words(),
                i.open
            )
        })
        .collect()
}
