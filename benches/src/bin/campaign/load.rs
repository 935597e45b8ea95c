//! The clients of all apps: each kind of connection asks in its own way, none tries again.

mod visitor;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use self::visitor::{Manner, Visitor};
use super::apps::{Common, Kind, Name, Wanted};
use super::bounds::HAUNTED;
use super::client::Target;
use super::desk::Desk;

/// Everybody who asks.
#[derive(Debug)]
pub struct Load {
    desk: Arc<Desk>,
    common: Common,
    /// Those of an app, told to leave by this.
    present: BTreeMap<Name, Arc<AtomicBool>>,
    visitors: JoinSet<()>,
}

impl Load {
    pub fn new(desk: Arc<Desk>, common: Common) -> Self {
        Self { desk, common, present: BTreeMap::new(), visitors: JoinSet::new() }
    }

    /// An app gets its visitors.
    pub fn come(&mut self, wanted: &Wanted) {
        let leave = Arc::new(AtomicBool::new(false));
        if let Some(before) = self.present.insert(wanted.name, leave.clone()) {
            before.store(true, Ordering::Relaxed);
        }
        let manners: &[Manner] = match wanted.kind {
            Kind::Web | Kind::Tls => &[
                Manner::Kept,
                Manner::Kept,
                Manner::Closed,
                Manner::Slow,
                Manner::Upload,
                Manner::Websocket,
            ],
            Kind::Raw => &[Manner::Knock, Manner::Raw],
        };
        for manner in manners {
            let visitor = self.visitor(wanted, *manner, &leave);
            self.visitors.spawn(visitor.visit());
        }
        self.tidy();
    }

    /// Its visitors send nothing more; what they have sent is waited for by them.
    pub fn go(&mut self, wanted: &Wanted) {
        if let Some(leave) = self.present.remove(&wanted.name) {
            leave.store(true, Ordering::Relaxed);
        }
    }

    /// Asks for a while where the app is not to be found any more.
    pub fn haunt(&mut self, wanted: &Wanted) {
        let leave = Arc::new(AtomicBool::new(false));
        let manner = if wanted.kind == Kind::Raw { Manner::Knock } else { Manner::Closed };
        let visitor = self.visitor(wanted, manner, &leave);
        self.visitors.spawn(async move {
            // Cut off in the middle of a request: nobody counts it.
            let _ = tokio::time::timeout(HAUNTED, visitor.visit()).await;
        });
    }

    fn visitor(&self, wanted: &Wanted, manner: Manner, leave: &Arc<AtomicBool>) -> Visitor {
        let target = self.target(wanted);
        Visitor::new(self.desk.clone(), wanted, target, manner, leave.clone())
    }

    /// Where it is to be found.
    pub fn target(&self, wanted: &Wanted) -> Target {
        Target {
            port: self.common.first_port + wanted.port,
            host: wanted.host(),
            tls: wanted.kind == Kind::Tls,
        }
    }

    fn tidy(&mut self) {
        while self.visitors.try_join_next().is_some() {}
    }

    /// Everybody leaves; what is in flight is waited for.
    pub async fn end(&mut self) {
        for leave in std::mem::take(&mut self.present).into_values() {
            leave.store(true, Ordering::Relaxed);
        }
        let all = async { while self.visitors.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(super::bounds::PATIENCE, all).await;
        self.visitors.abort_all();
    }
}
