//! The wall around a child process on Linux: who starts it, what it may touch, how much it may use, and that it never outlives its host.
