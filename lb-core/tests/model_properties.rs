//! The vocabulary's grammar and its serde, by property.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use lb_core::conformance::strategies::{
    app, app_name, cluster_id, env_name, image_digest, image_ref, instance_id, path_prefix,
    revision, signal,
};
use lb_core::*;
use proptest::prelude::*;

fn claim() -> impl Strategy<Value = Claim> {
    let hosts = prop_oneof![Just(None), Just(Some("a.org")), Just(Some("*.org"))];
    let route = (hosts, prop_oneof![Just("/"), Just("/a"), Just("/b")], any::<bool>()).prop_map(
        |(host, path, tls)| ClaimScope::Route {
            host: host.map(|h| DomainName::new(h).unwrap()),
            path: PathPrefix::new(path).unwrap(),
            tls,
        },
    );
    (80u16..82, prop_oneof![Just(ClaimScope::Whole), route])
        .prop_map(|(outside, scope)| Claim { outside, scope })
}

/// Whether a text can stand in a configuration, a command or a log without escaping.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\#;{}$%`<>|()!,".contains(&b))
}

proptest! {
    #[test]
    fn an_app_is_the_same_after_json_and_after_toml(app in app()) {
        prop_assert_eq!(&App::from_json(&serde_json::to_string(&app).unwrap()).unwrap(), &app);
        let text = toml::to_string(&app).unwrap();
        prop_assert_eq!(&App::from_toml(&text).unwrap(), &app, "{}", text);
    }

    #[test]
    fn whatever_a_name_admits_needs_no_escaping(
        text in prop_oneof!["\\PC{0,12}", "[ -~]{0,12}", "[a-z./:*~?=&@_-]{1,12}", "/[ -~]{0,12}", "[a-z]\\s?[a-z]"],
    ) {
        macro_rules! plain {
            ($($type:ident)*) => {$(
                if let Ok(name) = $type::new(&text) {
                    prop_assert!(is_plain(name.as_str()), "{}: {:?}", stringify!($type), name);
                    prop_assert_eq!(name.as_str(), &text);
                    let json = serde_json::to_string(&name).unwrap();
                    prop_assert_eq!(serde_json::from_str::<$type>(&json).unwrap(), name);
                }
            )*};
        }
        plain!(ClusterId HostId AppName PortName PolicyName ContainerName NetworkName BackendName
            ServerName DomainName PathPrefix HealthPath LabelKey LabelValue HeaderName
            CookieName UserName Signal AbsolutePath VolumeName FileName);
        if let Ok(image) = ImageRef::new(&text) {
            prop_assert!(is_plain(&image.to_string()));
            prop_assert_eq!(image.to_string(), text);
        }
    }

    #[test]
    fn a_container_name_gives_its_instance_back(
        cluster in cluster_id(), other in cluster_id(), id in instance_id(),
    ) {
        let name = id.container_name(&cluster);
        prop_assert_eq!(InstanceId::from_container_name(&cluster, &name), Some(id));
        if other != cluster {
            prop_assert_eq!(InstanceId::from_container_name(&other, &name), None);
        }
    }

    #[test]
    fn a_foreign_name_is_no_instance(text in "(lb\\.)?[a-z0-9.]{1,40}") {
        let Ok(name) = ContainerName::new(&text) else { return Ok(()) };
        let lb = ClusterId::new("lb").unwrap();
        if let Some(id) = InstanceId::from_container_name(&lb, &name) {
            prop_assert_eq!(id.container_name(&lb), name);
        }
    }

    #[test]
    fn a_path_covers_whole_segments_only(prefix in path_prefix(), rest in "[A-Za-z0-9._~-]{1,8}") {
        prop_assert!(prefix.covers(prefix.as_str()));
        prop_assert!(PathPrefix::root().covers(prefix.as_str()));
        if !prefix.is_root() {
            let (below, beside) = (format!("{prefix}/{rest}"), format!("{prefix}{rest}"));
            prop_assert!(prefix.covers(&below));
            let slash = format!("{prefix}/");
            prop_assert!(prefix.covers(&slash));
            prop_assert!(!prefix.covers(&beside));
        }
    }

    #[test]
    fn claims_clash_both_ways_or_not_at_all(a in claim(), b in claim()) {
        prop_assert_eq!(a.clashes(&b), b.clashes(&a), "{} / {}", a, b);
        prop_assert!(a.clashes(&a));
        if a.outside != b.outside {
            prop_assert!(!a.clashes(&b));
        }
    }

    #[test]
    fn sizes_and_shares_come_back(bytes in any::<u64>(), percent in 0u8..=100, total in 0u32..100_000) {
        let size = ByteSize::new(bytes);
        prop_assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        let share = Count::Share(Percent::new(percent).unwrap());
        let (up, down) = (share.of_rounded_up(total), share.of_rounded_down(total));
        prop_assert!(down <= up && up <= down + 1 && up <= total);
    }
}

#[test]
fn paths_and_host_names_have_a_grammar() {
    for good in ["/", "/a", "/a/b.c", "/~user", "/A-1_2"] {
        PathPrefix::new(good).unwrap();
    }
    for bad in ["", "a", "/a/", "//", "/a//b", "/.", "/..", "/a/../b", "/a/./b", "/a?b", "/a%2f"] {
        assert!(PathPrefix::new(bad).is_err(), "{bad}");
    }
    for good in ["a", "a.b", "*.a.b", "xn--bcher-kva.example", "1.2.3.4", &"a".repeat(63)] {
        DomainName::new(good).unwrap();
    }
    let long = [["a"; 127].join("."), "a".repeat(64)];
    DomainName::new(&long[0]).unwrap();
    let longer = format!("{}.b", long[0]);
    for bad in
        ["", ".", "a.", ".a", "A", "*", "*.", "*a.b", "a.*.b", "-a", "a-", "a_b", &long[1], &longer]
    {
        assert!(DomainName::new(bad).is_err(), "{bad}");
    }
    assert_eq!(DomainName::new("*.a.b").unwrap().wildcard_base(), Some("a.b"));
}

#[test]
fn whatever_prints_its_name_is_read_from_it() {
    fn back<T: std::str::FromStr + std::fmt::Display + PartialEq + std::fmt::Debug>(
        values: impl Strategy<Value = T>,
    ) where
        T::Err: std::fmt::Debug,
    {
        proptest!(|(value in values)| {
            prop_assert_eq!(value.to_string().parse::<T>().unwrap(), value);
        });
    }
    back(instance_id());
    back(revision());
    back(app_name());
    back(env_name());
    back(signal());
    back(image_ref());
    back(image_digest());
    back(any::<u64>().prop_map(Generation));
    back(any::<u64>().prop_map(ByteSize::new));
    back(any::<u32>().prop_map(Cpu::from_millis));
    back("[a-z0-9]{0,32}".prop_map(SpecHash::from_label));
    for wrong in [
        "",
        "shop",
        "shop.a4845e49c0.s0",
        "shop.a4845e49c0.s0.i1.x",
        "shop.a4845e49c0.s00.i1",
        "shop.a4845e49c0.s+1.i1",
    ] {
        let error = wrong.parse::<InstanceId>().unwrap_err().to_string();
        assert!(error.contains("must be APP.REVISION.sSLOT.iINCARNATION"), "{error}");
    }
}
