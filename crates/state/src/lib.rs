//! What a program keeps between two runs, in one SQLite file: sessions, and what plugins store.
