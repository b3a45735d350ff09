//! A host with nothing but models and working threads, and an executor for one future.

use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bespoke_plugin_api::{BoxFuture, Code, Error, HostApi, Level, Result, Timestamp, feed};

/// Finds models in one folder, and counts the jobs that it was given.
pub(crate) struct Host {
    pub(crate) models: PathBuf,
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
        unreachable!("moonshine spawns nothing");
    }

    fn model(&self, file: &str) -> Result<PathBuf> {
        let path = self.models.join(file);
        if path.is_file() { Ok(path) } else { Err(Error::new(Code::MODEL_NOT_FOUND, format!("{file} is not there"))) }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future: Pin<&mut _> = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
