//! Registry, lifecycle, health, hooks, events and configuration.
