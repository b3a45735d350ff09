//! Plugins as child processes: in any language, over a pipe, behind a wall.
