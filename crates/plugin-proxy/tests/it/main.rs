//! Tests of the driver for guests in memory; the proxy itself is tested through every tier, and by the kit for plugins.

mod inline;
