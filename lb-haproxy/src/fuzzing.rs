//! Doors for `fuzz/`: compiled under `--cfg fuzzing` only, which cargo-fuzz sets. Not a feature, so that no
//! user can come to lean on it.
//!
//! Each function takes what HAProxy could answer and panics if what is accepted breaks what callers lean on.

use lb_core::{BackendName, ServerName};

use crate::balancer::ServerEntry;
use crate::control::{Change, Processes, RowKind, Stat, WorkerInfo, parse_sessions};

/// `show stat`: times are numbers from 0 up.
pub fn show_stat(text: &str) {
    let Ok(stat) = Stat::parse(text) else { return };
    for row in &stat.rows {
        if let RowKind::Backend { response_time: Some(seconds) } = &row.kind {
            assert!(seconds.is_finite() && *seconds >= 0.0, "{seconds} s");
        }
    }
}

/// `show info`: texts are of one line.
pub fn show_info(text: &str) {
    let Ok(info) = WorkerInfo::parse(text) else { return };
    assert!(![info.version, info.mark].concat().contains('\n'));
}

/// `show proc`: a master and its workers, none of them process 0, which would be the caller's group.
pub fn show_proc(text: &str) {
    let Ok(processes) = Processes::parse(text) else { return };
    let all = processes.workers.iter().chain(&processes.old).chain([&processes.master]);
    assert!(all.into_iter().all(|pid| *pid > 0), "{processes:?}");
}

/// `show sess`: an identity can stand in a command.
pub fn show_sess(text: &str) {
    for session in parse_sessions(text).entries {
        let plain = session.id.bytes().all(|b| b.is_ascii_alphanumeric());
        assert!(plain && session.id.starts_with("0x"), "{session:?}");
    }
}

/// Replies to commands: a text is success only where one is known, and silence only where it is the answer.
pub fn replies(text: &str) {
    let b = || BackendName::new("a.b").unwrap_or_else(|e| unreachable!("a name: {e}"));
    let s = || ServerName::new("s").unwrap_or_else(|e| unreachable!("a name: {e}"));
    let silent = [
        Change::EnableHealth(b(), s()),
        Change::CookieKey(b(), "k".into()),
        Change::Ready(b(), s()),
        Change::Maint(b(), s()),
        Change::Weight(b(), s(), 1),
        Change::Shut(b(), s()),
    ];
    for change in silent {
        assert_eq!(change.judge(text).is_ok(), text.trim().is_empty(), "{change}");
    }
    let one = Change::ShutOne("0x1".into());
    let ended = text.trim() == "No such session (use 'show sess').";
    assert_eq!(one.judge(text).is_ok(), ended || text.trim().is_empty());
    for change in [
        Change::Add(b(), s(), String::new()),
        Change::Delete(b(), s()),
        Change::Purge(b(), s(), 1),
        Change::AddBackend(b(), "shape".into(), "http"),
        Change::Publish(b()),
        Change::Unpublish(b()),
        Change::DeleteBackend(b()),
    ] {
        assert!(change.judge(text).is_err() || !text.trim().is_empty(), "{change}");
    }
}

/// A line of the file: what is read is written again as it was.
pub fn server_line(text: &str) {
    let Some((name, entry)) = ServerEntry::parse(text) else { return };
    let mut line = String::new();
    entry.write(&name, &mut line);
    assert_eq!(ServerEntry::parse(&line), Some((name, entry)), "{line}");
}
