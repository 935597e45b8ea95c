//! A spec as the body of `POST /containers/create`.

use std::collections::HashMap;

use bollard::auth::DockerCredentials;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountType, MountVolumeOptions, NetworkingConfig, PortBinding,
    PortMap, RestartPolicy, RestartPolicyNameEnum,
};
use lb_core::engine::{environment, labels, owner_label, whole_seconds, writable_places};
use lb_core::{
    Access, Attachment, ByteSize, ClusterId, ContainerSpec, ImageRef, Privileges, Publish,
    RegistryAuth, Restart, Signal, Volume, VolumeSource,
};

use crate::runtime::Logs;

/// What every container gets beside its spec.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) logs: Logs,
    pub(crate) pids: u32,
}

/// Where logins without a registry in the image's name go, by Docker's custom.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// A login as bollard takes it.
pub(crate) fn credentials(
    image: &ImageRef,
    auth: Option<&RegistryAuth>,
) -> Option<DockerCredentials> {
    let auth = auth?;
    Some(DockerCredentials {
        username: Some(auth.username.clone()),
        password: Some(auth.password.expose().to_owned()),
        serveraddress: Some(image.registry().unwrap_or(DOCKER_HUB).to_owned()),
        ..DockerCredentials::default()
    })
}

/// The whole body but the image's name.
pub(crate) fn create_body(
    cluster: &ClusterId,
    spec: &ContainerSpec,
    settings: &Settings,
) -> ContainerCreateBody {
    let (networking_config, network_mode) = attachment(&spec.network);
    ContainerCreateBody {
        user: spec.user.as_ref().map(ToString::to_string),
        env: Some(
            environment(spec).iter().map(|(name, value)| format!("{name}={value}")).collect(),
        ),
        entrypoint: spec.command.clone(),
        cmd: spec.args.clone(),
        labels: Some(labels(cluster, spec).into_iter().collect()),
        exposed_ports: Some(spec.publish.iter().map(port_key).collect()),
        stop_signal: spec.stop_signal.as_ref().map(stop_signal),
        stop_timeout: Some(i64::try_from(whole_seconds(spec.stop_grace)).unwrap_or(i64::MAX)),
        // Readiness is probed from outside; an image's own check would only cost and make noise.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..HealthConfig::default()
        }),
        networking_config,
        host_config: Some(host_config(cluster, spec, settings, network_mode)),
        ..ContainerCreateBody::default()
    }
}

/// Docker knows half of the real-time signals by name, and all signals by number.
fn stop_signal(signal: &Signal) -> String {
    match signal.number() {
        1..32 => signal.to_string(),
        real_time => real_time.to_string(),
    }
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
        tmpfs: spec.privileges.read_only_root.then(|| tmpfs(spec)),
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
    let owner = HashMap::from([owner_label(cluster)]);
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

fn tmpfs(spec: &ContainerSpec) -> HashMap<String, String> {
    writable_places(spec).map(|(path, options)| (path.to_owned(), options.to_owned())).collect()
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
