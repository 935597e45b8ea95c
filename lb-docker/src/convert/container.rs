//! A spec as the body of `POST /containers/create`.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountType, MountVolumeOptions, NetworkingConfig, PortBinding,
    PortMap, RestartPolicy, RestartPolicyNameEnum,
};
use lb_core::{
    Access, Attachment, ByteSize, ClusterId, ContainerSpec, ImageRef, Privileges, Publish, Restart,
    Volume, VolumeSource, label,
};

use super::role_text;
use crate::error::Failure;
use crate::runtime::Logs;

/// What every container gets beside its spec.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) logs: Logs,
    pub(crate) pids: u32,
}

/// Writable places of a container whose root is read only: what programs expect to be able to write.
const TMPFS: [(&str, &str); 2] = [
    ("/tmp", "rw,nosuid,nodev,noexec,size=64m,mode=1777"),
    ("/run", "rw,nosuid,nodev,noexec,size=16m,mode=755"),
];

/// The names under which the engine may know the image, likeliest first. A digest is a manifest's, known
/// as `repository@digest`, or a local image's id, known by itself.
pub(crate) fn image_names(image: &ImageRef) -> Vec<String> {
    match image.digest() {
        Some(digest) => vec![format!("{}@{digest}", image.repository()), digest.to_string()],
        None => vec![image.to_string()],
    }
}

/// The whole body but the image's name.
pub(crate) fn create_body(
    cluster: &ClusterId,
    spec: &ContainerSpec,
    settings: &Settings,
) -> Result<ContainerCreateBody, Failure> {
    check(spec)?;
    let (networking_config, network_mode) = attachment(&spec.network);
    Ok(ContainerCreateBody {
        user: spec.user.as_ref().map(ToString::to_string),
        env: Some(environment(spec)),
        entrypoint: spec.command.clone(),
        cmd: spec.args.clone(),
        labels: Some(labels(cluster, spec)),
        exposed_ports: Some(spec.publish.iter().map(port_key).collect()),
        stop_signal: Some(spec.stop_signal.to_string()),
        stop_timeout: Some(whole_seconds(spec.stop_grace)),
        // Readiness is probed from outside; an image's own check would only cost and make noise.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..HealthConfig::default()
        }),
        networking_config,
        host_config: Some(host_config(cluster, spec, settings, network_mode)),
        ..ContainerCreateBody::default()
    })
}

/// Seconds for the engine, which takes whole ones: rounded up.
pub(crate) fn whole_seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs() + u64::from(time.subsec_nanos() > 0)).unwrap_or(i64::MAX)
}

fn check(spec: &ContainerSpec) -> Result<(), Failure> {
    if !spec.publish.is_empty() && !matches!(spec.network, Attachment::Network { .. }) {
        return Err(Failure::invalid(
            "publish: ports can only be published from a network of their own, not from \"none\" or \"host\"",
        ));
    }
    match spec.hosts.keys().find(|name| name.wildcard_base().is_some()) {
        Some(name) => Err(Failure::invalid(format!(
            "hosts: {name}: /etc/hosts holds whole names, not wildcards"
        ))),
        None => Ok(()),
    }
}

fn environment(spec: &ContainerSpec) -> Vec<String> {
    let secrets = spec.secrets.iter().map(|(name, value)| format!("{name}={}", value.expose()));
    let plain = spec.env.iter().filter(|(name, _)| !spec.secrets.contains_key(*name));
    plain.map(|(name, value)| format!("{name}={value}")).chain(secrets).collect()
}

/// Ours last: no further label takes ownership away.
fn labels(cluster: &ClusterId, spec: &ContainerSpec) -> HashMap<String, String> {
    let own = [
        (label::CLUSTER, cluster.to_string()),
        (label::SPEC, spec.hash().to_string()),
        (label::ROLE, role_text(spec.role).to_owned()),
    ];
    let further = spec.labels.iter().map(|(key, value)| (key.to_string(), value.clone()));
    further.chain(own.map(|(key, value)| (key.to_owned(), value))).collect()
}

fn attachment(network: &Attachment) -> (Option<NetworkingConfig>, String) {
    match network {
        Attachment::None => (None, "none".into()),
        Attachment::Host => (None, "host".into()),
        Attachment::Network { name, address } => {
            let ipam = EndpointIpamConfig {
                ipv4_address: Some(address.to_string()),
                ..EndpointIpamConfig::default()
            };
            let endpoint =
                EndpointSettings { ipam_config: Some(ipam), ..EndpointSettings::default() };
            let endpoints = HashMap::from([(name.to_string(), endpoint)]);
            (Some(NetworkingConfig { endpoints_config: Some(endpoints) }), name.to_string())
        }
    }
}

fn host_config(
    cluster: &ClusterId,
    spec: &ContainerSpec,
    settings: &Settings,
    network_mode: String,
) -> HostConfig {
    let memory = spec.resources.memory.map(bytes);
    HostConfig {
        network_mode: Some(network_mode),
        port_bindings: Some(port_bindings(&spec.publish)),
        extra_hosts: Some(spec.hosts.iter().map(|(name, at)| format!("{name}:{at}")).collect()),
        nano_cpus: spec.resources.cpu.map(|cpu| i64::from(cpu.millis()) * 1_000_000),
        memory,
        // Equal to memory: no swap beyond it.
        memory_swap: memory,
        pids_limit: Some(i64::from(settings.pids)),
        restart_policy: Some(restart_policy(spec.restart)),
        mounts: Some(spec.volumes.iter().map(|volume| mount(cluster, volume)).collect()),
        readonly_rootfs: Some(spec.privileges.read_only_root),
        tmpfs: spec.privileges.read_only_root.then(|| tmpfs(&spec.volumes)),
        security_opt: Some(vec!["no-new-privileges:true".into()]),
        cap_add: capabilities(&spec.privileges),
        cap_drop: Some(vec![dropped(&spec.privileges).into()]),
        privileged: Some(false),
        init: Some(false),
        log_config: log_config(&settings.logs),
        ..HostConfig::default()
    }
}

fn bytes(size: ByteSize) -> i64 {
    i64::try_from(size.get()).unwrap_or(i64::MAX)
}

fn port_key(publish: &Publish) -> String {
    format!("{}/tcp", publish.container)
}

fn port_bindings(publish: &[Publish]) -> PortMap {
    let mut ports = PortMap::new();
    for entry in publish {
        let binding = PortBinding {
            host_ip: Some(entry.address.to_string()),
            host_port: Some(entry.host.to_string()),
        };
        ports.entry(port_key(entry)).or_default().get_or_insert_default().push(binding);
    }
    ports
}

fn restart_policy(restart: Restart) -> RestartPolicy {
    let name = match restart {
        Restart::Never => RestartPolicyNameEnum::NO,
        Restart::Always => RestartPolicyNameEnum::ALWAYS,
    };
    RestartPolicy { name: Some(name), maximum_retry_count: None }
}

/// As `mounts`, not `binds`: a directory that is missing is an error there, not made on the quiet.
fn mount(cluster: &ClusterId, volume: &Volume) -> Mount {
    let (typ, source) = match &volume.source {
        VolumeSource::Path(path) => (MountType::BIND, path.to_string()),
        VolumeSource::Name(name) => (MountType::VOLUME, name.to_string()),
    };
    let owner = HashMap::from([(label::CLUSTER.to_owned(), cluster.to_string())]);
    let options = MountVolumeOptions { labels: Some(owner), ..MountVolumeOptions::default() };
    Mount {
        target: Some(volume.target.to_string()),
        source: Some(source),
        typ: Some(typ),
        read_only: Some(volume.access == Access::ReadOnly),
        volume_options: (typ == MountType::VOLUME).then_some(options),
        ..Mount::default()
    }
}

/// A volume on the very place goes before.
fn tmpfs(volumes: &[Volume]) -> HashMap<String, String> {
    let free = |path: &str| volumes.iter().all(|volume| volume.target.as_str() != path);
    TMPFS
        .iter()
        .filter(|(path, _)| free(path))
        .map(|(path, options)| ((*path).to_owned(), (*options).to_owned()))
        .collect()
}

fn capabilities(privileges: &Privileges) -> Option<Vec<String>> {
    let set = privileges.capabilities.as_ref()?;
    Some(set.iter().map(|capability| capability.as_str().to_owned()).collect())
}

const fn dropped(privileges: &Privileges) -> &'static str {
    match privileges.capabilities {
        Some(_) => "ALL",
        None => "NET_RAW",
    }
}

fn log_config(logs: &Logs) -> Option<HostConfigLogConfig> {
    let Logs::Files { size, files } = logs else { return None };
    let config = HashMap::from([
        ("max-size".to_owned(), size.get().to_string()),
        ("max-file".to_owned(), files.to_string()),
    ]);
    Some(HostConfigLogConfig { typ: Some("json-file".into()), config: Some(config) })
}
