//! Conformance suite, loopback tier and fixtures for plugin authors.
