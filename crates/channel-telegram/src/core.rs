//! What one instance holds: the client, where it has got to, what it sent, and how it does.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bespoke_plugin_api::{
    CallCx, Code, Error, Inbox, Level, PluginContext, Result, Timestamp,
    bytes::Bytes,
    serde::{self, Deserialize, Serialize},
    serde_json::{self, json},
};

use crate::{
    albums::Albums,
    api::User,
    client::{Body, Client},
    config::{Access, Settings},
    failure::{Failure, Kind},
    pace::Pacer,
    retry::backoff,
    sent::Sent,
};

/// Where the number of the next update is kept.
const KEPT: &str = "offset";
/// Strangers that are told of once.
const MOST_STRANGERS: usize = 256;
/// When updates have paused for a week, Telegram numbers the next one anew: a number that is nearly as old is not asked for.
const STALE: Duration = Duration::from_secs(6 * 24 * 3600);

pub(crate) struct Core {
    pub(crate) cx: PluginContext,
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    /// Messages of which more is to come.
    pub(crate) albums: Albums,
    access: Mutex<Access>,
    pacer: Mutex<Pacer>,
    sent: Mutex<Sent>,
    offset: Mutex<Option<Offset>>,
    me: Mutex<Option<User>>,
    /// Where messages go while the channel runs, for those that the webhook brings.
    inbox: Mutex<Option<Inbox>>,
    troubles: Mutex<Troubles>,
    strangers: Mutex<BTreeSet<i64>>,
}

/// The first update that was not taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "serde")]
pub(crate) struct Offset {
    /// Another bot numbers its own.
    pub(crate) bot: i64,
    pub(crate) next: i64,
    pub(crate) at: Timestamp,
}

/// What does not work now.
#[derive(Default)]
struct Troubles {
    receiving: Option<String>,
    sending: Option<String>,
}

impl Core {
    pub(crate) fn new(cx: PluginContext, settings: Settings, access: Access) -> Self {
        let client = Client::new(cx.clone(), settings.base.clone(), settings.token.clone());
        Core {
            cx,
            settings,
            client,
            albums: Albums::default(),
            access: Mutex::new(access),
            pacer: Mutex::default(),
            sent: Mutex::default(),
            offset: Mutex::default(),
            me: Mutex::default(),
            inbox: Mutex::default(),
            troubles: Mutex::default(),
            strangers: Mutex::default(),
        }
    }

    pub(crate) fn access(&self) -> MutexGuard<'_, Access> {
        lock(&self.access)
    }

    pub(crate) fn pacer(&self) -> MutexGuard<'_, Pacer> {
        lock(&self.pacer)
    }

    pub(crate) fn sent(&self) -> MutexGuard<'_, Sent> {
        lock(&self.sent)
    }

    pub(crate) fn inbox(&self) -> MutexGuard<'_, Option<Inbox>> {
        lock(&self.inbox)
    }

    /// The bot, once Telegram has told who it is.
    pub(crate) fn me(&self) -> Option<User> {
        lock(&self.me).clone()
    }

    /// What does not work, in a sentence.
    pub(crate) fn trouble(&self) -> Option<String> {
        let troubles = lock(&self.troubles);
        troubles.receiving.clone().or_else(|| troubles.sending.clone())
    }

    /// How receiving does; what is new is logged.
    pub(crate) fn receiving(&self, trouble: Option<&Error>) {
        let new = trouble.map(|e| e.message().to_owned());
        let old = std::mem::replace(&mut lock(&self.troubles).receiving, new.clone());
        match trouble {
            Some(error) if old != new => {
                let help = error.help().map_or(String::new(), |help| format!("; {help}"));
                self.cx.log(Level::Warn, &format!("{}{help}", error.message()));
            }
            None if old.is_some() => self.cx.log(Level::Info, "messages come in again"),
            _ => {}
        }
    }

    /// How sending does.
    pub(crate) fn sending(&self, trouble: Option<&Error>) {
        lock(&self.troubles).sending = trouble.map(|e| e.message().to_owned());
    }

    /// Whether this stranger is seen for the first time.
    pub(crate) fn is_new(&self, stranger: i64) -> bool {
        let mut strangers = lock(&self.strangers);
        strangers.len() < MOST_STRANGERS && strangers.insert(stranger)
    }

    /// Learns who the bot is; tried until Telegram says it.
    pub(crate) async fn introduce(&self, call: &CallCx) -> Result<User, Failure> {
        let mut tries = 0;
        loop {
            match self.client.call::<User>(call, "getMe", Body::Json(json!({}))).await {
                Ok(me) => {
                    *lock(&self.me) = Some(me.clone());
                    return Ok(me);
                }
                Err(failure) => self.wait_out(call, failure, &mut tries).await?,
            }
        }
    }

    /// Tells of a failure of receiving, and waits until the next try.
    ///
    /// # Errors
    /// The failure itself, when no try mends it.
    pub(crate) async fn wait_out(&self, call: &CallCx, failure: Failure, tries: &mut u32) -> Result<(), Failure> {
        if failure.kind == Kind::Cancelled {
            return Err(failure);
        }
        self.receiving(Some(&failure.error));
        let wait = match failure.kind {
            Kind::Flood(wait) => wait,
            Kind::Final => return Err(failure),
            _ => {
                *tries = tries.saturating_add(1);
                backoff(*tries, self.chance())
            }
        };
        self.pause(call, wait).await
    }

    /// Waits.
    ///
    /// # Errors
    /// When the caller goes.
    pub(crate) async fn pause(&self, call: &CallCx, wait: Duration) -> Result<(), Failure> {
        call.unless_cancelled(self.cx.sleep(wait)).await.map_err(|_| Failure::cancelled())
    }

    /// A random number; without randomness waits are the same each time, which is no reason to fail.
    pub(crate) fn chance(&self) -> u8 {
        let mut random = [128];
        let _ = self.cx.host().random(&mut random);
        random[0]
    }

    /// The number to ask for, where one is known that still means something.
    pub(crate) fn asked(&self) -> Option<i64> {
        lock(&self.offset).filter(|offset| offset.at.until(self.cx.now()) < STALE).map(|offset| offset.next)
    }

    /// An update was taken: the next one has another number.
    pub(crate) fn passed(&self, bot: i64, update: i64) {
        let next = update.saturating_add(1);
        *lock(&self.offset) = Some(Offset { bot, next, at: self.cx.now() });
    }

    pub(crate) fn offset(&self) -> Option<Offset> {
        *lock(&self.offset)
    }

    pub(crate) fn resume(&self, offset: Option<Offset>) {
        *lock(&self.offset) = offset;
    }

    /// What an earlier run of the program kept, unless this one already knows better.
    pub(crate) async fn load_offset(&self, bot: i64) {
        if lock(&self.offset).is_some_and(|offset| offset.bot == bot) {
            return;
        }
        let kept = match self.cx.host().load(KEPT).await {
            Ok(kept) => kept,
            // A host that keeps nothing: Telegram keeps what it was not told of.
            Err(e) if e.code() == Code::METHOD_NOT_FOUND => None,
            Err(e) => {
                self.cx.log(Level::Warn, &format!("what was received before is not known: {}", e.message()));
                None
            }
        };
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Offset>(&bytes).ok());
        self.resume(kept.filter(|offset| offset.bot == bot));
    }

    pub(crate) async fn store_offset(&self) {
        let Some(offset) = self.offset() else { return };
        let Ok(bytes) = serde_json::to_vec(&offset) else { return };
        match self.cx.host().store(KEPT, Some(Bytes::from(bytes))).await {
            Err(e) if e.code() != Code::METHOD_NOT_FOUND => {
                // Telegram is told all the same, and the host knows a message that comes again.
                self.cx.log(Level::Warn, &format!("what was received is not kept: {}", e.message()));
            }
            _ => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
