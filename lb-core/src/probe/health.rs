//! Rise, fall and pauses of one port's checks: no task, no clock.

use std::time::Duration;

use crate::model::Health as Rules;
use crate::runtime::Readiness;

/// The first pause while a port is not ready, and the least.
const FAST: Duration = Duration::from_millis(10);
/// While a port is not ready the pause is this share of the time waited: so late it is noticed at most.
const SHARE: u32 = 50;

/// Whether the container was seen starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was.
    Started,
    /// It ran already: one good answer shows that it serves.
    Adopted,
}

/// What the answers so far say of a port.
#[derive(Debug)]
pub(super) struct Health {
    interval: Duration,
    rise: u32,
    fall: u32,
    /// Good answers in a row it takes this time.
    needed: u32,
    /// What was said last; `Unknown` before the first answer.
    said: Readiness,
    /// Answers in a row that speak against what was said.
    against: u32,
    /// Pauses since it was last ready.
    waited: Duration,
    pause: Duration,
    /// 0 to 1, differs between ports.
    spread: f64,
}

impl Health {
    pub(super) fn new(rules: &Rules, origin: Origin, spread: f64) -> Self {
        let (pause, needed) = match origin {
            Origin::Started => (Duration::ZERO, rules.rise.get()),
            Origin::Adopted => (FAST.mul_f64(spread), 1),
        };
        Self {
            interval: rules.interval,
            rise: rules.rise.get(),
            fall: rules.fall.get(),
            needed,
            said: Readiness::Unknown,
            against: 0,
            waited: Duration::ZERO,
            pause,
            spread,
        }
    }

    /// Time until the next check.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// Takes an answer in; gives the readiness if it is news.
    pub(super) fn take(&mut self, answer: Result<(), String>) -> Option<Readiness> {
        self.waited += self.pause;
        let says = match (self.said == Readiness::Ready, answer) {
            (true, Ok(())) => self.stays_ready(),
            (true, Err(why)) => self.may_fall(why),
            (false, Ok(())) => self.may_rise(),
            (false, Err(why)) => self.stays_unready(why),
        };
        (says != self.said).then(|| {
            self.said = says.clone();
            says
        })
    }

    fn stays_ready(&mut self) -> Readiness {
        (self.against, self.pause) = (0, self.interval);
        Readiness::Ready
    }

    fn may_fall(&mut self, why: String) -> Readiness {
        self.against += 1;
        self.pause = self.interval;
        if self.against < self.fall {
            return Readiness::Ready;
        }
        (self.against, self.needed) = (0, self.rise);
        (self.waited, self.pause) = (Duration::ZERO, FAST);
        Readiness::NotReady(why)
    }

    fn may_rise(&mut self) -> Readiness {
        self.against += 1;
        self.pause = self.interval;
        if self.against < self.needed {
            return Readiness::NotReady(format!(
                "{} of {} good answers",
                self.against, self.needed
            ));
        }
        self.against = 0;
        self.pause = self.interval.mul_f64(0.5 + self.spread / 2.0);
        Readiness::Ready
    }

    fn stays_unready(&mut self, why: String) -> Readiness {
        self.against = 0;
        self.pause = (self.waited / SHARE).max(FAST).min(self.interval);
        Readiness::NotReady(why)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn rules(rise: u32, fall: u32) -> Rules {
        let count = |n| NonZeroU32::new(n).unwrap();
        Rules { rise: count(rise), fall: count(fall), ..Rules::default() }
    }

    fn bad() -> Result<(), String> {
        Err("refused".into())
    }

    #[test]
    fn one_good_answer_makes_ready_and_the_third_bad_in_a_row_unmakes_it() {
        let mut health = Health::new(&rules(1, 3), Origin::Started, 0.0);
        assert_eq!(health.take(bad()), Some(Readiness::NotReady("refused".into())));
        assert_eq!(health.take(bad()), None);
        assert_eq!(health.take(Ok(())), Some(Readiness::Ready));
        assert_eq!(health.take(bad()), None);
        assert_eq!(health.take(bad()), None);
        assert_eq!(health.take(Ok(())), None);
        assert_eq!(health.take(bad()), None);
        assert_eq!(health.take(bad()), None);
        assert_eq!(health.take(bad()), Some(Readiness::NotReady("refused".into())));
        assert_eq!(health.pause(), FAST);
    }

    #[test]
    fn rise_counts_good_answers_in_a_row_but_one_is_enough_for_what_ran_before() {
        let mut started = Health::new(&rules(2, 1), Origin::Started, 0.0);
        let waiting = Readiness::NotReady("1 of 2 good answers".into());
        assert_eq!(started.take(Ok(())), Some(waiting.clone()));
        assert_eq!(started.take(bad()), Some(Readiness::NotReady("refused".into())));
        assert_eq!(started.take(Ok(())), Some(waiting.clone()));
        assert_eq!(started.take(Ok(())), Some(Readiness::Ready));

        let mut adopted = Health::new(&rules(2, 1), Origin::Adopted, 0.5);
        assert_eq!(adopted.take(Ok(())), Some(Readiness::Ready));
        assert_eq!(adopted.take(bad()), Some(Readiness::NotReady("refused".into())));
        assert_eq!(adopted.take(Ok(())), Some(waiting), "later it must rise like any other");
    }

    #[test]
    fn pauses_start_fast_and_back_off_to_the_interval() {
        let mut health = Health::new(&rules(1, 1), Origin::Started, 0.0);
        assert_eq!(health.pause(), Duration::ZERO);
        let (mut waited, mut checks) = (Duration::ZERO, 0);
        while health.pause() < health.interval {
            health.take(bad());
            waited += health.pause();
            checks += 1;
            assert!(health.pause() <= (waited / SHARE).max(FAST));
        }
        assert!(checks < 300, "{checks} checks");
        assert!(waited <= Duration::from_secs(60), "{waited:?}");
        health.take(bad());
        assert_eq!(health.pause(), health.interval, "and no further");
    }
}
