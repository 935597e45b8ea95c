//! A scaling policy of one's own: enough instances for the requests in the queue, and one more.
//!
//! `cargo run --example custom_policy` asks it about a rising load and prints what it decides; a platform
//! hands it to `Orchestrator::builder(..).policy("queue".parse()?, Arc::new(Queue))` and names it in an app:
//! `scaling = { policy = "queue" }`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program for people")]

mod queue;

use std::error::Error;
use std::time::Duration;

use lb_core::{App, Decision, LoadSample, LoadView, Now, PolicyMemory, ScalePolicy};
use queue::Queue;

fn main() -> Result<(), Box<dyn Error>> {
    let app = App::from_toml(
        r#"
        name = "hello"
        image = "hello:1"
        replicas = { min = 1, max = 20 }
        scaling = { policy = "queue" }
        [ports.web]
        container = 8080
        "#,
    )?;
    let mut memory = PolicyMemory::default();
    let mut wanted = 1;
    for minute in 0..8u32 {
        let now = Now::at_seconds(minute * 60);
        let concurrency = if minute == 5 { None } else { Some(f64::from(minute * minute) * 3.0) };
        let sample = LoadSample {
            at: now,
            over: Duration::from_secs(60),
            instances: wanted,
            cpu: None,
            memory: None,
            requests: None,
            failures: None,
            concurrency,
            response_time: None,
        };
        let samples = [sample];
        let view = LoadView { app: &app, wanted, ready: wanted, starting: 0, samples: &samples };
        let (decision, next) = Queue.decide(&view, &memory, now);
        println!("minute {minute}: {decision:?}");
        if let Decision::Want { count, .. } = decision {
            wanted = count;
        }
        memory = next;
    }
    Ok(())
}
