//! What all parts of a run share: its clock, its judge, and its story as it is told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::judge::{At, Judge};

/// Lines of the story that are kept; a longer one loses its middle.
const KEPT: usize = 20_000;

/// What a violation is told as.
const VIOLATION: &str = "VIOLATION";

/// Shared by the load, the changes, the faults and the census.
#[derive(Debug)]
pub struct Desk {
    start: Instant,
    judge: Mutex<Judge>,
    told: Mutex<Vec<String>>,
    /// Whether it is told as it happens.
    aloud: bool,
}

impl Desk {
    pub fn new(aloud: bool) -> Self {
        Self { start: Instant::now(), judge: Mutex::default(), told: Mutex::default(), aloud }
    }

    /// Time since the run began.
    pub fn now(&self) -> At {
        self.start.elapsed()
    }

    pub fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what happens: violations at once on standard error, and all with the story.
    pub fn say(&self, what: &str, text: &str) {
        let line = format!("{:8.2}  {what:<9} {text}", self.now().as_secs_f64());
        if self.aloud || what == VIOLATION {
            eprintln!("{line}");
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= KEPT {
            told.drain(KEPT / 2..KEPT / 2 + KEPT / 4);
        }
        told.push(line);
    }

    /// Tells the violations found since it was last asked; whether there are any.
    pub fn say_violations(&self) -> bool {
        let news = self.judge().news();
        let some = !news.is_empty();
        for violation in news {
            let at = violation.at.as_secs_f64();
            self.say(VIOLATION, &format!("{violation} (at {at:.2})"));
        }
        some
    }

    /// The story so far.
    pub fn story(&self) -> String {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}
