//! What every engine writes with a container, and what it reads back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Failure, Summary};
use crate::model::{ClusterId, LabelKey, Volume, shown};
use crate::runtime::{
    Attachment, Container, ContainerId, ContainerSpec, ContainerState, Readiness, Role, SpecHash,
    label,
};

/// Writable places of a container whose root is read only, as options of mount(8): what programs expect to
/// be able to write.
const WRITABLE: [(&str, &str); 2] = [
    ("/tmp", "rw,nosuid,nodev,noexec,size=64m,mode=1777"),
    ("/run", "rw,nosuid,nodev,noexec,size=16m,mode=755"),
];

/// The label that says whose a thing is.
pub fn owner_label(cluster: &ClusterId) -> (String, String) {
    (label::CLUSTER.to_owned(), cluster.to_string())
}

/// A container's labels. Ours last: no further label takes ownership away.
pub fn labels(cluster: &ClusterId, spec: &ContainerSpec) -> BTreeMap<String, String> {
    let own = [
        owner_label(cluster),
        (label::SPEC.to_owned(), spec.hash().to_string()),
        (label::ROLE.to_owned(), spec.role.as_str().to_owned()),
    ];
    let further = spec.labels.iter().map(|(key, value)| (key.to_string(), value.clone()));
    further.chain(own).collect()
}

/// Environment variables, the secret ones before plain ones of the same name.
pub fn environment(spec: &ContainerSpec) -> BTreeMap<&str, &str> {
    let plain = spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let secrets = spec.secrets.iter().map(|(name, value)| (name.as_str(), value.expose()));
    plain.chain(secrets).collect()
}

/// Where to mount memory, and how. A volume on the very place goes before.
pub fn writable_places(
    spec: &ContainerSpec,
) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
    let free =
        |path: &str| spec.volumes.iter().all(|volume: &Volume| volume.target.as_str() != path);
    let read_only = spec.privileges.read_only_root;
    WRITABLE.into_iter().filter(move |(path, _)| read_only && free(path))
}

/// Settings that contradict each other.
///
/// # Errors
/// `Invalid` naming the setting.
pub fn check(spec: &ContainerSpec) -> Result<(), Failure> {
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

/// For an engine that takes whole seconds: rounded up.
pub const fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + (time.subsec_nanos() > 0) as u64
}

/// Whether the labels are this cluster's.
pub(super) fn owned(cluster: &ClusterId, labels: &BTreeMap<String, String>) -> Result<(), Failure> {
    match labels.get(label::CLUSTER) {
        Some(owner) if owner == cluster.as_str() => Ok(()),
        Some(owner) => {
            let owner = shown("cluster", owner);
            Err(Failure::conflict(format!("belongs to {owner}, not {cluster:?}")))
        }
        None => Err(Failure::conflict(format!(
            "exists without the label {}: it was not made by cluster {cluster:?}",
            label::CLUSTER
        ))),
    }
}

/// A container of the list, once its state is known. `None` if our labels are on what we did not make.
pub(super) fn listed(summary: Summary, state: ContainerState) -> Option<Container> {
    let labels = summary.labels;
    let role = Role::from_label(labels.get(label::ROLE)?)?;
    let spec = SpecHash::from_label(labels.get(label::SPEC)?.as_str());
    Some(Container {
        name: summary.name?,
        id: ContainerId(summary.id),
        role,
        spec,
        labels: further(labels),
        state,
        readiness: Readiness::Unknown,
    })
}

fn further(labels: BTreeMap<String, String>) -> BTreeMap<LabelKey, String> {
    let ours = [label::CLUSTER, label::SPEC, label::ROLE];
    labels
        .into_iter()
        .filter(|(key, _)| !ours.contains(&key.as_str()))
        .filter_map(|(key, value)| Some((LabelKey::new(key).ok()?, value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::runtime::Publish;

    fn summary(name: Option<&str>, labels: &[(&str, &str)]) -> Summary {
        let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Summary {
            id: "1".into(),
            name: name.map(|n| n.parse().unwrap()),
            labels: labels.iter().map(text).collect(),
            state: None,
        }
    }

    #[test]
    fn what_carries_our_labels_but_is_not_of_our_making_is_not_listed() {
        let role = |role| [("lb.cluster", "shop"), ("lb.spec", "h"), ("lb.role", role)];
        let mut ours = role("checker").to_vec();
        ours.extend([("a b", "bad key"), ("tier", "web")]);
        let container = listed(summary(Some("c1"), &ours), ContainerState::Running).unwrap();
        assert_eq!(container.role, Role::Checker);
        let labels: Vec<_> =
            container.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(labels, [("tier", "web")]);
        let nothing = [
            summary(Some("c1"), &role("king")),
            summary(None, &ours),
            summary(Some("c1"), &[("lb.cluster", "shop")]),
        ];
        for summary in nothing {
            assert!(listed(summary.clone(), ContainerState::Running).is_none(), "{summary:?}");
        }
    }

    #[test]
    fn no_further_label_takes_ownership_away_and_secrets_go_before() {
        let mut spec =
            ContainerSpec::new("c1".parse().unwrap(), Role::Balancer, "app:1".parse().unwrap());
        spec.labels.insert("lb.cluster".parse().unwrap(), "thief".into());
        spec.env =
            [("A".parse().unwrap(), "plain".into()), ("B".parse().unwrap(), "b".into())].into();
        spec.secrets = [("A".parse().unwrap(), crate::model::Secret::new("hidden"))].into();
        let cluster = ClusterId::new("shop").unwrap();
        let labels = labels(&cluster, &spec);
        assert!(owned(&cluster, &labels).is_ok());
        assert_eq!((labels["lb.role"].as_str(), labels.len()), ("balancer", 3));
        assert_eq!(environment(&spec), [("A", "hidden"), ("B", "b")].into());
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let plain =
            || ContainerSpec::new("c1".parse().unwrap(), Role::Instance, "app:1".parse().unwrap());
        let publish = vec![Publish { address: [127, 0, 0, 1].into(), host: 1, container: 1 }];
        let on_host =
            ContainerSpec { network: Attachment::Host, publish: publish.clone(), ..plain() };
        let alone = ContainerSpec { publish, ..plain() };
        let wildcard = ContainerSpec {
            hosts: [("*.example.org".parse().unwrap(), [1, 1, 1, 1].into())].into(),
            ..plain()
        };
        assert!(check(&plain()).is_ok());
        for spec in [on_host, alone, wildcard] {
            assert_eq!(check(&spec).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1500)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(3)), 3);
        assert_eq!(whole_seconds(Duration::ZERO), 0);
    }
}
