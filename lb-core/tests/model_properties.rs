//! The vocabulary's grammar and its serde, by property.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::str::FromStr;
use std::time::Duration;

use lb_core::*;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

fn name<T>(pattern: &'static str) -> impl Strategy<Value = T>
where
    T: FromStr<Err = Error> + std::fmt::Debug,
{
    pattern.prop_filter_map("must be a name", |text| text.parse().ok())
}

fn label(most: &'static str) -> &'static str {
    match most {
        "32" => "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?",
        _ => "[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?",
    }
}

fn domain() -> impl Strategy<Value = DomainName> {
    name("(\\*\\.)?[a-z0-9]{1,8}(\\.[a-z0-9-]{1,8}){0,3}")
}

fn path() -> impl Strategy<Value = PathPrefix> {
    name("/|(/[A-Za-z0-9._~-]{1,8}){1,4}")
}

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

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn nonzero() -> impl Strategy<Value = NonZeroU32> {
    (1u32..1000).prop_map(|n| NonZeroU32::new(n).unwrap())
}

fn balance() -> impl Strategy<Value = Balance> {
    prop_oneof![
        Just(Balance::RoundRobin),
        Just(Balance::LeastConnections),
        Just(Balance::RandomTwo),
        Just(Balance::SourceHash),
        Just(Balance::UriHash),
        name("[a-z0-9-]{1,20}").prop_map(Balance::HeaderHash),
    ]
}

fn health() -> impl Strategy<Value = Health> {
    let check = prop_oneof![
        Just(Check::Tcp),
        name("(/[a-z0-9]{1,5}){1,3}/?(\\?[a-z0-9=&]{0,9})?").prop_map(Check::Http),
    ];
    (check, millis(10..90_000), millis(10..90_000), nonzero(), nonzero()).prop_map(
        |(check, interval, timeout, rise, fall)| Health { check, interval, timeout, rise, fall },
    )
}

fn limits() -> impl Strategy<Value = PortLimits> {
    let rate = (nonzero(), millis(1000..3_600_000))
        .prop_map(|(requests, window)| RateLimit { requests, window });
    let body = any::<u32>().prop_map(|n| ByteSize::new(u64::from(n)));
    (
        option::of(nonzero()),
        millis(10..9000),
        option::of(rate),
        option::of(body),
        option::of(millis(10..9000)),
    )
        .prop_map(|(connections_per_instance, queue, rate, body, slow_start)| PortLimits {
            connections_per_instance,
            queue,
            rate,
            body,
            slow_start,
        })
}

prop_compose! {
    fn port()(
        outside in option::of(1u16..),
        hosts in btree_set(domain(), 0..3),
        path in path(),
        stripped in any::<bool>(),
        health in health(),
        balance in balance(),
        cookie in option::of(name("[A-Za-z0-9_-]{1,20}")),
        limits in limits(),
        tunnel in millis(10..86_400_000),
    ) -> Port {
        Port {
            outside: outside.and_then(NonZeroU16::new),
            hosts,
            path,
            prefix: if stripped { Prefix::Stripped } else { Prefix::Kept },
            health,
            balance,
            sticky: cookie.map(|cookie| Sticky { cookie }),
            limits,
            timeouts: Timeouts { tunnel, ..Timeouts::default() },
            ..Port::http(NonZeroU16::MIN)
        }
    }
}

fn env() -> impl Strategy<Value = BTreeMap<EnvName, String>> {
    btree_map(name("[A-Z_]{1,8}"), "[^\0]{0,20}", 0..4)
}

fn count() -> impl Strategy<Value = Count> {
    prop_oneof![
        (1u32..50).prop_map(Count::Exactly),
        (1u8..=100).prop_map(|p| Count::Share(Percent::new(p).unwrap())),
    ]
}

prop_compose! {
    fn scaling()(
        cpu in option::of(1u8..=100),
        requests in option::of(nonzero()),
        policy in option::of(name(label("32"))),
        days in btree_set(prop_oneof![Just(Day::Monday), Just(Day::Sunday)], 0..2),
        hour in 0i8..23,
        scale_in_after in option::of(millis(0..9_000_000)),
    ) -> Scaling {
        let floor = ScheduledFloor {
            days,
            from: jiff::civil::Time::new(hour, 30, 0, 0).unwrap(),
            until: jiff::civil::Time::new(hour + 1, 0, 0, 0).unwrap(),
            time_zone: "Europe/Berlin".into(),
            min: 2,
        };
        Scaling {
            cpu: cpu.map(|p| Percent::new(p).unwrap()),
            requests,
            policy,
            schedule: vec![floor],
            scale_in_after,
            ..Scaling::default()
        }
    }
}

prop_compose! {
    fn app()(
        (name, image) in (
            name(label("32")),
            name("([a-z0-9.]{1,9}:[1-9][0-9]{2}/)?[a-z0-9]{1,8}(/[a-z0-9]{1,8})?(:[a-z0-9.]{1,9})?"),
        ),
        (args, env, stop) in (option::of(vec("[^\0]{0,20}", 0..3)), env(), (millis(0..99_000), millis(0..99_000))),
        cpu in option::of(10u32..64_000),
        ports in btree_map(name(label("15")), port(), 1..4),
        (min, more) in (0u32..50, 0u32..50),
        scaling in option::of(scaling()),
        (surge, unavailable) in (count(), count()),
        labels in btree_map(name("[A-Za-z0-9._/-]{1,20}"), name("[A-Za-z0-9._/:-]{0,20}"), 0..3),
    ) -> Option<App> {
        let mut spec = AppSpec::new(name, image);
        (spec.args, spec.env) = (args, env);
        (spec.stop.grace, spec.stop.drain) = stop;
        spec.resources.cpu = cpu.map(Cpu::from_millis);
        spec.ports = ports;
        for (i, port) in (1u16..).zip(spec.ports.values_mut()) {
            port.container = NonZeroU16::new(i).unwrap();
        }
        spec.replicas = Replicas { min, max: min + more };
        spec.scaling = scaling;
        (spec.rollout.max_surge, spec.rollout.max_unavailable) = (surge, unavailable);
        spec.placement.labels = labels.clone();
        spec.placement.exposure = Exposure::Labelled(labels);
        // Two ports of one app may claim the same by chance.
        App::new(spec).ok()
    }
}

/// Whether a text can stand in a configuration, a command or a log without escaping.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\#;{}$%`<>|()!,".contains(&b))
}

proptest! {
    #[test]
    fn an_app_is_the_same_after_json_and_after_toml(app in app()) {
        let Some(app) = app else { return Ok(()) };
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
            ServerName DomainName PathPrefix HealthPath EnvName LabelKey LabelValue HeaderName
            CookieName UserName Signal AbsolutePath VolumeName FileName);
        if let Ok(image) = ImageRef::new(&text) {
            prop_assert!(is_plain(&image.to_string()));
            prop_assert_eq!(image.to_string(), text);
        }
    }

    #[test]
    fn a_container_name_gives_its_instance_back(
        cluster in name::<ClusterId>("[a-z0-9]{1,20}"), other in name::<ClusterId>("[a-z0-9]{1,20}"),
        app in name::<AppName>(label("32")), bytes in any::<[u8; 5]>(),
        slot in any::<u32>(), incarnation in any::<u32>(),
    ) {
        let id = InstanceId { app, revision: Revision::from_hash(&bytes), slot, incarnation };
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
    fn a_path_covers_whole_segments_only(prefix in path(), rest in "[A-Za-z0-9._~-]{1,8}") {
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
fn a_certificate_is_checked_in_form() {
    const CERT: &str = "-----BEGIN CERTIFICATE-----\nAAAA\nBB==\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let good = [
        format!("{CERT}{KEY}"),
        format!("{KEY}\n{CERT}{CERT}"),
        format!("{CERT}{KEY}").replace('\n', "\r\n"),
    ];
    for pem in good {
        assert_eq!(CertificatePem::new(&pem).unwrap().expose(), pem);
    }
    let bad = [
        (String::new(), "certificate: must hold at least one CERTIFICATE"),
        (KEY.to_owned(), "certificate: must hold at least one CERTIFICATE"),
        (CERT.to_owned(), "certificate: must hold exactly one PRIVATE KEY, not 0"),
        (format!("{CERT}{KEY}{KEY}"), "certificate: must hold exactly one PRIVATE KEY, not 2"),
        (format!("{CERT}{KEY}x"), "certificate: line 8: must be a -----BEGIN line"),
        (
            format!("{CERT}{KEY}").replace("BB==", "B B"),
            "certificate: line 3: must be base64 of at most 128 characters",
        ),
        (
            format!("{CERT}{KEY}").replace("BB==", ""),
            "certificate: line 3: must be base64 of at most 128 characters",
        ),
        (
            format!("{CERT}{}", KEY.replace("AAAA\n", "")),
            "certificate: line 6: must hold base64 before it ends",
        ),
        (
            CERT.replace("END CERTIFICATE", "END PRIVATE KEY"),
            "certificate: line 4: must end what was begun",
        ),
        (CERT.replace("-----END CERTIFICATE-----\n", ""), "certificate: CERTIFICATE must be ended"),
        (
            format!("{CERT}{}", KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")),
            "certificate: line 5: must begin a CERTIFICATE or an unencrypted PRIVATE KEY",
        ),
        ("A".repeat(70_000), "certificate: must be at most 65536 bytes"),
    ];
    for (pem, rule) in bad {
        assert_eq!(CertificatePem::new(pem).unwrap_err().to_string(), rule);
    }
}
