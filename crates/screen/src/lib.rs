//! Text as a terminal shows it: broken between words as it streams in, and without what would steer the terminal. What goes to a
//! file or a pipe stays as it is.
//!
//! ```
//! let mut page = bespoke_screen::Page::default();
//! let shown = page.add("The capital of Fra", 16) + &page.add("nce is Paris.", 16) + &page.end(16);
//! assert_eq!(shown, "The capital of\nFrance is Paris.");
//! ```

mod page;
mod plain;

use std::io::IsTerminal;

pub use page::{Page, harmless};
pub use plain::plain;

/// Columns of the terminal that stdout is, at least 20; `None` when it is none.
pub fn columns() -> Option<usize> {
    std::io::stdout().is_terminal().then(|| terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0).max(20)))
}
