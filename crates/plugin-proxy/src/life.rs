//! The life of a remote instance. What an old guest does not know has the contract's default.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::Poll,
    time::{Duration, Instant},
};

use bespoke_plugin_api::{BoxFuture, CallCx, Code, Error, Facts, Health, Life, Reload, Result, State, serde_json::Value};
use bespoke_protocol::{CxHead, Frame, GoodbyeHead, InvokeArgs, Kind, Nothing, Vitals, method, put_call, put_json, read_reply};

use crate::inner::{Inner, Waiting};

/// How long a guest may take to say how it does before that itself is told.
const SLOW: Duration = Duration::from_secs(5);

pub(crate) struct RemoteLife {
    pub(crate) inner: Arc<Inner>,
}

impl Life for RemoteLife {
    /// What the plugin said last. Asks again on the way, without waiting.
    fn health(&self) -> Health {
        let asked = self.ask();
        match (asked, self.inner.vitals().health.clone()) {
            // What it said before that may no longer be true.
            (Some(since), Health::Ok | Health::Unknown) if since >= SLOW => {
                Health::Degraded(format!("has not said how it does for {} s, since it was asked", since.as_secs()))
            }
            (_, health) => health,
        }
    }

    fn facts(&self) -> Facts {
        self.inner.vitals().facts.clone()
    }

    fn reconfigure(&self, config: Value) -> BoxFuture<'_, Result<Reload>> {
        Box::pin(async move { or(self.inner.call(&CallCx::new(), method::RECONFIGURE, "", &config).await, Reload::Restart) })
    }

    fn capture_state(&self) -> BoxFuture<'_, Result<Option<State>>> {
        Box::pin(async move { or(self.inner.call(&CallCx::new(), method::CAPTURE_STATE, "", &Nothing {}).await, None) })
    }

    fn restore_state(&self, state: State) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { or(self.inner.call(&CallCx::new(), method::RESTORE_STATE, "", &state).await, ()) })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.inner.stopping();
        Box::pin(async move {
            // A guest that is gone or does not know the method has shut down as well as it can.
            let _: Result<()> = self.inner.call(&CallCx::new(), method::SHUTDOWN, "", &Nothing {}).await;
            let mut frame = Vec::new();
            let goodbye = put_json(&mut frame, Kind::GOODBYE, 0, &GoodbyeHead { reason: "the plugin was shut down".to_owned() });
            let _: Result<()> = goodbye.and_then(|()| self.inner.post(Kind::GOODBYE.lane(), &frame));
        })
    }

    fn invoke<'a>(&'a self, cx: &'a CallCx, method: &'a str, args: Value) -> BoxFuture<'a, Result<Value>> {
        let args = InvokeArgs { method: method.to_owned(), args };
        Box::pin(async move { self.inner.call(cx, method::INVOKE, "", &args).await })
    }

    fn methods(&self) -> BoxFuture<'_, Result<Vec<String>>> {
        Box::pin(async move { or(self.inner.call(&CallCx::new(), method::METHODS, "", &Nothing {}).await, Vec::new()) })
    }

    /// When the link is lost, or the guest has said goodbye, before [`shutdown`](Life::shutdown) was called.
    fn ended(&self) -> BoxFuture<'static, Error> {
        // Weak: who waits for the end must not keep the guest from it.
        let inner = Arc::downgrade(&self.inner);
        Box::pin(poll_fn(move |cx| match inner.upgrade() {
            Some(inner) => inner.poll_ended(cx.waker()),
            // Every handle is gone: somebody has stopped it, and its last word was that of `lose`, if there was one.
            None => Poll::Pending,
        }))
    }
}

fn or<T>(result: Result<T>, default: T) -> Result<T> {
    match result {
        Err(e) if e.code() == Code::METHOD_NOT_FOUND => Ok(default),
        other => other,
    }
}

impl RemoteLife {
    /// Asks, unless it was asked and has not answered: then, for how long.
    fn ask(&self) -> Option<Duration> {
        {
            let mut asked = self.inner.asked();
            if let Some(since) = *asked {
                return Some(since.elapsed());
            }
            *asked = Some(Instant::now());
        }
        let id = self.inner.register(Arc::new(Ask(Arc::downgrade(&self.inner))));
        let mut frame = Vec::new();
        let asked = put_call(&mut frame, Kind::CALL, id, method::VITALS, "", &CxHead::default(), &Nothing {})
            .and_then(|()| self.inner.post(Kind::CALL.lane(), &frame));
        if let Err(e) = asked {
            self.inner.forget(id);
            *self.inner.asked() = None;
            self.inner.vitals().health = Health::Failed(e.message().to_owned());
        }
        None
    }
}

/// Takes the answer of [`RemoteLife::ask`].
struct Ask(Weak<Inner>);

impl Waiting for Ask {
    fn reply(&self, frame: &Frame<'_>, forget: &dyn Fn()) {
        forget();
        let Some(inner) = self.0.upgrade() else { return };
        *inner.asked() = None;
        match read_reply::<Vitals>(frame) {
            Ok(vitals) => *inner.vitals() = vitals,
            // A plugin that cannot say how it does is not well.
            Err(e) if e.code() != Code::METHOD_NOT_FOUND => inner.vitals().health = Health::Degraded(e.message().to_owned()),
            Err(_) => {}
        }
    }

    fn event(&self, _frame: &Frame<'_>) -> Result<()> {
        Err(Error::invalid_params("an event for a call that is no stream"))
    }

    fn end(&self, result: Result<()>) {
        if let (Some(inner), Err(e)) = (self.0.upgrade(), result) {
            inner.vitals().health = Health::Failed(e.message().to_owned());
        }
    }
}
