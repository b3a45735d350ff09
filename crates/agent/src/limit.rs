//! When a turn has to end although it is not done: its caller has gone, or the deadline has passed.

use std::{future::pending, time::Duration};

use bespoke_plugin_api::{CallCx, Code, Error};

/// Completes when nobody waits for the turn any more, with the error that says why.
pub(crate) async fn reached(cx: &CallCx) -> Error {
    let late = async {
        match left(cx) {
            Some(left) => tokio::time::sleep(left).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = cx.cancelled() => Error::cancelled(),
        () = late => Error::new(Code::EXECUTION_TIMEOUT, "the turn was not done before its deadline").retryable(),
    }
}

/// Whether nobody waits any more. Then it makes no sense to try another way.
pub(crate) fn is_reached(cx: &CallCx) -> bool {
    cx.is_cancelled() || left(cx).is_some_and(|left| left.is_zero())
}

/// Time until the deadline, on the clock on which the host counts.
fn left(cx: &CallCx) -> Option<Duration> {
    cx.deadline().map(|at| bespoke_host::now().until(at))
}

#[cfg(test)]
mod tests {
    use bespoke_plugin_api::{CancelToken, Timestamp};

    use super::*;

    #[test]
    fn nobody_waits_after_a_cancellation_or_the_deadline() {
        let cx = CallCx::new();
        assert!(!is_reached(&cx));
        assert!(!is_reached(&cx.with_deadline(Timestamp(u64::MAX))));
        assert!(is_reached(&cx.with_deadline(Timestamp(1))));
        let cancel = CancelToken::new();
        cancel.cancel();
        assert!(is_reached(&cx.with_cancel(cancel)));
    }
}
