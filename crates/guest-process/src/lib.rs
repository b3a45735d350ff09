//! Serves a plugin over the standard input and output of its process.
