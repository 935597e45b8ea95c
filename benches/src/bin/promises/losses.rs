//! Instances that die or hang.

use std::time::Instant;

use lb_benches::stats::percentile;
use lb_core::{App, AppStatus, InstanceId, Status};
use lb_examples::{Engine, StageOptions};

use crate::Failure;
use crate::bed::{Bed, STEP, get};

/// Another app is deployed and removed at once; then an instance of the first is killed.
pub(crate) async fn replace(bed: &Bed, rounds: u32) -> Result<serde_json::Value, Failure> {
    let mut seconds = Vec::new();
    for n in 0..rounds {
        // One of its own in each round: what crashes again and again waits, and rightly.
        let base = format!("base-{n}");
        bed.serve(bed.app(&base, "1", 2)?).await?;
        let other = App::new(bed.app_apart(&format!("other-{n}"), "1")?)?;
        bed.platform.deploy(&other).await?;
        let seen = |s: &Status| s.apps.contains_key(&other.name);
        bed.platform.wait_for(seen, STEP).await?;
        let removal = bed.remove(&other.name).await?;
        let victim = victim(bed, &base)?;
        let app = bed.platform.status().apps[&victim.app].clone();
        let instance = app.instances.iter().find(|i| i.id == victim).ok_or("it is gone")?;
        let port = *instance.ports.values().next().ok_or("no port")?;
        let address = lb_local::real_address((instance.address, port).into());
        let start = Instant::now();
        // It ends without an answer.
        let _ = get(address, "victim", "/crash").await;
        replaced(bed, &victim).await?;
        seconds.push(start.elapsed().as_secs_f64());
        removal.gone(STEP).await?;
        bed.remove(&base.parse()?).await?.gone(STEP).await?;
    }
    Ok(serde_json::json!({
        "seconds": { "p50": percentile(&mut seconds, 0.5), "p99": percentile(&mut seconds, 0.99) },
    }))
}

/// One of two is paused: its check is by TCP, which the kernel answers, or by HTTP, which nobody does.
pub(crate) async fn hung(bed: &Bed, options: &StageOptions) -> Result<serde_json::Value, Failure> {
    let (program, host) = match bed.stage.engine {
        Engine::Local => return Ok(serde_json::Value::Null),
        Engine::Docker => ("docker", options.docker.as_ref().map(ToString::to_string)),
        Engine::Podman => ("podman", options.podman.as_ref().map(ToString::to_string)),
    };
    let mut app = bed.app("base", "1", 2)?;
    for port in app.ports.values_mut() {
        port.health.check = lb_core::Check::Http("/healthz".parse()?);
    }
    bed.serve(app).await?;
    let victim = victim(bed, "base")?;
    let name = victim.container_name(&bed.stage.cluster.id).to_string();
    let mut pause = tokio::process::Command::new(program);
    match (program, host) {
        ("docker", Some(host)) => drop(pause.args(["-H", &host])),
        (_, Some(host)) => drop(pause.args(["--remote", "--url", &host])),
        _ => {}
    }
    let start = Instant::now();
    let status = pause.args(["pause", &name]).stdout(std::process::Stdio::null()).status().await?;
    if !status.success() {
        return Err(format!("{program} pause {name}: {status}").into());
    }
    replaced(bed, &victim).await?;
    let seconds = start.elapsed().as_secs_f64();
    bed.remove(&"base".parse()?).await?.gone(STEP).await?;
    Ok(serde_json::json!({ "seconds": seconds }))
}

fn victim(bed: &Bed, app: &str) -> Result<InstanceId, Failure> {
    let status = bed.platform.status();
    let app = status.apps.get(&app.parse()?).ok_or("the app is unknown")?;
    Ok(app.instances.first().ok_or("no instance")?.id.clone())
}

/// Waits until as many as before are ready without the one that is lost.
async fn replaced(bed: &Bed, lost: &InstanceId) -> Result<(), Failure> {
    let others = |app: &AppStatus| {
        let ready = app.instances.iter().filter(|i| i.id != *lost && i.is_ready()).count();
        ready == app.wanted as usize
    };
    bed.platform.wait_for(|s| s.apps.get(&lost.app).is_some_and(others), STEP).await?;
    Ok(())
}
