//! Checks JSON values against the part of JSON Schema that plugins use.
