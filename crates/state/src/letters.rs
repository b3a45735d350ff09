//! Letters: messages that came in over channels until they are answered, and those that are to leave until they have left. How they leave
//! is in `outbox`, what people see of them and do to them in `by_hand`, the conversation that an answer belongs to in `talk`.
//!
//! A message is answered in one transaction, [`State::conclude`]: it is out of the inbox, what was said is in the conversation, and the
//! answer is in the outbox; or none of that. So a program that dies in the middle of an answer has not answered, and begins it again.
//!
//! A row that cannot be read keeps nobody waiting: it is set aside as a dead letter, and said so.

mod by_hand;
mod inbox;
mod outbox;
mod pack;
mod talk;

pub use by_hand::{KeptLetter, LetterState};
pub use inbox::{Concluded, Ending, Taken};
pub use outbox::{Due, Letter, Trouble, Unreadable};
pub use talk::{Current, Talk};
