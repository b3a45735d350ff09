//! What a program keeps between two runs, in one SQLite file: sessions, and what plugins store.
//!
//! It knows conversations and bytes; no provider, no channel, no command line.
//!
//! ```
//! use bespoke_state::{Filter, Meta, State};
//!
//! # let folder = tempfile::tempdir()?;
//! let state = State::open(folder.path().join("state.db"))?;
//! let session = state.create(&Meta::default().channel("terminal"))?;
//! // An agent has its turns with `session`; each message is stored when it is complete.
//! let id = session.id().to_owned();
//! drop(session);
//!
//! let again = state.resume(&id[id.len() - 4..])?;                   // the end of an id does, too
//! assert_eq!(again.id(), id);
//! assert!(state.list(&Filter::default(), 10, 0)?.is_empty(), "nothing was said, so there is nothing to show");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What survives what
//!
//! The file is in WAL mode with `synchronous = NORMAL`. A message whose append has returned survives the end of the process, by
//! SIGKILL, too. A power cut or a crash of the kernel may take the messages since the last checkpoint (every thousand pages, and
//! whenever the last program closes the file), never a part of one, and the file stays sound.
//!
//! # More than one writer
//!
//! Processes may share the file; one that finds it locked waits for five seconds at most. On a worker of a tokio runtime with several
//! threads other tasks go on after the first tenth of a second of that wait; reading and writing itself, which is short, is done in place. Two that hold *the same*
//! conversation do not mix it: whoever comes second is told who continued it, and has to resume it again.
//!
//! # Deleting
//!
//! What is deleted is overwritten (`secure_delete`), the log is emptied, and copies from before a migration go, too.
//!
//! **Invariant:** a file that this program does not understand, or that is damaged, is never written to.
//!
//! **Invariant:** nothing that was said is logged or put into an error.

mod error;
mod events;
mod export;
mod file;
mod journal;
mod letters;
mod schema;
mod sessions;
mod summary;
mod time;
mod title;
mod usage;
mod values;
mod waiting;

pub use error::StateError;
pub use export::Format;
pub use file::State;
pub use letters::{Concluded, Current, Due, Ending, KeptLetter, Letter, LetterState, Taken, Talk, Trouble, Unreadable};
pub use summary::{Deleted, Filter, Kept, Meta, Summary};
pub use time::{iso, parse as from_iso};
pub use values::{KEY_LIMIT, KEYS_LIMIT, TOTAL_LIMIT, VALUE_LIMIT};
