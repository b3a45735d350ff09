//! Talks with the program that runs, over a socket that only its owner can open: requests, answers and streams as JSON-RPC lines. It knows
//! what a line is, and nothing of what is asked.
