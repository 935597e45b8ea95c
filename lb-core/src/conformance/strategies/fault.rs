//! Calls that fail, as explicit lists: what does not matter to a failure shrinks away.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::SBoxedStrategy;

use super::millis;
use crate::error::ErrorKind;
use crate::memory::{Faults, Op};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Nothing is done, and this is the answer.
    Undone(ErrorKind),
    /// It is done, and the answer is lost: `Timeout`.
    AnswerLost,
    /// It is done, and takes so long.
    Late(Duration),
}

impl Failing {
    /// Has the next call of `op` at an in-memory backend fail so; one that is not late takes no time.
    pub fn ask(self, faults: &Faults, op: Op) {
        let late = match self {
            Self::Late(delay) => delay,
            _ => Duration::ZERO,
        };
        faults.delay(op, late);
        match self {
            Self::Undone(kind) => faults.fail_next(op, kind),
            Self::AnswerLost => faults.lose_next_answer(op),
            Self::Late(_) => {}
        }
    }
}

/// One call that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// So many calls go well before.
    pub after: u8,
    /// How it fails.
    pub how: Failing,
}

/// What calls meet, in their order; after the last fault all go well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultSchedule {
    /// One after the other.
    pub faults: Vec<Fault>,
}

impl FaultSchedule {
    /// For each call how it fails; `None`: it goes well. Ends with the last fault.
    pub fn calls(&self) -> impl Iterator<Item = Option<Failing>> + '_ {
        self.faults.iter().flat_map(|fault| {
            let well = std::iter::repeat_n(None, usize::from(fault.after));
            well.chain([Some(fault.how)])
        })
    }
}

/// Kinds of errors a backend may answer with.
pub fn error_kind() -> SBoxedStrategy<ErrorKind> {
    prop_oneof![
        Just(ErrorKind::Unavailable),
        Just(ErrorKind::Timeout),
        Just(ErrorKind::Conflict),
        Just(ErrorKind::NotFound),
        Just(ErrorKind::Invalid),
        Just(ErrorKind::Exhausted),
        Just(ErrorKind::Unexpected),
    ]
    .sboxed()
}

/// One call that fails, within ten.
pub fn fault() -> SBoxedStrategy<Fault> {
    let how = prop_oneof![
        4 => error_kind().prop_map(Failing::Undone),
        2 => Just(Failing::AnswerLost),
        1 => millis(1..=30_000).prop_map(Failing::Late),
    ];
    (0..10_u8, how).prop_map(|(after, how)| Fault { after, how }).sboxed()
}

/// Up to eight calls that fail among some dozens.
pub fn fault_schedule() -> SBoxedStrategy<FaultSchedule> {
    vec(fault(), 0..=8).prop_map(|faults| FaultSchedule { faults }).sboxed()
}
