//! The thread of an instance: it steps what is woken, and closes the instance in the end. It may be blocked by the plugin for ever, so
//! nobody waits for it without a limit.

use std::{
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use bespoke_plugin_api::{Code, Error, HostApi, Result};
use bespoke_plugin_proxy::{Inline, Proxy};
use tokio::{runtime::Handle, sync::watch};

use crate::{
    copies::Copy,
    instance::{Instance, Stepped},
};

/// An instance that was opened and not started.
pub(crate) struct Opened {
    pub(crate) proxy: Proxy,
    pub(crate) inline: Inline<Stepped>,
    /// Turns true when the instance is closed.
    pub(crate) closed: watch::Receiver<bool>,
}

/// Opens an instance of a copy, with its thread. Both end with the last handle on it.
pub(crate) fn open(copy: &Arc<Copy>, id: &str, host: Arc<dyn HostApi>) -> Result<Opened> {
    let (grave, dead) = mpsc::channel();
    let of_instance = host.clone();
    let (proxy, inline) = Inline::start(host, |mailbox, waker| {
        let instance = Instance::open(copy, of_instance, waker)?;
        Ok(Stepped::new(instance, mailbox, grave))
    })?;
    let (tell, closed) = watch::channel(false);
    let pump = inline.pump();
    let runtime = Handle::try_current().ok();
    let body = move || {
        // What the host does for the plugin may want a runtime; the plugin itself is never inside one.
        let _entered = runtime.as_ref().map(Handle::enter);
        block_on(pump);
        // Whoever had the last handle, or the last step, hands it over here.
        if let Ok(instance) = dead.recv() {
            instance.close();
        }
        tell.send_replace(true);
    };
    let spawned = thread::Builder::new().name(format!("dylib-{id}")).spawn(body);
    spawned.map_err(|e| Error::new(Code::RESOURCE_EXHAUSTED, format!("no thread for the library: {e}")))?;
    Ok(Opened { proxy, inline, closed })
}

/// Polls on this thread until it is ready. Not a runtime's: it must go on when that has ended.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unparks(Thread);
    impl Wake for Unparks {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    let (mut cx, mut future) = (Context::from_waker(&waker), std::pin::pin!(future));
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}
