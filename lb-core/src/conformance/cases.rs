//! How a case becomes a test, and what cases are written with.

use std::any::Any;
use std::fmt::{self, Debug};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, ErrorKind, Result};

/// Longer than any one thing takes on a busy machine: who waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Longest a whole case may take.
const CASE: Duration = Duration::from_secs(300);
/// Most awaits a call may have for [`at_each_await`].
pub const MOST_CUTS: usize = 32;

/// What a case runs on.
#[async_trait]
pub trait Ground: Send + Sync {
    /// Removes what the case made, also when it failed halfway. Default: nothing outlives the ground itself.
    async fn clear(&self) {}

    /// Whether it waits for nothing but time. A case that was left out is then tried on a paused clock, which
    /// runs ahead of who waits. Default: no.
    fn is_in_memory(&self) -> bool {
        false
    }
}

/// Runs a case on its ground, and clears the ground afterwards.
pub fn check<G: Ground>(
    ground: impl Future<Output = G>,
    case: impl for<'a> FnOnce(&'a G) -> LocalBoxFuture<'a, ()>,
) {
    let attempt = async { attempt(ground.await, case).await };
    match several_threads().block_on(attempt) {
        Ok(Some(())) => {}
        Ok(None) => panic!("the case must end within {CASE:?}"),
        Err(panic) => resume_unwind(panic),
    }
}

/// Runs a case that was left out and expects it to fail, by the same bounds as one that was not.
pub fn left_out<G: Ground>(
    ground: impl Future<Output = G>,
    case: impl for<'a> FnOnce(&'a G) -> LocalBoxFuture<'a, ()>,
    why: &str,
) {
    let attempt = async {
        let ground = ground.await;
        if ground.is_in_memory() {
            tokio::time::pause();
        }
        attempt(ground, case).await
    };
    if let Ok(Some(())) = one_thread().block_on(attempt) {
        panic!("the case passes, so it must not be left out because \"{why}\"");
    }
}

/// The case's panic, or whether it ended in time.
async fn attempt<G: Ground>(
    ground: G,
    case: impl for<'a> FnOnce(&'a G) -> LocalBoxFuture<'a, ()>,
) -> Result<Option<()>, Box<dyn Any + Send>> {
    let ended = AssertUnwindSafe(tokio::time::timeout(CASE, case(&ground))).catch_unwind().await;
    let cleared = AssertUnwindSafe(ground.clear()).catch_unwind().await;
    let ended = ended?.ok();
    cleared.map(|()| ended)
}

/// Several threads, as in a platform: what must not race gets the chance to.
fn several_threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime for the case")
}

/// The only runtime whose clock can be paused.
fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime for the case")
}

/// Asks until the answer is yes, at most [`PATIENCE`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let asking = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The error of a call that must fail so.
pub fn refused<T: Debug>(result: Result<T>, kind: ErrorKind) -> Error {
    match result {
        Err(error) if error.kind() == kind => error,
        other => panic!("must be refused with {kind:?}, not {other:?}"),
    }
}

/// Polls a future at most so many times and drops it: its output if it ended by then. With 1, 2, ... a call
/// is cut at each of its awaits in turn.
pub async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Cuts a call at each of its awaits: `round` is told after how many polls to cut it with [`poll_times`], and
/// says whether it had ended by then, which is the last round.
pub async fn at_each_await(mut round: impl AsyncFnMut(usize) -> bool) {
    for polls in 1..=MOST_CUTS {
        if round(polls).await {
            return;
        }
    }
    panic!("never seen to its end: the call takes more than {MOST_CUTS} polls");
}

/// A backend that has stopped answering; once this is dropped, it goes on where it was.
pub struct Stalled(Option<Box<dyn FnOnce() + Send>>);

impl Stalled {
    /// Goes on by this.
    pub fn until(go_on: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(go_on)))
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        if let Some(go_on) = self.0.take() {
            go_on();
        }
    }
}

impl Debug for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stalled")
    }
}

/// Waits for a call that must end whatever it meets, at most [`PATIENCE`].
pub async fn in_time<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, call).await.expect("no call hangs")
}

/// Makes one `#[test]` of each case. For the suites' own macros.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    (
        ($dollar:tt) $suite:ident [$($case:ident)*]
        setup: $setup:expr
        $(, ignore: $reason:literal)?
        $(, left_out: { $($out:ident: $why:literal),* $(,)? })?
        $(,)?
    ) => {
        macro_rules! __conformance_case {
            $($(
                ($out) => {
                    #[test]
                    #[ignore = $why]
                    fn $out() {
                        $crate::conformance::left_out(
                            async { $crate::conformance::$suite::Bed::new($setup).await },
                            |bed| ::std::boxed::Box::pin($crate::conformance::$suite::$out(bed)),
                            $why,
                        );
                    }
                };
            )*)?
            ($dollar case:ident) => {
                #[test]
                $(#[ignore = $reason])?
                fn $dollar case() {
                    $crate::conformance::check(
                        async { $crate::conformance::$suite::Bed::new($setup).await },
                        |bed| ::std::boxed::Box::pin($crate::conformance::$suite::$dollar case(bed)),
                    );
                }
            };
        }
        $($(const _: () = { use $crate::conformance::$suite::$out as _; };)*)?
        $(__conformance_case! { $case })*
    };
}
