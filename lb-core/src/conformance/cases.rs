//! How a case becomes a test, and what cases are written with.

use std::any::Any;
use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use crate::error::{Error, ErrorKind, Result};

/// Longer than any one thing takes on a busy machine: who waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Longest a whole case may take.
const CASE: Duration = Duration::from_secs(300);
/// How long a case that was left out is tried.
const TRY: Duration = Duration::from_secs(2);
/// Most awaits a call is cut at.
pub const MOST_CUTS: usize = 32;

/// What a case runs on.
#[async_trait]
pub trait Ground: Send + Sync {
    /// Removes what the case made, also when it failed halfway. Default: nothing outlives the ground itself.
    async fn clear(&self) {}
}

/// Runs a case on its ground, and clears the ground afterwards.
pub fn check<G: Ground>(
    ground: impl Future<Output = G>,
    case: impl for<'a> FnOnce(&'a G) -> LocalBoxFuture<'a, ()>,
) {
    match block_on(attempt(ground, case, CASE)) {
        Ok(Some(())) => {}
        Ok(None) => panic!("the case must end within {CASE:?}"),
        Err(panic) => resume_unwind(panic),
    }
}

/// Runs a case that was left out and expects it to fail, or not to end soon.
pub fn left_out<G: Ground>(
    ground: impl Future<Output = G>,
    case: impl for<'a> FnOnce(&'a G) -> LocalBoxFuture<'a, ()>,
    why: &str,
) {
    if let Ok(Some(())) = block_on(attempt(ground, case, TRY)) {
        panic!("the case passes, so it must not be left out because \"{why}\"");
    }
}

/// The case's panic, or whether it ended in time.
async fn attempt<G: Ground>(
    ground: impl Future<Output = G>,
    case: impl for<'a> FnOnce(&'a G) -> LocalBoxFuture<'a, ()>,
    limit: Duration,
) -> Result<Option<()>, Box<dyn Any + Send>> {
    let ground = ground.await;
    let ended = AssertUnwindSafe(tokio::time::timeout(limit, case(&ground))).catch_unwind().await;
    let cleared = AssertUnwindSafe(ground.clear()).catch_unwind().await;
    let ended = ended?.ok();
    cleared.map(|()| ended)
}

/// Several threads, as in a platform: what must not race gets the chance to.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap_or_else(|e| panic!("a runtime for the case: {e}"));
    runtime.block_on(future)
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
