//! One binary for all tests of manifests.

mod agreement;
mod any_text;
mod dialects;
mod problems;
mod reading;

/// The required keys, on lines 1 to 7.
const HEAD: &str = r#"id = "dice"
version = "0.1.0"
license = "Apache-2.0"
description = "Rolls a die."
author = "The example authors"
protocol = "1"
tiers = ["compiled"]
"#;

/// Every key there is.
const FULL: &str = include_str!("full.toml");
