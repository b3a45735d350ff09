//! The one HTTP client of a program: streaming, checked where it goes, over one TLS stack.
