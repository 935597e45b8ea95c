//! A spec as the body of `POST /libpod/containers/create` (a `SpecGenerator`).

use lb_core::engine::{Failure, environment, labels, whole_seconds, writable_places};
use lb_core::{
    Access, Attachment, ByteSize, ClusterId, ContainerSpec, Cpu, Privileges, Publish, Restart,
    Signal, Volume, VolumeSource,
};
use serde_json::{Map, Value, json};

use super::{Abilities, pick};
use crate::runtime::Logs;

/// What every container gets beside its spec.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) logs: Logs,
    pub(crate) pids: u32,
}

/// The whole body.
pub(crate) fn create_body(
    cluster: &ClusterId,
    spec: &ContainerSpec,
    image: &str,
    settings: &Settings,
    abilities: &Abilities,
) -> Result<Value, Failure> {
    let mut body = json!({
        "name": spec.name,
        "image": image,
        "env": environment(spec),
        "labels": labels(cluster, spec),
        "hostadd": spec.hosts.iter().map(|(name, at)| format!("{name}:{at}")).collect::<Vec<_>>(),
        "portmappings": spec.publish.iter().map(port_mapping).collect::<Vec<_>>(),
        "mounts": mounts(spec),
        "volumes": spec.volumes.iter().filter_map(named_volume).collect::<Vec<_>>(),
        "resource_limits": limits(spec, settings, abilities)?,
        "restart_policy": restart_policy(spec.restart),
        "read_only_filesystem": spec.privileges.read_only_root,
        "no_new_privileges": true,
        "privileged": false,
        "cap_drop": [dropped(&spec.privileges)],
        "stop_signal": spec.stop_signal.as_ref().map(Signal::number),
        "stop_timeout": whole_seconds(spec.stop_grace),
        // Readiness is probed from outside; an image's own check would only cost and make noise.
        "healthconfig": {"Test": ["NONE"]},
        "httpproxy": false,
        "systemd": "false",
    });
    let further = [
        ("entrypoint", spec.command.as_ref().map(|command| json!(command))),
        ("command", spec.args.as_ref().map(|args| json!(args))),
        ("user", spec.user.as_ref().map(|user| json!(user))),
        ("cap_add", added(&spec.privileges)),
        ("log_configuration", log_configuration(&settings.logs)),
    ];
    if let Value::Object(body) = &mut body {
        body.extend(further.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
        attach(body, &spec.network, abilities)?;
    }
    Ok(body)
}

/// The id of a container just created.
pub(crate) fn created(answer: &Value) -> Result<String, Failure> {
    let id = pick::text(answer, "/Id").map(str::to_owned);
    id.ok_or_else(|| Failure::unexpected("the engine gave a container no id"))
}

fn attach(
    body: &mut Map<String, Value>,
    network: &Attachment,
    abilities: &Abilities,
) -> Result<(), Failure> {
    let mode = match network {
        Attachment::None => "none",
        Attachment::Host => "host",
        Attachment::Network { name, address } => {
            abilities.needs_addresses()?;
            let name = name.to_string();
            body.insert("Networks".into(), json!({ name: {"static_ips": [address]} }));
            "bridge"
        }
    };
    body.insert("netns".into(), json!({ "nsmode": mode }));
    Ok(())
}

fn limits(
    spec: &ContainerSpec,
    settings: &Settings,
    abilities: &Abilities,
) -> Result<Value, Failure> {
    let mut limits = Map::new();
    if let Some(cpu) = spec.resources.cpu {
        abilities.needs_controller("cpu")?;
        limits.insert("cpu".into(), cpu_limit(cpu));
    }
    if let Some(memory) = spec.resources.memory {
        abilities.needs_controller("memory")?;
        // Swap counts both: none beyond memory.
        limits.insert("memory".into(), json!({"limit": bytes(memory), "swap": bytes(memory)}));
    }
    // Asked for by nobody in particular, so it is left out where it cannot be had.
    if abilities.has_controller("pids") {
        limits.insert("pids".into(), json!({ "limit": settings.pids }));
    }
    Ok(limits.into())
}

/// Microseconds of CPU time in a period. The kernel takes no less than 1 ms, so small ones have a long
/// period (kernel documentation, "CFS Bandwidth Control").
fn cpu_limit(cpu: Cpu) -> Value {
    let millis = u64::from(cpu.millis());
    match millis {
        0..10 => json!({"quota": millis * 1000, "period": 1_000_000}),
        _ => json!({"quota": millis * 100, "period": 100_000}),
    }
}

fn bytes(size: ByteSize) -> i64 {
    i64::try_from(size.get()).unwrap_or(i64::MAX)
}

fn port_mapping(publish: &Publish) -> Value {
    json!({
        "host_ip": publish.address,
        "host_port": publish.host,
        "container_port": publish.container,
        "protocol": "tcp",
    })
}

const fn restart_policy(restart: Restart) -> &'static str {
    match restart {
        Restart::Never => "no",
        Restart::Always => "always",
    }
}

fn mounts(spec: &ContainerSpec) -> Vec<Value> {
    let binds = spec.volumes.iter().filter_map(|volume| {
        let VolumeSource::Path(path) = &volume.source else { return None };
        Some(json!({
            "type": "bind",
            "source": path,
            "destination": volume.target,
            "options": ["rbind", access(volume)],
        }))
    });
    let memory = writable_places(spec).map(|(path, options)| {
        let options: Vec<_> = options.split(',').collect();
        json!({"type": "tmpfs", "source": "tmpfs", "destination": path, "options": options})
    });
    binds.chain(memory).collect()
}

fn named_volume(volume: &Volume) -> Option<Value> {
    let VolumeSource::Name(name) = &volume.source else { return None };
    Some(json!({"Name": name, "Dest": volume.target, "Options": [access(volume)]}))
}

fn access(volume: &Volume) -> &'static str {
    match volume.access {
        Access::ReadOnly => "ro",
        Access::ReadWrite => "rw",
    }
}

fn added(privileges: &Privileges) -> Option<Value> {
    let set = privileges.capabilities.as_ref()?;
    Some(set.iter().map(|capability| capability.as_str()).collect())
}

const fn dropped(privileges: &Privileges) -> &'static str {
    match privileges.capabilities {
        Some(_) => "ALL",
        None => "NET_RAW",
    }
}

fn log_configuration(logs: &Logs) -> Option<Value> {
    let Logs::File(size) = logs else { return None };
    Some(json!({"driver": "k8s-file", "size": bytes(*size)}))
}
