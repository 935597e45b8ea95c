//! What each version answers, byte for byte, and that it is read alike. All were asked in one situation: two backends,
//! three requests (one of them answered with 500), one that still tries to reach its server, a reload that went well,
//! one that failed (`ulimit-n 90000000`).

use super::*;
use crate::Version;

/// The answers of one version; its program is shown at `/usr/sbin/haproxy`, its directory as `/run/lb`.
pub(crate) struct Recorded {
    pub version: &'static str,
    /// The first line of `haproxy -v`.
    pub program: &'static str,
    pub stat: &'static str,
    pub info: &'static str,
    pub sess: &'static str,
    /// `show proc` after the start.
    pub started: &'static str,
    /// After a reload that went well.
    pub reloaded: &'static str,
    /// After one that failed.
    pub failed: &'static str,
    /// Its answer.
    pub answer: &'static str,
    /// All that was written until then.
    pub log: &'static str,
}

macro_rules! recorded {
    ($version:literal) => {
        Recorded {
            version: $version,
            program: include_str!(concat!("recorded/", $version, "/version.txt")),
            stat: include_str!(concat!("recorded/", $version, "/show-stat.txt")),
            info: include_str!(concat!("recorded/", $version, "/show-info.txt")),
            sess: include_str!(concat!("recorded/", $version, "/show-sess.txt")),
            started: include_str!(concat!("recorded/", $version, "/show-proc.txt")),
            reloaded: include_str!(concat!("recorded/", $version, "/show-proc-reloaded.txt")),
            failed: include_str!(concat!("recorded/", $version, "/show-proc-failed.txt")),
            answer: include_str!(concat!("recorded/", $version, "/reload-failed.txt")),
            log: include_str!(concat!("recorded/", $version, "/log-failed.txt")),
        }
    };
}

pub(crate) const RECORDED: [Recorded; 5] =
    [recorded!("2.6"), recorded!("2.8"), recorded!("3.0"), recorded!("3.2"), recorded!("3.4")];

#[test]
fn it_is_the_version_it_says() {
    for Recorded { version, program, info, .. } in RECORDED {
        let wanted: Version = version.parse().unwrap();
        let named = crate::version::named(program);
        assert_eq!(named.parse::<Version>().unwrap(), wanted, "{version}");
        let info = WorkerInfo::parse(info).unwrap();
        assert_eq!(info.version, named, "{version}");
        assert_eq!(info.mark, "0123456789abcdef0123456789abcdef", "{version}");
        assert!(!info.stopping, "{version}");
    }
}

#[test]
fn statistics_are_read_alike() {
    let first = Stat::parse(RECORDED[0].stat).unwrap();
    assert_eq!(first.rows.len(), 6);
    let s1 = &first.rows[0];
    assert_eq!((s1.requests, s1.failures, s1.open), (3, 1, 0));
    let trying = first.rows.last().unwrap();
    assert_eq!((trying.backend.as_str(), trying.requests, trying.open), ("slow.web", 1, 1));
    for Recorded { version, stat, .. } in RECORDED {
        let mut stat = Stat::parse(stat).unwrap();
        for (row, alike) in stat.rows.iter_mut().zip(&first.rows) {
            // How long answers took differs with the run.
            if let (
                RowKind::Backend { response_time },
                RowKind::Backend { response_time: as_there },
            ) = (&mut row.kind, &alike.kind)
            {
                assert_eq!(response_time.is_some(), as_there.is_some(), "{version}");
                *response_time = *as_there;
            }
        }
        assert_eq!(stat, first, "{version}");
    }
}

#[test]
fn connections_are_read_alike() {
    for Recorded { version, sess, .. } in RECORDED {
        let sessions = parse_sessions(sess);
        assert!(sessions.whole, "{version}");
        let shown: Vec<_> = sessions
            .entries
            .iter()
            .map(|s| (s.backend.as_str(), s.server.as_str(), s.connecting))
            .collect();
        assert_eq!(shown, [("slow.web", "w1", true), ("<NONE>", "<none>", false)], "{version}");
        assert!(sessions.entries.iter().all(|s| s.id.starts_with("0x")), "{version}");
    }
}

#[test]
fn processes_are_read_alike() {
    for Recorded { version, started, reloaded, failed, .. } in RECORDED {
        let [started, reloaded, failed] =
            [started, reloaded, failed].map(|text| Processes::parse(text).unwrap());
        let first = started.worker().unwrap();
        assert_eq!((started.reloads, started.failed, started.old), (0, 0, vec![]), "{version}");
        assert_eq!((reloaded.reloads, reloaded.failed), (1, 0), "{version}");
        assert_eq!(reloaded.old, [first], "{version}: it still tries to reach a server");
        // The worker in force is the same one, and there is no other old one.
        assert_eq!((failed.reloads, failed.failed), (2, 1), "{version}");
        assert_eq!(
            (failed.master, failed.workers),
            (reloaded.master, reloaded.workers),
            "{version}"
        );
        assert_eq!(failed.old, [first], "{version}");
    }
}

#[test]
fn answers_to_reload_are_read_alike() {
    for Recorded { version, answer, .. } in RECORDED {
        let read = Reloaded::parse(answer.to_owned()).unwrap();
        let reports = version.parse::<Version>().unwrap().abilities().reload_reports;
        match reports {
            true => assert_eq!(read, Reloaded::Refused(answer.to_owned()), "{version}"),
            false => assert_eq!(read, Reloaded::Unknown, "{version}"),
        }
    }
}
