//! The planner as a library: no engine, no loop, no clock. What would be done for this app on these hosts?
//!
//! `cargo run --example plan_only`
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::collections::BTreeMap;
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use lb_core::{
    Action, App, AppView, ClusterSpec, Done, Generation, HostFacts, HostView, ImageDigest, Ledger,
    Now, Observation, Outcome, RegistryTrust, World, plan,
};

const APP: &str = r#"
    name = "shop"
    image = "registry.example.org/shop:1.2"
    replicas = 5
    [ports.web]
    container = 8080
    outside = 80
    hosts = ["shop.example.org"]
"#;

fn main() -> Result<(), Box<dyn Error>> {
    let app = Arc::new(App::from_toml(APP)?);
    let mut world = world(&app)?;
    let mut ledger = Ledger::default();
    for second in 0..3 {
        let decided = plan(&world, &ledger, Now::at_seconds(second));
        println!("pass {second}");
        for reason in &decided.reasons {
            println!("  because {}", reason.text);
        }
        for (host, actions) in &decided.actions {
            for action in actions {
                println!("  on {host}: {:?}", action.key());
            }
        }
        ledger = decided.ledger;
        // Nothing is done here; only the image's digest is made up, so that the second pass can go on.
        for (host, actions) in &decided.actions {
            let resolves = |a: &&Action| matches!(a, Action::ResolveImage { .. });
            let (Some(view), Some(action)) =
                (world.hosts.get_mut(host), actions.iter().find(resolves))
            else {
                continue;
            };
            let digest = ImageDigest::new(format!("sha256:{}", "ab".repeat(32)))?;
            let at = Duration::from_secs(u64::from(second));
            view.outcomes = vec![Outcome::of(action, at, Ok(Done::Digest(digest)))];
        }
    }
    Ok(())
}

/// Three empty hosts and one app.
fn world(app: &Arc<App>) -> Result<World, Box<dyn Error>> {
    let mut hosts = BTreeMap::new();
    for number in 1..=3u8 {
        let facts =
            HostFacts::new(format!("host-{number}").parse()?, Ipv4Addr::new(192, 0, 2, number));
        let view = HostView {
            facts: Arc::new(facts.clone()),
            seen: Some(Arc::new(Observation::default())),
            fresh: true,
            reachable: true,
            on_their_way: Vec::new(),
            outcomes: Vec::new(),
        };
        hosts.insert(facts.id, view);
    }
    let view = AppView::new(app.clone(), Generation(1));
    Ok(World {
        cluster: Arc::new(ClusterSpec::new("example".parse()?)),
        apps: BTreeMap::from([(app.name.clone(), view)]),
        hosts,
        registry: RegistryTrust::Answers,
    })
}
