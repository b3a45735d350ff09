//! A host that counts the work it is given.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bespoke_plugin_api::{BoxFuture, HostApi, Level, Timestamp, feed};

/// Nothing but working threads.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) jobs: AtomicUsize,
}

impl HostApi for Host {
    fn log(&self, _: Level, _: &str) {}

    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.jobs.fetch_add(1, Ordering::SeqCst);
        let (sender, mut done) = feed::<()>(1);
        thread::spawn(move || {
            let _until_the_work_ends = sender;
            work();
        });
        Box::pin(std::future::poll_fn(move |cx| done.poll_item(cx).map(drop)))
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {
        unreachable!("flite spawns nothing");
    }
}
