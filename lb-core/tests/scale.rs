//! Scaling follows the load, never in without proof, and boundedly (F15, F16, F17 of the fault table).
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use lb_core::*;
use proptest::prelude::*;

const ASK_EVERY: Duration = Duration::from_secs(15);

fn app(scaling: &str) -> App {
    App::from_toml(&format!(
        r#"
        name = "shop"
        image = "shop:1"
        replicas = {{ min = 1, max = 1000 }}
        resources = {{ cpu = 0.5, memory = "100MB" }}
        ports.web = {{ container = 80 }}
        [scaling]
        {scaling}
        "#
    ))
    .unwrap()
}

fn at(seconds: u64) -> Now {
    Now::at_seconds(u32::try_from(seconds).unwrap())
}

fn sample(now: Now, instances: u32) -> LoadSample {
    LoadSample {
        at: now,
        over: ASK_EVERY,
        instances,
        cpu: None,
        memory: None,
        requests: None,
        failures: None,
        concurrency: None,
        response_time: None,
    }
}

fn requests(now: Now, instances: u32, requests: f64) -> LoadSample {
    LoadSample { requests: Some(requests), ..sample(now, instances) }
}

/// A policy with its memory, asked about an app whose wanted instances are all ready.
struct Asked {
    app: App,
    policy: Arc<dyn ScalePolicy>,
    memory: PolicyMemory,
    wanted: u32,
}

impl Asked {
    fn new(scaling: &str, wanted: u32) -> Self {
        let app = app(scaling);
        let policy = from_scaling(app.scaling.as_ref().unwrap()).unwrap();
        Self { app, policy, memory: PolicyMemory::default(), wanted }
    }

    fn ask(&mut self, now: Now, samples: &[LoadSample]) -> u32 {
        self.ask_starting(now, samples, 0)
    }

    /// Of the wanted instances, so many still start.
    fn ask_starting(&mut self, now: Now, samples: &[LoadSample], starting: u32) -> u32 {
        let (ready, wanted) = (self.wanted - starting, self.wanted);
        let load = LoadView { app: &self.app, wanted, ready, starting, samples };
        let (decision, memory) = self.policy.decide(&load, &self.memory, now);
        assert!(memory.0.to_string().len() <= 64 * 1024, "the memory is bounded");
        self.memory = memory;
        self.wanted = decision.count(wanted);
        self.wanted
    }
}

#[test]
fn each_metric_is_kept_at_its_target_per_instance() {
    let now = at(1000);
    let cases = [
        ("cpu = 50", LoadSample { cpu: Some(1.0), ..sample(now, 2) }, 4),
        ("memory = 50", LoadSample { memory: Some(150e6), ..sample(now, 2) }, 3),
        ("requests = 100", requests(now, 2, 301.0), 4),
        ("concurrency = 10", LoadSample { concurrency: Some(30.0), ..sample(now, 2) }, 3),
    ];
    for (scaling, sample, wanted) in cases {
        assert_eq!(Asked::new(scaling, 2).ask(now, &[sample]), wanted, "{scaling}");
    }
}

#[test]
fn within_a_tenth_of_the_target_nothing_happens() {
    let now = at(1000);
    for load in [910.0, 1000.0, 1099.0] {
        assert_eq!(Asked::new("requests = 100", 10).ask(now, &[requests(now, 10, load)]), 10);
    }
    assert_eq!(Asked::new("requests = 100", 10).ask(now, &[requests(now, 10, 1101.0)]), 12);
}

#[test]
fn out_is_bounded_to_four_or_double_in_15_s_however_often_it_is_asked() {
    let mut asked = Asked::new("requests = 10", 1);
    let huge = |now, n| [requests(now, n, 1e9)];
    assert_eq!(asked.ask(at(1000), &huge(at(1000), 1)), 5);
    for second in 1001..1015 {
        assert_eq!(asked.ask(at(second), &huge(at(second), 5)), 5, "second {second}");
    }
    assert_eq!(asked.ask(at(1015), &huge(at(1015), 5)), 10);
    assert_eq!(asked.ask(at(1030), &huge(at(1030), 10)), 20);
    assert_eq!(asked.ask(at(1045), &huge(at(1045), 20)), 40);
}

#[test]
fn in_waits_for_the_highest_recommendation_of_the_window() {
    let mut asked = Asked::new("requests = 100", 10);
    let ask = |asked: &mut Asked, second, load| {
        let wanted = asked.wanted;
        asked.ask(at(second), &[requests(at(second), wanted, load)])
    };
    assert_eq!(ask(&mut asked, 1000, 1000.0), 10);
    for second in (1015..1300).step_by(15) {
        let load = if second == 1150 { 600.0 } else { 200.0 };
        assert_eq!(ask(&mut asked, second, load), 10, "second {second}");
    }
    assert_eq!(ask(&mut asked, 1300, 200.0), 6, "what 1150 asked for still counts");
    for second in (1315..1450).step_by(15) {
        assert_eq!(ask(&mut asked, second, 200.0), 6, "second {second}");
    }
    assert_eq!(ask(&mut asked, 1450, 200.0), 2);

    let mut soon = Asked::new("requests = 100\nscale_in_after = \"30s\"", 10);
    assert_eq!(ask(&mut soon, 1000, 200.0), 10, "a first look proves nothing");
    assert_eq!(ask(&mut soon, 1015, 200.0), 10);
    assert_eq!(ask(&mut soon, 1030, 200.0), 2);
}

/// What broke: each decision found the window empty and took it for a silence, so nothing ever scaled in.
#[test]
fn a_window_shorter_than_the_time_between_decisions_still_scales_in() {
    let mut asked = Asked::new("requests = 50\nscale_in_after = \"5s\"", 5);
    let low = |second| [requests(at(second), 5, 50.0)];
    assert_eq!(asked.ask(at(1000), &low(1000)), 5, "one reading proves nothing");
    assert_eq!(asked.ask(at(1015), &low(1015)), 1);
}

#[test]
fn a_lost_memory_or_a_clock_that_starts_again_delays_and_never_hastens() {
    let low = |now| [requests(now, 10, 100.0)];
    let mut asked = Asked::new("requests = 100", 10);
    for second in (100_000..100_200).step_by(15) {
        assert_eq!(asked.ask(at(second), &low(at(second))), 10);
    }
    // The process starts again: its clock reads less than all that is remembered.
    for second in (5..300).step_by(15) {
        assert_eq!(asked.ask(at(second), &low(at(second))), 10, "second {second}");
    }
    assert_eq!(asked.ask(at(305), &low(at(305))), 1);

    let mut garbled = Asked::new("requests = 100", 10);
    garbled.memory = PolicyMemory(serde_json::json!({"advice": "none", "x": [1]}));
    assert_eq!(garbled.ask(at(1000), &low(at(1000))), 10);
}

#[test]
fn after_a_silence_one_low_reading_does_not_scale_in() {
    let mut asked = Asked::new("requests = 100", 10);
    assert_eq!(asked.ask(at(1000), &[requests(at(1000), 10, 1000.0)]), 10);
    assert_eq!(asked.ask(at(9000), &[requests(at(9000), 10, 10.0)]), 10);
    let mut missing = Asked::new("requests = 100", 10);
    for second in (1000..2000).step_by(15) {
        assert_eq!(missing.ask(at(second), &[sample(at(second), 10)]), 10);
    }
    assert_eq!(missing.ask(at(2000), &[requests(at(2000), 10, 10.0)]), 10);
}

#[test]
fn what_is_starting_counts_as_idle_on_the_way_out_and_proves_nothing_on_the_way_in() {
    let mut out = Asked::new("requests = 100", 8);
    let load = [requests(at(1000), 4, 800.0)];
    assert_eq!(out.ask_starting(at(1000), &load, 4), 8, "4 more are on their way already");
    let mut more = Asked::new("requests = 100", 8);
    assert_eq!(more.ask_starting(at(1000), &[requests(at(1000), 4, 1200.0)], 4), 12);
}

#[test]
fn what_was_not_measured_counts_as_loaded_on_the_way_in_and_idle_on_the_way_out() {
    let ask = |measured, load| {
        let mut asked = Asked::new("requests = 100\nscale_in_after = \"1s\"", 10);
        // Fewer have been enough before, so that this look alone decides.
        asked.memory = PolicyMemory(serde_json::json!([{ "advice": [[999_500, 1]] }]));
        asked.ask(at(1000), &[requests(at(1000), measured, load)])
    };
    assert_eq!(ask(10, 100.0), 1);
    assert_eq!(ask(5, 100.0), 6, "five unseen ones are as loaded as they should be");
    assert_eq!(ask(5, 700.0), 10, "700 would need 7, fewer than there are");
    assert_eq!(ask(5, 1500.0), 15);
}

fn hostile() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        Just(None),
        Just(Some(f64::NAN)),
        Just(Some(f64::INFINITY)),
        Just(Some(f64::NEG_INFINITY)),
        (-1e12..-1e-12).prop_map(Some),
    ]
}

proptest! {
    #[test]
    fn missing_or_absurd_metrics_never_scale_in(
        values in prop::collection::vec(hostile(), 1..40),
        wanted in 1u32..50,
        good_before in 0u64..30,
    ) {
        for scaling in ["cpu = 50", "memory = 50", "requests = 100", "concurrency = 10"] {
            let mut asked = Asked::new(scaling, wanted);
            let mut second = 1000;
            let all = |now, value: Option<f64>| LoadSample {
                cpu: value, memory: value, requests: value, concurrency: value,
                ..sample(now, wanted)
            };
            for _ in 0..good_before {
                second += 15;
                let sample = all(at(second), Some(1e-9));
                asked.wanted = wanted;
                asked.ask(at(second), &[sample]);
            }
            asked.wanted = wanted;
            for value in &values {
                second += 15;
                prop_assert_eq!(asked.ask(at(second), &[all(at(second), *value)]), wanted);
            }
            // Stale, from the future, nothing at all, and nobody measured.
            let good = all(at(second), Some(1e-9));
            prop_assert_eq!(asked.ask(at(second + 61), &[good]), wanted);
            prop_assert_eq!(asked.ask(at(second - 15), &[good]), wanted);
            prop_assert_eq!(asked.ask(at(second), &[]), wanted);
            prop_assert_eq!(asked.ask(at(second), &[LoadSample { instances: 0, ..good }]), wanted);
        }
    }

    #[test]
    fn one_missing_target_of_several_can_scale_out_but_not_in(
        load in 0.0..5000.0f64, wanted in 1u32..50,
    ) {
        let mut both = Asked::new("requests = 100\ncpu = 50\nscale_in_after = \"1s\"", wanted);
        for second in (1000..1100).step_by(15) {
            both.wanted = wanted;
            both.ask(at(second), &[requests(at(second), wanted, load)]);
            prop_assert!(both.wanted >= wanted);
        }
        let mut one = Asked::new("requests = 100", wanted);
        one.ask(at(1000), &[requests(at(1000), wanted, load)]);
        prop_assert_eq!(one.wanted.max(wanted), both.wanted);
    }

    #[test]
    fn more_load_never_gives_a_lower_count(
        a in 0.0..20_000.0f64, b in 0.0..20_000.0f64,
        ready in 1u32..100, starting in 0u32..20, measured in 0u32..120, over in 0u32..10,
        history in prop::collection::vec(0.0..20_000.0f64, 0..30),
    ) {
        let (less, more) = if a < b { (a, b) } else { (b, a) };
        let mut asked = Asked::new("requests = 100", ready + starting + over);
        let wanted = asked.wanted;
        let mut second = 1000;
        for load in history {
            asked.wanted = wanted;
            asked.ask(at(second), &[requests(at(second), wanted, load)]);
            second += 15;
        }
        let decide = |load| {
            let samples = [requests(at(second), measured, load)];
            let view = LoadView { app: &asked.app, wanted, ready, starting, samples: &samples };
            asked.policy.decide(&view, &asked.memory, at(second)).0.count(wanted)
        };
        prop_assert!(decide(less) <= decide(more));
    }

    #[test]
    fn flapping_load_gives_bounded_actions(
        loads in prop::collection::vec(0.0..4000.0f64, 200),
        every in 1u64..40,
    ) {
        let mut asked = Asked::new("requests = 100", 5);
        let window = 300;
        let mut counts = vec![(1000, 5)];
        for (i, load) in (1u64..).zip(loads) {
            let second = 1000 + i * every;
            let wanted = asked.wanted;
            counts.push((second, asked.ask(at(second), &[requests(at(second), wanted, load)])));
        }
        // After an increase the count does not fall below it for the whole window: so in any window
        // there is at most one turn from out to in, however the load flaps.
        for (i, pair) in counts.windows(2).enumerate() {
            let [(_, before), (when, after)] = pair else { unreachable!() };
            if after > before {
                let kept = counts[i + 1..].iter().take_while(|(s, _)| s - when < window);
                prop_assert!(kept.clone().all(|(_, count)| count >= after), "{counts:?}");
            }
        }
        // And never more than the load ever asked for, nor out faster than the bound.
        prop_assert!(counts.iter().all(|(_, count)| *count <= 40));
        for (i, (when, count)) in counts.iter().enumerate() {
            let recent = counts[..i].iter().rev().take_while(|(s, _)| when - s < 15);
            let least = recent.map(|(_, c)| *c).chain(i.checked_sub(1).map(|p| counts[p].1)).min();
            if let Some(least) = least {
                prop_assert!(*count <= (least + 4).max(least * 2));
            }
        }
    }
}

fn floors(zone: &str, from: &str, until: &str, days: &str) -> Floors {
    let app = app(&format!(
        "schedule = [{{ from = \"{from}\", until = \"{until}\", time_zone = \"{zone}\", min = 7, days = [{days}] }}]"
    ));
    Floors::new(&app.scaling.as_ref().unwrap().schedule, Arc::new(Least))
}

/// When the floor is in force on a UTC day (and the night after), as `HH:MM-HH:MM` of UTC.
fn in_force(floors: &Floors, day: &str) -> Vec<String> {
    let start: jiff::Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
    let minute = |m: i64| start + Duration::from_secs(u64::try_from(m).unwrap() * 60);
    let open: Vec<bool> = (0..36 * 60).map(|m| floors.at(minute(m)) == 7).collect();
    let mut spans = Vec::new();
    let mut since = open[0].then_some(0);
    for (m, pair) in (1i64..).zip(open.windows(2)) {
        match pair {
            [false, true] => since = Some(m),
            [true, false] => {
                let show = |m| minute(m).strftime("%H:%M").to_string();
                spans.push(format!("{}-{}", show(since.unwrap()), show(m)));
            }
            _ => {}
        }
    }
    spans
}

#[test]
fn a_floor_holds_between_its_times_on_its_days() {
    let berlin = |from, until, days| floors("Europe/Berlin", from, until, days);
    assert_eq!(in_force(&berlin("08:00", "18:00", "\"monday\""), "2026-06-01"), ["06:00-16:00"]);
    assert_eq!(in_force(&berlin("08:00", "18:00", "\"monday\""), "2026-06-02"), [""; 0]);
    let night = berlin("22:00", "06:00", "\"friday\"");
    assert_eq!(in_force(&night, "2026-06-05"), ["20:00-04:00"]);
    assert_eq!(in_force(&night, "2026-06-06"), ["00:00-04:00"], "the day a window starts counts");
}

/// Germany: 2026-03-29 02:00 becomes 03:00 (01:00 UTC), 2026-10-25 03:00 becomes 02:00 (01:00 UTC).
#[test]
fn a_skipped_hour_runs_once_and_a_repeated_hour_once() {
    let berlin = |from, until| floors("Europe/Berlin", from, until, "\"sunday\"");
    assert_eq!(in_force(&berlin("02:15", "02:45"), "2026-03-29"), ["01:15-01:45"]);
    assert_eq!(in_force(&berlin("02:30", "03:15"), "2026-03-29"), ["01:30-02:15"]);
    assert_eq!(in_force(&berlin("01:30", "02:30"), "2026-03-29"), ["00:30-01:30"]);
    assert_eq!(in_force(&berlin("01:30", "03:30"), "2026-03-29"), ["00:30-01:30"]);
    assert_eq!(in_force(&berlin("02:15", "02:45"), "2026-10-25"), ["00:15-00:45"]);
    assert_eq!(in_force(&berlin("02:30", "03:30"), "2026-10-25"), ["00:30-02:30"]);
    assert_eq!(in_force(&berlin("01:00", "02:30"), "2026-10-25"), ["00:00-00:30"]);
}

#[test]
fn a_floor_lifts_the_count_and_real_demand_stands_above_it() {
    let mut asked = Asked::new(
        "requests = 100\nschedule = [{ from = \"08:00\", until = \"18:00\", min = 7 }]",
        2,
    );
    let nine = 9 * 3600;
    assert_eq!(asked.ask(at(nine), &[]), 7, "also when nothing is measured");
    assert_eq!(asked.ask(at(nine + 15), &[requests(at(nine + 15), 7, 1200.0)]), 12);
    let mut alone = Asked::new("schedule = [{ from = \"08:00\", until = \"18:00\", min = 7 }]", 2);
    assert_eq!(alone.ask(at(nine), &[]), 7);
    assert_eq!(alone.ask(at(19 * 3600), &[]), 1, "back to the least count");
}

#[test]
fn an_app_of_a_custom_policy_or_of_none_has_no_built_in_one() {
    assert!(from_scaling(&Scaling::default()).is_none());
    let custom = app("policy = \"mine\"");
    assert!(from_scaling(custom.scaling.as_ref().unwrap()).is_none());
    let cpu = Scaling { requests: NonZeroU32::new(1), ..Scaling::default() };
    assert!(from_scaling(&cpu).is_some());
}
