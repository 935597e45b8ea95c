//! Signals of Linux: their names and numbers, as engines know them.

use super::names::Signal;

/// The classic signals by number, from 1 on: signal(7), x86 and ARM.
const CLASSIC: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// Other names of some.
const ALIASES: [(&str, u8); 3] = [("IOT", 6), ("CLD", 17), ("POLL", 29)];
/// The real-time signals that programs may use with glibc.
const RT_MIN: u8 = 34;
const RT_MAX: u8 = 64;

pub(super) const RULE: &str =
    "must be a signal of Linux in upper case, such as SIGTERM, SIGQUIT, SIGWINCH or SIGRTMIN+3";

/// `None` for what is no signal's name.
pub(super) fn number(name: &str) -> Option<u8> {
    let name = name.strip_prefix("SIG")?;
    let classic = CLASSIC.iter().copied().zip(1..);
    let named = classic.chain(ALIASES).find(|(known, _)| *known == name);
    named.map(|(_, number)| number).or_else(|| real_time(name))
}

/// `RTMIN`, `RTMIN+n`, `RTMAX-n` and `RTMAX`.
fn real_time(name: &str) -> Option<u8> {
    let steps = |rest: &str, sign| match rest {
        "" => Some(0),
        rest => super::units::whole::<u8>(rest.strip_prefix(sign)?),
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => RT_MIN.checked_add(steps(rest, '+')?)?,
        (_, Some(rest)) => RT_MAX.checked_sub(steps(rest, '-')?)?,
        _ => return None,
    };
    (RT_MIN..=RT_MAX).contains(&number).then_some(number)
}

impl Signal {
    /// Its number on Linux (x86 and ARM), with glibc's range of real-time signals.
    pub fn number(&self) -> u8 {
        number(self.as_str()).unwrap_or_else(|| unreachable!("{self} was checked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_numbers() {
        for (name, wanted) in [
            ("SIGHUP", 1),
            ("SIGKILL", 9),
            ("SIGUSR1", 10),
            ("SIGUSR2", 12),
            ("SIGTERM", 15),
            ("SIGCHLD", 17),
            ("SIGCLD", 17),
            ("SIGWINCH", 28),
            ("SIGIO", 29),
            ("SIGPOLL", 29),
            ("SIGSYS", 31),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("SIGRTMIN+30", 64),
            ("SIGRTMAX-14", 50),
            ("SIGRTMAX", 64),
        ] {
            assert_eq!(Signal::new(name).map(|s| s.number()), Ok(wanted), "{name}");
        }
    }

    #[test]
    fn what_is_no_signal_is_refused_with_what_would_be_right() {
        let none = [
            "",
            "SIG",
            "TERM",
            "15",
            "SIGFOO",
            "sigterm",
            "SIGTERM ",
            "SIGTERM1",
            "SIGRTMIN+31",
            "SIGRTMIN+",
            "SIGRTMIN-1",
            "SIGRTMIN++3",
            "SIGRTMIN+ 3",
            "SIGRTMAX+1",
            "SIGRTMAX-31",
            "SIGRTMIN+300",
        ];
        for name in none {
            let error = Signal::new(name).unwrap_err().to_string();
            assert_eq!(error, format!("signal {name:?}: {RULE}"));
        }
    }
}
