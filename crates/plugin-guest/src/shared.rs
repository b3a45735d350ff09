//! What the core shares with the plugin's handles and with its own wakers. Each lock is held for a few instructions, and
//! never while plugin code runs.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use bespoke_plugin_api::{BoxFuture, Code, Contribution, Error, Result, serde_json};
use bespoke_protocol::{Kind, Setup};

use crate::{outbox::Outbox, platform::Platform};

pub(crate) struct Shared {
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) setup: OnceLock<Setup>,
    outbox: Mutex<Outbox>,
    waits: Mutex<Waits>,
    todo: Mutex<Todo>,
    dynamic: Mutex<Vec<Contribution>>,
}

/// Names a task of the core: the id of a call or stream, or a number of its own above them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskKey(u64);

impl TaskKey {
    pub(crate) fn wire(id: u32) -> Self {
        TaskKey(u64::from(id))
    }

    pub(crate) fn local(number: u32) -> Self {
        TaskKey(1 << 32 | u64::from(number))
    }

    /// The id on the wire, for calls and streams.
    pub(crate) fn id(self) -> Option<u32> {
        u32::try_from(self.0).ok()
    }
}

#[derive(Default)]
struct Todo {
    ready: VecDeque<TaskKey>,
    spawned: Vec<BoxFuture<'static, ()>>,
}

#[derive(Default)]
struct Waits {
    next: u32,
    closed: bool,
    open: HashMap<u32, Wait>,
}

/// Kind, head and blob of a frame of the host.
pub(crate) type Answer = (Kind, Vec<u8>, Vec<u8>);

/// What the host has answered to a host call so far.
#[derive(Default)]
pub(crate) struct Wait {
    /// Replies and items that nobody has taken yet.
    pub(crate) frames: VecDeque<Answer>,
    /// Frames that may lie there: one reply, the items that the host has credit for, one end.
    room: usize,
    waker: Option<Waker>,
}

impl Shared {
    pub(crate) fn new(platform: Arc<dyn Platform>) -> Arc<Self> {
        Arc::new(Shared {
            platform,
            setup: OnceLock::new(),
            outbox: Mutex::default(),
            waits: Mutex::default(),
            todo: Mutex::default(),
            dynamic: Mutex::default(),
        })
    }

    pub(crate) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // A panic while it was held left whole frames or a truncated buffer: writers truncate on failure.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn todo(&self) -> MutexGuard<'_, Todo> {
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn dynamic(&self) -> MutexGuard<'_, Vec<Contribution>> {
        self.dynamic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a host call that answers with a reply and then with items, of which `window` may wait here.
    pub(crate) fn begin_wait(&self, window: u32) -> Result<u32> {
        let mut waits = self.waits();
        if waits.closed {
            return Err(gone());
        }
        loop {
            waits.next = waits.next.wrapping_add(1);
            let id = waits.next;
            if let std::collections::hash_map::Entry::Vacant(free) = waits.open.entry(id) {
                free.insert(Wait { room: window as usize + 2, ..Wait::default() });
                return Ok(id);
            }
        }
    }

    pub(crate) fn end_wait(&self, id: u32) {
        let ended = self.waits().open.remove(&id);
        drop(ended);
    }

    /// The next frame of a host call, or a promise to wake.
    pub(crate) fn take(&self, id: u32, waker: &Waker) -> Option<Answer> {
        let mut waits = self.waits();
        let wait = waits.open.get_mut(&id)?;
        let frame = wait.frames.pop_front();
        if frame.is_none() {
            match &mut wait.waker {
                Some(old) => old.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
        frame
    }

    /// Whether the host can still answer `id`.
    pub(crate) fn is_waiting(&self, id: u32) -> bool {
        self.waits().open.contains_key(&id)
    }

    /// A frame of the host for a host call. One that nobody waits for is dropped.
    pub(crate) fn answer(&self, id: u32, kind: Kind, head: &[u8], blob: &[u8]) {
        let waker = {
            let mut waits = self.waits();
            let Some(wait) = waits.open.get_mut(&id) else { return };
            // A host that does not care for credit is cut off: the last frame that has room says so.
            match wait.frames.len() + 1 {
                n if n < wait.room || n == wait.room && kind == Kind::END => {
                    wait.frames.push_back((kind, head.to_vec(), blob.to_vec()));
                }
                n if n == wait.room => wait.frames.push_back((Kind::END, overrun(), Vec::new())),
                _ => {}
            }
            wait.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// No answers will come any more.
    pub(crate) fn close(&self) {
        let open = {
            let mut waits = self.waits();
            waits.closed = true;
            std::mem::take(&mut waits.open)
        };
        for waker in open.into_values().filter_map(|w| w.waker) {
            waker.wake();
        }
        let todo = std::mem::take(&mut *self.todo());
        drop(todo);
        let dynamic = std::mem::take(&mut *self.dynamic());
        drop(dynamic);
    }

    pub(crate) fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.todo().spawned.push(task);
        self.platform.wake();
    }

    pub(crate) fn take_spawned(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut self.todo().spawned)
    }

    pub(crate) fn mark_ready(&self, key: TaskKey) {
        self.todo().ready.push_back(key);
    }

    pub(crate) fn take_ready(&self) -> Option<TaskKey> {
        self.todo().ready.pop_front()
    }

    pub(crate) fn has_work(&self) -> bool {
        let todo = self.todo();
        !todo.ready.is_empty() || !todo.spawned.is_empty()
    }
}

/// The error of everything that outlives the core.
pub(crate) fn gone() -> Error {
    Error::new(Code::PLUGIN_CRASHED, "the instance has ended").retryable()
}

/// The head of the END for a host that sent more than it had credit for.
fn overrun() -> Vec<u8> {
    let error = Error::new(Code::RESOURCE_EXHAUSTED, "the host sent more than it had credit for");
    // An error of plain text can be written as JSON.
    serde_json::to_vec(&error).unwrap_or_default()
}

/// Wakes one task.
pub(crate) struct TaskWaker {
    shared: Arc<Shared>,
    key: TaskKey,
    queued: AtomicBool,
}

impl TaskWaker {
    pub(crate) fn new(shared: Arc<Shared>, key: TaskKey) -> Arc<Self> {
        Arc::new(TaskWaker { shared, key, queued: AtomicBool::new(false) })
    }

    /// Called before the task is polled: a wake from now on queues it again.
    pub(crate) fn begin_poll(&self) {
        self.queued.store(false, Ordering::Release);
    }

    /// Queues the task, from within the core.
    pub(crate) fn queue(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.shared.mark_ready(self.key);
        }
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.shared.mark_ready(self.key);
            self.shared.platform.wake();
        }
    }
}
