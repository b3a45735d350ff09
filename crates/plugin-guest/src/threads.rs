//! Work that blocks, on a thread of its own. No pool: whoever wants one has it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
};

use bespoke_plugin_api::BoxFuture;

use crate::source::caught;

/// Starts `work` at once; the future is ready when it is done. For [`Platform::blocking`](crate::Platform::blocking).
pub fn on_a_thread(work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
    let done = Arc::new(Mutex::new((false, None::<Waker>)));
    let told = done.clone();
    let work = move || {
        // A panic shows as a missing result: `PluginContext::blocking` turns it into PLUGIN_EXCEPTION.
        let _ = caught(work);
        let waker = {
            let mut state = told.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    };
    // A machine without threads drops the work, which shows as a missing result too.
    if std::thread::Builder::new().name("blocking".to_owned()).spawn(work).is_err() {
        return Box::pin(std::future::ready(()));
    }
    Box::pin(std::future::poll_fn(move |cx| {
        let mut state = done.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(cx.waker().clone());
        Poll::Pending
    }))
}
