//! `show stat`: one CSV line per frontend, backend and server.

use std::net::SocketAddr;

use lb_core::balancer::Failure;

/// The statistics of one worker, in its own order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Stat {
    pub rows: Vec<Row>,
    /// Connections of HTTP/1 clients without a request now. Clients of HTTP/2 are told when their worker has been
    /// replaced, and begin nothing more there.
    pub idle: u64,
}

/// A backend or server of one worker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// The backend's name.
    pub backend: String,
    /// Which of the two, with what only it has.
    pub kind: RowKind,
    /// Sessions (TCP) or requests (HTTP) now.
    pub open: u64,
    /// Of them, waiting for a server.
    pub queued: u64,
    /// Requests (HTTP) or sessions (TCP) so far.
    pub requests: u64,
    /// Of them, answered with 5xx or cut by the server.
    pub failures: u64,
}

/// What a row is about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RowKind {
    Backend {
        /// Mean time to the answer of the latest requests, in seconds.
        response_time: Option<f64>,
    },
    Server {
        name: String,
        id: u32,
        /// `None`: not an address of IP.
        address: Option<SocketAddr>,
        weight: u32,
        /// `UP`, `DOWN`, `MAINT`, `DRAIN`, `no check`, with details behind.
        status: String,
    },
}

impl Stat {
    /// Reads the table by its header: later versions add columns.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::reply("show stat", what);
        let mut lines = text.lines();
        let header = lines.next().and_then(|l| l.strip_prefix("# ")).ok_or_else(|| wrong(text))?;
        let columns = Columns::find(header).ok_or_else(|| wrong(header))?;
        let mut stat = Self::default();
        let mut fields = Vec::new();
        for line in lines.filter(|l| !l.is_empty()) {
            split(line, &mut fields);
            columns.read(&fields, &mut stat).map_err(|Malformed| wrong(line))?;
        }
        Ok(stat)
    }
}

/// A line that does not fit its header.
struct Malformed;

/// Where each field lies.
struct Columns {
    backend: usize,
    server: usize,
    kind: usize,
    queued: usize,
    open: usize,
    sessions: usize,
    requests: usize,
    errors: usize,
    cut: usize,
    status: usize,
    id: usize,
    weight: usize,
    address: usize,
    response_time: usize,
    clients: Option<usize>,
    busy_clients: Option<usize>,
}

impl Columns {
    fn find(header: &str) -> Option<Self> {
        let names: Vec<&str> = header.split(',').collect();
        let at = |name: &str| names.iter().position(|n| *n == name);
        Some(Self {
            backend: at("pxname")?,
            server: at("svname")?,
            kind: at("type")?,
            queued: at("qcur")?,
            open: at("scur")?,
            sessions: at("stot")?,
            requests: at("req_tot")?,
            errors: at("hrsp_5xx")?,
            cut: at("srv_abrt")?,
            status: at("status")?,
            id: at("sid")?,
            weight: at("uweight")?,
            address: at("addr")?,
            response_time: at("rtime")?,
            clients: at("h1_open_connections"),
            busy_clients: at("h1_open_streams"),
        })
    }

    fn read(&self, fields: &[&str], stat: &mut Stat) -> Result<(), Malformed> {
        match *fields.get(self.kind).ok_or(Malformed)? {
            "0" => stat.idle = stat.idle.saturating_add(self.idle(fields).ok_or(Malformed)?),
            kind @ ("1" | "2") => {
                stat.rows.push(self.row(kind == "1", fields).ok_or(Malformed)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn idle(&self, fields: &[&str]) -> Option<u64> {
        let (Some(clients), Some(busy)) = (self.clients, self.busy_clients) else { return Some(0) };
        Some(number(fields, clients)?.saturating_sub(number(fields, busy)?))
    }

    fn row(&self, is_backend: bool, fields: &[&str]) -> Option<Row> {
        let text = |at: usize| fields.get(at).copied();
        let number = |at: usize| number(fields, at);
        let requests = number(self.requests)?.max(number(self.sessions)?);
        let kind = match is_backend {
            true => RowKind::Backend {
                response_time: match requests {
                    0 => None,
                    // Whole milliseconds, empty where the mode has none.
                    _ => text(self.response_time)?
                        .parse::<u32>()
                        .ok()
                        .map(|ms| f64::from(ms) / 1000.0),
                },
            },
            false => RowKind::Server {
                name: text(self.server)?.to_owned(),
                id: number(self.id)?.try_into().ok()?,
                address: text(self.address)?.parse().ok(),
                weight: number(self.weight)?.try_into().ok()?,
                status: text(self.status)?.to_owned(),
            },
        };
        Some(Row {
            backend: text(self.backend)?.to_owned(),
            kind,
            open: number(self.open)?,
            queued: number(self.queued)?,
            requests,
            failures: number(self.errors)?.saturating_add(number(self.cut)?),
        })
    }
}

/// A count; an empty field is none.
fn number(fields: &[&str], at: usize) -> Option<u64> {
    match *fields.get(at)? {
        "" => Some(0),
        digits => digits.parse().ok(),
    }
}

/// Splits a CSV line; a field in quotes may hold commas.
fn split<'a>(line: &'a str, fields: &mut Vec<&'a str>) {
    fields.clear();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = end_of_quoted(quoted);
                let after = quoted[end..].strip_prefix('"').unwrap_or_default();
                (&quoted[..end], after.strip_prefix(','))
            }
            None => match rest.split_once(',') {
                Some((field, after)) => (field, Some(after)),
                None => (rest, None),
            },
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return,
        }
    }
}

/// Where the closing quote stands: a doubled one is part of the field.
fn end_of_quoted(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'"', Some(b'"')) => at += 2,
            (b'"', _) => return at,
            _ => at += 1,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    // Recorded from 2.6.12 (`show stat -1 6 -1`), unused columns cut.
    const TEXT: &str = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,status,sid,type,hrsp_5xx,req_tot,srv_abrt,rtime,last_chk,addr,uweight,-,\na.b,s1,0,0,3,0,,17,UP 1/3,1,2,2,,1,,,127.0.0.1:29091,100,-,\na.b,s2,0,0,0,0,,0,DOWN,2,2,0,,0,,\"refused, \"\"again\"\"\",[::1]:29092,50,-,\na.b,BACKEND,4,0,7,0,400,9,UP,0,1,2,20,1,12,,,200,-,\n\n";

    #[test]
    fn backends_and_servers_are_read_by_column_name() {
        let stat = Stat::parse(TEXT).unwrap();
        assert_eq!(stat.rows.len(), 3);
        let server = &stat.rows[0];
        assert_eq!((server.open, server.requests, server.failures), (3, 17, 3));
        let RowKind::Server { name, id, address, weight, status } = &stat.rows[1].kind else {
            panic!("a server: {:?}", stat.rows[1]);
        };
        assert_eq!((name.as_str(), *id, *weight, status.as_str()), ("s2", 2, 50, "DOWN"));
        assert_eq!(*address, Some("[::1]:29092".parse().unwrap()));
        let backend = &stat.rows[2];
        assert_eq!((backend.open, backend.queued, backend.requests), (7, 4, 20));
        assert_eq!(backend.kind, RowKind::Backend { response_time: Some(0.012) });
    }

    #[test]
    fn kept_connections_without_a_request_are_counted() {
        let header = "# pxname,svname,type,h1_open_connections,h1_open_streams,scur,qcur,stot,req_tot,hrsp_5xx,srv_abrt,status,sid,uweight,addr,rtime";
        let lines = "lb-80,FRONTEND,0,4,1,4,,,,,,STOP,,,,\nlb-443,FRONTEND,0,2,2,,,,,,,STOP,,,,\n";
        let stat = Stat::parse(&format!("{header}\n{lines}")).unwrap();
        assert_eq!((stat.idle, stat.rows.len()), (3, 0));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "Permission denied\n", "# pxname,svname\n", "# pxname,\na\n"] {
            assert!(Stat::parse(text).is_err(), "{text:?}");
        }
        let odd = TEXT.replace("3,0,,17", "three,0,,17");
        assert!(Stat::parse(&odd).is_err());
    }

    #[test]
    fn a_time_that_is_none_is_left_out() {
        for time in ["", "-200", "NaN", "inf", "1e9", "4294967296"] {
            let text = TEXT.replace(",12,,,200,", &format!(",{time},,,200,"));
            let stat = Stat::parse(&text).unwrap();
            assert_eq!(stat.rows[2].kind, RowKind::Backend { response_time: None }, "{time:?}");
        }
    }

    #[test]
    fn counts_at_the_end_of_their_range_stay_there() {
        let text = TEXT.replace(",2,,1,,,127", &format!(",{},,1,,,127", u64::MAX));
        assert_eq!(Stat::parse(&text).unwrap().rows[0].failures, u64::MAX);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in ".{0,300}") {
            let _ = Stat::parse(&format!("{}\n{text}\n", TEXT.lines().next().unwrap()));
        }
    }
}
