//! The poll-driven core that serves one plugin over frames.
