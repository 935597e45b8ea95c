//! What may happen, and how often, in each climate.

use super::super::dice::Dice;
use super::super::host::Ailment;

/// Kinds of things that happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    Deploy,
    Remove,
    /// A deployment that is soon taken back.
    Undo,
    /// A route that comes and goes.
    Flip,
    /// Many apps one after the other.
    Crowd,
    Join,
    Kill,
    OutOfMemory,
    Unready,
    /// An instance runs and answers nobody.
    Hang,
    Ail(Ailment),
    /// The networks of a host are removed under its instances.
    LoseNetworks,
    LoseTable,
    /// What a balancer serves is edited by hand.
    EditTable,
    RegistryFails,
    AppsFail,
    LedgerFails,
    LedgerHangs,
    LoseLedger,
    DamageLedger,
    Depose,
    Restart,
    Jump,
}

use self::Happening::{
    Ail, AppsFail, Crowd, DamageLedger, Deploy, Depose, EditTable, Flip, Hang, Join, Jump, Kill,
    LedgerFails, LedgerHangs, LoseLedger, LoseNetworks, LoseTable, OutOfMemory, RegistryFails,
    Remove, Restart, Undo, Unready,
};

/// In every climate.
const ALWAYS: &[(u32, Happening)] = &[
    (9, Deploy),
    (2, Remove),
    (3, Undo),
    (2, Flip),
    (6, Kill),
    (1, OutOfMemory),
    (3, Unready),
    (2, Hang),
    (1, Jump),
    (1, Join),
];
/// A climate each; in the last, all of them at once. In the first, no fault acts but on single instances.
const CLIMATES: [&[(u32, Happening)]; 5] = [
    &[(1, Crowd)],
    &[
        (4, Ail(Ailment::Down)),
        (1, Ail(Ailment::Wiped)),
        (3, Ail(Ailment::Cut)),
        (3, Ail(Ailment::Isolated)),
        (2, LoseNetworks),
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
        (2, EditTable),
    ],
    &[
        (2, RegistryFails),
        (2, AppsFail),
        (2, LedgerFails),
        (1, LedgerHangs),
        (1, LoseLedger),
        (1, DamageLedger),
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
