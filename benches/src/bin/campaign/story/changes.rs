//! What people ask for.

use std::fmt;
use std::time::Duration;

use super::{MOST_GUESTS, Story};
use crate::apps::{Flaw, Kind, Wanted};

/// Most instances of an app.
const MOST_REPLICAS: u64 = 4;

/// Something that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub how: How,
    /// The app as it is then; as it was, where it is removed.
    pub wanted: Wanted,
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A new app.
    Deployed,
    /// A new app, removed again after so long.
    Undone(Duration),
    Removed,
    Scaled,
    /// A version that serves.
    RolledOut,
    /// A version that does not serve.
    Flawed,
    /// A version that serves, after one that did not.
    Mended,
    /// A version beside the one before.
    Trial,
    /// The version on trial is the one.
    Promoted,
    /// The version before is the one.
    Withdrawn,
    /// Another host name.
    Route,
    Certificate,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deployed => "deployed",
            Self::Undone(_) => "undone",
            Self::Removed => "removed",
            Self::Scaled => "scaled",
            Self::RolledOut => "rolled out",
            Self::Flawed => "flawed",
            Self::Mended => "mended",
            Self::Trial => "trial",
            Self::Promoted => "promoted",
            Self::Withdrawn => "withdrawn",
            Self::Route => "route",
            Self::Certificate => "certificate",
        })
    }
}

impl Story {
    /// None where what was drawn cannot be done now.
    pub(super) fn change(&mut self) -> Option<Change> {
        let how = self.dice.pick(&[
            (5, How::Deployed),
            (3, How::Undone(Duration::ZERO)),
            (4, How::Removed),
            (6, How::Scaled),
            (5, How::RolledOut),
            (4, How::Flawed),
            (4, How::Trial),
            (4, How::Route),
            (3, How::Certificate),
        ])?;
        match how {
            How::Deployed => self.come(),
            How::Undone(_) => self.come_and_go(),
            How::Removed => self.leave(),
            _ => self.alter(how),
        }
    }

    fn come(&mut self) -> Option<Change> {
        if self.guests().len() >= MOST_GUESTS {
            return None;
        }
        let kind = self.dice.pick(&[(3, Kind::Web), (1, Kind::Raw)])?;
        let replicas = self.dice.between(1, 3) as u32;
        Some(Change { how: How::Deployed, wanted: self.enter(kind, replicas) })
    }

    fn come_and_go(&mut self) -> Option<Change> {
        let Change { wanted, .. } = self.come()?;
        self.actors.remove(&wanted.name);
        let stays = Duration::from_millis(self.dice.between(0, 1_500));
        Some(Change { how: How::Undone(stays), wanted })
    }

    fn leave(&mut self) -> Option<Change> {
        let guests: Vec<_> = self.guests().into_iter().map(|name| (1, name)).collect();
        let name = self.dice.pick(&guests)?;
        let actor = self.actors.remove(&name)?;
        Some(Change { how: How::Removed, wanted: actor.wanted })
    }

    /// Changes an app that stays; one with a flaw is mended, and a trial comes to its end.
    fn alter(&mut self, how: How) -> Option<Change> {
        let name = match how {
            How::Certificate => self.choose(|a| a.wanted.kind == Kind::Tls)?,
            How::Route => self.choose(|a| a.wanted.kind == Kind::Web)?,
            _ => self.choose(|_| true)?,
        };
        let actor = self.actors.get(&name)?;
        let how = match (&actor.wanted, how) {
            (wanted, _) if wanted.flaw.is_some() => How::Mended,
            (wanted, _) if wanted.trial => {
                self.dice.pick(&[(1, How::Promoted), (1, How::Withdrawn)])?
            }
            (_, how) => how,
        };
        let flaw =
            self.dice.pick(&[(3, Flaw::Exits), (2, Flaw::NeverReady), (2, Flaw::Crashes)])?;
        let replicas = self.dice.between(1, MOST_REPLICAS) as u32;
        let actor = self.actors.get_mut(&name)?;
        let wanted = &mut actor.wanted;
        match how {
            How::Scaled if wanted.replicas == replicas => return None,
            How::Scaled => wanted.replicas = replicas,
            How::Route => wanted.route += 1,
            How::Certificate => wanted.certificate += 1,
            How::Promoted => wanted.trial = false,
            How::Withdrawn => {
                wanted.trial = false;
                wanted.version -= 1;
            }
            _ => {
                wanted.version += 1;
                wanted.trial = how == How::Trial;
                wanted.flaw = (how == How::Flawed).then_some(flaw);
            }
        }
        if !matches!(how, How::Scaled | How::Route | How::Certificate) {
            actor.deaths = 0;
        }
        Some(Change { how, wanted: actor.wanted.clone() })
    }
}
