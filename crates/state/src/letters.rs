//! Letters: messages that came in over channels until they are answered, and those that are to leave until they have left. How they leave
//! is in `outbox`, the conversation that an answer belongs to in `talk`.
//!
//! A message is answered in one transaction, [`State::conclude`]: it is out of the inbox, what was said is in the conversation, and the
//! answer is in the outbox; or none of that. So a program that dies in the middle of an answer has not answered, and begins it again.

mod inbox;
mod outbox;
mod pack;
mod talk;

pub use inbox::{Concluded, Ending, Taken};
pub use outbox::{DeadLetter, Letter, Trouble};
pub use talk::Talk;
