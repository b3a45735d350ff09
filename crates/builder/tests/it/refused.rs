//! What is not built, and what whoever asked for it is told: before anything is compiled, wherever it can be known.
