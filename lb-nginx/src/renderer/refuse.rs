//! What NGINX cannot express and would get wrong without a word.

use std::time::Duration;

use lb_core::{Backend, BackendName, Balance, Error, Protocol, RateLimit, Result};

/// Most a rounded rate may differ from the one asked for, as a share of it.
const MOST_OFF: f64 = 0.1;

/// Refuses a backend's settings that would silently be others.
pub(super) fn refuse(name: &BackendName, backend: &Backend) -> Result<()> {
    let wrong = |field: &str, rule: &str| {
        Err(Error::invalid(format!("backend \"{name}\": {field}"), rule).during("render"))
    };
    if let Balance::HeaderHash(header) = &backend.balance
        && header.as_str().contains(['_', '.'])
    {
        return wrong("balance", "must hash a header of a-z, 0-9 and '-': NGINX drops others");
    }
    match &backend.limits.rate {
        Some(_) if backend.protocol == Protocol::Tcp => {
            wrong("limits.rate", "must not be set: NGINX limits the rate of HTTP requests only")
        }
        Some(rate) if limit_req_rate(rate).is_none() => wrong(
            "limits.rate",
            "must be near a whole number of requests a second or a minute: NGINX knows no others",
        ),
        _ => Ok(()),
    }
}

/// The rate as `limit_req_zone` takes it: whole requests a second or a minute, never more than asked for.
pub(super) fn limit_req_rate(rate: &RateLimit) -> Option<String> {
    let exact = |unit: Duration| {
        f64::from(rate.requests.get()) * unit.as_secs_f64() / rate.window.as_secs_f64()
    };
    let near = |exact: f64| exact.floor() >= 1.0 && (exact - exact.floor()) / exact <= MOST_OFF;
    let (second, minute) = (exact(Duration::from_secs(1)), exact(Duration::from_secs(60)));
    match (second.fract() == 0.0, near(minute)) {
        (true, _) if second >= 1.0 => Some(format!("{second}r/s")),
        (_, true) => Some(format!("{}r/m", minute.floor())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn rate(requests: u32, seconds: u64) -> Option<String> {
        let requests = NonZeroU32::new(requests).unwrap();
        limit_req_rate(&RateLimit { requests, window: Duration::from_secs(seconds) })
    }

    #[test]
    fn a_rate_is_written_when_nginx_knows_it_and_never_above_what_was_asked() {
        assert_eq!(rate(100, 10).as_deref(), Some("10r/s"));
        assert_eq!(rate(5, 2).as_deref(), Some("150r/m"));
        assert_eq!(rate(100, 7).as_deref(), Some("857r/m"));
        assert_eq!(rate(60, 3600).as_deref(), Some("1r/m"));
        assert_eq!(rate(100, 3600), None, "1.67 a minute would be 1");
        assert_eq!(rate(1, 3600), None);
    }
}
