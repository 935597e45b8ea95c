//! What may happen, and how often, in each climate.

use super::super::dice::Dice;
use super::super::host::Ailment;

/// Kinds of things that happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    Deploy,
    Remove,
    Join,
    Kill,
    OutOfMemory,
    Unready,
    Ail(Ailment),
    LoseTable,
    RegistryFails,
    AppsFail,
    LedgerFails,
    LedgerHangs,
    LoseLedger,
    Depose,
    Restart,
    Jump,
}

use self::Happening::{
    Ail, AppsFail, Deploy, Depose, Join, Jump, Kill, LedgerFails, LedgerHangs, LoseLedger,
    LoseTable, OutOfMemory, RegistryFails, Remove, Restart, Unready,
};

/// In every climate.
const ALWAYS: &[(u32, Happening)] =
    &[(10, Deploy), (2, Remove), (4, Kill), (1, OutOfMemory), (3, Unready), (1, Jump), (1, Join)];
/// A climate each; in the last, all of them at once.
const CLIMATES: [&[(u32, Happening)]; 5] = [
    &[],
    &[
        (4, Ail(Ailment::Down)),
        (1, Ail(Ailment::Wiped)),
        (3, Ail(Ailment::Cut)),
        (3, Ail(Ailment::Isolated)),
    ],
    &[
        (3, Ail(Ailment::SlowEngine)),
        (4, Ail(Ailment::FailingEngine)),
        (3, Ail(Ailment::Deaf)),
        (2, Ail(Ailment::StaleListing)),
    ],
    &[
        (2, Ail(Ailment::SlowBalancer)),
        (5, Ail(Ailment::FailingBalancer)),
        (3, Ail(Ailment::IgnoredTables)),
        (3, LoseTable),
    ],
    &[
        (2, RegistryFails),
        (2, AppsFail),
        (2, LedgerFails),
        (1, LedgerHangs),
        (1, LoseLedger),
        (3, Depose),
        (3, Restart),
        (2, Jump),
    ],
];

/// What may happen in the climate that is drawn, by weight.
pub(super) fn draw(dice: &mut Dice) -> Vec<(u32, Happening)> {
    let climate = dice.below(CLIMATES.len() as u64 + 1) as usize;
    let of_climate = match CLIMATES.get(climate) {
        Some(one) => one.to_vec(),
        None => CLIMATES.concat(),
    };
    [ALWAYS, &of_climate].concat()
}
