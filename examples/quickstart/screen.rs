//! What the quickstart shows while it runs: instances, requests a second, failures, events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
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
    loads: Arc<Mutex<Vec<Watch>>>,
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
        let screen = Self {
            bars,
            header,
            rows,
            platform: platform.clone(),
            loads: Arc::default(),
            ended: Arc::default(),
            plain,
        };
        screen.tell_events();
        if !plain {
            screen.show();
        }
        screen
    }

    /// Counts this load too.
    pub(crate) fn follow(&self, load: Watch) {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).push(load);
    }

    /// Shows instances and all loads until the end.
    fn show(&self) {
        let (header, rows, platform) =
            (self.header.clone(), self.rows.clone(), self.platform.clone());
        let (loads, ended) = (self.loads.clone(), self.ended.clone());
        tokio::spawn(async move {
            let mut before = 0;
            while !ended.load(Ordering::Relaxed) {
                let (requests, failed) = counts(&loads);
                let rate = (requests - before) as f64 / EVERY.as_secs_f64();
                before = requests;
                header.set_message(format!("{rate:>6.0} requests/s, {failed} failed"));
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
        // A picture that is on its way is not drawn any more.
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
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

/// Requests and failures so far.
fn counts(loads: &Mutex<Vec<Watch>>) -> (u64, u64) {
    let loads = loads.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = loads.iter().map(Watch::counts);
    counts.fold((0, 0), |(all, failed), load| (all + load.requests, failed + load.failed))
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
