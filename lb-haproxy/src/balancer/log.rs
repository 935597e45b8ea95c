//! What HAProxy writes while it checks, starts and reloads: entries, each of one process, some over several lines.

use lb_core::balancer::shortened;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    kind: Kind,
    /// The process that wrote it, in its own namespace.
    pid: u32,
    /// Without its head; of several lines, with spaces between.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Alert,
    Other,
}

/// A process says so before its first complaint.
const ANNOUNCEMENT: &str = "haproxy version is";
/// The master says so before it reads a configuration anew.
const RELOADING: &str = "Reloading HAProxy";

impl Entry {
    /// Whether it tells of something HAProxy does not start with.
    pub(crate) fn is_alert(&self) -> bool {
        self.kind == Kind::Alert
    }
}

/// Reads entries: `[ALERT]    (PID) : TEXT`, and lines that go on with it (3.0). Lines before the first one are left
/// out.
pub(crate) fn entries(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for piece in text.lines().flat_map(pieces) {
        if let Some((kind, pid, text)) = head(piece) {
            entries.push(Entry { kind, pid, text: text.trim().to_owned() });
        } else if let Some(entry) = entries.last_mut() {
            entry.text.extend([" ", piece.trim()]);
        }
    }
    entries
}

/// What HAProxy complains of in its latest start or reload.
pub(crate) fn complaints(log: &str) -> String {
    let all = entries(log);
    let begin = all.iter().rposition(|e| e.text == RELOADING).map_or(0, |at| at + 1);
    let latest = &all[begin..];
    // Behind the complaints of a worker the master announces itself once more (3.2), and workers that serve complain
    // of servers: what counts is what the last process said that has announced itself and complained.
    let announced = (0..latest.len()).rev().filter(|at| latest[*at].text.starts_with(ANNOUNCEMENT));
    let alerts = |at: usize| -> Vec<&str> {
        let own = latest[at..].iter().filter(|e| e.is_alert() && e.pid == latest[at].pid);
        own.map(|e| e.text.as_str()).collect()
    };
    let complaint = announced.map(alerts).find(|alerts| !alerts.is_empty());
    match complaint {
        Some(alerts) => shortened(&alerts.join("; ")),
        None => shortened(log),
    }
}

/// The entries of a line: some are written without a line end (2.8).
fn pieces(line: &str) -> impl Iterator<Item = &str> {
    let mut begins: Vec<usize> = line
        .match_indices('[')
        .map(|(at, _)| at)
        .filter(|at| head(&line[*at..]).is_some())
        .collect();
    if begins.first() != Some(&0) {
        begins.insert(0, 0);
    }
    let ends = begins.clone().into_iter().skip(1).chain([line.len()]);
    begins.into_iter().zip(ends).map(|(begin, end)| &line[begin..end])
}

/// `[KIND]   (PID) : ` and the rest.
fn head(line: &str) -> Option<(Kind, u32, &str)> {
    let (kind, rest) = line.strip_prefix('[')?.split_once(']')?;
    let kind = match kind {
        "ALERT" => Kind::Alert,
        "WARNING" | "NOTICE" | "DIAG" => Kind::Other,
        _ => return None,
    };
    let (pid, text) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
    Some((kind, pid.parse().ok()?, text.trim_start().strip_prefix(':')?))
}

#[cfg(test)]
mod tests {
    use super::super::limits::Resources;
    use super::*;
    use crate::control::recorded::{RECORDED, Recorded};

    #[test]
    fn why_it_failed_is_what_the_process_said_that_failed() {
        for Recorded { version, log, answer, .. } in RECORDED {
            let texts = [log, answer];
            for text in texts.into_iter().filter(|text| !text.is_empty()) {
                let said = complaints(text);
                assert!(said.contains("Cannot raise FD limit to 90000000, "), "{version}: {said}");
                assert!(
                    said.starts_with('[') && !said.contains("; ["),
                    "{version}: nothing else: {said}"
                );
                let mut resources = Resources::default();
                assert!(resources.learn(&said), "{version}: {said}");
                assert_eq!(resources.descriptors, Some(20_000), "{version}");
            }
        }
    }

    #[test]
    fn a_start_that_fails_tells_as_a_reload_does() {
        // Recorded from 2.6.12 and 3.2.26; the latter's processes write as they come.
        let of_2_6 = "[NOTICE]   (32548) : haproxy version is 2.6.12-1+deb12u3
[NOTICE]   (32548) : path to executable is /usr/sbin/haproxy
[ALERT]    (32548) : [/usr/sbin/haproxy.main()] Cannot raise FD limit to 90000000, limit is 20000.
";
        let of_3_2 = "[NOTICE]   (12587) : haproxy version is 3.2.26-1
[NOTICE]   (12587) : path to executable is /usr/sbin/haproxy
[ALERT]    (12587) : [haproxy.main()] Cannot raise FD limit to 90000000, limit is 20000.
[NOTICE]   (12220) : Initializing new worker (12587)
[NOTICE]   (12220) : haproxy version is 3.2.26-1
[NOTICE]   (12220) : path to executable is /usr/sbin/haproxy
[WARNING]  (12220) : Failed to load worker (12587) exited with code 1 (Exit)
";
        for text in [of_2_6, of_3_2] {
            let said = complaints(text);
            assert!(
                said.ends_with("main()] Cannot raise FD limit to 90000000, limit is 20000."),
                "{said}"
            );
        }
    }

    #[test]
    fn what_workers_that_serve_complain_of_is_something_else() {
        let log = "[NOTICE]   (29723) : Reloading HAProxy
[NOTICE]   (29723) : haproxy version is 2.6.12-1+deb12u3
[ALERT]    (31465) : backend 'a.b' has no server available!
[ALERT]    (29723) : config : Fatal errors found in configuration.
[ALERT]    (31465) : backend 'c.d' has no server available!
";
        assert_eq!(complaints(log), "config : Fatal errors found in configuration.");
        // One that announced itself before the reload, by a warning (3.4).
        let log = format!("[NOTICE]   (31465) : haproxy version is 3.4.0-64a335366\n{log}");
        assert_eq!(complaints(&log), "config : Fatal errors found in configuration.");
    }

    #[test]
    fn each_complaint_of_it_is_told() {
        let log = "[NOTICE]   (10493) : haproxy version is 3.2.26-1
[NOTICE]   (10493) : path to executable is /usr/sbin/haproxy
[ALERT]    (10493) : Binding [h.cfg:23] for frontend stray: protocol tcpv4: cannot bind socket (Address already in use) for [0.0.0.0:18099].
[ALERT]    (10493) : [haproxy.main()] Some protocols failed to start their listeners! Exiting.
[NOTICE]   (8225) : haproxy version is 3.2.26-1
";
        let said = complaints(log);
        assert!(
            said.starts_with("Binding [h.cfg:23]") && said.ends_with("listeners! Exiting."),
            "{said}"
        );
    }

    #[test]
    fn a_log_without_complaint_is_told_as_it_is() {
        for log in ["haproxy: not found", "", "[NOTICE]   (1) : Reloading HAProxy\nKilled\n"] {
            assert_eq!(complaints(log), log.trim());
        }
    }

    #[test]
    fn an_entry_goes_on_in_the_next_line_and_may_begin_within_one() {
        // Recorded from 3.0.11 and from 2.8.25.
        let text = "Note: not of HAProxy's form
[ALERT]    (4076) : config : parsing [h.cfg:9] : 'bind 127.0.0.1:29443' in section 'frontend' :\u{20}
  'crt-list' : error processing line 2 in file 'l.crt-list' : unable to load certificate from file 'x.pem': no start line.
  unable to load SSL private key into SSL Context 'x.pem': passed a null parameter.
[WARNING]  (32569) : CLI : 's5' : Keyword 'enabled' is ignored.[NOTICE]   (32569) : CLI : New server registered.
";
        let entries = entries(text);
        let shown: Vec<_> =
            entries.iter().map(|e| (e.is_alert(), e.pid, e.text.as_str())).collect();
        assert_eq!(
            shown,
            [
                (
                    true,
                    4076,
                    "config : parsing [h.cfg:9] : 'bind 127.0.0.1:29443' in section 'frontend' : \
                     'crt-list' : error processing line 2 in file 'l.crt-list' : unable to load certificate from \
                     file 'x.pem': no start line. unable to load SSL private key into SSL Context 'x.pem': passed \
                     a null parameter."
                ),
                (false, 32569, "CLI : 's5' : Keyword 'enabled' is ignored."),
                (false, 32569, "CLI : New server registered."),
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in "(\\[|ALERT\\]|NOTICE\\]| |\\(1\\)|:|\n|x|é|haproxy version is){0,60}") {
            let _ = complaints(&text);
        }
    }
}
