//! The app: features, command line and output.
