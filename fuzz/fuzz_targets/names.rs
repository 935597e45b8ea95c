#![no_main]
//! Every name grammar on one text: what is accepted holds the allow-list, restated here on its own, and comes
//! back from what it prints and from JSON; what is refused says so in one bounded line.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use lb_core::{
    AbsolutePath, AppName, BackendName, ByteSize, CertificatePem, ClusterId, ContainerName,
    CookieName, DomainName, EnvName, Error, FileName, HeaderName, HealthPath, HostId, ImageDigest,
    ImageRef, InstanceId, LabelKey, LabelValue, NetworkName, PathPrefix, PolicyName, PortName,
    Revision, ServerName, Signal, TableHash, UserName, VolumeName,
};
use lb_fuzz::check_message;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    labels(text);
    others(text);
    values(text);
});

/// Names of lower-case labels.
fn labels(text: &str) {
    name::<ClusterId>(text, 1..=20, &[LOWER, "-"]);
    name::<AppName>(text, 1..=32, &[LOWER, "-"]);
    name::<PolicyName>(text, 1..=32, &[LOWER, "-"]);
    name::<PortName>(text, 1..=15, &[LOWER, "-"]);
    name::<HostId>(text, 1..=63, &[LOWER, "-."]);
    name::<NetworkName>(text, 1..=64, &[LOWER, "-."]);
    name::<BackendName>(text, 1..=64, &[LOWER, "-."]);
    name::<ServerName>(text, 1..=128, &[LOWER, "-."]);
    let Some(name) = name::<ContainerName>(text, 1..=128, &[LOWER, "-."]) else { return };
    let cluster = text.split('.').next().and_then(|c| ClusterId::new(c).ok());
    let Some(cluster) = cluster else { return };
    if let Some(id) = InstanceId::from_container_name(&cluster, &name) {
        assert_eq!(id.container_name(&cluster), name);
    }
}

fn others(text: &str) {
    if let Some(domain) = name::<DomainName>(text, 1..=255, &[LOWER, "-.*"]) {
        let rest = domain.wildcard_base().unwrap_or(domain.as_str());
        assert!(!rest.contains('*') && rest.split('.').all(|l| (1..=63).contains(&l.len())));
    }
    if let Some(path) = name::<PathPrefix>(text, 1..=255, &[LOWER, UPPER, "/._~-"]) {
        assert!(path.as_str().starts_with('/') && path.covers(text) && !text.contains("//"));
        assert!(!text.split('/').any(|part| part == "." || part == ".."));
    }
    name::<HealthPath>(text, 1..=255, &[LOWER, UPPER, "/._~-=&?"]);
    name::<AbsolutePath>(text, 1..=255, &[LOWER, UPPER, "/._~-+=@^[]"]);
    match EnvName::new(text) {
        Ok(name) => assert!(name.as_str() == text && text.len() <= 255 && !text.contains(['=', '\0'])),
        Err(error) => check_message(&error),
    }
    name::<LabelKey>(text, 1..=63, &[LOWER, UPPER, "._/-"]);
    name::<LabelValue>(text, 0..=63, &[LOWER, UPPER, "._/:-"]);
    name::<HeaderName>(text, 1..=64, &[LOWER, "-_."]);
    name::<CookieName>(text, 1..=64, &[LOWER, UPPER, "_-"]);
    name::<UserName>(text, 1..=64, &[LOWER, UPPER, "_.-:"]);
    if let Some(signal) = name::<Signal>(text, 5..=12, &[UPPER, "0123456789+-"]) {
        assert!((1..=64).contains(&signal.number()));
    }
    if let Ok(id) = text.parse::<InstanceId>() {
        assert_eq!(id.to_string(), text);
    }
    name::<VolumeName>(text, 1..=64, &[LOWER, UPPER, "._-"]);
    name::<FileName>(text, 1..=64, &[LOWER, "._-"]);
}

fn values(text: &str) {
    if let Some(image) = name::<ImageRef>(text, 1..=400, &[LOWER, UPPER, "._-/:@"]) {
        assert!(text.starts_with(image.repository()));
        assert!(image.registry().is_none_or(|registry| text.starts_with(registry)));
    }
    name::<ImageDigest>(text, 71..=71, &["sha256:0123456789abcdef"]);
    name::<Revision>(text, 10..=10, &["0123456789abcdef"]);
    name_of_any_case(text);
    if let Ok(size) = text.parse::<ByteSize>() {
        assert_eq!(size.to_string().parse::<ByteSize>().ok(), Some(size));
    }
    match CertificatePem::new(text) {
        Ok(pem) => {
            assert!(pem.expose().is_ascii());
            assert_eq!(CertificatePem::new(pem.expose()), Ok(pem));
        }
        Err(error) => check_message(&error),
    }
}

/// Table hashes are read in either case.
fn name_of_any_case(text: &str) {
    match text.parse::<TableHash>() {
        Ok(hash) => {
            assert_eq!(hash.to_string(), text.to_ascii_lowercase());
        }
        Err(error) => check_message(&error),
    }
}

fn name<T>(text: &str, length: std::ops::RangeInclusive<usize>, allowed: &[&str]) -> Option<T>
where
    T: FromStr<Err = Error> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let name: T = match text.parse() {
        Ok(name) => name,
        Err(error) => {
            check_message(&error);
            return None;
        }
    };
    let what = std::any::type_name::<T>();
    assert!(length.contains(&text.len()), "{what}: {} bytes: {name:?}", text.len());
    let odd = text.chars().find(|c| !allowed.iter().any(|set| set.contains(*c)));
    assert!(odd.is_none(), "{what}: {odd:?} in {name:?}");
    assert_eq!(name.to_string(), text, "{what}");
    let json = serde_json::to_string(&name).expect("a name is JSON");
    let again: T = serde_json::from_str(&json).expect("a name comes back");
    assert_eq!(again, name, "{what}");
    Some(name)
}
