//! The text turn: session, provider, tools, hooks.
